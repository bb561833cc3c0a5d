"""Streaming: a worker sends its uncoded gradient in parts, each as soon as it is computed.

Part j is block j of every layer; all layers have the same number of blocks (``code.blocks``). θ is sent once,
with the task. The forward and the backward pass precede the first part, and each part costs its own products.
The scheme is a rival of low-weight codes: rank 0 can use a task's first parts before the last is computed.
The price is one message per part; a low-weight code sends one short message that combines the parts. Sending
gradients in pieces while the rest is computed is common practice (Zhang et al., "Poseidon", USENIX ATC 2017,
by layer). Without a barrier between parts, and with stragglers, it is the multi-message communication of
Ozfatura, Gündüz and Ulukus, "Speeding up distributed gradient descent by utilizing non-persistent
stragglers", ISIT 2019. Their messages are gradients of parts of the data, here they are parts of the
gradient.

``async`` steps θ by each part alone: versions and staleness count parts. In the other modes an update takes
the mean of each part over the workers that have sent it. ``first`` waits until `count` workers have sent
every part, because an update that only counted messages would hardly ever include the last parts.
``captured`` is the fraction of the pieces (worker, part) that have arrived, weighted by their length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ..coding import flops
from ..coding.memory import Memoryless, PayloadEncoder
from ..coding.policies import Progress
from ..coding.state import Coded, State
from ..config import Config, Tables
from ..config.requirements import Need, Needs, one_of
from ..decoders.adjoint import AdjointDecoder
from ..problems import GradientPlan, Problem
from ..schemes.base import SENDS_THETA, SEVERAL_MESSAGES, WHITENING, Scheme, TaskSize, Work
from ..schemes.common import builders
from ..transport.base import Arrival
from ..transport.layout import Layout
from ..transport.messages import Reply, Task
from ..transport.units import Blocks, Unit
from ..util.rng import BatchSampler


def part_segments(layers: Sequence[Blocks], part: int) -> list[tuple[int, Unit]]:
    """Return the layers of a part with its range of θ in each; a layer may have no block left."""
    starts = [part * layer.elements for layer in layers]
    return [
        (number, Unit(layer.offset + start, min(layer.elements, layer.length - start), 1))
        for number, (layer, start) in enumerate(zip(layers, starts, strict=True))
        if start < layer.length
    ]


class StreamedState(Coded):
    """State with the mean of each part over the workers that have sent it."""

    state_names = (*Coded.state_names, "_received")

    def __init__(self, scheme: Streaming, problem: Problem) -> None:
        layers, update, self._workers = problem.layers, scheme.config.update, scheme.workers
        parts = [part_segments(layers, part) for part in range(layers[0].count)]
        units = [unit for part in parts for _, unit in part]
        decoders = [AdjointDecoder(1, unit.shape, problem.dtype) for unit in units]
        theta, assignment = (
            builders.initial_theta(scheme.config, problem),
            scheme.assignment(scheme.units(problem)),
        )
        super().__init__(theta, units, decoders, scheme.optimizer(problem), assignment)
        self.policy, self.layouts = scheme.policy(), scheme.layouts(problem, ())
        remaining = iter(decoders)
        self._parts = [[(number, next(remaining)) for number, _ in part] for part in parts]
        self._fractions = np.array([sum(unit.length for _, unit in part) for part in parts]) / len(theta)
        self._received = np.zeros(len(parts), np.int64)  # number of payloads of each part since the last step
        counts = update.by_count and not update.asynchronous
        # An update needs every part of so many workers; None: the policy decides.
        self._count = update.min_payloads(self._workers) if counts else None

    def fold(self, arrival: Arrival) -> float:
        for number, decoder in self._parts[arrival.part]:
            payload = arrival.payloads[number][:, : decoder.length]  # without padding
            decoder.add_sparse(*arrival.codewords[number], payload)
        self._received[arrival.part] += 1
        return float(self._fractions @ np.minimum(self._received / self._workers, 1.0))

    def ready(self, progress: Progress, expected: int) -> bool:
        if self._count is not None:
            return expected == 0 or bool(self._received[self._fractions > 0].min() >= self._count)
        return super().ready(progress, expected)

    @property
    def gradient_fraction(self) -> float:
        return float(self._fractions[self._received > 0].sum())

    def step(self, damping: float) -> float | None:
        norm = super().step(damping)
        self._received.fill(0)
        return norm


class PartEncoder(Memoryless):
    """A worker's encoder: both passes with the first part, and the products of each part."""

    state_names = ("_loss",)

    def __init__(self, plan: GradientPlan, batches: BatchSampler, reply: Reply) -> None:
        super().__init__(reply)
        self._plan, self._batches, self._replies = plan, batches, reply.parts
        one = np.ones((1, 1), reply.layout.dtype)
        layers = range(len(reply.layout.units))
        self._codewords = [
            [(np.full((1, 1), part, np.int32), one) for _ in layers] for part in range(len(reply.parts))
        ]
        self._loss = float("nan")

    def encode(self, theta: np.ndarray, task: Task) -> float:
        if task.part == 0:
            batches = self._batches
            self._loss = self._plan.prepare(theta, batches.draw(task.task), batches.key(task.task))
        self._plan.encode(self._codewords[task.part])
        self._reply = self._replies[task.part]
        for sent, view in zip(self._reply.payloads, self._plan.views, strict=True):
            sent[:] = view  # a buffer of its own, as the previous message may still be in flight
        return self._loss


def has_several_messages(config: Config) -> bool:
    """Return whether several messages answer a task."""
    return config.code.blocks != 1


class Streaming(Scheme):
    """Uncoded gradients in parts, one message each."""

    name = "streaming"
    summary = "full gradients in parts, each sent as soon as it is computed"
    unused = ("code", "memory", "decoder", "!code.blocks", *WHITENING)
    requires: ClassVar[Needs] = {
        "code.blocks": Need(
            lambda blocks, config: isinstance(blocks, int),
            "one number",
            "cuts every layer into as many parts",
        ),
        "reduce.kind": one_of("star", why=SEVERAL_MESSAGES),
        "downlink.kind": one_of("full", why=SENDS_THETA),
        "update.mode": Need(
            lambda update, config: update.by_count or update.by_fraction,
            "a mode that counts messages, not whole replies",
            SEVERAL_MESSAGES,
            of_kind=True,
            when=has_several_messages,
        ),
        "update.late": one_of(
            "use",
            why="has last parts that would always be late, if an update does not wait for all",
            when=lambda config: (
                has_several_messages(config) and (config.update.asynchronous or config.update.by_fraction)
            ),
        ),
    }
    one_batch: ClassVar[bool] = False  # `encoders` draw it
    tables: ClassVar[Tables] = {
        "code": {"family": "uncoded", "blocks": 4, "rotate": False},
        "memory": {"kind": "none"},
    }

    @property
    def task_size(self) -> TaskSize:
        return TaskSize(messages=int(self.config.code.blocks))  # type: ignore[arg-type]  # see `check`

    def units(self, problem: Problem) -> Sequence[Unit]:
        return [Unit(layer.offset, layer.elements, 1) for layer in problem.layers]  # the units of a part

    def layouts(
        self, problem: Problem, weights: Sequence[int], body_bytes: int | None = None
    ) -> list[Layout]:
        units = self.units(problem)
        ones = [1] * len(units)
        body_bytes = problem.size * problem.dtype.itemsize
        wires, parts = builders.wires_of(self.config, units), self.task_size.messages
        return [Layout(units, ones, ones, problem.dtype, wires, body_bytes=body_bytes, messages=parts)]

    def state(self, problem: Problem) -> State:
        return StreamedState(self, problem)

    def encoders(
        self, problem: Problem, worker: int, rows: int, replies: Sequence[Reply]
    ) -> Sequence[PayloadEncoder]:
        (reply,) = replies
        batch, weight = self.config.problem.batch, builders.gradient_weight(self.config, problem, rows)
        plan = problem.plan(batch, 1, weight=weight, whiten=self.config.code.whitening)
        return [PartEncoder(plan, problem.batches(self.config.seed, worker), reply)]

    def work(self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int) -> Work:
        passes, layout = flops.passes_flops(self.config, problem, shard), layouts[number]
        part = flops.task_flops(self.config, problem, layout, shard) - passes
        each = np.full((layout.messages, 1), part)
        each[0] += passes
        return Work(each)
