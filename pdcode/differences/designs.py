"""Designs: what idle workers evaluate once every column of the Jacobian is under way.

All columns are asked for first, each by itself. Designs differ in the spare evaluations after that, for
columns that are late or have failed.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ..config import kinds
from .columns import Columns


class Queue(kinds.Registered, group="designs"):
    """A queue of columns: idle workers wait, and an evaluation that fails is repeated once.

    Attributes
    ----------
    name : str
        Value of ``scheme.options.design``.
    summary : str
        One-line description.
    speculates : bool
        Whether idle workers get spare evaluations.
    repeats : int
        Number of times that the evaluation of a column is repeated if it fails, before the search is given
        up; -1: others take its place.
    """

    name = "queue"
    summary: ClassVar[str] = "each column once"
    speculates: ClassVar[bool] = False
    repeats: ClassVar[int] = 1

    def spare(
        self, columns: Columns, under_way: Sequence[np.ndarray], keys: tuple[int, ...]
    ) -> np.ndarray | None:
        """Return the direction of a spare evaluation, shape (k,); None: there is none.

        Parameters
        ----------
        columns : Columns
        under_way : sequence of ndarray, shape (k,)
            Directions of the evaluations under way at this point.
        keys : tuple of int
            Keys of random numbers.
        """
        return None


class Copies(Queue):
    """A queue, and copies of the column under way that has the fewest: speculative execution.

    Dean and Ghemawat, "MapReduce: simplified data processing on large clusters", OSDI 2004, section 3.6.
    """

    name = "copies"
    summary: ClassVar[str] = "each column once, and copies of those that are late"
    speculates: ClassVar[bool] = True

    def spare(
        self, columns: Columns, under_way: Sequence[np.ndarray], keys: tuple[int, ...]
    ) -> np.ndarray | None:
        places = [int(each.argmax()) for each in under_way]
        missing = [place for place in dict.fromkeys(places) if not columns.known[place]]
        return columns.coordinate(min(missing, key=places.count)) if missing else None


class Combinations(Queue):
    """A queue, and combinations of all columns that are missing: coded speculation.

    Each answer, of whatever kind, determines one more column. A combination also takes the place of a column
    whose evaluation fails, where a repetition would fail again.
    """

    name = "combinations"
    summary: ClassVar[str] = "each column once, and combinations of those that are late or have failed"
    speculates: ClassVar[bool] = True
    repeats: ClassVar[int] = -1

    def spare(
        self, columns: Columns, under_way: Sequence[np.ndarray], keys: tuple[int, ...]
    ) -> np.ndarray | None:
        if columns.known.all():
            return None
        return columns.combination([each for each in under_way if np.count_nonzero(each) > 1], keys)
