"""Which codewords a task gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..codes import Code
from ..problems.partition import Unit
from ..transport.layout import Codewords, Pair
from ..util.errors import InputError

if TYPE_CHECKING:
    from ..transport.base import Arrival


class Assignment:
    """Codewords of tasks, by a row number that tells them from then on.

    Parameters
    ----------
    layers : sequence of Unit
    rows : sequence of int
        Codewords per task, r, of each layer; 1 of a whole one.
    dtype : dtype
        Of codeword values.

    Attributes
    ----------
    designs : dict
        The code of each distinct block count k > 1, where there is one.
    weights : list of int
        w of each layer's codewords; 1 of a whole layer.
    """

    def __init__(self, layers: Sequence[Unit], rows: Sequence[int], dtype: np.dtype) -> None:
        self.layers, self.rows, self.dtype = tuple(layers), tuple(rows), np.dtype(dtype)
        self.designs: dict[int, Code] = {}
        self.weights = [1] * len(self.layers)
        self.whole: Pair = np.zeros((1, 1), np.int32), np.ones((1, 1), self.dtype)
        self.span = max([1, *(r for layer, r in zip(layers, rows, strict=True) if not layer.whole)])
        self._next = 0

    def row(self, worker: int) -> int:
        """Number of the first row of the next task of a worker."""
        row = self._next
        self._next += self.span
        return row

    def codewords(self, row: int) -> Codewords:
        """Codewords of a task.

        Parameters
        ----------
        row : int
            As `row` gave it.

        Returns
        -------
        list of (indices, values)
            One a layer, of shape (r, w), int32 and the dtype; [1] for a layer that is sent whole. They stay
            as they are.
        """
        return [self.whole] * len(self.layers)

    def arrived(self, arrival: Arrival) -> None:
        """A payload has been folded into the decoders."""

    def stepped(self) -> None:
        """θ has been stepped."""


class Chosen(Assignment):
    """Workers choose the codewords; the row number only counts tasks.

    Parameters
    ----------
    weights : sequence of int
        w of each layer's codewords.
    """

    def __init__(
        self, layers: Sequence[Unit], rows: Sequence[int], dtype: np.dtype, weights: Sequence[int]
    ) -> None:
        super().__init__(layers, rows, dtype)
        self.weights = list(weights)


class DataRows(Assignment):
    """Rows of a code over data shards: worker i always has row i, which only rank 0's decoder needs.

    The gradient itself is sent whole.

    Parameters
    ----------
    matrix : ndarray, shape (n, m)
        U: data weights of the workers over the shards.
    """

    def __init__(self, layers: Sequence[Unit], dtype: np.dtype, matrix: np.ndarray) -> None:
        super().__init__(layers, [1] * len(layers), dtype)
        self._words = [
            (np.flatnonzero(row).astype(np.int32)[None], row[row != 0].astype(self.dtype)[None])
            for row in matrix
        ]

    def row(self, worker: int) -> int:
        return worker

    def codewords(self, row: int) -> Codewords:
        return [self._words[row]] * len(self.layers)


class Static(Assignment):
    """Rows of a code: worker i has its i-th r for ever, modulo the rows of the code.

    Parameters
    ----------
    designs : dict
        As above.
    """

    def __init__(
        self, layers: Sequence[Unit], rows: Sequence[int], dtype: np.dtype, designs: dict[int, Code]
    ) -> None:
        super().__init__(layers, rows, dtype)
        self.designs = designs
        self.weights = [1 if layer.whole else designs[layer.count].weight for layer in self.layers]
        self._tasks = {}  # tasks that the rows of a code suffice for, of each (k, r)
        self._coded: list[tuple[int, int, int]] = []  # number, k and r of each unit that is not sent whole
        for number, (layer, r) in enumerate(zip(self.layers, self.rows, strict=True)):
            if layer.whole:
                continue
            self._coded.append((number, layer.count, r))
            self._tasks[layer.count, r] = len(designs[layer.count]) // r
            if r > len(designs[layer.count]):
                raise InputError(
                    f"code.rows_per_task: {r} codewords a task are more than the "
                    f"{len(designs[layer.count])} rows of the code"
                )

    def row(self, worker: int) -> int:
        return worker * self.span

    def codewords(self, row: int) -> Codewords:
        codewords, task = [self.whole] * len(self.layers), row // self.span
        for number, k, r in self._coded:
            codewords[number] = self._words(number, k, r, task)
        return codewords

    def _words(self, number: int, k: int, r: int, task: int) -> Pair:
        """Codewords of a layer."""
        code, first = self.designs[k], task % self._tasks[k, r] * r
        return code.indices[first : first + r], np.ascontiguousarray(
            code.values[first : first + r], self.dtype
        )


class Rotating(Static):
    """The c-th task, whoever gets it, takes the c-th r rows of an endless code.

    That is the design, redrawn under a keyed random permutation of the blocks and dither each time it is used
    up and, if so asked, at every update. Tasks that are in flight together then have disjoint rows, and a
    worker meets all directions in the course of its tasks. The row number of a task tells its codewords, so a
    trace needs to store no more.

    Parameters
    ----------
    designs : dict
        As above.
    seed : int
        Key of the redraws.
    each_update : bool
        Whether every update begins with a fresh code.
    """

    def __init__(
        self,
        layers: Sequence[Unit],
        rows: Sequence[int],
        dtype: np.dtype,
        designs: dict[int, Code],
        seed: int,
        each_update: bool = False,
    ) -> None:
        super().__init__(layers, rows, dtype, designs)
        self.seed, self.each_update = seed, each_update
        # Tasks of a turn: until every code has been used up at least once.
        self._turn = max(self._tasks.values(), default=1)
        self._drawn: dict[int, tuple[int, Pair]] = {}  # what each layer uses: epoch and codewords

    def row(self, worker: int) -> int:
        return Assignment.row(self, worker)

    def stepped(self) -> None:
        if self.each_update:
            turn = self._turn * self.span
            self._next = -(-self._next // turn) * turn

    def _words(self, number: int, k: int, r: int, task: int) -> Pair:
        tasks = self._tasks[k, r]
        turn, place = divmod(task, self._turn)
        epoch = turn * -(-self._turn // tasks) + place // tasks
        drawn = self._drawn.get(number)
        if drawn is None or drawn[0] != epoch:
            drawn = self._drawn[number] = epoch, self._draw(number, k, epoch)
        indices, values = drawn[1]
        first = place % tasks * r
        return indices[first : first + r], values[first : first + r]

    def _draw(self, number: int, k: int, epoch: int) -> Pair:
        """All codewords of a layer for an epoch."""
        code = self.designs[k].dithered(self.seed, epoch) if epoch else self.designs[k]
        return code.indices, np.ascontiguousarray(code.values, self.dtype)
