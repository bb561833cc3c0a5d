"""DiLoCo: H local steps of AdamW, and Nesterov's momentum at rank 0.

Douillard, Feng, Rusu, Chhaparia, Donchev, Kuncoro, Ranzato, Szlam and Shen, "DiLoCo: distributed
low-communication training of language models", 2023. Each task starts from rank 0's θ, and its payload is the
worker's displacement; rank 0 uses the mean displacement as a gradient. AdamW (Loshchilov and Hutter,
"Decoupled weight decay regularization", ICLR 2019) keeps its moments and step count at the worker from task
to task. The rate of 0.7 and the momentum of 0.9 at rank 0 and the weight decay are the paper's. Its H of 500
and inner rate of 4e-4, with warm-up and cosine decay, are for language models; here the inner rate is
constant.

Not in the paper: an update may leave workers out. The moments include all gradients of the worker, also those
of dropped payloads. A gradient that is not finite leaves them unchanged, so that a worker can recover.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from ..config import Candidates, NonNegative, Real, Tables
from ..kernels import finite, optimize
from ..problems import Problem
from ..schemes.base import WHITEN, Entrants
from ..schemes.local import InnerOptimizer, Local

Decay = Annotated[float, Meta(ge=0, lt=1)]


class InnerAdamW(InnerOptimizer):
    """AdamW for local steps: θ ← (1 - ηλ)θ, then a step of Adam."""

    state_names = ("steps", "first", "second")

    def __init__(self, options: DiLoCo.Options, size: int, dtype: np.dtype) -> None:
        self.steps = 0  # over all tasks
        # Running means of the gradient and of its square.
        self.first, self.second = np.zeros(size, dtype), np.zeros(size, dtype)
        self._decay = dtype.type(1 - options.rate * options.weight_decay)
        self._constants = options.rate, options.beta1, options.beta2, options.epsilon

    def step(self, theta: np.ndarray, gradient: np.ndarray) -> None:
        if not finite.all_finite(gradient):
            theta.fill(np.nan)  # rank 0 will refuse the payload
            return
        self.steps += 1
        theta *= self._decay
        optimize.adam_step(theta, self.first, self.second, gradient, 1.0, *self._constants, self.steps, False)


class DiLoCo(Local):
    """DiLoCo: H local steps of AdamW, then codewords of the displacement; Nesterov's momentum at rank 0."""

    name = "diloco"
    summary = "H steps of AdamW at the worker, Nesterov's momentum at rank 0"
    entrants: ClassVar[Entrants] = {"DiLoCo": "", "whitened DiLoCo": WHITEN}
    inner_touches = 9.0
    presets: ClassVar[Mapping[str, Tables]] = {}
    gradient_rate = ""
    tables: ClassVar[Tables] = {
        **Local.tables,
        "optimizer": {"kind": "sgd", "rate": 0.7, "momentum": 0.9, "nesterov": True},
    }

    class Options(Local.Options):
        """Keys of ``[scheme] options``."""

        rate: Real = 1e-3  #: AdamW's learning rate η at the workers; rank 0's rate is in [optimizer]
        beta1: Decay = 0.9  #: decay of AdamW's mean gradient
        beta2: Decay = 0.999  #: decay of AdamW's mean squared gradient
        epsilon: Real = 1e-8  #: added to AdamW's denominator
        weight_decay: NonNegative = 0.1  #: λ: each local step scales θ by 1 - ηλ

        candidates: ClassVar[Candidates] = {
            **Local.Options.candidates, "optimizer.rate": (0.2, 0.4, 0.7, 1.0),
        }  # fmt: skip

    def inner_optimizer(self, problem: Problem) -> InnerOptimizer:
        return InnerAdamW(self.options, problem.size, problem.dtype)
