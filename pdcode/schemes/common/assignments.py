"""Assignment of codewords to tasks."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ...codes import Code
from ...codes.keyed import signed_permutation
from ...transport.layout import Codewords, Pair, uncoded_codeword
from ...transport.units import Unit
from ...util.capabilities import Capable
from ...util.errors import InputError
from ...util.stateful import Stateful

if TYPE_CHECKING:
    from ...transport.base import Arrival


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
        self.uncoded = uncoded_codeword(self.dtype)
        self.span = max([1, *(r for layer, r in zip(layers, rows, strict=True) if not layer.uncoded)])
        self._next = 0

    def row(self, worker: int) -> int:
        """Assign rows to the next task of a worker; return the number of the first."""
        row = self._next
        self._next += self.span
        return row

    def codewords(self, row: int) -> Codewords:
        """Return the codewords of a task, by the number that `row` returned; the arrays are never modified.

        There is one pair (indices, values) per layer, shape (r, w), int32 and `dtype`; the codeword [1] for
        an uncoded layer.
        """
        return [self.uncoded] * len(self.layers)

    @property
    def is_stateless(self) -> bool:
        """Whether arrivals and steps change nothing."""
        return self.ignores_arrivals and self.ignores_steps

    def arrived(self, arrival: Arrival) -> None:
        """Note a payload that has been decoded."""

    def stepped(self) -> None:
        """Note a step of θ."""


class WorkerSelected(Assignment):
    """Worker-selected codewords of given weights per layer; the row number only counts tasks."""

    def __init__(
        self, layers: Sequence[Unit], rows: Sequence[int], dtype: np.dtype, weights: Sequence[int]
    ) -> None:
        super().__init__(layers, rows, dtype)
        self.weights = list(weights)


class DataRows(Assignment):
    """Rows of a code over m data shards, a matrix (n, m) of the workers' weights: worker i always has row i.

    The rows combine the gradients of shards; no gradient is cut into blocks. `weight` is the largest number
    of nonzeros of a row.
    """

    def __init__(self, layers: Sequence[Unit], dtype: np.dtype, matrix: np.ndarray) -> None:
        super().__init__(layers, [1] * len(layers), dtype)
        self.weight, self.shards = int(np.count_nonzero(matrix, axis=1).max()), matrix.shape[1]
        self._pairs = [
            (np.flatnonzero(row).astype(np.int32)[None], row[row != 0].astype(self.dtype)[None])
            for row in matrix
        ]

    def row(self, worker: int) -> int:
        return worker

    def codewords(self, row: int) -> Codewords:
        return [self._pairs[row]] * len(self.layers)


class Static(Assignment):
    """Static assignment: worker i always uses rows j·r … j·r + r - 1 of a code of n rows, j = i mod ⌊n/r⌋.

    `designs` has the code for each distinct block count.
    """

    def __init__(
        self, layers: Sequence[Unit], rows: Sequence[int], dtype: np.dtype, designs: dict[int, Code]
    ) -> None:
        super().__init__(layers, rows, dtype)
        self.designs = designs
        self.weights = [1 if layer.uncoded else designs[layer.count].weight for layer in self.layers]
        self._tasks = {}  # tasks until the rows of a code run out, by (k, r)
        self._coded: list[tuple[int, int, int]] = []  # number, k and r of each coded unit
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
        codewords = [self.uncoded] * len(self.layers)
        for number, k, r in self._coded:
            code, first = self.designs[k], row // self.span % self._tasks[k, r] * r
            values = np.ascontiguousarray(code.values[first : first + r], self.dtype)
            codewords[number] = code.indices[first : first + r], values
        return codewords


class Rotating(Static):
    """Rotating assignment: successive tasks take successive rows of an endless code.

    When its rows run out (and at every update, if `each_update`), the design is redrawn with a permutation of
    blocks and dither, keyed by `seed`. Tasks take rows in the order in which they are sent, of all workers:
    tasks in flight at one time have disjoint rows, and each worker covers all directions over time. Or
    (`by_worker`) each worker takes all rows one after another, from a start of its own: no part of a gradient
    stays at a worker for longer than two turns. The row number of a task determines its codewords; a trace
    stores nothing more.

    With `apart` each layer has permutations of its own, from the first on, so that the codewords of two
    layers are independent; otherwise layers of as many blocks have the same.

    `reordered` is whether rows are taken in another order than the code's, see `group_by_support`.
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
        apart: bool = False,
    ) -> None:
        super().__init__(layers, rows, dtype, designs)
        self.seed, self.each_update, self.by_worker, self.apart = seed, each_update, by_worker, apart
        self._sent: dict[int, int] = {}  # last task of each worker
        # Number of tasks in a turn, until the rows of every code have run out at least once.
        self._turn = max(self._tasks.values(), default=1)
        # Number of each coded layer, of its tasks until the rows run out, and of its epochs in a turn.
        self._turns = [
            (number, self._tasks[k, r], -(-self._turn // self._tasks[k, r])) for number, k, r in self._coded
        ]
        # Current epoch of each coded layer, and indices and values of its tasks, shape (tasks, r, w).
        none = np.zeros((0, 0, 0))
        self._drawn = {number: (-1, none, none) for number, _, _ in self._coded}
        # A stretch is a part of a turn in which no layer begins another epoch; the start of each task's:
        begins = [any(place % tasks == 0 for _, tasks, _ in self._turns) for place in range(self._turn)]
        self._firsts = [*accumulate((place if each else 0 for place, each in enumerate(begins)), max)]
        self._stretch = -1, 0  # turn and start of the current stretch
        self._row: list[Codewords] = []  # codewords of the tasks in it
        orders = {number: group_by_support(designs[k].indices, k, r) for number, k, r in self._coded}
        self.reordered = any((np.diff(order) != 1).any() for order in orders.values())
        # Codes in the order in which tasks take their rows; a redraw permutes their blocks and draws signs.
        self._codes = {
            number: (designs[k].indices[orders[number]], designs[k].values[orders[number]].astype(self.dtype))
            for number, k, _ in self._coded
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._stretch = -1, 0  # the row of a task determines its codewords

    def row(self, worker: int) -> int:
        if not self.by_worker:
            return Assignment.row(self, worker)
        task = self._sent[worker] = self._sent.get(worker, -1) + 1
        return self.row_of(worker, task)

    def row_of(self, worker: int, task: int) -> int:
        """Return the row of a worker's n-th task if each worker takes all rows one after another."""
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
            self._stretch, self._row = (turn, first), self._stretch_codewords(turn, first)
        return self._row[place - first]

    def _stretch_codewords(self, turn: int, first: int) -> list[Codewords]:
        """Return the codewords of the tasks in a stretch; draw them for layers that begin an epoch."""
        count = bisect_right(self._firsts, first) - first
        columns: list[list[Pair]] = [[self.uncoded] * count] * len(self.layers)
        for number, tasks, epochs in self._turns:
            passed, task = divmod(first, tasks)
            epoch = turn * epochs + passed
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
        if self.apart:
            epoch = 1 + epoch * len(self.layers) + number
        if not epoch:
            return indices, values
        names, signs = signed_permutation(self.seed, epoch, k)
        return names.take(indices), values * signs.astype(self.dtype).take(indices)


class ByUpdate(Assignment):
    """Assignment of the same codewords to all tasks of an update, whose payloads then add up.

    Successive updates get the codewords of successive tasks of another assignment.
    """

    state_names = ("inner", "_row", "_updates")
    state_types = (("_row", int | None),)

    def __init__(self, inner: Static) -> None:
        super().__init__(inner.layers, inner.rows, inner.dtype)
        self.inner, self.designs, self.weights = inner, inner.designs, inner.weights
        self._row: int | None = None  # of this update
        self._updates = 0

    def row(self, worker: int) -> int:
        if self._row is None:
            self._row = self.inner.row(0 if isinstance(self.inner, Rotating) else self._updates)
        return self._row

    def codewords(self, row: int) -> Codewords:
        return self.inner.codewords(row)

    def stepped(self) -> None:
        self._row, self._updates = None, self._updates + 1


def group_by_support(indices: np.ndarray, blocks: int, rows: int) -> np.ndarray:
    """Return an order of codewords, indices (n, w), in which codewords of the same blocks follow each other.

    A task of r = `rows` codewords then has all rows of a Hadamard matrix on few blocks, not one row each on
    many, so decoding touches a quarter of θ (`kernels.fold`). In either order, the `blocks` rows of a basis,
    which stay together, have the same information. If r is not a multiple of w, the order is the order of the
    code, because tasks would have parts of a matrix.
    """
    if rows % indices.shape[1]:
        return np.arange(len(indices))
    basis = np.arange(len(indices)) // blocks
    sets = np.unique(np.column_stack([basis, np.sort(indices, axis=1)]), axis=0, return_inverse=True)[1]
    first = np.full(sets.max() + 1, len(indices))
    np.minimum.at(first, sets.ravel(), np.arange(len(indices)))
    return np.argsort(first[sets.ravel()], kind="stable")
