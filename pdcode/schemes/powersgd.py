"""PowerSGD: gradients of low rank, in two rounds, with error feedback.

Vogels, Karimireddy and Jaggi, "PowerSGD: practical low-rank gradient compression for distributed
optimization", NeurIPS 2019, algorithms 1 and 2. M is a layer's weight gradient plus what the worker has not
sent of earlier ones. Round 0: P = M Q, whose mean rank 0 makes orthonormal. Round 1: Q = Mᵀ P, whose mean
gives the gradient P Qᵀ and begins the next update. Biases are sent whole, in round 0. The rank is at most
that of M.

A worker keeps M - P Qᵀ of its own Q. So we read the local errors of algorithm 2, and so does the authors'
package (github.com/epfml/powersgd). The code of their experiments, in the same place, and PyTorch's DDP hook
subtract P Qᵀ of the mean Q. Residuals then differ, but not their sum over workers, of which alone P, Q and θ
are functions while nobody misses a round. A worker that does miss one knows only its own Q.

Not the paper's: P is made orthonormal by Householder reflections instead of Gram-Schmidt, which complete a P
of lower rank. A worker that misses a round keeps its part for later. Momentum is that of ``[optimizer]``;
the paper's step is along the gradient plus m, where m ← λm + gradient comes first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..coding import builders, flops
from ..coding.memory import PayloadEncoder
from ..coding.optimizers import Optimizer
from ..coding.source import Source
from ..coding.state import State
from ..config import Positive, Table, Tables
from ..config.requirements import Needs, lacking, one_of
from ..decoders.summing import SummingDecoder
from ..kernels import finite
from ..problems import Problem
from ..problems.partition import Blocks, Unit
from ..transport.base import Arrival
from ..transport.layout import Layout
from ..transport.messages import Order, Reply, Task
from ..util.stateful import Stateful
from .base import COUNTING, SENDS_THETA, SEVERAL_ROUNDS, Scheme, Work

Factor = tuple[Blocks, int]
"""A layer, and the rank r of its gradient."""


def bases(body: np.ndarray, factors: Sequence[Factor], number: int) -> list[np.ndarray]:
    """Return views of the bases at the end of a task's body: Qᵀ (r, d_in) in round 0, Pᵀ (r, d_out) in 1."""
    sizes = [(r, layer.outputs if number else layer.inputs) for layer, r in factors]
    at, found = len(body) - sum(r * length for r, length in sizes), []
    for r, length in sizes:
        found.append(body[at : at + r * length].reshape(r, length))
        at += r * length
    return found


def weights(layer: Blocks, flat: np.ndarray) -> np.ndarray:
    """Return a view of a θ-sized array as a layer's weights without biases, shape (d_out, d_in)."""
    return layer.weights(flat)[:, :-1]


def biases(layer: Blocks, flat: np.ndarray) -> np.ndarray:
    """Return a view of a θ-sized array as a layer's biases, shape (d_out,)."""
    return layer.weights(flat)[:, -1]


class PowerState(State):
    """State with the two bases of each layer, and the sums of a round.

    Parameters
    ----------
    theta : ndarray, shape (size,)
    optimizer : Optimizer
    factors : sequence of (Blocks, int)
        Layers and ranks.
    layouts : sequence of Layout
        Message layouts of the two rounds.
    workers : int
    senders : int
        Number of payloads that make up a gradient: 1 if workers have added them up.
    seed : int
        Key of the first Q.
    """

    state_names = (*State.state_names, "_flat_p", "_flat_q", "_sums", "_came")

    def __init__(
        self,
        theta: np.ndarray,
        optimizer: Optimizer,
        factors: Sequence[Factor],
        layouts: Sequence[Layout],
        workers: int,
        senders: int,
        seed: int,
    ) -> None:
        self.theta, self.optimizer, self.layouts = theta, optimizer, layouts
        self._factors, self._workers = factors, workers
        self._units = [Unit(0, len(theta), 1)]
        self._decoders = [SummingDecoder(1, (len(theta),), theta.dtype)]
        last = np.empty(sum(r * layer.inputs for layer, r in factors), theta.dtype)
        last[:] = np.random.default_rng(seed).standard_normal(len(last))
        first = np.zeros(sum(r * layer.outputs for layer, r in factors), theta.dtype)
        self._flat_q, self._flat_p, bodies = last, first, ([last], [first])
        self._q, self._p = (bases(body[0], factors, number) for number, body in enumerate(bodies))
        bodies[0].insert(0, theta)
        self._bodies = [[part.view(np.uint8) for part in body] for body in bodies]
        self._codewords = [layout.empty_codewords() for layout in layouts]
        self._sums = [
            [
                np.zeros((r, unit.length), theta.dtype)
                for unit, r in zip(layout.units, layout.rows, strict=True)
            ]
            for layout in layouts
        ]
        known = sum(layer.outputs for layer, _ in factors)
        self._senders, self._came = senders, 0  # payloads that make up a gradient, and those since the last
        self._captured = known / len(theta), (known + len(last)) / len(theta)

    def order(self, worker: int, task: int) -> Order:
        return Order(0, self._codewords[self.round], self._bodies[self.round], round=self.round)

    def fold(self, arrival: Arrival) -> float:
        for total, payload in zip(self._sums[self.round], arrival.payloads, strict=True):
            total += payload
        self._came += self.round
        return self._captured[self.round]

    def step(self, damping: float) -> float | None:
        self.round = 1 - self.round
        first, second = self._sums
        if self.round:
            for p, total in zip(self._p, first[::2], strict=True):
                p[:] = np.linalg.qr(total.T)[0].T
            return None
        gradient = self._decoders[0].accumulator
        for (layer, _), p, q, bias, total in zip(
            self._factors, self._p, self._q, first[1::2], second, strict=True
        ):
            np.divide(total, self._workers, out=q)
            weights(layer, gradient)[:] = p.T @ q
            biases(layer, gradient)[:] = bias[0] / self._workers
        for total in (*first, *second):
            total.fill(0)
        share, self._came = self._came / self._senders, 0
        return self.optimizer.step(self.theta, self._units, self._decoders, damping, share)


class Residual(Stateful):
    """What a worker has not sent; both rounds share it.

    Attributes
    ----------
    loss : float
        Loss of the last mini-batch.
    flat : ndarray, shape (size,)
    weights, biases : list of ndarray
        Views of it, for each layer.
    """

    state_names = ("loss", "flat")

    def __init__(self, size: int, dtype: np.dtype, factors: Sequence[Factor]) -> None:
        self.loss, self.flat = float("nan"), np.zeros(size, dtype)
        self.weights = [weights(layer, self.flat) for layer, _ in factors]
        self.biases = [biases(layer, self.flat) for layer, _ in factors]


class FirstRound(PayloadEncoder):
    """A worker's side of round 0: adds its gradient to the residual, and sends P = M Q and the biases."""

    state_names = ("_source", "_residual", "_sound")

    def __init__(self, source: Source, residual: Residual, factors: Sequence[Factor], reply: Reply) -> None:
        self._source, self._residual, self._factors, self._reply = source, residual, factors, reply
        self._p, self._biases = reply.payloads[::2], [payload[0] for payload in reply.payloads[1::2]]
        self._sound = False

    def encode(self, theta: np.ndarray, task: Task) -> float:
        residual, gradient = self._residual, self._source.gradient
        residual.loss = self._source(theta[: len(gradient)], task)
        self._sound = finite.all_finite(gradient)
        if not self._sound:  # leaves the residual unchanged, and is refused by rank 0
            self._reply.payload.fill(np.nan)
            return residual.loss
        residual.flat += gradient
        for matrix, q, p in zip(residual.weights, bases(theta, self._factors, 0), self._p, strict=True):
            np.matmul(q, matrix.T, out=p)
        for sent, bias in zip(self._biases, residual.biases, strict=True):
            sent[:] = bias
        return residual.loss

    def quantise(self, keys: tuple[int, int, int]) -> None:
        self._sound &= self._reply.quantise(*keys)
        if self._sound:
            for bias, sent in zip(self._residual.biases, self._biases, strict=True):
                bias -= sent
        elif not finite.all_finite(self._residual.flat):
            self._residual.flat.fill(0)

    def rollback(self) -> None:
        if self._sound:
            for bias, sent in zip(self._residual.biases, self._biases, strict=True):
                bias += sent
        self._sound = False


class SecondRound(PayloadEncoder):
    """A worker's side of round 1: sends Q = Mᵀ P, and takes P Qᵀ out of the residual."""

    state_names = ("_p", "_sound")  # the residual is saved with the first round

    def __init__(self, residual: Residual, factors: Sequence[Factor], reply: Reply) -> None:
        self._residual, self._factors, self._reply, self._q = residual, factors, reply, reply.payloads
        self._p: list[np.ndarray] = []
        self._sound = False

    def encode(self, theta: np.ndarray, task: Task) -> float:
        # Copies, because the next task, which reports this payload's fate, is read into the same array.
        self._p = [p.copy() for p in bases(theta, self._factors, 1)]
        for matrix, p, q in zip(self._residual.weights, self._p, self._q, strict=True):
            np.matmul(p, matrix, out=q)
        return self._residual.loss

    def quantise(self, keys: tuple[int, int, int]) -> None:
        self._sound = self._reply.quantise(*keys)
        self._add(-1)

    def rollback(self) -> None:
        self._add(1)
        self._sound = False

    def _add(self, sign: int) -> None:
        """Add ± P Qᵀ, as it was sent, to the residual."""
        if self._sound:
            for matrix, p, q in zip(self._residual.weights, self._p, self._q, strict=True):
                matrix += (sign * p.T) @ q


class PowerSGD(Scheme):
    """Gradients of low rank: P = M Q in one round, Q = Mᵀ P in the next, with error feedback."""

    name = "powersgd"
    summary = "two factors of each layer's gradient, in two rounds, with error feedback"
    steps_by_update = False
    unused = ("code", "decoder")
    requires: ClassVar[Needs] = {
        "memory.kind": one_of("worker", why="is error feedback"),
        "memory.lookahead": one_of(0.0, why="has no use for it"),
        "downlink.kind": one_of("full", why=SENDS_THETA),
        "update.mode": lacking("by_fraction", COUNTING, "has factors that follow the gradients"),
        "update.late": one_of("waste", why=SEVERAL_ROUNDS),
    }
    tables: ClassVar[Tables] = {
        "code": {"family": "uncoded", "blocks": 1, "rotate": False},
        "memory": {"kind": "worker"},
        "update": {"mode": "all", "late": "waste"},
    }

    class Options(Table):
        """Keys of ``[scheme] options``."""

        rank: Positive = 4  #: rank of each layer's gradient, r; at most its number of inputs or outputs

        candidates: ClassVar[Mapping[str, Sequence[Any]]] = {"rank": (1, 2, 4)}

    def factors(self, problem: Problem) -> list[Factor]:
        """Return the layers and their ranks."""
        rank = self.options.rank
        return [(layer, min(rank, layer.inputs, layer.outputs)) for layer in problem.layers]

    def layouts(
        self, problem: Problem, weights: Sequence[int], body_bytes: int | None = None
    ) -> list[Layout]:
        factors, wires = self.factors(problem), builders.wires_of(self.config, problem.layers)
        first = [pair for layer, r in factors for pair in ((layer.outputs, r), (layer.outputs, 1))]
        second = [(layer.inputs, r) for layer, r in factors]
        bodies = (
            problem.size + sum(r * length for length, r in second),
            sum(r * layer.outputs for layer, r in factors),
        )
        return [
            Layout(
                [Unit(0, length, 1) for length, _ in vectors],
                [r for _, r in vectors],
                [1] * len(vectors),
                problem.dtype,
                [wire for wire in wires for _ in range(len(vectors) // len(wires))],
                body_bytes=body * problem.dtype.itemsize,
            )
            for vectors, body in zip((first, second), bodies, strict=True)
        ]

    def state(self, problem: Problem) -> State:
        config = self.config
        state = PowerState(
            builders.initial_theta(config, problem),
            self.optimizer(problem),
            self.factors(problem),
            self.layouts(problem, ()),
            self.workers,
            1 if config.reduce.summed else self.workers,
            config.seed,
        )
        state.policy = self.policy()
        return state

    def encoders(
        self, problem: Problem, worker: int, rows: int, replies: Sequence[Reply]
    ) -> Sequence[PayloadEncoder]:
        factors, (first, second) = self.factors(problem), replies
        residual = Residual(problem.size, problem.dtype, factors)
        source = self.source(problem, worker, rows)
        return [FirstRound(source, residual, factors, first), SecondRound(residual, factors, second)]

    def work(self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int | None) -> Work:
        product = sum(2.0 * r * layer.inputs * layer.outputs for layer, r in self.factors(problem))
        own = 2 * product if number else flops.gradient_flops(self.config, problem, shard) + product
        return Work(own + 2.0 * problem.size + flops.message_flops(self.config, problem, layouts[number]))
