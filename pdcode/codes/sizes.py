"""The sizes that a family has, and refusals of all others that name the nearest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from ..util.errors import InputError


class Shape(NamedTuple):
    """One size of a family for given blocks k."""

    rows: float  # all rows that it has; infinity: any number
    weight: int
    exact: bool = True  # whether it is made whole only; else its first rows are a code of the family too
    least: int = 1  # fewest rows


def nearest(*sizes: tuple[int, int, int]) -> str:
    """End of a refusal: 'nearest: workers = n, blocks = k, weight = w; or …', each size once."""
    each = dict.fromkeys(f"workers = {n}, blocks = {k}, weight = {w}" for n, k, w in sizes)
    return "nearest: " + "; or ".join(each)


def fitted(shape: Shape, rows: int) -> int:
    """Possible number of rows next to the one that is wanted."""
    return int(shape.rows if shape.exact or rows > shape.rows else max(rows, shape.least))


def weight_of(
    family: str, shapes: Callable[[int], Iterable[Shape]], rows: int, blocks: int, weight: int | None
) -> int:
    """Weight of the family's code of this size.

    Parameters
    ----------
    family : str
        Its name, for the message.
    shapes : callable
        Blocks → shapes that the family has, lightest first.
    rows, blocks : int
        n and k.
    weight : int or None
        w, or the first that fits.

    Raises
    ------
    InputError
        If there is none; the message names the nearest sizes.
    """
    found = list(shapes(blocks))
    if not found:
        near = [(k, _closest(shapes(k), rows, weight)) for k in _around(shapes, blocks)]
        raise InputError(
            f"blocks = {blocks}: no {family} code has as many; "
            + nearest(*((fitted(shape, rows), k, shape.weight) for k, shape in near))
        )
    allowed = [shape for shape in found if weight in (None, shape.weight)]
    fitting = [shape for shape in allowed if fitted(shape, rows) == rows]
    if fitting:
        return fitting[0].weight
    close = _closest(allowed or found, rows, weight)
    here = (fitted(close, rows), blocks, close.weight)
    if not allowed:
        has = " or ".join(str(each) for each in sorted({shape.weight for shape in found}))
        raise InputError(
            f"weight = {weight}: the {family} code over {blocks} blocks has weight {has}; {nearest(here)}"
        )
    most = "" if close.exact else "at most " if rows > close.rows else "at least "
    limit = close.least if rows < close.least else int(close.rows)
    others = [
        (rows, k, shape.weight) for k in _around(shapes, blocks) for shape in shapes(k) if _fits(shape, rows)
    ]
    raise InputError(
        f"workers = {rows}: the {family} code over {blocks} blocks has {most}{limit} rows; "
        + nearest(here, *others[:2])
    )


def _fits(shape: Shape, rows: int) -> bool:
    return fitted(shape, rows) == rows


def _closest(shapes: Iterable[Shape], rows: int, weight: int | None) -> Shape:
    def distance(shape: Shape) -> tuple[int, int]:
        return abs(shape.weight - (weight or shape.weight)), abs(fitted(shape, rows) - rows)

    return min(shapes, key=distance)


def _around(shapes: Callable[[int], Iterable[Shape]], blocks: int) -> list[int]:
    """Next numbers of blocks, below and above, for which there is a shape."""
    below = next((k for k in range(blocks - 1, 0, -1) if shapes(k)), None)
    above = next(k for k in range(blocks + 1, 4 * blocks + 64) if shapes(k))
    return [above] if below is None else [below, above]
