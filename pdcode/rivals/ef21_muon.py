"""EF21-Muon: workers send changes of their momentum, compressed, and rank 0 steps by Muon.

Gruntkowska, Gaponov, Tovmasyan and Richtárik, "Error feedback for Muon and friends", arXiv 2510.00643, 2025.
Worker j has a momentum M ← (1 - β)M + β·gradient and an estimate G of it, which rank 0 knows. It sends
R = C(M - G), and both add it: G ← G + R. Rank 0 steps along the point of the unit ball of a norm that
minimises ⟨mean of G, ·⟩: of the spectral norm for weights, by the Newton–Schulz steps of Muon, and of the
largest element for biases. C is a contraction; here it is the largest elements of each layer, rounded.

Source: the abstract, and descriptions of the algorithm, not the paper itself. The paper also compresses the
step, with an estimate W of θ at the workers. Here W = θ: rank 0 sends θ or, with ``downlink.kind``
"codewords" or "exchange", the workers' R, from which each worker makes the step itself. This project's: M
and G begin with zeros; updates may leave workers out.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from ..coding import flops
from ..coding.source import Source
from ..config import Candidates, Tables
from ..config.requirements import Needs, one_of
from ..kernels import finite
from ..problems import Problem
from ..schemes.base import WHITEN, Entrants, Work
from ..schemes.elements import SingleElements
from ..schemes.topk import TopK
from ..transport.layout import Layout
from ..transport.messages import Reply, Task


class WorkerMomentum(Source):
    """Source of the running mean of another source's vectors; one that is not finite leaves it unchanged."""

    state_names = ("_source", "_mean")

    def __init__(self, source: Source, share: float) -> None:
        self._source, self._share = source, source.gradient.dtype.type(share)
        self.gradient, self._mean = np.empty_like(source.gradient), np.zeros_like(source.gradient)

    def __call__(self, theta: np.ndarray, task: Task) -> float:
        loss, gradient = self._source(theta, task), self._source.gradient
        if finite.all_finite(gradient):
            self._mean += self._share * (gradient - self._mean)
            np.copyto(self.gradient, self._mean)
        else:
            np.copyto(self.gradient, gradient)  # rank 0 will refuse the payload
        return loss


class EF21Muon(TopK):
    """EF21-Muon: the largest changes of each worker's momentum; rank 0 steps by Muon."""

    name = "ef21-muon"
    summary = "the largest changes of each worker's momentum, by EF21; steps of Muon"
    entrants: ClassVar[Entrants] = {"EF21-Muon": "", "whitened EF21-Muon": WHITEN}
    presets: ClassVar = {}
    requires: ClassVar[Needs] = {
        **SingleElements.requires,
        "memory.kind": one_of("difference", why="is EF21"),
        "optimizer.kind": one_of("muon", why="orthogonalises the mean momentum"),
    }
    tables: ClassVar[Tables] = {
        **TopK.tables,
        "memory": {"kind": "difference"},
        "update": {"mode": "all"},
        "optimizer": {"kind": "muon", "rate": 0.02, "momentum": 0.0},  # momenta are at the workers
    }

    class Options(TopK.Options):
        """Keys of ``[scheme] options``."""

        beta: Annotated[float, Meta(gt=0, le=1)] = 0.1  #: β, weight of a gradient in a worker's momentum

        candidates: ClassVar[Candidates] = {
            **TopK.Options.candidates, "beta": (0.1, 0.3, 1.0), "optimizer.momentum": (0.0,),
        }  # fmt: skip

    def source(self, problem: Problem, worker: int, rows: int, reply: Reply | None = None) -> Source:
        return WorkerMomentum(super().source(problem, worker, rows), self.options.beta)

    def work(self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int) -> Work:
        return super().work(problem, layouts, number, shard).plus(flops.touched(problem, 4.0))
