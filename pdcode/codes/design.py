"""Design of a code by family and size."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..util.errors import InputError, did_you_mean
from ..util.memory import ensure_fits
from . import auto
from .code import Code
from .registry import family_of

TRANSIENT_OPTIONS = ("progress", "processes", "state")  # options that do not change the rows
ARGUMENTS = ("family", "workers", "blocks", "weight", "seed", "progress")  # `progress` is a function
MAX_SIZE = 1 << 24  # rows, and blocks
BYTES_PER_ENTRY = 64  # bytes that an entry of a codeword takes while codewords are made


def refuse_arguments(options: Iterable[str], prefix: str) -> None:
    """Refuse options of a file or command line that are arguments of `design`.

    `prefix` begins the message.
    """
    for name in options:
        if name in ARGUMENTS:
            raise InputError(f"{prefix}{name}: not an option of a code")


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name} = {value!r}: not a positive whole number")
    if name != "weight" and value > MAX_SIZE:
        raise InputError(f"{name} = {value}: more than {MAX_SIZE}")
    return int(value)


def _plain(value: Any) -> Any:
    """Convert an option's value to JSON types, so that the code can be saved."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def design(
    family: str, workers: int, blocks: int, weight: int | None = None, seed: int = 0, **options: Any
) -> Code:
    """Design a code.

    Parameters
    ----------
    family : str
        A name in `FAMILIES`, or ``auto``: the design of least coherence at this size (`pdcode.codes.auto`).
    workers : int
        Number of rows n.
    blocks : int
        Number of blocks k.
    weight : int, optional
        Weight w, the number of nonzeros of a row; for ``auto`` an upper bound. Default: the family's weight
        if it has only one; 4 (random, energy); 4 if possible, else 2 (net); no bound (auto).
    seed : int
        Key of all randomness of the code.
    **options
        Options of the family. ``dither`` (net, default True): random column signs on each set. ``entries``
        (random): ``rademacher`` or ``gaussian``; ``balanced`` (random, default False). ``degree`` and
        ``kind`` (graph). Options of energy: see that function. For every family:
        ``dithered`` = [[seed, epoch], …], redraws.

    Returns
    -------
    Code
        The code, a function of family, size, seed and options.

    Raises
    ------
    InputError
        If the family has no code of this size, and then the message names a possible size; or if the code
        would not fit into memory.

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
    given, notes = dict(options), []
    redraws = _checked_redraws(given.pop("dithered", []))
    if family == "auto":
        for name in options:
            raise InputError(f"{name} = {options[name]!r}: not an option of the auto code")
        entry, fitting, given = auto.choose(n, k, min(w or k, k))
        notes.append(f"auto: {entry.name} of weight {fitting}")
    else:
        entry = family_of(family)
        for name in given.keys() - entry.options:
            meant = did_you_mean(name, entry.options)
            raise InputError(f"{name} = {options[name]!r}: not an option of the {family} code{meant}")
        fitting = entry.weight(n, k, w)
    size = f"workers = {n}, blocks = {k}, weight = {fitting}"
    ensure_fits(size, "this code", BYTES_PER_ENTRY * max(n, k) * fitting)  # no family makes less than k rows
    indices, values = entry.build(n, k, fitting, int(seed), **given)
    if entry.period and n % entry.period(k):
        notes.append(
            f"{n} rows are not a multiple of {entry.period(k)}: the last round is incomplete, not tight"
        )
    plain = {name: _plain(value) for name, value in given.items() if name not in TRANSIENT_OPTIONS}
    code = Code(indices, values, k, entry.name, int(seed), plain, tuple(notes))
    for key, epoch in redraws:
        code = code.dithered(key, epoch)
    return code


def _checked_redraws(value: Any) -> list[tuple[int, int]]:
    """Check the option ``dithered``: pairs [seed, epoch]."""
    pairs: list[Any] = list(value) if isinstance(value, list | tuple) else [None]
    for pair in pairs:
        whole = isinstance(pair, list | tuple) and all(
            type(each) is int and 0 <= each < 2**63 for each in pair
        )
        if not whole or len(pair) != 2:
            raise InputError(f"dithered = {value!r}: not a list of [seed, epoch] pairs")
    return [(seed, epoch) for seed, epoch in pairs]


def fitting_rows(family: str, least: int, blocks: int) -> int:
    """Return the smallest number of rows ≥ `least` with which a code of a family over k blocks is complete.

    A complete code has full rank (random and graph: with high probability), and is tight if the family can
    be. If the family has no such code, the result is a number that `design` refuses.
    """
    if family == "auto":
        return -(-least // blocks) * blocks
    entry = family_of(family)
    if entry.period is None:
        sizes = [int(size.most) for size in entry.sizes_of_weight(blocks, None) if size.most >= least]
        return min(sizes, default=max(least, blocks))
    period = entry.period(blocks)
    return max(-(-least // period) * period, blocks)
