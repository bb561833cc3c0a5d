"""HeLoCo: asynchronous DiLoCo that removes from stale displacements what opposes rank 0's momentum.

Al Asif, Diem, Muñoz, Wolf, Jannesari and Mazaheri, "HeLoCo: efficient asynchronous low-communication training
under data and device heterogeneity", arXiv 2606.00271, 2026. Only the abstract was at hand: the outer
momentum is the reference for the current direction; displacements that agree with it are preserved, and
components that oppose it are corrected, before the outer update.

Our reading: for each layer, a displacement g with ⟨g, m⟩ < 0 for the momentum m becomes g - ⟨g, m⟩ m/‖m‖²;
then Nesterov's momentum takes its step, at every arrival, as in DiLoCo. A smaller rate than DiLoCo's 0.7 is
ours, because each worker's displacement is a step of its own.
"""

from typing import ClassVar

from ..coding.optimizers import Momentum, Optimizer
from ..config import Candidates, Tables
from ..config.requirements import Needs, given, one_of
from ..kernels import optimize
from ..problems import Problem
from ..schemes.base import WHITEN, Entrants
from .diloco import DiLoCo


class AlignedMomentum(Momentum):
    """Momentum that takes gradients without their component against it, by unit."""

    def _advance(self, rate: float) -> float:
        coefficients, total = self.coefficients(), 0.0
        for decoder, theta, gradient, velocity in self._plan:
            decoder.solve()
            direction = gradient * self.dtype.type(decoder.scale * self._shrinkage)
            along = float(direction @ velocity)
            if along < 0:
                direction -= self.dtype.type(along / float(velocity @ velocity)) * velocity
            total += optimize.sgd_step(theta, velocity, direction, 1.0, rate, *coefficients, False)
        return total


class HeLoCo(DiLoCo):
    """Asynchronous DiLoCo; displacements lose their component against the momentum."""

    name = "heloco"
    summary = "asynchronous DiLoCo; what opposes rank 0's momentum is removed from displacements"
    entrants: ClassVar[Entrants] = {"HeLoCo": "", "whitened HeLoCo": WHITEN}
    requires: ClassVar[Needs] = {
        "optimizer.kind": one_of("sgd", why="has a momentum"),
        "optimizer.momentum": given("a momentum"),
        "optimizer.proximal": one_of(None, why="has steps of its own"),
    }
    tables: ClassVar[Tables] = {
        **DiLoCo.tables,
        "update": {"mode": "async"},
        "optimizer": {"kind": "sgd", "rate": 0.02, "momentum": 0.9, "nesterov": True},
    }

    class Options(DiLoCo.Options):
        """Keys of ``[scheme] options``."""

        candidates: ClassVar[Candidates] = {
            **DiLoCo.Options.candidates, "optimizer.rate": (0.01, 0.02, 0.05, 0.1),
        }  # fmt: skip

    def optimizer(self, problem: Problem, span: float = 1.0) -> Optimizer:
        table, size, dtype = self.config.optimizer, problem.size, problem.dtype
        return AlignedMomentum(table, size, dtype, problem.layers, span * self.span)
