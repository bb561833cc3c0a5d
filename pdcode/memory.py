"""What a worker does with the part of its gradient that its codewords leave out.

``none`` forgets it and never forms it. ``worker`` keeps it and adds it to the next gradient: error feedback
(Seide et al., "1-bit stochastic gradient descent", Interspeech 2014; Stich, Cordonnier and Jaggi, "Sparsified
SGD with memory", NeurIPS 2018; Karimireddy et al., "Error feedback fixes SignSGD", ICML 2019), with the
projection onto the task's codewords as the compressor.
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
        parts = [slice(layer.offset, layer.offset + layer.length) for layer in plan.network.layers]
        self._layers = [
            (layer, self.residual[part], plan.full_gradient[part])
            for layer, part in zip(plan.network.layers, parts, strict=True)
        ]

    def __call__(self, theta: np.ndarray, indices: np.ndarray, codewords: Codewords) -> float:
        plan = self.plan
        loss = plan.gradient(theta, indices)
        for (layer, residual, gradient), words, view in zip(self._layers, codewords, plan.views, strict=True):
            if layer.whole:
                view[0] = gradient
            else:
                self._feedback(residual, gradient, *words, layer.elements, view)
        return loss


def create(kind: str, plan: Plan) -> Respond:
    """Make what turns a task into a payload for a ``[memory] kind``."""
    return WorkerMemory(plan) if kind == "worker" else plan.coded_derivative
