"""Choosing a code by family and size."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..util.errors import InputError
from . import whole
from .code import Code
from .registry import FAMILIES, Family, family_of
from .sizes import nearest, weight_of

__all__ = ["FAMILIES", "Family", "design", "fitting_rows"]


PASSING = ("progress", "processes", "state")  # options that change nothing about the rows


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name} = {value!r}: not a positive whole number")
    return int(value)


def _plain(value: Any) -> Any:
    """Value of an option as JSON has it, so that the code can be saved."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def design(
    family: str, workers: int, blocks: int, weight: int | None = None, seed: int = 0, **options: Any
) -> Code:
    """Make a code.

    Parameters
    ----------
    family : str
        A name in `FAMILIES`, or ``auto``: the best that fits (`pdcode.codes.auto`).
    workers : int
        Number of rows n.
    blocks : int
        Number of blocks k.
    weight : int, optional
        Nonzeros of a row, w; for ``auto`` a limit on it. Default: the family's own where it has one weight; 4
        (random, energy); the larger of 4 and 2 that can be (net); k (optimized); no limit (auto).
    seed : int
        Key of everything that is random in the code.
    **options
        Of the family. ``dither`` (net, default True): random column signs on each set. ``entries`` (random):
        ``rademacher`` or ``gaussian``; ``balanced`` (random, default False). ``degree`` and ``kind`` (graph).
        Those of optimized and energy: see there. Of every family: ``whole`` = [n', k', w'], which makes the
        design of that size and cuts its rows and blocks or adds rows of redrawn copies
        (`pdcode.codes.whole`); ``dithered`` = [[seed, epoch], …], redraws.

    Returns
    -------
    Code
        Made again by its family, size, seed and options.

    Raises
    ------
    InputError
        If the family does not exist for these parameters; the message names the nearest ones for which it
        does.

    Examples
    --------
    >>> code = design("net", workers=32, blocks=16, weight=4)
    >>> code.coherence, round(code.tightness, 12)
    (0.25, 1.0)
    """
    n, k = _positive("workers", workers), _positive("blocks", blocks)
    w = None if weight is None else _positive("weight", weight)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
        raise InputError(f"seed = {seed!r}: not a whole number from 0 to 2^63 - 1")
    if family == "auto":
        from .auto import choose

        for name in options:
            raise InputError(f"{name} = {options[name]!r}: not an option of the auto code")
        return choose(n, k, w, int(seed))
    made, given = family_of(family), dict(options)
    redraws, size = given.pop("dithered", []), given.pop("whole", None)
    for name in given:
        if name not in made.option_names:
            raise InputError(f"{name} = {options[name]!r}: not an option of the {family} code")
    if size is None:
        code = _designed(family, made, n, k, w, int(seed), given)
    else:
        code = _fitted(family, whole.size(size), n, k, w, int(seed), given)
    for key, epoch in _redraws(redraws):
        code = code.dithered(key, epoch)
    return code


def _redraws(value: Any) -> list[tuple[int, int]]:
    """Check the option ``dithered``: pairs [seed, epoch]."""
    pairs: list[Any] = list(value) if isinstance(value, list | tuple) else [None]
    for pair in pairs:
        if not (
            isinstance(pair, list | tuple)
            and len(pair) == 2
            and all(
                isinstance(each, int) and not isinstance(each, bool) and 0 <= each < 2**63 for each in pair
            )
        ):
            raise InputError(f"dithered = {value!r}: not a list of [seed, epoch] pairs")
    return [(pair[0], pair[1]) for pair in pairs]


def _designed(
    family: str, made: Family, n: int, k: int, w: int | None, seed: int, options: dict[str, Any]
) -> Code:
    if w is not None and w > k and made.any_weight:
        raise InputError(f"weight = {w}: more than the {k} blocks; {nearest((n, k, k))}")
    if made.checks or made.shapes is None:
        fitting = w if w is not None else made.weight(n, k) if made.weight else k
    else:
        fitting = weight_of(family, made.shapes, n, k, w)
    indices, values = made.build(n, k, fitting, seed, **options)
    notes: list[str] = []
    if made.period and n % made.period(k):
        notes.append(
            f"{n} rows are not a multiple of {made.period(k)}: the last round is cut short, not tight"
        )
    plain = {name: _plain(value) for name, value in options.items() if name not in PASSING}
    return Code(indices, values, k, family, seed, plain, tuple(notes))


def _fitted(
    family: str, size: tuple[int, int, int], n: int, k: int, w: int | None, seed: int, options: dict[str, Any]
) -> Code:
    base = design(family, *size, seed, **options)
    indices, values, notes = whole.fit(base, n, k, seed, family_of(family).period is not None)
    if w not in (None, indices.shape[1]):
        raise InputError(
            f"weight = {w}: the {family} code fitted to {k} blocks has another; "
            + nearest((n, k, indices.shape[1]))
        )
    return Code(indices, values, k, family, seed, {**base.options, "whole": list(size)}, tuple(notes))


def fitting_rows(family: str, least: int, blocks: int) -> int:
    """Smallest number of rows ≥ `least` with which a code of a family is whole.

    Whole: of full rank (random and graph: likely so), and tight where the family can be. Where the family has
    no code of so many rows or over so many blocks, a number for `design` to refuse.

    Parameters
    ----------
    family : str
        As for `design`.
    least : int
        Rows that are needed, say workers times codewords a task.
    blocks : int
        Number of blocks k.
    """
    if family == "auto":
        return -(-least // blocks) * blocks
    made = family_of(family)
    if made.period is None and made.shapes is not None:
        sizes = [int(shape.rows) for shape in made.shapes(blocks) if shape.rows >= least]
        return min(sizes, default=max(least, blocks))
    period = made.period(blocks) if made.period else 1
    return max(-(-least // period) * period, blocks)
