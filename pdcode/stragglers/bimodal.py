"""Two lengths, drawn afresh for each task."""

from __future__ import annotations

import numpy as np

from .base import Integers, Model, Reals


class Bimodal(Model):
    """shift_s, and extra_s more with ``probability``: a Bernoulli draw a task."""

    kind = "bimodal"
    keys = ("shift_s", "extra_s", "probability")
    needs = ("extra_s", "probability")

    def _draw_s(self, workers: Integers, first: Integers, count: int) -> Reals:
        slow = self._uniforms(workers, first, count)[..., 0] < self.table.probability
        return self.table.shift_s + self.table.extra_s * slow.astype(np.float64)
