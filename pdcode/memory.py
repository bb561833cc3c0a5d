"""What a worker does with the part of its gradient that its codewords leave out.

``none`` forgets it and never forms it. ``worker`` keeps it and adds it to the next gradient: error feedback
(Seide et al., Interspeech 2014; Stich, Cordonnier, Jaggi, NeurIPS 2018; Karimireddy et al., ICML 2019), with
the projection onto the task's codewords as the compressor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .kernels import encode, specialise
from .problems import Plan

Codewords = Sequence[tuple[np.ndarray, np.ndarray]]
Respond = Callable[[np.ndarray, np.ndarray, Codewords], float]
"""(θ, batch indices, codewords a layer) -> mini-batch loss; leaves the payload in the plan's buffer."""


class WorkerMemory:
    """Error feedback: e ← e + gradient, payload y = Q e, e ← e - Qᵀy, codeword by codeword.

    Taking the codewords in turn makes each of them a projection of what is left, so that e never grows by
    encoding whether or not the codewords are orthogonal; for orthonormal rows Q it is the formula above.

    Parameters
    ----------
    plan : Plan
        Of the worker's problem; payloads are written to its buffer.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.residual = np.zeros(plan.network.size, plan.network.dtype)
        self._feedback = specialise(encode.feedback_encode, plan.network.dtype)

    def __call__(self, theta: np.ndarray, indices: np.ndarray, codewords: Codewords) -> float:
        plan = self.plan
        loss = plan.gradient(theta, indices)
        gradient = plan.full_gradient
        for layer, words, view in zip(plan.network.layers, codewords, plan.views, strict=True):
            part = slice(layer.offset, layer.offset + layer.length)
            if layer.count == 1:
                view[0, : layer.length] = gradient[part]
            else:
                self._feedback(self.residual[part], gradient[part], *words, layer.elements, view)
        return loss


def create(kind: str, plan: Plan) -> Respond:
    """Make what turns a task into a payload for a ``[memory] kind``."""
    return WorkerMemory(plan) if kind == "worker" else plan.coded_derivative
