"""State of sums modulo 2^bits: workers round once, and sums are exact, whoever adds in whatever order.

The integers of a payload q = round(e / D) are not clipped: modulo 2^bits only the sum over all workers has to
fit. The scale D is common to all workers, one for at most 1,024 elements, and follows from the last sum; it
comes with θ. What rounding leaves out stays in the worker's memory, if there is one.

If the laws of the integers are independent, a sum of n has ½ log₂ n bits more than one of them: the size of
sums of codewords whose indices have a law of their own (`experiments/quasigroup.py`).
"""

from typing import ClassVar

import numpy as np
from msgspec.structs import replace

from ..coding.state import Coded, State
from ..config import Config
from ..kernels import modular
from ..transport.base import Arrival
from ..transport.layout import buffer
from ..transport.messages import Order, Reply
from .states import captured_share, due_digest

MARGIN = 3.0  # room for sums, as a multiple of the last ones: the largest element may more than double


class ModularState(State):
    """State that adds up payloads, or sums of them, modulo 2^bits, and gives `state` their true sum.

    Attributes
    ----------
    scales : ndarray of float32, shape (groups,)
        Scale of each group in the next payloads; not above 0: not known, so that workers send the group's
        largest magnitude.
    """

    state_names: ClassVar[tuple[str, ...]] = ("_state", "_sum", "scales", "_version", "_begins", "digest")

    def __init__(self, state: Coded, config: Config) -> None:
        (layout,) = self.layouts = state.layouts
        assert layout.blocks is not None
        assert state.assignment is not None
        self.theta, self.optimizer, self.policy = state.theta, state.optimizer, state.policy
        self.designs, self.assignment = state.designs, state.assignment
        self._state, self._blocks = state, layout.blocks
        self._sum = Reply(layout, buffer(layout.buffer_bytes)[0])
        self.scales = np.zeros(layout.blocks.groups, np.float32)
        self._workers, self._version, self._begins = config.workers.count, 0, True
        self._check = config.reduce.check if config.reduction.workers_step else 0
        self._captured = captured_share(layout)
        self._digest()

    def order(self, worker: int, task: int) -> Order:
        order = self._state.order(worker, task)
        return replace(order, segments=[*order.segments, self.scales.view(np.uint8)])

    def fold(self, arrival: Arrival) -> float:
        words = self._sum.words
        modular.add(words, arrival.body.view(np.uint64), self._blocks.words, self._blocks.bits)
        added = int(words[self._blocks.counts]) >> modular.COUNT
        return self._captured if added >= self._workers else 0.0

    def step(self, damping: float) -> float | None:
        total, assignment, bits = self._sum, self.assignment, self._blocks.bits
        assert assignment is not None
        found = np.zeros(2, np.int64)
        modular.decode(total.words, bits, MARGIN, self.scales, self._blocks.group, total.payload, found)
        mended, lost = found.tolist()
        self.wrapped = mended, lost
        total.words.fill(0)
        if self._begins and (self.scales > 0).any():
            self._begins = False  # the first scales are known, and no sum
            return None
        self._begins = False
        self._state.add(assignment.codewords(assignment.row(0)), total.payloads)
        norm = self._state.step(damping)
        self._version += 1
        self._digest()
        return norm

    def _digest(self) -> None:
        self.digest = due_digest(self, self._version, self._check) if self._check else 0
