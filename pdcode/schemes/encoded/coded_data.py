"""Encoded rows and columns of a linear model's data, in groups of k, and which groups an update uses.

Rows of X come in groups of k, and so do columns (inputs, and the column of ones). Each worker has one
combination of the rows of each group, and one of the columns of each, with the same k coefficients: its
*encoded rows* and *encoded columns*, 1/k of the data each.
"""

from __future__ import annotations

import numpy as np

from ...kernels import philox
from ...util.rng import BATCH

AHEAD = np.dtype(np.int64)  # number of the first group that comes with a task, before the groups


def members(groups: np.ndarray, width: int) -> np.ndarray:
    """Return the numbers of what is in groups of `width`."""
    found: np.ndarray = (groups[:, None] * width + np.arange(width)).ravel()
    return found


class RowGroups:
    """Groups of rows that an update uses: all that are there, or some drawn from them.

    Parameters
    ----------
    seed : int
    rows, width : int
        Number of training rows, and k, the rows of a group; the last group is filled up with zeros.
    batch : int
        Rows of a mini-batch; 0 for all that are there.
    start, arriving : int
        Rows that are there at first, and that come with each update.

    Attributes
    ----------
    first, count : int
        Groups that are there at first, and in the end.
    most : int
        Largest number of groups that an update uses.
    """

    def __init__(
        self, seed: int, rows: int, width: int, batch: int = 0, start: int | None = None, arriving: int = 0
    ) -> None:
        self._seed, self.rows, self.width = seed, rows, width
        self.count = -(-rows // width)
        self.first = self.count if start is None else min(self.count, max(1, -(-start // width)))
        self._arriving = -(-arriving // width)
        self._drawn = np.empty(-(-batch // width), np.int64)
        self.most = len(self._drawn) or self.count

    def there(self, version: int) -> int:
        """Return how many groups are there at an update."""
        return min(self.count, self.first + version * self._arriving)

    def number(self, version: int) -> int:
        """Return how many groups an update uses."""
        return len(self._drawn) or self.there(version)

    def of(self, version: int) -> np.ndarray:
        """Return the numbers of the groups of an update, int64; those drawn in the same array each time."""
        there = self.there(version)
        if not len(self._drawn):
            return np.arange(there)
        philox.integers(self._seed, BATCH, 0, version, there, self._drawn)
        return self._drawn

    def select(self, array: np.ndarray, version: int) -> np.ndarray:
        """Return the parts of an array, one per group, that an update uses."""
        return array[self.of(version)] if len(self._drawn) else array[: self.there(version)]

    def rows_of(self, groups: np.ndarray) -> np.ndarray:
        """Return the numbers of the rows of groups; those of the last group may not be there."""
        return members(groups, self.width)


class CoordinateBlocks:
    """Groups of inputs whose weights an update changes: all, or as many as are given, in turn.

    Parameters
    ----------
    inputs, width : int
        Number of inputs with the one of the bias, and k, the inputs of a group.
    some : int
        Number of inputs of an update; 0: all.

    Attributes
    ----------
    count, most : int
        Number of groups, and of those of an update.
    """

    def __init__(self, inputs: int, width: int, some: int = 0) -> None:
        self.inputs, self.width = inputs, width
        self.count = -(-inputs // width)
        self.most = min(self.count, -(-some // width)) or self.count
        self.all = self.most == self.count

    def of(self, version: int) -> np.ndarray:
        """Return the numbers of the groups of an update."""
        found: np.ndarray = (version * self.most + np.arange(self.most)) % self.count
        return found

    def inputs_of(self, groups: np.ndarray) -> np.ndarray:
        """Return the numbers of the inputs of groups; those of the last group may not be there."""
        return members(groups, self.width)


class DataEncoder:
    """All rows at rank 0, and their encoding for a worker.

    Parameters
    ----------
    x : ndarray, shape (rows, inputs)
        Inputs with a last column of ones.
    width : int
        k.

    Attributes
    ----------
    squares : ndarray of float64, shape (groups · k,)
        Squared norms of the rows.
    """

    def __init__(self, x: np.ndarray, width: int) -> None:
        rows, inputs = -(-x.shape[0] // width), -(-x.shape[1] // width)
        self._x = np.zeros((rows * width, inputs * width), x.dtype)
        self._x[: len(x), : x.shape[1]] = x
        self._inputs, self._width = x.shape[1], width
        self.squares = np.einsum("ij,ij->i", self._x, self._x, dtype=np.float64)

    def encode(self, word: np.ndarray, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Encode groups of rows with the k coefficients of a worker.

        Returns
        -------
        rows : ndarray, shape (groups, inputs)
        columns : ndarray, shape (groups · k, groups of inputs)
        """
        width, word = self._width, word.astype(self._x.dtype)
        part = self._x[first * width : last * width]
        rows = word @ part.reshape(last - first, width, -1)
        columns = part.reshape(len(part), -1, width) @ word
        return np.ascontiguousarray(rows[:, : self._inputs]), columns


class CodedData:
    """A worker's encoded rows and columns, of which some may come with its tasks.

    Parameters
    ----------
    arrays : dict of str to ndarray
        Those that are there at first: "rows" and "columns".
    groups : RowGroups

    Attributes
    ----------
    rows : ndarray, shape (groups, inputs)
    columns : ndarray, shape (groups, k, groups of inputs)
    """

    transient = "rows", "columns"  # in snapshots: what was there at first is sent again

    def __init__(self, arrays: dict[str, np.ndarray], groups: RowGroups) -> None:
        rows, columns, first = arrays["rows"], arrays["columns"], groups.first
        columns = columns.reshape(first, groups.width, -1)
        self.rows, self.columns = rows, columns
        if first < groups.count:
            self.rows, self.columns = (
                np.zeros((groups.count, *each.shape[1:]), each.dtype) for each in (rows, columns)
            )
            self.rows[:first], self.columns[:first] = rows, columns
        self._later = self.rows[first:], self.columns[first:]
        self._first = first

    def take(self, body: np.ndarray) -> None:
        """Take in the groups at the end of a task's body."""
        if not len(body):
            return
        rows, columns = self._later
        at = int(body[: AHEAD.itemsize].view(AHEAD)[0]) - self._first
        numbers = body[AHEAD.itemsize :].view(rows.dtype)
        count = len(numbers) // (rows[0].size + columns[0].size)
        end = count * rows[0].size
        rows[at : at + count] = numbers[:end].reshape(count, *rows.shape[1:])
        columns[at : at + count] = numbers[end:].reshape(count, *columns.shape[1:])
