"""Delays of one worker on the real clock."""

from __future__ import annotations

import math

from ..config.tables import LARGEST, StragglersTable

BLOCK = 64  # tasks for which delays are drawn at a time


class Delays:
    """Delays of one worker, drawn ahead.

    Parameters
    ----------
    table : StragglersTable
        The table ``[stragglers]``.
    seed : int
        Seed of the run.
    worker, workers : int
        Number of this worker, and of all workers.

    Attributes
    ----------
    spin : bool
        Whether the worker keeps its core busy during the delay.
    """

    def __init__(self, table: StragglersTable, seed: int, worker: int, workers: int) -> None:
        self.spin = getattr(table, "how", "sleep") == "spin"
        self._model, self._worker = table.make(seed, workers), [worker]
        self._stretch = float(self._model.stretch(self._worker)[0])
        self._first, self._plain_s = 0, list[float]()

    def delay_ns(self, task: int, compute_ns: int) -> int:
        """Return the delay of a task in ns, given its compute time; negative for a dead worker."""
        at = task - self._first
        if not 0 <= at < len(self._plain_s):
            self._first, at = task, 0
            self._plain_s = self._model.delays_s(self._worker, [task], BLOCK)[0].tolist()
        delay_ns = 1e9 * self._plain_s[at] + self._stretch * compute_ns
        return -1 if math.isinf(delay_ns) else round(max(0.0, min(delay_ns, 1e9 * LARGEST)))
