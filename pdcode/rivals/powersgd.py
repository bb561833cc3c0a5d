"""PowerSGD: gradients of low rank, in two rounds, with error feedback.

Vogels, Karimireddy and Jaggi, "PowerSGD: practical low-rank gradient compression for distributed
optimization", NeurIPS 2019, algorithms 1 and 2. M is a layer's weight gradient plus the worker's residual.
Round 0: P = M Q, whose mean rank 0 makes orthonormal. Round 1: Q = Mᵀ P, whose mean gives the gradient P Qᵀ
and is the Q of the next update. Biases are sent whole, in round 0. The rank is at most the rank of M.

The residual of a worker is M - P Qᵀ with its own Q. This is our reading of the local errors in algorithm 2,
and the authors' package's (github.com/epfml/powersgd). The code of their experiments, in the same
place, and PyTorch's DDP hook subtract P Qᵀ of the mean Q. Residuals then differ, but not their sum over
workers, on which alone P, Q and θ depend as long as all workers take part in every round. A worker that
misses a round knows only its own Q.

Not the paper's: P is made orthonormal by Householder reflections instead of Gram-Schmidt, which also complete
a P of lower rank. A worker that misses a round keeps its contribution for later. Momentum is as in
``[optimizer]``; the paper's step is along the gradient plus m, where m ← λm + gradient comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ..coding import flops
from ..coding.ahead import LookAhead
from ..coding.memory import PayloadEncoder
from ..coding.source import Source
from ..coding.state import State
from ..config import Candidates, Positive, Table, Tables
from ..config.requirements import Needs, lacking, one_of
from ..fitted import SMALL_FACTORISATIONS
from ..kernels import finite
from ..problems import Problem
from ..schemes.base import (  # fmt: skip
    ALLREDUCE,
    COUNTING_MODE,
    FIRST,
    NESTEROV,
    SENDS_THETA,
    SEVERAL_ROUNDS,
    UNCODED,
    WHITENED,
    WHITENING,
    Entrants,
    Scheme,
    Work,
)
from ..schemes.common import builders
from ..transport.base import Arrival
from ..transport.layout import Layout
from ..transport.messages import Order, Reply, Task
from ..transport.units import Blocks, Unit
from ..util.stateful import Stateful

Factor = tuple[Blocks, int]
"""A layer, and the rank r of its gradient."""


def basis_views(body: np.ndarray, factors: Sequence[Factor], number: int) -> list[np.ndarray]:
    """Return views of the bases at the end of a task's body: Qᵀ (r, d_in) in round 0, Pᵀ (r, d_out) in 1."""
    sizes = [(r, layer.outputs if number else layer.inputs) for layer, r in factors]
    at, views = len(body) - sum(r * length for r, length in sizes), []
    for r, length in sizes:
        views.append(body[at : at + r * length].reshape(r, length))
        at += r * length
    return views


class PowerState(State):
    """State with the two bases of each layer, and the sums of a round; the first Q is random."""

    state_names = (*State.state_names, "_flat_p", "_flat_q", "_sums", "_received")

    def __init__(self, scheme: PowerSGD, problem: Problem) -> None:
        config, self._workers, self.policy = scheme.config, scheme.workers, scheme.policy()
        self.theta = theta = builders.initial_theta(config, problem)
        self.optimizer, self.layouts = scheme.optimizer(problem), scheme.layouts(problem, ())
        self._factors = factors = scheme.factors(problem)
        last = np.empty(sum(r * layer.inputs for layer, r in factors), theta.dtype)
        last[:] = np.random.default_rng(config.seed).standard_normal(len(last))
        first = np.zeros(sum(r * layer.outputs for layer, r in factors), theta.dtype)
        self._flat_q, self._flat_p, bodies = last, first, ([last], [first])
        self._q, self._p = (basis_views(body[0], factors, number) for number, body in enumerate(bodies))
        bodies[0].insert(0, theta)
        self._bodies = [[part.view(np.uint8) for part in body] for body in bodies]
        self._codewords = [layout.empty_codewords() for layout in self.layouts]
        self._sums = [
            [np.zeros((r, unit.length), theta.dtype) for unit, r in zip(one.units, one.rows, strict=True)]
            for one in self.layouts
        ]
        known = sum(layer.outputs * layer.bias for layer, _ in factors)
        # Payloads of a gradient (1 if workers have added them up), and payloads received for the next one.
        self._senders, self._received = 1 if config.reduce.summed else self._workers, 0
        self._captured = known / len(theta), (known + len(last)) / len(theta)

    def order(self, worker: int, task: int) -> Order:
        return Order(0, self._codewords[self.round], self._bodies[self.round], round=self.round)

    def fold(self, arrival: Arrival) -> float:
        for total, payload in zip(self._sums[self.round], arrival.payloads, strict=True):
            total += payload
        self._received += self.round
        return self._captured[self.round]

    def step(self, damping: float) -> float | None:
        self.round = 1 - self.round
        first, second = self._sums
        if self.round:
            for p, total in zip(self._p, first[::2], strict=True):
                p[:] = np.linalg.qr(total.T)[0].T
            return None
        gradient = self.optimizer.whole_gradient
        for (layer, _), p, q, bias, total in zip(
            self._factors, self._p, self._q, first[1::2], second, strict=True
        ):
            np.divide(total, self._workers, out=q)
            direction = self.direction(layer, p, q, bias[0] / self._workers)
            layer.unbiased(gradient)[:], layer.biases(gradient)[:] = direction
        for total in (*first, *second):
            total.fill(0)
        share, self._received = self._received / self._senders, 0
        return self.optimizer.step_whole(self.theta, damping, share)

    def direction(
        self, layer: Blocks, p: np.ndarray, q: np.ndarray, bias: np.ndarray
    ) -> Sequence[np.ndarray]:
        """Return the direction of a layer's weights and biases from Pᵀ, the mean Qᵀ and the mean bias."""
        return p.T @ q, bias


class WorkerResidual(Stateful):
    """Residual of a worker, shared by both rounds, with views of its weights and biases by layer."""

    state_names = ("loss", "flat")

    def __init__(self, size: int, dtype: np.dtype, factors: Sequence[Factor]) -> None:
        self.loss, self.flat = float("nan"), np.zeros(size, dtype)  # loss of the last mini-batch
        self.weights = [layer.unbiased(self.flat) for layer, _ in factors]
        self.biases = [layer.biases(self.flat) for layer, _ in factors]


class FirstRound(PayloadEncoder):
    """A worker's encoder of round 0: adds its gradient to the residual, and sends P = M Q and the biases."""

    state_names = ("_source", "_residual", "_valid")

    def __init__(
        self,
        source: Source,
        residual: WorkerResidual,
        factors: Sequence[Factor],
        reply: Reply,
        ahead: LookAhead | None,
        kept: float,
    ) -> None:
        self._source, self._residual, self._factors, self._reply = source, residual, factors, reply
        self._ahead, self._share = ahead, reply.layout.dtype.type(1 - kept)
        self._p, self._biases = reply.payloads[::2], [payload[0] for payload in reply.payloads[1::2]]
        self._valid = False

    def encode(self, theta: np.ndarray, task: Task) -> float:
        residual, gradient = self._residual, self._source.gradient
        point = theta[: len(gradient)]
        if self._ahead is not None:
            point = self._ahead.point(point, residual.flat, task.version)
        residual.loss = self._source(point, task)
        self._valid = finite.all_finite(gradient)
        if not self._valid:  # the residual is unchanged, and rank 0 refuses the payload
            self._reply.payload.fill(np.nan)
            return residual.loss
        residual.flat += gradient
        for matrix, q, p in zip(residual.weights, basis_views(theta, self._factors, 0), self._p, strict=True):
            np.matmul(q, matrix.T, out=p)
        for sent, bias in zip(self._biases, residual.biases, strict=True):
            sent[:] = bias
        return residual.loss

    def quantise(self, keys: tuple[int, int, int]) -> None:
        self._valid &= self._reply.quantise(*keys)
        if self._valid:
            for bias, sent in zip(self._residual.biases, self._biases, strict=True):
                bias -= self._share * sent
        elif not finite.all_finite(self._residual.flat):
            self._residual.flat.fill(0)

    def rollback(self) -> None:
        if self._valid:
            for bias, sent in zip(self._residual.biases, self._biases, strict=True):
                bias += self._share * sent
        self._valid = False


class SecondRound(PayloadEncoder):
    """A worker's encoder of round 1: sends Q = Mᵀ P, and subtracts P Qᵀ from the residual."""

    state_names = ("_p", "_valid")  # the residual is saved with the first round

    def __init__(
        self, residual: WorkerResidual, factors: Sequence[Factor], reply: Reply, kept: float
    ) -> None:
        self._residual, self._factors, self._reply, self._q = residual, factors, reply, reply.payloads
        self._share = reply.layout.dtype.type(1 - kept)
        self._p: list[np.ndarray] = []
        self._valid = False

    def encode(self, theta: np.ndarray, task: Task) -> float:
        # Copies, because the next task, which reports whether this payload was used, overwrites the array.
        self._p = [p.copy() for p in basis_views(theta, self._factors, 1)]
        for matrix, p, q in zip(self._residual.weights, self._p, self._q, strict=True):
            np.matmul(p, matrix, out=q)
        return self._residual.loss

    def quantise(self, keys: tuple[int, int, int]) -> None:
        self._valid = self._reply.quantise(*keys)
        self._add(-1)

    def rollback(self) -> None:
        self._add(1)
        self._valid = False

    def _add(self, sign: int) -> None:
        """Add ± P Qᵀ, as sent, to the residual."""
        if self._valid:
            for matrix, p, q in zip(self._residual.weights, self._p, self._q, strict=True):
                matrix += (sign * self._share * p.T) @ q


class PowerSGD(Scheme):
    """Gradients of low rank: P = M Q in one round, Q = Mᵀ P in the next, with error feedback."""

    name = "powersgd"
    summary = "two factors of each layer's gradient, in two rounds, with error feedback"
    entrants: ClassVar[Entrants] = {
        "PowerSGD": f"{ALLREDUCE}{NESTEROV}",
        "PowerSGD first-q": f"{FIRST}{NESTEROV}",
        "whitened PowerSGD": f"{ALLREDUCE}{WHITENED}",
        "whitened PowerSGD first-q": f"{FIRST}{WHITENED}",
    }
    steps_by_update = False
    unused = ("code", "decoder", *WHITENING)
    requires: ClassVar[Needs] = {
        "memory.kind": one_of("worker", why="is error feedback"),
        "memory.keep": one_of(1.0, why="keeps its residual"),
        "downlink.kind": one_of("full", why=SENDS_THETA),
        "update.mode": lacking("by_fraction", COUNTING_MODE, "has factors that follow the gradients"),
        "update.late": one_of("waste", why=SEVERAL_ROUNDS),
    }
    tables: ClassVar[Tables] = {
        **UNCODED,
        "memory": {"kind": "worker"},
        "update": {"mode": "all", "late": "waste"},
    }

    class Options(Table):
        """Keys of ``[scheme] options``."""

        rank: Positive = 4  #: rank of each layer's gradient, r; at most its number of inputs or outputs

        candidates: ClassVar[Candidates] = {"rank": (1, 2, 4, 8, 16)}

    @property
    def kept(self) -> float:
        """Fraction of what a worker has sent that it keeps in its residual."""
        return 0.0

    def factors(self, problem: Problem) -> list[Factor]:
        """Return the layers and their ranks."""
        rank = self.options.rank
        return [(layer, min(rank, layer.inputs, layer.outputs)) for layer in problem.layers]

    def layouts(
        self, problem: Problem, weights: Sequence[int], body_bytes: int | None = None
    ) -> list[Layout]:
        factors, wires = self.factors(problem), builders.wires_of(self.config, problem.layers)
        first = [
            pair for layer, r in factors for pair in ((layer.outputs, r), (layer.outputs * layer.bias, 1))
        ]
        second = [(layer.inputs, r) for layer, r in factors]
        sizes = (r * length for length, r in second), (r * layer.outputs for layer, r in factors)
        bodies = problem.size + sum(sizes[0]), sum(sizes[1])
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
        return PowerState(self, problem)

    def encoders(
        self, problem: Problem, worker: int, rows: int, replies: Sequence[Reply]
    ) -> Sequence[PayloadEncoder]:
        factors, (first, second) = self.factors(problem), replies
        residual = WorkerResidual(problem.size, problem.dtype, factors)
        source = self.source(problem, worker, rows)
        return [
            FirstRound(source, residual, factors, first, self.look_ahead(problem), self.kept),
            SecondRound(residual, factors, second, self.kept),
        ]

    def work(self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int) -> Work:
        product = sum(2.0 * r * layer.inputs * layer.outputs for layer, r in self.factors(problem))
        own = 2 * product if number else flops.gradient_flops(self.config, problem, shard) + product
        sums = 2.0
        if self.config.memory.lookahead and not number:
            lengths = {self.step_lengths(layer) for layer in problem.layers}
            sums += 3.0 if lengths == {(None, None)} else 6.0
        own += flops.message_flops(self.config, problem, layouts[number])
        return Work(own + flops.touched(problem, sums))

    def step_flops(self, problem: Problem, layouts: Sequence[Layout]) -> float:
        factors = self.factors(problem)
        # Householder reflections, and the matrix that they make.
        orthonormal = sum(4.0 * layer.outputs * r * r for layer, r in factors)
        product = sum(2.0 * r * layer.inputs * layer.outputs for layer, r in factors)
        moved = flops.touched(problem, 2.0)  # to the decoder
        return (
            self.config.optimizer.flops(problem.layers) + SMALL_FACTORISATIONS * orthonormal + product + moved
        )
