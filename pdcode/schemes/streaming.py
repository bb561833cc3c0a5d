"""Streaming: a worker sends its uncoded gradient in parts, each as soon as it is computed.

Part j is block j of every layer, with as many blocks in each layer (``code.blocks``). The forward and the
backward pass come before the first part, and each part costs its own products. θ comes once, with the task.
It is the comparison for codes of low weight: what a worker has done so far is used before its task is
finished, at the price of a message a part, instead of being combined in one short message. To send gradients
in pieces while the rest is computed is common practice (Zhang et al., "Poseidon", USENIX ATC 2017, layer by
layer); without a barrier between parts, and with stragglers, it is the multi-message communication of
Ozfatura, Gündüz and Ulukus, "Speeding up distributed gradient descent by utilizing non-persistent
stragglers", ISIT 2019, whose messages are gradients of parts of the data. Here they are parts of the
gradient.

``async`` steps θ by each part alone: a version, in counts of updates and in staleness, is a part. An update
otherwise takes the mean of each part over the workers from which it has come. ``first`` waits until every
part has come from `count` workers, since the last parts would hardly ever be used if it only counted
messages. ``captured`` is the share of the pieces (worker, part) that are here, weighted by their length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ..coding import builders, flops
from ..coding.assignments import Assignment
from ..coding.memory import Memoryless, PayloadEncoder
from ..coding.optimizers import Optimizer
from ..coding.policies import Seen
from ..coding.state import Coded, State
from ..config import Config, Tables
from ..config.requirements import Need, Needs, one_of
from ..decoders.adjoint import AdjointDecoder
from ..problems import GradientPlan, Problem
from ..problems.partition import Blocks, Unit
from ..transport.base import Arrival
from ..transport.layout import Layout
from ..transport.messages import Reply, Task
from ..util.rng import BatchSampler
from .base import IN_PARTS, SENDS_THETA, Scheme, TaskSize, Work


def pieces(layers: Sequence[Blocks], part: int) -> list[tuple[int, Unit]]:
    """Return the layers of a part, with the range of θ that it has of each; layers may have no block left."""
    found = []
    for number, layer in enumerate(layers):
        start = part * layer.elements
        if start < layer.length:
            found.append((number, Unit(layer.offset + start, min(layer.elements, layer.length - start), 1)))
    return found


class StreamedState(Coded):
    """State with the mean of each part over the workers from which it has come.

    Parameters
    ----------
    theta : ndarray, shape (size,)
    layers : sequence of Blocks
        Layers with as many blocks each.
    optimizer : Optimizer
    assignment : Assignment
        Numbers the tasks.
    workers : int
    count : int or None
        Number of workers from which an update needs every part; None: the policy decides.
    """

    state_names = (*Coded.state_names, "_came")

    def __init__(
        self,
        theta: np.ndarray,
        layers: Sequence[Blocks],
        optimizer: Optimizer,
        assignment: Assignment,
        workers: int,
        count: int | None,
    ) -> None:
        found = [pieces(layers, part) for part in range(layers[0].count)]
        units = [unit for part in found for _, unit in part]
        decoders = [AdjointDecoder(1, unit.shape, theta.dtype) for unit in units]
        super().__init__(theta, units, decoders, optimizer, assignment)
        left = iter(decoders)
        self._parts = [[(number, next(left)) for number, _ in part] for part in found]
        self._shares = np.array([sum(unit.length for _, unit in part) for part in found]) / len(theta)
        self._came = np.zeros(len(found), np.int64)  # payloads of each part since the last step
        self._workers, self._count = workers, count

    def fold(self, arrival: Arrival) -> float:
        for number, decoder in self._parts[arrival.part]:
            payload = arrival.payloads[number][:, : decoder.length]  # without padding
            decoder.add_sparse(*arrival.codewords[number], payload)
        self._came[arrival.part] += 1
        return float(self._shares @ np.minimum(self._came / self._workers, 1.0))

    def ready(self, seen: Seen, expected: int) -> bool:
        if self._count is not None:
            return expected == 0 or bool(self._came[self._shares > 0].min() >= self._count)
        return super().ready(seen, expected)

    @property
    def share(self) -> float:
        return float(self._shares[self._came > 0].sum())

    def step(self, damping: float) -> float | None:
        norm = super().step(damping)
        self._came.fill(0)
        return norm


class PartEncoder(Memoryless):
    """A worker's side: both passes with the first part, and the products of each part.

    Parameters
    ----------
    plan : GradientPlan
        Plan of the worker's problem for one codeword a task.
    batches : BatchSampler
        Row indices of each task.
    reply : Reply
        Receives the payloads of all parts.
    """

    state_names = ("_loss",)

    def __init__(self, plan: GradientPlan, batches: BatchSampler, reply: Reply) -> None:
        super().__init__(reply)
        self._plan, self._batches, self._replies = plan, batches, reply.parts
        one = np.ones((1, 1), reply.layout.dtype)
        layers = range(len(reply.layout.units))
        self._words = [
            [(np.full((1, 1), part, np.int32), one) for _ in layers] for part in range(len(reply.parts))
        ]
        self._loss = float("nan")

    def encode(self, theta: np.ndarray, task: Task) -> float:
        if task.part == 0:
            self._loss = self._plan.prepare(theta, self._batches.draw(task.task))
        self._plan.encode(self._words[task.part])
        self._reply = self._replies[task.part]
        for sent, view in zip(self._reply.payloads, self._plan.views, strict=True):
            sent[:] = view  # a message of its own, as the last one may still be leaving
        return self._loss


def in_parts(config: Config) -> bool:
    """Return whether a task is answered by several messages."""
    return config.code.blocks != 1


class Streaming(Scheme):
    """Uncoded gradients in parts, one message each."""

    name = "streaming"
    summary = "full gradients in parts, each sent as soon as it is computed"
    unused = ("code", "memory", "decoder", "!code.blocks")
    requires: ClassVar[Needs] = {
        "code.blocks": Need(
            lambda blocks, config: isinstance(blocks, int),
            "one number",
            "cuts every layer into as many parts",
        ),
        "reduce.kind": one_of("star", why=IN_PARTS),
        "downlink.kind": one_of("full", why=SENDS_THETA),
        "update.mode": Need(
            lambda update, config: update.by_count or update.by_fraction,
            "a mode that counts messages, not whole replies",
            IN_PARTS,
            of_kind=True,
            when=in_parts,
        ),
        "update.late": one_of(
            "use",
            why="has last parts that would always be late, if an update does not wait for all",
            when=lambda config: (
                in_parts(config) and (config.update.asynchronous or config.update.by_fraction)
            ),
        ),
    }
    tables: ClassVar[Tables] = {
        "code": {"family": "uncoded", "blocks": 4, "rotate": False},
        "memory": {"kind": "none"},
    }

    @property
    def task_size(self) -> TaskSize:
        return TaskSize(messages=int(self.config.code.blocks))  # type: ignore[arg-type]  # see `check`

    def units(self, problem: Problem) -> Sequence[Unit]:
        return [Unit(layer.offset, layer.elements, 1) for layer in problem.layers]  # of a part

    def layouts(
        self, problem: Problem, weights: Sequence[int], body_bytes: int | None = None
    ) -> list[Layout]:
        units = self.units(problem)
        ones = [1] * len(units)
        body_bytes = problem.size * problem.dtype.itemsize
        wires, parts = builders.wires_of(self.config, units), self.task_size.messages
        return [Layout(units, ones, ones, problem.dtype, wires, body_bytes=body_bytes, messages=parts)]

    def state(self, problem: Problem) -> State:
        config, assignment = self.config, self.assignment(self.units(problem))
        counts = config.update.by_count and not config.update.asynchronous
        count = config.update.least(self.workers) if counts else None
        state = StreamedState(
            builders.initial_theta(config, problem),
            problem.layers,
            self.optimizer(problem),
            assignment,
            self.workers,
            count,
        )
        state.policy, state.layouts = self.policy(), self.layouts(problem, ())
        return state

    def encoders(
        self, problem: Problem, worker: int, rows: int, replies: Sequence[Reply]
    ) -> Sequence[PayloadEncoder]:
        (reply,) = replies
        batch, weight = self.config.problem.batch, builders.gradient_weight(self.config, problem, rows)
        plan = problem.plan(batch, 1, weight=weight)
        return [PartEncoder(plan, BatchSampler(self.config.seed, worker, problem.rows, batch), reply)]

    def work(self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int | None) -> Work:
        passes, layout = flops.passes_flops(self.config, problem, shard), layouts[number]
        part = flops.task_flops(self.config, problem, layout, shard) - passes
        each = np.full((layout.messages, 1), part)
        each[0] += passes
        return Work(each)
