"""Choosing a code by family and size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError
from . import families, net
from .code import Code


class Family(NamedTuple):
    """How a family is made."""

    build: Callable[..., tuple[np.ndarray, np.ndarray]]
    weight: Callable[[int, int], int]  # default weight for n rows and k blocks
    options: frozenset[str] = frozenset()
    period: Callable[[int], int] = lambda blocks: blocks  # codes with a multiple of this many rows are tight


FAMILIES: dict[str, Family] = {
    "uncoded": Family(families.uncoded, lambda rows, blocks: 1),
    "repetition": Family(families.repetition, lambda rows, blocks: 1),
    "pairs": Family(families.pairs, lambda rows, blocks: 2, period=lambda blocks: 2 * blocks),
    "random": Family(families.random, lambda rows, blocks: min(4, blocks), period=lambda blocks: 1),
    "net": Family(net.net, net.default_weight, frozenset({"dither"})),
}


def _family(name: str) -> Family:
    if name not in FAMILIES:
        raise InputError(f"family = {name!r}: not one of {', '.join(FAMILIES)}")
    return FAMILIES[name]


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name} = {value!r}: not a positive whole number")
    return int(value)


def design(
    family: str, workers: int, blocks: int, weight: int | None = None, seed: int = 0, **options: Any
) -> Code:
    """Make a code.

    Parameters
    ----------
    family : str
        ``uncoded``, ``repetition``, ``pairs``, ``random`` or ``net``.
    workers : int
        Number of rows n.
    blocks : int
        Number of blocks k.
    weight : int, optional
        Nonzeros of a row, w. Default: 1 (uncoded, repetition), 2 (pairs), min(4, k) (random), the larger of 4
        and 2 that can be (net).
    seed : int
        Key of everything that is random in the code.
    **options
        Of the family. ``dither`` (net, default True): random column signs on each set.

    Returns
    -------
    Code

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
    made = _family(family)
    n, k = _positive("workers", workers), _positive("blocks", blocks)
    w = made.weight(n, k) if weight is None else _positive("weight", weight)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
        raise InputError(f"seed = {seed!r}: not a whole number from 0 to 2^63 - 1")
    for name in options:
        if name not in made.options:
            raise InputError(f"{name} = {options[name]!r}: not an option of the {family} code")
    if weight is not None and w > k:
        raise InputError(f"weight = {w}: more than the {k} blocks; nearest: {k}")
    indices, values = made.build(n, k, w, int(seed), **options)
    notes: list[str] = []
    if n % made.period(k):
        notes.append(
            f"{n} rows are not a multiple of {made.period(k)}: the last round is cut short, not tight"
        )
    return Code(indices, values, k, family, int(seed), options, tuple(notes))


def fitting_rows(family: str, least: int, blocks: int) -> int:
    """Smallest number of rows ≥ `least` with which a code of a family is whole.

    Whole: of full rank (random: likely so), and tight where the family can be.

    Parameters
    ----------
    family : str
        As for `design`.
    least : int
        Rows that are needed, say workers times codewords a task.
    blocks : int
        Number of blocks k.
    """
    period = _family(family).period(blocks)
    return max(-(-least // period) * period, blocks)
