"""Sparsifications: both sides without a loop, and whole descents."""

from collections.abc import Sequence

import numpy as np
from descents import Descent

from pdcode.coding.memory import MemoryEncoder
from pdcode.config import load as configfile
from pdcode.schemes import make_scheme
from pdcode.schemes.common import builders
from pdcode.transport.layout import Codewords, Layout, buffer
from pdcode.transport.messages import Reply
from pdcode.transport.units import Unit

UNEVEN = [1, 1.3, 1.7, 6]  # times of four workers


def assert_learns(overrides: Sequence[str]) -> None:
    """A descent in which a worker is slow, to a loss well below the first."""
    assert Descent(["optimizer.rate=0.3", "stop.updates=150", *overrides], UNEVEN).loss_ratio() < 0.7


class Given:
    """Gradients that are given, in place of a source; and the task that asks for them."""

    def __init__(self, layout: Layout) -> None:
        self.codewords: Codewords = [layout.uncoded] * len(layout.units)
        self.gradient = np.zeros(layout.parameters, layout.dtype)

    def __call__(self, theta: np.ndarray, task: object) -> float:
        self.gradient[:] = theta
        return 0.0


class Sides:
    """A worker's encoder of layers of given lengths, and rank 0's payloads and codewords (`words`)."""

    def __init__(self, overrides: Sequence[str], lengths: Sequence[int]) -> None:
        config = configfile.resolve({}, ["workers.count=4", *overrides])
        self.scheme = make_scheme(config)
        starts = np.cumsum([0, *lengths[:-1]])
        self.units = [Unit(int(at), size, size) for at, size in zip(starts, lengths, strict=True)]
        self.assignment = self.scheme.assignment(self.units)
        rule, dtype = self.scheme.codewords(self.units), np.dtype(config.problem.dtype)
        wires = builders.wires_of(config, self.units)
        self.layout = rule.layout(self.units, self.assignment.weights, dtype, wires)
        self.sent, self.received = (Reply(self.layout, buffer(self.layout.reply_bytes)[0]) for _ in range(2))
        self.given = Given(self.layout)
        selectors = rule.selectors(self.units, 0)
        keep = getattr(config.memory, "keep", 1.0)
        self.memory = MemoryEncoder(self.given, self.sent, config.memory.kind, selectors, keep)
        self.tasks = 0

    def turn(self, gradient: np.ndarray, worker: int = 0) -> tuple[bool, np.ndarray]:
        """A task; return whether rank 0 can use it, and the sum of its codewords' payloads, in float64."""
        self.words = self.given.codewords = self.assignment.codewords(self.assignment.row(worker))
        self.memory.encode(gradient, self.given)
        self.memory.quantise((1, worker, self.tasks))
        self.tasks += 1
        self.received.body[:] = self.sent.body
        sound, out = self.received.read(), np.zeros(len(gradient))
        if self.layout.worker_selected:
            self.words = self.received.codewords
        if sound:
            for unit, (places, values), payload in zip(
                self.units, self.words, self.received.payloads, strict=True
            ):
                part = out[unit.offset : unit.offset + unit.length]
                np.add.at(part.reshape(unit.count, -1), places[:, 0], np.float64(values) * payload)
        return sound, out
