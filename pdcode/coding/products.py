"""Gradients of linear models from two coded products: scores X θ, then Xᵀ R of the losses' derivatives R.

Rows of X come in groups of k, and so do columns (inputs, and the column of ones). Each worker has one
combination of the rows of each group, and one of the columns of each, with the same k coefficients: its
*encoded rows* and *encoded columns*, 1/k of the data each. In round 0 it multiplies its encoded rows by θ, in
round 1 its encoded columns by R. The result is that combination of the rows of the product. Rank 0 decodes
them in each round; it knows the targets, hence R.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..decoders.received import Received
from ..kernels import philox
from ..problems import Problem
from ..problems.partition import Blocks
from ..transport.layout import Layout
from ..transport.messages import Order, Reply, Task
from ..util.rng import BATCH
from .decoded import DecodedState
from .evaluation import RealCode
from .memory import Memoryless
from .optimizers import Optimizer
from .policies import Seen

COMBINATIONS = 3  # random combinations of a payload's elements in which errors are sought
AHEAD = np.dtype(np.int64)  # number of the first group that comes with a task, before the groups


def members(groups: np.ndarray, width: int) -> np.ndarray:
    """Return the numbers of what is in groups of `width`."""
    found: np.ndarray = (groups[:, None] * width + np.arange(width)).ravel()
    return found


class Groups:
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


class Inputs:
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


class Data:
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


class Encoded:
    """A worker's encoded rows and columns, of which some may come with its tasks.

    Parameters
    ----------
    arrays : dict of str to ndarray
        Those that are there at first: "rows" and "columns".
    groups : Groups

    Attributes
    ----------
    rows : ndarray, shape (groups, inputs)
    columns : ndarray, shape (groups, k, groups of inputs)
    """

    transient = "rows", "columns"  # in snapshots: what was there at first is sent again

    def __init__(self, arrays: dict[str, np.ndarray], groups: Groups) -> None:
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


class Scores(Memoryless):
    """A worker's side of round 0: encoded rows times θ, or times its change since the last update."""

    def __init__(self, encoded: Encoded, layer: Blocks, groups: Groups, inputs: Inputs, reply: Reply) -> None:
        super().__init__(reply)
        self._encoded, self._layer, self._groups, self._inputs = encoded, layer, groups, inputs
        self._payload = reply.payloads[0]

    def __call__(self, theta: np.ndarray, task: Task) -> float:
        whole = self._inputs.all or not task.version
        outputs, size = self._layer.outputs, self._layer.length
        if not whole:
            changed = self._inputs.inputs_of(self._inputs.of(task.version - 1))
            size = len(changed) * outputs
        self._encoded.take(task.body[size * theta.itemsize :])
        rows = self._groups.select(self._encoded.rows, task.version)
        if whole:
            product = rows @ self._layer.weights(theta[:size]).T
        else:
            inside = changed < self._inputs.inputs
            product = rows[:, changed[inside]] @ theta[:size].reshape(-1, outputs)[inside]
        fill(self._payload[0], product)
        return float("nan")


class Gradient(Memoryless):
    """A worker's side of round 1: encoded columns times the derivatives of the losses by the scores."""

    def __init__(self, encoded: Encoded, layer: Blocks, groups: Groups, inputs: Inputs, reply: Reply) -> None:
        super().__init__(reply)
        self._encoded, self._outputs, self._groups, self._inputs = encoded, layer.outputs, groups, inputs
        self._payload = reply.payloads[0]

    def __call__(self, theta: np.ndarray, task: Task) -> float:
        size = self._groups.number(task.version) * self._groups.width * self._outputs
        self._encoded.take(task.body[size * theta.itemsize :])
        columns = self._groups.select(self._encoded.columns, task.version)
        columns = columns.reshape(-1, columns.shape[-1])
        if not self._inputs.all:
            columns = columns[:, self._inputs.of(task.version)]
        fill(self._payload[0], columns.T @ theta[:size].reshape(-1, self._outputs))
        return float("nan")


def fill(payload: np.ndarray, product: np.ndarray) -> None:
    """Write a product to the beginning of a payload, and zeros behind it."""
    payload[: product.size] = product.ravel()
    payload[product.size :] = 0


class ProductCode(NamedTuple):
    """The code of products, and how they are decoded.

    Attributes
    ----------
    words : ndarray, shape (n, k)
        Coefficients of each worker.
    needed : int
        Number of results with which a round can end.
    locator : RealCode or None
        The code of which `words` is a generator, to locate wrong results; None: none are looked for.
    liars : int
        Largest number of wrong results.
    """

    words: np.ndarray
    needed: int
    locator: RealCode | None = None
    liars: int = 0

    def conditions(self, samples: int) -> np.ndarray:
        """Return condition numbers of decoding from random sets of enough results, ascending."""
        random, (count, _) = np.random.default_rng(0), self.words.shape
        sets = (random.choice(count, self.needed, replace=False) for _ in range(samples))
        return np.sort([np.linalg.cond(self.words[each]) for each in sets])


class ProductState(DecodedState):
    """State with the results of a round, and the scores of the rows.

    Parameters
    ----------
    theta : ndarray, shape (size,)
    optimizer : Optimizer
    layouts : sequence of Layout
        Message layouts of the two rounds.
    problem : Problem
        Rank 0's: a linear model.
    targets : ndarray
        Targets of all rows.
    data : Data
    code : ProductCode
    groups : Groups
    inputs : Inputs
    seed : int
        Key of random combinations.
    """

    transient = "_targets", "_data", "_code", "_groups", "_inputs", "_head", "_matrix"  # in snapshots

    def __init__(
        self,
        theta: np.ndarray,
        optimizer: Optimizer,
        layouts: Sequence[Layout],
        problem: Problem,
        targets: np.ndarray,
        data: Data,
        code: ProductCode,
        groups: Groups,
        inputs: Inputs,
        seed: int,
    ) -> None:
        super().__init__(theta, optimizer, layouts, problem, code.liars)
        self._targets, self._data, self._code = targets, data, code
        self._groups, self._inputs, self._seed = groups, inputs, seed
        self._outputs, dtype = self._layer.outputs, theta.dtype
        self._evaluate = problem.network.loss.evaluator(dtype)
        self._scores = np.zeros((groups.count * groups.width, self._outputs), dtype)  # of all rows
        # … and of the rows of an update:
        self._derivatives = np.zeros((groups.most * groups.width, self._outputs), dtype)
        self._received = [Received(layout.units[0].length, dtype) for layout in layouts]
        self._before = theta.copy()  # of which the scores are
        self._sent = [groups.first] * len(code.words)  # groups that each worker has
        self._begin()

    def order(self, worker: int, task: int) -> Order:
        parts = [self._head.reshape(-1).view(np.uint8)]
        first, there = self._sent[worker], self._groups.there(self._version)
        if first < there:
            self._sent[worker] = there
            encoded = self._data.encode(self._code.words[worker], first, there)
            at = np.array([first], AHEAD)
            parts += [each.reshape(-1).view(np.uint8) for each in (at, *encoded)]
        return Order(0, self.layouts[self.round].empty_codewords(), parts, round=self.round)

    def ready(self, seen: Seen, expected: int) -> bool:
        if self._wrong is None and expected == 0 and len(self._workers) >= self._code.words.shape[1]:
            self._wrong = self._locate()  # with fewer than a round should end with
        return super().ready(seen, expected)

    def step(self, damping: float) -> float | None:
        product = self._decode()
        if self.round == 0:
            self._differentiate(product)
            self.round = 1
            self._begin()
            return None
        numbers = self._inputs.inputs_of(self._inputs.of(self._version))
        inside = numbers < self._inputs.inputs
        self._before[:] = self.theta
        norm = self._step_along(numbers[inside], product[inside].T, damping)
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
        self._head = self._to_send()

    def restored(self) -> None:
        """Find what all tasks of the round are sent where it is now."""
        self._head = self._to_send()

    def _to_send(self) -> np.ndarray:
        """Return what all tasks of the round are sent: the factor of the encoded matrix."""
        if self.round:
            return self._derivatives[: self._groups.number(self._version) * self._groups.width]
        return self.theta if self._inputs.all or not self._version else self._change()

    def _change(self) -> np.ndarray:
        """Return the last step's change of the weights, shape (inputs of the update, outputs)."""
        numbers = self._inputs.inputs_of(self._inputs.of(self._version - 1))
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

    def _keep(self, payload: np.ndarray) -> None:
        self._received[self.round].add(payload)
        if self._code.locator is not None:
            self._combined.append(payload[0] @ self._random())

    def _share(self) -> float:
        return len(self._workers) / self._code.needed

    def _obstacle(self) -> str:
        count, least = len(self._workers), self._code.words.shape[1]
        if count < least:
            return f"{count} results, and {least} are needed"
        return f"more than {(count - least) // 2} of {count} results contradict the others"

    def _locate(self) -> list[int] | None:
        locator, words = self._code.locator, self._code.words[self._workers]
        if locator is None:
            return []
        rows = self._groups.rows_of(self._groups.of(self._version))
        limits = np.finfo(self.theta.dtype)
        size = np.sqrt(self._data.squares[rows].sum()) * norm(self._head)
        noise = float(limits.eps) * size * np.linalg.norm(words, axis=1) + float(limits.tiny) * len(rows)
        return locator.locate(self._workers, np.array(self._combined, np.float64), self._code.liars, noise)

    def _decode(self) -> np.ndarray:
        """Return the rows of the product, shape (rows, outputs)."""
        received, width = self._received[self.round], self._groups.width
        kept = self._right()
        words = self._code.words[np.array(self._workers)[kept]]
        out = np.empty((width, received.elements), self.theta.dtype)
        received.combine(np.linalg.pinv(words).T, out, rows=kept)
        return out.reshape(width, -1, self._outputs).transpose(1, 0, 2).reshape(-1, self._outputs)

    def _differentiate(self, product: np.ndarray) -> None:
        """Write the derivatives of the mean loss by the scores, given the product of round 0."""
        groups = self._groups
        numbers = groups.rows_of(groups.of(self._version))
        inside = numbers < groups.rows
        if self._inputs.all:
            scores = product[: len(numbers)][inside]
        else:
            self._scores += product
            scores = self._scores[: groups.rows]
        out = np.empty_like(scores)
        self._evaluate(np.ascontiguousarray(scores), self._targets[numbers[inside]], out, 1.0)
        self._derivatives[: len(numbers)][inside] = out
        self._derivatives[: len(numbers)][~inside] = 0


def norm(vector: np.ndarray) -> float:
    """Return the Euclidean norm, where squares would overflow or vanish, too."""
    largest = float(np.abs(vector).max(initial=0.0))
    return largest * float(np.linalg.norm(vector / largest)) if 0 < largest < np.inf else largest
