"""No delays."""

from __future__ import annotations

import numpy as np

from ..config.tables import Stragglers
from .base import Integers, Model, Reals


class NoDelays(Model):
    """Tasks take what they compute. Other keys wait for another kind: ``none`` switches all of it off."""

    kind = "none"

    def __init__(self, table: Stragglers, seed: int, workers: int) -> None:
        super().__init__(Stragglers(), seed, workers)

    def _draw_s(self, workers: Integers, first: Integers, count: int) -> Reals:
        return np.zeros((len(workers), count))
