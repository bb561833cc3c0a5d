"""Wire formats: encodings of payloads in messages. `pdcode.kernels.quantise` computes the built-in ones."""

from typing import ClassVar, Literal

import numpy as np

from ..config import kinds
from ..kernels import quantise
from ..util import rng
from ..util.rng import WIRE

Keys = tuple[int, int, int, int]
"""Keys of the random numbers that round a payload: seed, worker, task, and number of the unit."""


class WireFormat(kinds.Registered, group="wires"):
    """Format Q of payloads x in messages; instances have no state.

    A format of a plug-in has a name, and defines `size`, `encode` and `decode`.

    Attributes
    ----------
    name : str
        Value of ``wire.dtype``.
    rounding : {"none", "stochastic", "nearest"}
        Stochastic: to one of two neighbours, at random; nearest: a function of the payload alone.
    unbiased : bool
        Whether E Q(x) = x. Without a memory, errors then average out over updates.
    contraction : bool
        Whether E‖Q(x) - x‖² ≤ (1 - δ)‖x‖² with δ > 0, for every x within the format's range. Memories that
        accumulate the errors need it: otherwise the residual can grow without bound.
    error : float or None
        Upper bound on ‖Q(x) - x‖/‖x‖, up to which decoder ``residual`` tolerates it; None: it is too large.
    flops : float
        Operations of the rounding per element, on the virtual clock; reading takes a third of them.
    kind : int
        Number of the format in `kernels.quantise`; -1: it is computed in Python.
    scales : int
        Number of scales of a group of elements in compiled formats; 0: the format has no scales.
    """

    rounding: ClassVar[Literal["none", "stochastic", "nearest"]] = "nearest"
    unbiased: ClassVar[bool] = False
    contraction: ClassVar[bool] = False
    error: ClassVar[float | None] = None
    flops: ClassVar[float] = 8.0  # scaling, a random number, and the conversion
    kind: ClassVar[int] = -1
    scales: ClassVar[int] = 0

    def size(self, rows: int, elements: int) -> int:
        """Return the bytes of an encoded payload of this shape."""
        raise NotImplementedError

    def encode(self, payload: np.ndarray, message: np.ndarray, random: np.random.Generator) -> None:
        """Encode a payload.

        Parameters
        ----------
        payload : ndarray, shape (rows, elements)
            Of the problem's type; single elements with a common scale are one row.
        message : ndarray of uint8, shape (size,)
            Overwritten; it begins at a multiple of 8 bytes.
        random : Generator
            The same for a seed, worker, task and unit on every clock and in a replay.
        """
        raise NotImplementedError

    def decode(self, message: np.ndarray, payload: np.ndarray) -> None:
        """Decode a payload written by `encode`, of the same shapes; `payload` is overwritten."""
        raise NotImplementedError

    def padded(self, rows: int, elements: int) -> int:
        """Return the bytes of a payload in a message, a multiple of 8."""
        return -(-self.size(rows, elements) // 8) * 8

    def round(self, flat: np.ndarray, wire: np.ndarray, rows: int, keys: Keys) -> bool:
        """Encode a payload (rows · elements,) into a message (padded) and round it in place.

        Return whether all elements are finite.
        """
        seed, *place = keys
        payload, message = self._views(flat, wire, rows)
        self.encode(payload, message, rng.generator(seed, WIRE, *place))
        wire[len(message) :] = 0
        return self.read(flat, wire, rows)

    def read(self, flat: np.ndarray, wire: np.ndarray, rows: int) -> bool:
        """Decode a payload from a message; return whether all elements are finite."""
        payload, message = self._views(flat, wire, rows)
        self.decode(message, payload)
        return bool(np.isfinite(flat).all())

    def scale(self, flat: np.ndarray, wire: np.ndarray, rows: int, factor: float) -> None:
        """Multiply a payload by a factor, both in a message and as decoded."""
        flat *= flat.dtype.type(factor)
        self.round(flat, wire, rows, (0, 0, 0, 0))

    def _views(self, flat: np.ndarray, wire: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
        payload = flat.reshape(rows, len(flat) // max(1, rows))
        return payload, wire[: self.size(*payload.shape)]


class CompiledFormat(WireFormat):
    """Format that `pdcode.kernels.quantise` computes."""

    def __init_subclass__(cls) -> None:
        cls.kind = quantise.KINDS[cls.name]

    def size(self, rows: int, elements: int) -> int:
        return int(quantise.size(self.kind, rows, elements))

    def round(self, flat: np.ndarray, wire: np.ndarray, rows: int, keys: Keys) -> bool:
        seed, worker, task, number = keys
        finite: bool = quantise.encode(self.kind, flat, wire, rows, seed, WIRE, worker, task, number, flat)
        return finite

    def read(self, flat: np.ndarray, wire: np.ndarray, rows: int) -> bool:
        finite: bool = quantise.decode(self.kind, wire, flat, rows)
        return finite

    def scale(self, flat: np.ndarray, wire: np.ndarray, rows: int, factor: float) -> None:
        if not self.scales:
            super().scale(flat, wire, rows, factor)
            return
        groups = rows * -(-(len(flat) // max(1, rows)) // quantise.GROUP)
        scales = wire[: 4 * self.scales * groups].view(np.float32)
        scales *= np.float32(factor)
        self.read(flat, wire, rows)


class Float64(CompiledFormat):
    """Double precision, unrounded."""

    name, rounding, unbiased, contraction, error = "float64", "none", True, True, 0.0


class Float32(CompiledFormat):
    """Single precision; rounded to nearest from float64."""

    name, rounding, unbiased, contraction, error = "float32", "none", True, True, 1e-4


class BFloat16(CompiledFormat):
    """8 bits of mantissa."""

    name, rounding, unbiased, contraction, error = "bfloat16", "stochastic", True, True, 0.02
    flops = 6.5


class Float16(CompiledFormat):
    """11 bits of mantissa, up to 65504."""

    name, rounding, unbiased, contraction, error = "float16", "stochastic", True, True, 0.002
    flops = 10.0


class Int8(CompiledFormat):
    """Up to ±127 steps of max/127; δ > .87 in groups of 1,024."""

    name, rounding, unbiased, contraction, error, scales = "int8", "stochastic", True, True, 0.02, 1
    flops = 4.5


class Int4(CompiledFormat):
    """Up to ±7 steps of max/7."""

    name, contraction, scales = "int4", True, 1
    flops = 2.0


class Int2(CompiledFormat):
    """± the mean magnitude of one of two bins."""

    name, contraction, scales = "int2", True, 2
    flops = 5.5


class Sign(CompiledFormat):
    """± the mean magnitude."""

    name, contraction, scales = "sign", True, 1
    flops = 3.5


class QSGD(CompiledFormat):
    """Up to ±7 steps of max/7, unbiased."""

    name, rounding, unbiased, scales = "qsgd", "stochastic", True, 1
    flops = 4.5


def wire_format(name: str) -> WireFormat:
    """Return the format of this name."""
    form: WireFormat = kinds.find("wires", name)()
    return form
