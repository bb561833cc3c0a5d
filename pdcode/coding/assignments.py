"""Assignment of codewords to tasks."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..codes import Code
from ..codes.keyed import signed_permutation
from ..problems.partition import Unit
from ..transport.layout import Codewords, Pair
from ..util.capabilities import Capable
from ..util.errors import InputError
from ..util.stateful import Stateful

if TYPE_CHECKING:
    from ..transport.base import Arrival


class Assignment(Stateful, Capable):
    """Map from tasks to codewords; a row number identifies the codewords of a task.

    Parameters
    ----------
    layers : sequence of Unit
    rows : sequence of int
        Codewords per task, r, of each layer; 1 for an uncoded layer.
    dtype : dtype
        Type of codeword values.

    Attributes
    ----------
    designs : dict of int to Code
        Code for each distinct block count k > 1, if codes are fixed in advance.
    weights : list of int
        Codeword weight w of each layer; 1 for an uncoded layer.
    ignores_arrivals, ignores_steps : bool
        Capabilities: `arrived`, `stepped` do nothing.
    """

    state_names: ClassVar[tuple[str, ...]] = ("_next",)
    covers: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "ignores_arrivals": ("arrived",),
        "ignores_steps": ("stepped",),
    }
    ignores_arrivals: ClassVar[bool] = True
    ignores_steps: ClassVar[bool] = True

    def __init__(self, layers: Sequence[Unit], rows: Sequence[int], dtype: np.dtype) -> None:
        self.layers, self.rows, self.dtype = tuple(layers), tuple(rows), np.dtype(dtype)
        self.designs: dict[int, Code] = {}
        self.weights = [1] * len(self.layers)
        self.whole: Pair = np.zeros((1, 1), np.int32), np.ones((1, 1), self.dtype)
        self.span = max([1, *(r for layer, r in zip(layers, rows, strict=True) if not layer.uncoded)])
        self._next = 0

    def row(self, worker: int) -> int:
        """Assign rows to the next task of a worker; return the number of the first."""
        row = self._next
        self._next += self.span
        return row

    def codewords(self, row: int) -> Codewords:
        """Return the codewords of a task.

        Parameters
        ----------
        row : int
            Number that `row` returned.

        Returns
        -------
        list of (indices, values)
            One pair per layer, shape (r, w), int32 and `dtype`; the codeword [1] for an uncoded layer.
            The arrays are never modified.
        """
        return [self.whole] * len(self.layers)

    @property
    def is_stateless(self) -> bool:
        """Whether arrivals and steps change nothing."""
        return self.ignores_arrivals and self.ignores_steps

    def arrived(self, arrival: Arrival) -> None:
        """Note that a payload has been folded into the decoders."""

    def stepped(self) -> None:
        """Note that θ has been stepped."""


class Chosen(Assignment):
    """Worker-selected codewords; the row number only counts tasks.

    Parameters
    ----------
    weights : sequence of int
        Codeword weight w of each layer.
    """

    def __init__(
        self, layers: Sequence[Unit], rows: Sequence[int], dtype: np.dtype, weights: Sequence[int]
    ) -> None:
        super().__init__(layers, rows, dtype)
        self.weights = list(weights)


class DataRows(Assignment):
    """Rows of a code over data shards: worker i always has row i.

    The rows combine the gradients of shards; no gradient is cut into blocks.

    Parameters
    ----------
    matrix : ndarray, shape (n, m)
        U, the weights of the workers over the shards.

    Attributes
    ----------
    weight, shards : int
        Largest number of nonzeros of a row, and m.
    """

    def __init__(self, layers: Sequence[Unit], dtype: np.dtype, matrix: np.ndarray) -> None:
        super().__init__(layers, [1] * len(layers), dtype)
        self.weight, self.shards = int(np.count_nonzero(matrix, axis=1).max()), matrix.shape[1]
        self._words = [
            (np.flatnonzero(row).astype(np.int32)[None], row[row != 0].astype(self.dtype)[None])
            for row in matrix
        ]

    def row(self, worker: int) -> int:
        return worker

    def codewords(self, row: int) -> Codewords:
        return [self._words[row]] * len(self.layers)


class Static(Assignment):
    """Static assignment: worker i always uses rows j·r … j·r + r - 1 of a code of n rows, j = i mod ⌊n/r⌋.

    Parameters
    ----------
    designs : dict of int to Code
        Code for each distinct block count.
    """

    def __init__(
        self, layers: Sequence[Unit], rows: Sequence[int], dtype: np.dtype, designs: dict[int, Code]
    ) -> None:
        super().__init__(layers, rows, dtype)
        self.designs = designs
        self.weights = [1 if layer.uncoded else designs[layer.count].weight for layer in self.layers]
        self._uncoded = [self.whole] * len(self.layers)
        self._tasks = {}  # tasks until the rows of a code run out, by (k, r)
        self._coded: list[tuple[int, int, int]] = []  # number, k and r of each unit that is not sent uncoded
        for number, (layer, r) in enumerate(zip(self.layers, self.rows, strict=True)):
            if layer.uncoded:
                continue
            self._coded.append((number, layer.count, r))
            self._tasks[layer.count, r] = len(designs[layer.count]) // r
            if r > len(designs[layer.count]):
                raise InputError(
                    f"code.rows_per_task: {r} codewords per task are more than the "
                    f"{len(designs[layer.count])} rows of the code"
                )

    def row(self, worker: int) -> int:
        return worker * self.span

    def codewords(self, row: int) -> Codewords:
        codewords, task, words = self._uncoded.copy(), row // self.span, self._words
        for number, k, r in self._coded:
            codewords[number] = words(number, k, r, task)
        return codewords

    def _words(self, number: int, k: int, r: int, task: int) -> Pair:
        """Return the codewords of a task for one layer."""
        code, first = self.designs[k], task % self._tasks[k, r] * r
        return code.indices[first : first + r], np.ascontiguousarray(
            code.values[first : first + r], self.dtype
        )


class Rotating(Static):
    """Rotating assignment: successive tasks take successive rows of an endless code.

    When its rows run out (and at every update, if `each_update`), the design is redrawn with a keyed random
    permutation of blocks and dither. Tasks take rows in the order in which they are sent, whichever the
    worker: those in flight together have disjoint rows, and each worker covers all directions over time. Or
    (`by_worker`) each worker takes all rows one after another, from a place of its own on: no part of a
    gradient stays at a worker for longer than two turns. The row number of a task determines its codewords; a
    trace stores nothing more.

    Parameters
    ----------
    designs : dict of int to Code
        Code for each distinct block count.
    seed : int
        Key of the redraws.
    each_update : bool
        Whether every update begins with a new code.
    by_worker : bool
        Whether each worker takes all rows in turn.

    Attributes
    ----------
    ordered : bool
        Whether the rows of a code are taken in another order than it has them (`together`).
    """

    state_names = (*Static.state_names, "_sent")

    def __init__(
        self,
        layers: Sequence[Unit],
        rows: Sequence[int],
        dtype: np.dtype,
        designs: dict[int, Code],
        seed: int,
        each_update: bool = False,
        by_worker: bool = False,
    ) -> None:
        super().__init__(layers, rows, dtype, designs)
        self.seed, self.each_update, self.by_worker = seed, each_update, by_worker
        self._sent: dict[int, int] = {}  # last task of each worker
        # Tasks in a turn: until every code has been used up at least once.
        self._turn = max(self._tasks.values(), default=1)
        # number of each coded layer, its tasks until the rows run out, and how often that is in a turn
        self._turns = [
            (number, self._tasks[k, r], -(-self._turn // self._tasks[k, r])) for number, k, r in self._coded
        ]
        # current epoch of each coded layer, and indices and values of its tasks, shape (tasks, r, w)
        none = np.zeros((0, 0, 0))
        self._drawn = {number: (-1, none, none) for number, _, _ in self._coded}
        # Stretches of a turn in which no layer begins another epoch: where that of each place begins …
        begins = [any(place % tasks == 0 for _, tasks, _ in self._turns) for place in range(self._turn)]
        self._firsts = [*accumulate((place if each else 0 for place, each in enumerate(begins)), max)]
        self._stretch = -1, 0  # … turn and beginning of the last one …
        self._row: list[Codewords] = []  # … and the codewords of its tasks
        orders = {number: together(designs[k].indices, k, r) for number, k, r in self._coded}
        self.ordered = any((np.diff(order) != 1).any() for order in orders.values())
        # Codes in the order in which tasks take their rows: what is redrawn are names of blocks, and signs.
        self._codes = {
            number: (designs[k].indices[orders[number]], designs[k].values[orders[number]].astype(self.dtype))
            for number, k, _ in self._coded
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._stretch = -1, 0  # drawn anew: the row of a task determines its codewords

    def row(self, worker: int) -> int:
        if not self.by_worker:
            return Assignment.row(self, worker)
        task = self._sent[worker] = self._sent.get(worker, -1) + 1
        turn, place = divmod(task, self._turn)
        return (turn * self._turn + (worker + place) % self._turn) * self.span

    @property
    def is_stateless(self) -> bool:
        return self.ignores_arrivals and not self.each_update

    def stepped(self) -> None:
        if self.each_update:
            turn = self._turn * self.span
            self._next = -(-self._next // turn) * turn

    def codewords(self, row: int) -> Codewords:
        turn, place = divmod(row // self.span, self._turn)
        first = self._firsts[place]
        if (turn, first) != self._stretch:
            self._stretch, self._row = (turn, first), self._cut(turn, first)
        return self._row[place - first]

    def _cut(self, turn: int, first: int) -> list[Codewords]:
        """Return the codewords of the tasks in a stretch; draw those of layers that begin an epoch."""
        count = bisect_right(self._firsts, first) - first
        columns: list[list[Pair]] = [[self.whole] * count] * len(self.layers)
        for number, tasks, epochs in self._turns:
            past, task = divmod(first, tasks)
            epoch = turn * epochs + past
            if self._drawn[number][0] != epoch:
                indices, values = self._draw(number, self.layers[number].count, epoch)
                shape = tasks, self.rows[number], indices.shape[1]
                used = slice(shape[0] * shape[1])
                self._drawn[number] = epoch, indices[used].reshape(shape), values[used].reshape(shape)
            _, indices, values = self._drawn[number]
            part = slice(task, task + count)
            columns[number] = [*zip(indices[part], values[part], strict=True)]
        return [*zip(*columns, strict=True)]

    def _draw(self, number: int, k: int, epoch: int) -> Pair:
        """Draw all codewords of a layer for an epoch."""
        indices, values = self._codes[number]
        if not epoch:
            return indices, values
        names, signs = signed_permutation(self.seed, epoch, k)
        return names.take(indices), values * signs.astype(self.dtype).take(indices)


def together(indices: np.ndarray, blocks: int, rows: int) -> np.ndarray:
    """Return the order of codewords in which those of the same blocks follow each other.

    A task then has all rows of a Hadamard matrix on few blocks, not one row each on many, so that decoding
    touches a quarter of θ (`kernels.fold`). Of `blocks` rows, a basis, it has as much information either way.

    Parameters
    ----------
    indices : ndarray of int, shape (n, w)
    blocks : int
        Rows of a basis; they stay together.
    rows : int
        Codewords of a task. With fewer than w, the order stays as it is: a task would have part of a matrix.
    """
    if rows % indices.shape[1]:
        return np.arange(len(indices))
    basis = np.arange(len(indices)) // blocks
    sets = np.unique(np.column_stack([basis, np.sort(indices, axis=1)]), axis=0, return_inverse=True)[1]
    first = np.full(sets.max() + 1, len(indices))
    np.minimum.at(first, sets.ravel(), np.arange(len(indices)))
    return np.argsort(first[sets.ravel()], kind="stable")
