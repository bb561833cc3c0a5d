"""A heavy tail: now and then a task takes very long."""

from __future__ import annotations

from .base import Integers, Model, Reals


class Pareto(Model):
    """shift_s · U^(-1/shape), U uniform: longer than t with probability (shift_s / t)^shape from shift_s on.

    The mean is shift_s · shape / (shape - 1), and infinite where shape ≤ 1; the variance is where shape ≤ 2.
    Response times in data centres have such tails (Dean, Barroso, "The tail at scale", Comm. ACM 2013).
    """

    kind = "pareto"
    keys = ("shift_s", "shape")
    needs = ("shift_s", "shape")

    def _draw_s(self, workers: Integers, first: Integers, count: int) -> Reals:
        uniform = 1 - self._uniforms(workers, first, count)[..., 0]  # in (0, 1]
        return self.table.shift_s * uniform ** (-1 / self.table.shape)
