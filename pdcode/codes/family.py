"""Families of codes: builder, available sizes, and guaranteed properties."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from math import inf
from typing import ClassVar, NamedTuple

import numpy as np

from ..config.kinds import Record
from ..util.errors import InputError

Rows = tuple[np.ndarray, np.ndarray]
"""Sparse codewords: blocks and entries, both of shape (n, w)."""

SEARCH_RADIUS = 1000  # blocks by which the suggested size may differ


class Size(NamedTuple):
    """Numbers of rows of the codes of one weight: least, least + step, …, most."""

    weight: int
    most: float = inf
    least: int = 1
    step: int = 1

    def near(self, rows: int) -> int:
        """Return a possible number of rows near `rows`, or `rows` itself if possible."""
        return int(min(max(rows, self.least), self.most)) // self.step * self.step


def exactly(rows: int, weight: int) -> Size:
    """Return the size of a design that has exactly this number of rows."""
    return Size(weight, rows, rows)


@dataclass(frozen=True)
class Family(Record):
    """A family of codes; `design` and configurations know plug-ins' and installed packages' families by name.

    Parameters
    ----------
    name : str
        Name in configurations and on the command line.
    about : str
        Description in one line, for ``pdcode codes list``.
    build : callable
        ``build(n, k, w, seed, **options)`` returns blocks and entries of the codewords, shape (n, w); each
        row has norm 1. Shorter rows are padded with block 0, entry 0. It is called for listed sizes only.
    sizes : callable
        ``sizes(k, w)`` lists the sizes over k blocks, of weight w unless that is None; the first that fits is
        the default. The list may contain other weights.
    options : frozenset of str
        Names of the options that `build` takes.
    period : callable, optional
        Number of blocks → rows of a round; complete rounds are tight. None: all rows are one round.
    coherence : callable
        ``coherence(n, k, w)`` is the coherence in closed form, or None if unknown.
    tight : bool
        Whether complete rounds are tight.
    """

    group: ClassVar[str] = "families"  # see `config.kinds`

    name: str
    about: str
    build: Callable[..., Rows]
    sizes: Callable[[int, int | None], Iterable[Size]]
    options: frozenset[str] = frozenset()
    period: Callable[[int], int] | None = lambda blocks: blocks
    coherence: Callable[[int, int, int], float | None] = lambda rows, blocks, weight: None
    tight: bool = True

    def __post_init__(self) -> None:
        if self.name == "auto":
            raise InputError("'auto' is no family: it stands for the design of least coherence")

    def sizes_of_weight(self, blocks: int, weight: int | None) -> list[Size]:
        """List the sizes over k blocks of one weight, or the default sizes."""
        if weight is not None and weight > blocks:
            return []
        return [size for size in self.sizes(blocks, weight) if weight in (None, size.weight)]

    def weight(self, rows: int, blocks: int, weight: int | None) -> int:
        """Return the weight of the code of this size, or raise an InputError that names an existing size."""
        for size in self.sizes_of_weight(blocks, weight):
            if size.near(rows) == rows:
                return size.weight
        wanted = f"workers = {rows}, blocks = {blocks}" + (f", weight = {weight}" if weight else "")
        above = ", its weight is above the number of blocks" if (weight or 1) > blocks else ""
        nearest = self._nearest(rows, blocks, weight)
        raise InputError(f"{wanted}: there is no such {self.name} code{above}{nearest}")

    def _nearest(self, rows: int, blocks: int, weight: int | None) -> str:
        """Name an existing size: with the same number of blocks if possible, then with the same weight."""
        radius = min(3 * blocks + 64, SEARCH_RADIUS)
        around = (k for step in range(radius) for k in (blocks + step, blocks - step) if k > 0)
        for k in chain(around, range(min(blocks, SEARCH_RADIUS), 0, -1)):
            if found := self.sizes_of_weight(k, weight) or self.sizes_of_weight(k, None):
                size = min(found, key=lambda each: abs(each.near(rows) - rows))
                return f"; nearest: workers = {size.near(rows)}, blocks = {k}, weight = {size.weight}"
        return ""
