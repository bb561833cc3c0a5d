"""Delays of one worker on the real clock."""

import math
from collections.abc import Sequence

from ..config import MAX_VALUE
from .base import DelayModel

BLOCK = 64  # tasks for which delays are drawn at a time


class WorkerDelays:
    """Delays of one worker, drawn in blocks of tasks.

    `fractions` are the parts of a delay that a task's messages have, for each round of an update; `spin` is
    set if the worker keeps its core busy during the delay.
    """

    def __init__(
        self, model: DelayModel, worker: int, fractions: Sequence[Sequence[float]] = ((1.0,),)
    ) -> None:
        self.spin = getattr(model.table, "how", "sleep") == "spin"
        self._model, self._worker, self._fractions = model, [worker], fractions
        self._stretch = float(model.stretch(self._worker)[0])
        self._first, self._plain_s = 0, list[float]()

    def delay_ns(self, task: int, compute_ns: int, version: int = 0, number: int = 0, part: int = 0) -> int:
        """Return the delay in ns before message `part` of a task; -1 for a dead worker.

        `compute_ns` is the compute time of the message, and `number` the round of the update. With several
        rounds, delays are drawn by the update's version instead of the task.
        """
        drawn = task if len(self._fractions) == 1 else version
        at = drawn - self._first
        if not 0 <= at < len(self._plain_s):
            self._first, at = drawn, 0
            self._plain_s = self._model.delays_s(self._worker, [drawn], BLOCK)[0].tolist()
        delay_ns = 1e9 * self._fractions[number][part] * self._plain_s[at] + self._stretch * compute_ns
        return -1 if math.isinf(delay_ns) else round(max(0.0, min(delay_ns, 1e9 * MAX_VALUE)))
