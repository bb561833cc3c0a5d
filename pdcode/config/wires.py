"""Properties of the wire formats of payloads; `pdcode.kernels.quantise` defines and computes them."""

from __future__ import annotations

from typing import Literal, NamedTuple

WireName = Literal[
    "float64", "float32", "bfloat16", "float16", "int8", "int4", "int2", "sign", "qsgd"
]  # fmt: skip


class WireFormat(NamedTuple):
    """Properties of a format Q, for payloads x within its range.

    Attributes
    ----------
    rounding : {"none", "stochastic", "nearest"}
        Stochastic: to one of two neighbours, at random; nearest: a function of the payload alone.
    unbiased : bool
        Whether E Q(x) = x. Without a memory, errors then average out over updates.
    contraction : bool
        Whether E‖Q(x) - x‖² ≤ (1 - δ)‖x‖² with δ > 0, for every x. Memories that keep the errors need it:
        otherwise what is kept can grow without bound.
    """

    rounding: Literal["none", "stochastic", "nearest"]
    unbiased: bool
    contraction: bool


FORMATS: dict[WireName, WireFormat] = {
    "float64": WireFormat("none", unbiased=True, contraction=True),
    "float32": WireFormat("none", unbiased=True, contraction=True),
    "bfloat16": WireFormat("stochastic", unbiased=True, contraction=True),
    "float16": WireFormat("stochastic", unbiased=True, contraction=True),
    "int8": WireFormat("stochastic", unbiased=True, contraction=True),  # δ > .87 in groups of 1,024
    "int4": WireFormat("nearest", unbiased=False, contraction=True),
    "int2": WireFormat("nearest", unbiased=False, contraction=True),
    "sign": WireFormat("nearest", unbiased=False, contraction=True),
    "qsgd": WireFormat("stochastic", unbiased=True, contraction=False),
}
