"""Delays of one worker on the real clock."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..config import LARGEST
from .base import DelayModel

BLOCK = 64  # tasks for which delays are drawn at a time


class WorkerDelays:
    """Delays of one worker, drawn ahead.

    Parameters
    ----------
    model : DelayModel
        The delays of the run, see `Scheme.delays`.
    worker : int
        Number of this worker.
    shares : sequence of sequence of float
        Share of a delay that each part of a task has, for each round of an update.

    Attributes
    ----------
    spin : bool
        Whether the worker keeps its core busy during the delay.
    """

    def __init__(self, model: DelayModel, worker: int, shares: Sequence[Sequence[float]] = ((1.0,),)) -> None:
        self.spin = getattr(model.table, "how", "sleep") == "spin"
        self._model, self._worker, self._shares = model, [worker], shares
        self._stretch = float(model.stretch(self._worker)[0])
        self._first, self._plain_s = 0, list[float]()

    def delay_ns(self, task: int, compute_ns: int, version: int = 0, number: int = 0, part: int = 0) -> int:
        """Return the delay of a part of a task in ns; negative for a dead worker.

        Parameters
        ----------
        task : int
            Number of the worker's task.
        compute_ns : int
            Compute time of the part, ns.
        version : int
            Number of the update, by which delays are drawn if it has several rounds.
        number, part : int
            Round of the update, and part of the task.
        """
        drawn = task if len(self._shares) == 1 else version
        at = drawn - self._first
        if not 0 <= at < len(self._plain_s):
            self._first, at = drawn, 0
            self._plain_s = self._model.delays_s(self._worker, [drawn], BLOCK)[0].tolist()
        delay_ns = 1e9 * self._shares[number][part] * self._plain_s[at] + self._stretch * compute_ns
        return -1 if math.isinf(delay_ns) else round(max(0.0, min(delay_ns, 1e9 * LARGEST)))
