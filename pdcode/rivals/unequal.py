"""Gradient code for workers that straggle with different probabilities: approximate, but unbiased.

After Song and Choi, "Approximate gradient coding for distributed learning with heterogeneous stragglers",
NeurIPS 2025, arXiv 2510.22539. Worker i is late with the probability p_i. It sends Σ_s u_is · gradient of
shard s over its shards, and rank 0 adds up what has arrived, with weights that do not depend on who has. The
sum over shards is then estimated without bias if Σ_i (1 - p_i) u_is = 1 for each shard, and with the mean
square error Σ_i p_i (1 - p_i) u_is². By Lagrange's multipliers the least error has

    u_is = (1/p_i) / Σ_j (1 - p_j)/p_j, over the workers j that have shard s.

Source: the abstract. It states this problem, and that its solution is of closed form; the formula is derived
here, for gradients of shards that are orthogonal and of one length, and the paper's may differ. The paper's
allocation of data is not included: worker i has the shards i … i + d - 1, modulo n.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, ClassVar

import msgspec
import numpy as np
from msgspec import Meta

from ..codes import Code
from ..config import Candidates, Config, Positive, Table
from ..decoders import Decoder
from ..decoders.target import TargetDecoder
from ..schemes.base import NESTEROV, WHITENED, Entrants
from ..transport.units import Unit
from ..util.errors import InputError
from .data_code import DataCode

Probability = Annotated[float, Meta(gt=0, lt=1)]
LEAST = 1e-9  # least probability, where an update waits for all


class Sum(TargetDecoder):
    """Sum of the payloads; its captured fraction is the fraction of the sum over shards."""

    def coefficients(self) -> np.ndarray:
        return np.ones((self.count, 1))


class Unequal(DataCode):
    """A gradient code for unequal probabilities of straggling: approximate, without bias."""

    name = "unequal"
    summary = "shards' gradients weighted by their workers' probabilities of straggling; rank 0 adds them up"
    entrants: ClassVar[Entrants] = {
        "unequal gradient code": NESTEROV,
        "whitened unequal gradient code": WHITENED,
    }

    class Options(Table):
        """Keys of ``[scheme] options``."""

        shards: Positive = 2  #: shards of a worker, d
        #: each worker's probability of being late; none: the fraction of workers that an update leaves out
        probabilities: list[Probability] = msgspec.field(default_factory=list)

        candidates: ClassVar[Candidates] = {"shards": (1, 2, 3)}

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        options, workers = config.scheme.options, config.workers.count
        if options.shards > workers:
            raise InputError(f"scheme.options.shards: {options.shards} are more than the {workers} shards")
        if len(options.probabilities) not in (0, workers):
            raise InputError(
                f"scheme.options.probabilities: {len(options.probabilities)} for {workers} workers; give one "
                "for each"
            )

    @cached_property
    def matrix(self) -> np.ndarray:
        n, update = self.workers, self.config.update
        p = np.array(self.options.probabilities or [1 - update.typical_payloads(n) / n] * n)
        held = np.array([np.roll(np.arange(n) < self.options.shards, i) for i in range(n)])
        U = held / np.maximum(p, LEAST)[:, None]
        U /= (1 - p) @ U
        return U

    def decoders(self, units: Sequence[Unit], designs: Mapping[int, Code] | None) -> list[Decoder]:
        (unit,), ones = units, np.ones(self.matrix.shape[1])
        return [Sum(1, unit.shape, self.config.problem.dtype, target=ones)]
