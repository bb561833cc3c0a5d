"""MuLoCo: H local steps of Muon, and Nesterov's momentum at rank 0.

Thérien, Huang, Rish and Belilovsky, "MuLoCo: Muon is a practical inner optimizer for DiLoCo", arXiv
2505.23725, 2025. It is DiLoCo with Muon in place of AdamW. Muon (Jordan et al., "Muon: an optimizer for
hidden layers in neural networks", 2024) adds a layer's gradient to a momentum, brings the singular values of
the sum near 1 by Newton–Schulz steps, and steps along the result times √max(1, d_out/d_in). Coefficients and
defaults are as in Muon. The momentum stays at the worker from task to task. Preset ``2-bit`` has the
paper's error feedback, with displacements in 2 bits.

This project's: a layer's biases are a column of its weight matrix, and the output layer is treated like the
others, while Muon leaves vectors and output layers to AdamW. A gradient that is not finite leaves the
momentum unchanged, so that a worker can recover.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from ..coding.muon import orthogonalise, orthogonalise_flops
from ..config import Candidates, NonNegative, Positive, Real, Tables
from ..kernels import finite
from ..problems import Problem
from ..schemes.base import WHITEN, Entrants, Work
from ..schemes.local import InnerOptimizer, Local
from ..transport.layout import Layout
from ..transport.units import Blocks
from .diloco import DiLoCo


class InnerMuon(InnerOptimizer):
    """Muon for local steps: θ ← (1 - ηλ)θ, then a step along each layer's orthogonalised momentum."""

    state_names = ("velocity",)

    def __init__(self, options: MuLoCo.Options, layers: Sequence[Blocks], size: int, dtype: np.dtype) -> None:
        self.velocity = np.zeros(size, dtype)  # the momentum of all layers
        self._options, self._layers = options, layers

    def step(self, theta: np.ndarray, gradient: np.ndarray) -> None:
        if not finite.all_finite(gradient):
            theta.fill(np.nan)  # rank 0 will refuse the payload
            return
        options, number = self._options, gradient.dtype.type
        self.velocity *= number(options.momentum)
        self.velocity += gradient
        gradient += number(options.momentum) * self.velocity
        theta *= number(1 - options.rate * options.weight_decay)
        for layer in self._layers:
            direction = orthogonalise(layer.weights(gradient), options.iterations)
            factor = options.rate * sqrt(max(1.0, layer.outputs / (layer.inputs + layer.bias)))
            layer.weights(theta)[:] -= number(factor) * direction


class MuLoCo(Local):
    """MuLoCo: H local steps of Muon, then codewords of the displacement; Nesterov's momentum at rank 0."""

    name = "muloco"
    summary = "H steps of Muon at the worker, Nesterov's momentum at rank 0"
    entrants: ClassVar[Entrants] = {"MuLoCo": "", "whitened MuLoCo": WHITEN}
    inner_touches = 4.0
    gradient_rate = ""
    tables: ClassVar[Tables] = DiLoCo.tables
    presets: ClassVar[Mapping[str, Tables]] = {
        "2-bit": {**tables, "memory": {"kind": "worker"}, "wire": {"dtype": "int2"}}
    }

    class Options(Local.Options):
        """Keys of ``[scheme] options``."""

        rate: Real = 0.02  #: Muon's learning rate η at the workers; rank 0's rate is in [optimizer]
        momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.95  #: factor on Muon's momentum at each step
        iterations: Positive = 5  #: Newton–Schulz steps for each local step
        weight_decay: NonNegative = 0.0  #: λ: each local step scales θ by 1 - ηλ

        candidates: ClassVar[Candidates] = {
            **DiLoCo.Options.candidates, "momentum": (0.8, 0.9, 0.95), "iterations": (1, 2, 5),
        }  # fmt: skip

    def inner_optimizer(self, problem: Problem) -> InnerOptimizer:
        return InnerMuon(self.options, problem.layers, problem.size, problem.dtype)

    def work(self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int) -> Work:
        iterations = self.options.steps * self.options.iterations
        inner = [
            orthogonalise_flops(each.outputs, each.inputs + each.bias, iterations) for each in problem.layers
        ]
        return super().work(problem, layouts, number, shard).plus(sum(inner))
