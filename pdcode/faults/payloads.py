"""Faults of payloads."""

from typing import Annotated, ClassVar, Literal

import numpy as np
from msgspec import Meta

from ..config import Fraction, Positive
from ..kernels import philox
from ..transport.messages import Reply
from ..util.rng import FAULT, uniform
from .base import GradientOracle, Keys, TaskFault


class NotANumber(TaskFault, tag="nan"):
    """The worker computes NaN, as in a numerical failure."""

    numeric: ClassVar[bool] = True

    def corrupt_parameters(self, theta: np.ndarray) -> np.ndarray:
        return np.full_like(theta, np.nan)


class Lie(TaskFault, tag="lie"):
    """Byzantine worker: it sends another payload than the computed one, and its memory is not affected."""

    numeric: ClassVar[bool] = True

    #: sign: the opposite; scale: `value` times the payload; constant: `value` everywhere; gaussian: plus
    #: errors of standard deviation `value`, drawn by (seed, worker, task)
    how: Literal["sign", "scale", "constant", "gaussian"] = "sign"
    value: float = 1e6  #: with "scale", "constant" and "gaussian"

    def corrupt_payload(self, reply: Reply, keys: Keys, oracle: GradientOracle) -> None:
        payload = reply.payload
        if self.how == "constant":
            payload.fill(self.value)
        elif self.how == "gaussian":
            seed, worker, task = keys
            payload += self.value * normals(len(payload), seed, worker, task)
        else:
            payload *= -1 if self.how == "sign" else self.value
        reply.quantise(*keys)


class Collude(TaskFault, tag="collude"):
    """Byzantine workers that collude: they send harmful payloads that resemble the others', and each other's.

    A worker estimates the others' gradients from its own rows: by the mean μ and the standard deviation σ,
    per element, of mini-batches at the same θ. If all workers have all rows (``problem.shards``), this is the
    knowledge that the attacks of the papers assume.
    """

    numeric: ClassVar[bool] = True

    #: little: μ - `value` σ (Baruch, Baruch, Goldberg, "A little is enough", NeurIPS 2019); inner-product:
    #: -`value` μ (Xie, Koyejo, Gupta, "Fall of empires", UAI 2019)
    how: Literal["little", "inner-product"] = "little"
    value: float = 1.5  #: size of the attack
    samples: Annotated[int, Meta(ge=2, le=1000)] = 8  #: mini-batches whose gradients it knows

    def corrupt_payload(self, reply: Reply, keys: Keys, oracle: GradientOracle) -> None:
        payload = reply.payload
        mean, squares = np.zeros((2, len(payload)))
        for number in range(1, self.samples + 1):  # Welford's recurrence
            other = oracle(number)
            change = other - mean
            mean += change / number
            squares += change * (other - mean)
        if self.how == "little":
            payload[:] = mean - self.value * np.sqrt(squares / (self.samples - 1))
        else:
            payload[:] = -self.value * mean
        reply.quantise(*keys)


class Corrupt(TaskFault, tag="corrupt"):
    """Bits of the payload, or of the codewords that the worker selected, are flipped in transit."""

    numeric: ClassVar[bool] = True

    bits: Positive = 1  #: number of bits of each such reply, drawn by (seed, worker, task)
    share: Fraction = 1.0  #: share of the replies, drawn by (seed, worker, task)

    def corrupt_payload(self, reply: Reply, keys: Keys, oracle: GradientOracle) -> None:
        seed, worker, task = keys
        if uniform(seed, FAULT, worker, 2**35 + task) >= self.share:
            return
        places = np.empty(self.bits, np.int64)
        philox.integers(seed, FAULT, worker, 2**32 + task, 8 * len(reply.body), places)
        for place in places:
            reply.body[place // 8] ^= 1 << place % 8


def normals(count: int, seed: int, worker: int, task: int) -> np.ndarray:
    """Return standard normal numbers, float64, shape (count,), by Box and Muller's transform."""
    uniforms = np.empty((2, (count + 1) // 2))
    philox.uniforms(seed, FAULT, worker, 2**34 + task, uniforms.reshape(-1))
    lengths, angles = np.sqrt(-2 * np.log1p(-uniforms[0])), 2 * np.pi * uniforms[1]
    return np.concatenate([lengths * np.cos(angles), lengths * np.sin(angles)])[:count]
