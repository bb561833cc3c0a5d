"""Faults of payloads."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from ..config.tables import Positive
from ..kernels import philox
from ..transport.messages import Reply
from ..util.rng import FAULT
from .base import Keys, Spell


class NotANumber(Spell, tag="nan"):
    """The worker computes NaN, as in a numerical failure."""

    numeric: ClassVar[bool] = True

    def blur(self, theta: np.ndarray) -> np.ndarray:
        return np.full_like(theta, np.nan)


class Lie(Spell, tag="lie"):
    """The worker sends another payload than it has computed, and knows nothing of it."""

    numeric: ClassVar[bool] = True

    #: sign: the opposite; scale: `value` times as much; constant: `value` everywhere
    how: Literal["sign", "scale", "constant"] = "sign"
    value: float = 1e6  #: with "scale" and "constant"

    def garble(self, reply: Reply, keys: Keys) -> None:
        if self.how == "constant":
            reply.payload.fill(self.value)
        else:
            reply.payload *= -1 if self.how == "sign" else self.value
        reply.write(*keys)


class Corrupt(Spell, tag="corrupt"):
    """Bits of the payload, or of the codewords that the worker chose, are flipped on the way."""

    numeric: ClassVar[bool] = True

    bits: Positive = 1  #: number of bits of each reply, drawn by (seed, worker, task)

    def garble(self, reply: Reply, keys: Keys) -> None:
        seed, worker, task = keys
        places = np.empty(self.bits, np.int64)
        philox.integers(seed, FAULT, worker, 2**32 + task, 8 * len(reply.body), places)
        for place in places:
            reply.body[place // 8] ^= 1 << place % 8
