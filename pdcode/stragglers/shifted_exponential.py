"""A shift and an exponential part."""

from __future__ import annotations

import numpy as np

from .base import Integers, Model, Reals


class ShiftedExponential(Model):
    """shift_s + mean_s · Exp(1) for each task: the usual model of service times in coded computing (Lee, Lam,
    Pedarsani, Papailiopoulos, Ramchandran, "Speeding up distributed machine learning using codes", IEEE
    Trans. Inf. Theory 2018)."""

    kind = "shifted-exponential"
    keys = ("shift_s", "mean_s")
    needs = ("mean_s",)

    def _draw_s(self, workers: Integers, first: Integers, count: int) -> Reals:
        uniform = self._uniforms(workers, first, count)[..., 0]
        return self.table.shift_s - self.table.mean_s * np.log1p(-uniform)
