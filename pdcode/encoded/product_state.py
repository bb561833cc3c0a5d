"""Both sides of two coded products: scores X θ, then Xᵀ R of the losses' derivatives R.

In round 0 a worker multiplies its encoded rows by θ, in round 1 its encoded columns by R. The result is the
same combination of the rows of the product. Rank 0 decodes the products in each round; it has the targets,
and computes R.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..coding.memory import Memoryless
from ..coding.optimizers import Optimizer
from ..decoders.payloads import PayloadStore
from ..problems import Problem, of_network
from ..transport.layout import Layout
from ..transport.messages import Order, Reply, Task
from ..transport.units import Blocks
from .coded_data import FIRST_GROUP, CodedData, CoordinateBlocks, DataEncoder, RowGroups
from .decoded_state import SAMPLED_SETS, DecodedState
from .real_code import RealCode

COMBINATIONS = 3  # random combinations of a payload's elements, in which errors are searched for


class ScoreProduct(Memoryless):
    """A worker's side of round 0: encoded rows times θ, or times its change since the last update."""

    state_names = ("_encoded",)  # also of the other round

    def __init__(
        self, encoded: CodedData, layer: Blocks, groups: RowGroups, inputs: CoordinateBlocks, reply: Reply
    ) -> None:
        super().__init__(reply)
        self._encoded, self._layer, self._groups, self._inputs = encoded, layer, groups, inputs
        self._payload = reply.payloads[0]

    def encode(self, theta: np.ndarray, task: Task) -> float:
        full = self._inputs.complete or not task.version
        outputs, size = self._layer.outputs, self._layer.length
        if not full:
            changed = self._inputs.inputs_of(self._inputs.blocks_of(task.version - 1))
            size = len(changed) * outputs
        self._encoded.take(task.body[size * theta.itemsize :])
        rows = self._groups.select(self._encoded.rows, task.version)
        if full:
            product = rows @ self._layer.weights(theta[:size]).T
        else:
            inside = changed < self._inputs.inputs
            product = rows[:, changed[inside]] @ theta[:size].reshape(-1, outputs)[inside]
        write_padded(self._payload[0], product)
        return float("nan")


class GradientProduct(Memoryless):
    """A worker's side of round 1: encoded columns times the derivatives of the losses by the scores."""

    def __init__(
        self, encoded: CodedData, layer: Blocks, groups: RowGroups, inputs: CoordinateBlocks, reply: Reply
    ) -> None:
        super().__init__(reply)
        self._encoded, self._outputs, self._groups, self._inputs = encoded, layer.outputs, groups, inputs
        self._payload = reply.payloads[0]

    def encode(self, theta: np.ndarray, task: Task) -> float:
        size = self._groups.number(task.version) * self._groups.width * self._outputs
        self._encoded.take(task.body[size * theta.itemsize :])
        columns = self._groups.select(self._encoded.columns, task.version)
        columns = columns.reshape(-1, columns.shape[-1])
        if not self._inputs.complete:
            columns = columns[:, self._inputs.blocks_of(task.version)]
        write_padded(self._payload[0], columns.T @ theta[:size].reshape(-1, self._outputs))
        return float("nan")


def write_padded(payload: np.ndarray, product: np.ndarray) -> None:
    """Write a product to the beginning of a payload, followed by zeros."""
    payload[: product.size] = product.ravel()
    payload[product.size :] = 0


class ProductCode(NamedTuple):
    """The code of products, and its decoding."""

    generator: np.ndarray  # coefficients of each worker, (n, k)
    needed: int  # number of results with which a round can end
    locator: RealCode | None = None  # code with this generator, to locate wrong results, if any
    liars: int = 0  # largest number of wrong results

    def conditions(self, samples: int) -> np.ndarray:
        """Return condition numbers of decoding from random sets of `needed` results, ascending."""
        random, (count, _) = np.random.default_rng(0), self.generator.shape
        sets = (random.choice(count, self.needed, replace=False) for _ in range(samples))
        return np.sort([np.linalg.cond(self.generator[each]) for each in sets])


class ProductState(DecodedState):
    """State with the results of a round, and the rows' scores; `seed` draws random combinations."""

    state_names = (
        *DecodedState.state_names, "_scores", "_derivatives", "_received", "_before", "_sent", "_combined"
    )  # fmt: skip

    def __init__(
        self,
        theta: np.ndarray,
        optimizer: Optimizer,
        layouts: Sequence[Layout],
        problem: Problem,
        targets: np.ndarray,
        data: DataEncoder,
        code: ProductCode,
        groups: RowGroups,
        inputs: CoordinateBlocks,
        seed: int,
    ) -> None:
        super().__init__(theta, optimizer, layouts, problem, code.liars, code.generator.shape[1])
        self._targets, self._data, self._code = targets, data, code
        self._groups, self._inputs, self._seed = groups, inputs, seed
        self._outputs, dtype = self._layer.outputs, theta.dtype
        self._evaluate = of_network(problem, "a code over data").model.loss.evaluator(dtype)
        self._scores = np.zeros((groups.count * groups.width, self._outputs), dtype)  # of all rows
        self._derivatives = np.zeros((groups.max_used * groups.width, self._outputs), dtype)  # of an update's
        self._received = [PayloadStore(layout.units[0].length, dtype) for layout in layouts]
        self._before = theta.copy()  # the θ of the scores
        self._sent = [groups.first] * len(code.generator)  # groups that each worker has
        self._begin()

    def remarks(self) -> list[str]:
        (workers, width), conditions = self._code.generator.shape, self._code.conditions(SAMPLED_SETS)
        return [
            f"any {self._code.needed} of {workers} results are enough for {width} blocks; condition number "
            f"{np.median(conditions):.2g}, in the worst of {SAMPLED_SETS} random sets of results "
            f"{conditions[-1]:.2g}: decoding multiplies rounding errors by this factor"
        ]

    def order(self, worker: int, task: int) -> Order:
        parts = [self._head.reshape(-1).view(np.uint8)]
        first, available = self._sent[worker], self._groups.available(self._version)
        if first < available:
            self._sent[worker] = available
            encoded = self._data.encode(self._code.generator[worker], first, available)
            at = np.array([first], FIRST_GROUP)
            parts += [each.reshape(-1).view(np.uint8) for each in (at, *encoded)]
        return Order(0, self.layouts[self.round].empty_codewords(), parts, round=self.round)

    def step(self, damping: float) -> float | None:
        product = self._decode()
        if self.round == 0:
            self._differentiate(product)
            self.round = 1
            self._begin()
            return None
        numbers = self._inputs.inputs_of(self._inputs.blocks_of(self._version))
        inside = numbers < self._inputs.inputs
        self._before[:] = self.theta
        norm = self._apply_derivatives(numbers[inside], product[inside].T, damping)
        self.round = 0
        self._begin()
        return norm

    def joined(self, worker: int) -> None:
        self._sent[worker] = self._groups.first

    def resumed(self) -> None:
        self._sent = [self._groups.first] * len(self._sent)
        super().resumed()

    def _begin(self) -> None:
        super()._begin()
        for received in self._received:
            received.clear()
        self._combined: list[np.ndarray] = []  # of each result, shape (COMBINATIONS,)
        self._matrix: np.ndarray | None = None
        self._head = self._operand()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._matrix, self._head = None, self._operand()

    def _operand(self) -> np.ndarray:
        """Return the factor of the encoded matrix in this round, which is sent with all tasks."""
        if self.round:
            return self._derivatives[: self._groups.number(self._version) * self._groups.width]
        return self.theta if self._inputs.complete or not self._version else self._change()

    def _change(self) -> np.ndarray:
        """Return the last step's change of the weights, shape (inputs of the update, outputs)."""
        numbers = self._inputs.inputs_of(self._inputs.blocks_of(self._version - 1))
        inside = numbers < self._inputs.inputs
        change = np.zeros((len(numbers), self._outputs), self.theta.dtype)
        now, before = (self._layer.weights(each)[:, numbers[inside]] for each in (self.theta, self._before))
        change[inside] = (now - before).T
        return change

    def _random(self) -> np.ndarray:
        """Return the random combinations of this round, shape (elements, COMBINATIONS)."""
        if self._matrix is None:
            key = np.array([self._seed, 2 * self._version + self.round], np.uint64)
            shape = self._received[self.round].elements, COMBINATIONS
            self._matrix = 2 * np.random.Generator(np.random.Philox(key=key)).random(shape) - 1
        return self._matrix

    def _store(self, payload: np.ndarray) -> None:
        self._received[self.round].add(payload)
        if self._code.locator is not None:
            self._combined.append(payload[0] @ self._random())

    def _fraction(self) -> float:
        return len(self._workers) / self._code.needed

    def _locate(self) -> list[int] | None:
        locator, coefficients = self._code.locator, self._code.generator[self._workers]
        if locator is None:
            return []
        rows = self._groups.rows_of(self._groups.groups_of(self._version))
        limits = np.finfo(self.theta.dtype)
        size = np.sqrt(self._data.squares[rows].sum()) * safe_norm(self._head)
        noise = float(limits.eps) * size * np.linalg.norm(coefficients, axis=1)
        noise += float(limits.tiny) * len(rows)
        return locator.locate(self._workers, np.array(self._combined, np.float64), self._code.liars, noise)

    def _decode(self) -> np.ndarray:
        """Return the rows of the product, shape (rows, outputs)."""
        received, width = self._received[self.round], self._groups.width
        places = self._correct_places()
        coefficients = self._code.generator[np.array(self._workers)[places]]
        out = np.empty((width, received.elements), self.theta.dtype)
        received.combine(np.linalg.pinv(coefficients).T, out, rows=places)
        return out.reshape(width, -1, self._outputs).transpose(1, 0, 2).reshape(-1, self._outputs)

    def _differentiate(self, product: np.ndarray) -> None:
        """Write the derivatives of the mean loss by the scores, given the product of round 0."""
        groups = self._groups
        numbers = groups.rows_of(groups.groups_of(self._version))
        inside = numbers < groups.rows
        if self._inputs.complete:
            scores = product[: len(numbers)][inside]
        else:
            self._scores += product
            scores = self._scores[: groups.rows]
        out = np.empty_like(scores)
        self._evaluate(np.ascontiguousarray(scores), self._targets[numbers[inside]], out, 1.0)
        self._derivatives[: len(numbers)][inside] = out
        self._derivatives[: len(numbers)][~inside] = 0


def safe_norm(vector: np.ndarray) -> float:
    """Return the Euclidean norm, without overflow or underflow of the squares."""
    largest = float(np.abs(vector).max(initial=0.0))
    return largest * float(np.linalg.norm(vector / largest)) if 0 < largest < np.inf else largest
