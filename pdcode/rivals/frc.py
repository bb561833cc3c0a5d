"""Fractional repetition: groups of s + 1 workers; each worker sends the sum over its group's shards.

Tandon, Lei, Dimakis and Karampatziakis, "Gradient coding: avoiding stragglers in distributed learning", ICML
2017, algorithm 1: worker i is in group i modulo n/(s + 1), so that replicas have distant numbers. In the
paper rank 0 takes one payload of each group. The decoder takes the mean of the group's payloads, which is the
same up to rounding errors, and makes these smaller.
"""

from functools import cached_property
from typing import ClassVar

import numpy as np

from ..config import Config
from ..schemes.base import NESTEROV, WHITENED, Entrants
from ..util.errors import InputError
from ..util.formats import listing
from .data_code import GradientCode


class FractionalRepetition(GradientCode):
    """A fractional repetition code: exact for every pattern of s stragglers, at s + 1 times the work."""

    name = "frc"
    summary = "the sum of s + 1 shards' gradients, the same from s + 1 workers; exact for any s stragglers"
    entrants: ClassVar[Entrants] = {
        "fractional repetition": NESTEROV,
        "whitened fractional repetition": WHITENED,
    }

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        s, workers = config.scheme.options.stragglers, config.workers.count
        if workers % (s + 1):
            below = workers - workers % (s + 1)
            raise InputError(
                f"scheme.options.stragglers: {s}: {workers} workers are no groups of {s + 1}; "
                f"workers.count = {listing([str(each) for each in (below, below + s + 1) if each], 'or')} are"
            )

    @cached_property
    def matrix(self) -> np.ndarray:
        size = self.options.stragglers + 1
        groups = np.kron(np.eye(self.workers // size), np.ones((1, size)))
        return np.tile(groups, (size, 1))
