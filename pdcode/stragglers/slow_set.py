"""Workers that are slow all the time."""

from __future__ import annotations

from typing import Any

import numpy as np

from .base import Integers, Model, Reals


class SlowSet(Model):
    """Each task takes shift_s, and ``slowdown`` times that on the workers in ``slow``; without shift_s the
    slow ones take ``slowdown`` times their own compute time."""

    kind = "slow-set"
    keys = ("shift_s",)

    def _draw_s(self, workers: Integers, first: Integers, count: int) -> Reals:
        return np.full((len(workers), count), self.table.shift_s)

    def stretch(self, workers: Any) -> Reals:
        return (self.factor[workers] - 1) * (self.table.shift_s == 0)
