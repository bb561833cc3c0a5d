"""A product of many small causes."""

from __future__ import annotations

import numpy as np

from .base import Integers, Model, Reals


class Lognormal(Model):
    """shift_s + median_s · exp(sigma · N), N of the standard normal law: mean median_s · exp(sigma² / 2).

    N is cos(2πV) √(-2 ln U) of two uniform numbers (Box, Muller, "A note on the generation of random normal
    deviates", Ann. Math. Statist. 1958).
    """

    kind = "lognormal"
    keys = ("shift_s", "median_s", "sigma")
    needs = ("median_s", "sigma")

    def _draw_s(self, workers: Integers, first: Integers, count: int) -> Reals:
        both = self._uniforms(workers, first, count, 2)
        # Copies, for numpy has other code for numbers that lie apart, which may round otherwise: a delay must
        # not depend on how many are drawn with it.
        u, v = both[..., 0].copy(), both[..., 1].copy()
        normal = np.sqrt(-2 * np.log1p(-u)) * np.cos(2 * np.pi * v)
        return self.table.shift_s + self.table.median_s * np.exp(self.table.sigma * normal)
