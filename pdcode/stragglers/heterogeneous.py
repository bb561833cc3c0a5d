"""A fleet in which each worker is a little slower than the one before."""

from __future__ import annotations

import numpy as np

from ..config.tables import Stragglers
from .slow_set import SlowSet


class Heterogeneous(SlowSet):
    """Worker i of n is 1 + (slowdown - 1) · i / (n - 1) times as slow as worker 0: so many times shift_s, or
    without shift_s its own compute time."""

    kind = "heterogeneous"
    modifiers = ("slowdown", "dead")

    def __init__(self, table: Stragglers, seed: int, workers: int) -> None:
        super().__init__(table, seed, workers)
        self.factor = np.linspace(1, table.slowdown, workers)
