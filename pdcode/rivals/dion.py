"""Dion: orthonormal steps of low rank, in two rounds, by a power iteration on momenta at the workers.

Ahn, Xu, Abreu, Fan, Magakyan, Sharma, Zhan and Langford, "Dion: distributed orthonormalized updates", arXiv
2504.05295, 2025, with its compressed synchronisation of data-parallel workers. B is a layer's gradient plus
the worker's momentum M. Round 0: P = B Q, whose mean rank 0 makes orthonormal. Round 1: R = Bᵀ P, whose mean
with columns of unit length is the next Q. M ← B - (1 - μ) P Rᵀ: the rest of B remains, as error
feedback, and of the step the fraction μ. Rank 0 steps along √(d_out/d_in) P Qᵀ. The rounds, and R of each
worker instead of the mean in M, are as in `powersgd`.

Not the paper's: biases are sent whole, M ← μB, and step along the signs of their mean, where the paper leaves
vectors and output layers to Lion or AdamW. "Dion2" (arXiv 2512.16928) is another algorithm, the optimizer
`coding.muon.Dion2`.
"""

from collections.abc import Sequence
from math import sqrt
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from ..coding.ahead import Lengths
from ..coding.state import State
from ..config import Candidates, Tables
from ..config.requirements import Needs, one_of
from ..problems import Problem
from ..schemes.base import ALLREDUCE, WHITEN, Entrants
from ..transport.units import Blocks
from .powersgd import PowerSGD, PowerState

EPSILON = 1e-8  # added to the length of a column, as in the authors' code


class DionState(PowerState):
    """State that steps along P Qᵀ with columns of Q of unit length."""

    def direction(
        self, layer: Blocks, p: np.ndarray, q: np.ndarray, bias: np.ndarray
    ) -> Sequence[np.ndarray]:
        q /= np.linalg.norm(q, axis=1, keepdims=True) + q.dtype.type(EPSILON)
        return q.dtype.type(sqrt(layer.outputs / max(1, layer.inputs))) * p.T @ q, np.sign(bias)


class Dion(PowerSGD):
    """Dion: orthonormal steps of low rank by momenta at the workers, with error feedback."""

    name = "dion"
    summary = "two factors of each worker's momentum, in two rounds; orthonormal steps of low rank"
    entrants: ClassVar[Entrants] = {"Dion": ALLREDUCE, "whitened Dion": f"{ALLREDUCE}{WHITEN}"}
    has_length = True
    requires: ClassVar[Needs] = {
        **PowerSGD.requires,
        "optimizer.kind": one_of("sgd", why="orthonormalises its steps"),
        "optimizer.proximal": one_of(None, why="has steps of its own"),
    }
    tables: ClassVar[Tables] = {**PowerSGD.tables, "optimizer": {"kind": "sgd", "rate": 0.02}}

    class Options(PowerSGD.Options):
        """Keys of ``[scheme] options``."""

        momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.95  #: μ, fraction of what was sent that is kept

        candidates: ClassVar[Candidates] = {
            **PowerSGD.Options.candidates, "momentum": (0.8, 0.9, 0.95), "optimizer.momentum": (0.0,),
        }  # fmt: skip

    @property
    def kept(self) -> float:
        return float(self.options.momentum)

    def step_lengths(self, layer: Blocks) -> Lengths:
        rank = min(self.options.rank, layer.inputs, layer.outputs)
        return sqrt(rank * layer.outputs / max(1, layer.inputs)), sqrt(layer.outputs)

    def state(self, problem: Problem) -> State:
        return DionState(self, problem)
