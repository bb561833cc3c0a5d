"""Encoded rows and columns of a linear model's data, in groups of k, and the groups that an update uses.

Rows of X form groups of k, and so do columns (inputs, and the column of ones). Each worker has one
combination of the rows of each group, and one of the columns of each, with the same k coefficients: its
*encoded rows* and *encoded columns*, 1/k of the data each.
"""

import numpy as np

from ..kernels import philox
from ..util.rng import BATCH
from ..util.stateful import Stateful

FIRST_GROUP = np.dtype(np.int64)  # number of the first group that is sent with a task, before the groups


def element_numbers(groups: np.ndarray, width: int) -> np.ndarray:
    """Return the numbers of the rows or inputs in groups of `width`."""
    numbers: np.ndarray = (groups[:, None] * width + np.arange(width)).ravel()
    return numbers


class RowGroups:
    """Groups of rows that an update uses: all available ones, or some drawn from them.

    `rows` training rows form `count` groups of `width` = k rows; the last group is filled up with zeros.
    `batch` is the number of rows of a mini-batch, 0 for all. `start` rows are available at first, in `first`
    groups, and `arriving` more from each update on. An update uses at most `max_used` groups.
    """

    def __init__(
        self, seed: int, rows: int, width: int, batch: int = 0, start: int | None = None, arriving: int = 0
    ) -> None:
        self._seed, self.rows, self.width = seed, rows, width
        self.count = -(-rows // width)
        self.first = self.count if start is None else min(self.count, max(1, -(-start // width)))
        self._arriving = -(-arriving // width)
        self._drawn = np.empty(-(-batch // width), np.int64)
        self.max_used = len(self._drawn) or self.count

    def available(self, version: int) -> int:
        """Return the number of groups that are available at an update."""
        return min(self.count, self.first + version * self._arriving)

    def number(self, version: int) -> int:
        """Return the number of groups that an update uses."""
        return len(self._drawn) or self.available(version)

    def groups_of(self, version: int) -> np.ndarray:
        """Return the numbers of the groups of an update, int64; drawn ones are in one array, overwritten."""
        available = self.available(version)
        if not len(self._drawn):
            return np.arange(available)
        philox.integers(self._seed, BATCH, 0, version, available, self._drawn)
        return self._drawn

    def select(self, array: np.ndarray, version: int) -> np.ndarray:
        """Return the elements that an update uses of an array with an element for each group."""
        return array[self.groups_of(version)] if len(self._drawn) else array[: self.available(version)]

    def rows_of(self, groups: np.ndarray) -> np.ndarray:
        """Return the numbers of the rows of groups; some of the last group may not exist."""
        return element_numbers(groups, self.width)


class CoordinateBlocks:
    """Groups of inputs whose weights an update changes: all, or the next ones in turn.

    `inputs`, with the one of the bias, form `count` groups of `width` = k. An update changes `per_update`
    groups: the groups of `some` inputs, or all for 0; `complete` is set if these are all groups.
    """

    def __init__(self, inputs: int, width: int, some: int = 0) -> None:
        self.inputs, self.width = inputs, width
        self.count = -(-inputs // width)
        self.per_update = min(self.count, -(-some // width)) or self.count
        self.complete = self.per_update == self.count

    def blocks_of(self, version: int) -> np.ndarray:
        """Return the numbers of the groups of an update."""
        numbers: np.ndarray = (version * self.per_update + np.arange(self.per_update)) % self.count
        return numbers

    def inputs_of(self, groups: np.ndarray) -> np.ndarray:
        """Return the numbers of the inputs of groups; some of the last group may not exist."""
        return element_numbers(groups, self.width)


class DataEncoder:
    """Encoder of all rows at rank 0, (rows, inputs) with a last column of ones, in groups of `width` = k.

    `squares` are the squared norms of the rows, float64, shape (groups · k,).
    """

    def __init__(self, x: np.ndarray, width: int) -> None:
        rows, inputs = -(-x.shape[0] // width), -(-x.shape[1] // width)
        self._x = np.zeros((rows * width, inputs * width), x.dtype)
        self._x[: len(x), : x.shape[1]] = x
        self._inputs, self._width = x.shape[1], width
        self.squares = np.einsum("ij,ij->i", self._x, self._x, dtype=np.float64)

    def encode(self, coefficients: np.ndarray, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Encode groups `first` … `last` - 1 of rows with the k coefficients of a worker.

        Returns encoded rows, (groups, inputs), and columns, (groups · k, groups of inputs).
        """
        width, coefficients = self._width, coefficients.astype(self._x.dtype)
        part = self._x[first * width : last * width]
        rows = coefficients @ part.reshape(last - first, width, -1)
        columns = part.reshape(len(part), -1, width) @ coefficients
        return np.ascontiguousarray(rows[:, : self._inputs]), columns


class CodedData(Stateful):
    """A worker's encoded rows and columns; `arrays` has the first ones, others are sent with its tasks.

    Attributes
    ----------
    rows : ndarray, shape (groups, inputs)
    columns : ndarray, shape (groups, k, groups of inputs)
    """

    state_names = ("_later_rows", "_later_columns")

    def __init__(self, arrays: dict[str, np.ndarray], groups: RowGroups) -> None:
        rows, columns, first = arrays["rows"], arrays["columns"], groups.first
        columns = columns.reshape(first, groups.width, -1)
        self.rows, self.columns = rows, columns
        if first < groups.count:
            self.rows, self.columns = (
                np.zeros((groups.count, *each.shape[1:]), each.dtype) for each in (rows, columns)
            )
            self.rows[:first], self.columns[:first] = rows, columns
        self._later_rows, self._later_columns, self._first = self.rows[first:], self.columns[first:], first

    def take(self, body: np.ndarray) -> None:
        """Store the groups at the end of a task's body."""
        if not len(body):
            return
        rows, columns = self._later_rows, self._later_columns
        at = int(body[: FIRST_GROUP.itemsize].view(FIRST_GROUP)[0]) - self._first
        numbers = body[FIRST_GROUP.itemsize :].view(rows.dtype)
        count = len(numbers) // (rows[0].size + columns[0].size)
        end = count * rows[0].size
        rows[at : at + count] = numbers[:end].reshape(count, *rows.shape[1:])
        columns[at : at + count] = numbers[end:].reshape(count, *columns.shape[1:])
