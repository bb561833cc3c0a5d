"""Base class of decoders, and the properties from which a decoder is built."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import isfinite, prod
from operator import index
from typing import Any, ClassVar

import numpy as np

from ..kernels import finite
from ..transport.units import sparse_codewords
from ..util.capabilities import Capable
from ..util.errors import InputError
from ..util.stateful import Stateful


def positive_int(name: str, value: Any) -> int:
    """Return an option's value as a positive int, or raise InputError."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name} = {value!r}: not a positive whole number")
    return int(value)


def finite_float(name: str, value: Any) -> float:
    """Return an option's value as a finite float, or raise InputError."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not isfinite(value):
        raise InputError(f"{name} = {value!r}: not a number")
    return float(value)


@dataclass(frozen=True)
class Context:
    """Properties of a layer and of the run from which its decoder is built.

    Attributes
    ----------
    blocks, block_shape, dtype, length
        As for `Decoder`.
    workers : int
        Number of workers n.
    mean_of : int or None
        n if the estimate is the mean of the payloads over the workers, because the remainder of a gradient
        stays in memory or because the largest part is sent; None if payloads are samples of the gradient.
    rows : int or None
        Rows of the layer's code, if known.
    wire : str
        Format of payloads on the wire.
    """

    blocks: int
    block_shape: tuple[int, ...]
    dtype: Any
    length: int
    workers: int = 1
    mean_of: int | None = None
    rows: int | None = None
    wire: str = ""


class Decoder(Stateful, Capable, ABC):
    """Estimator of a gradient that takes arrivals one by one; an estimate is available after each.

    Parameters
    ----------
    blocks : int
        Number of blocks k.
    block_shape : tuple of int
        Shape of a block; e is its number of elements.
    dtype : dtype
        float32 or float64.
    length : int, optional
        Elements of the gradient, if fewer than k·e because the last blocks are short. Their padding is
        ignored.

    Attributes
    ----------
    accumulator : ndarray, shape (≥ k·e,)
        It begins with the estimate divided by `scale`, once `solve` has been called; the rest is the
        decoder's own.
    touched : list of ndarray of int32, or None
        Block indices of the arrivals since the accumulator was last zero. Other blocks are zero. None: any
        block may be nonzero.
    count : int
        Number q of codewords that have arrived since the last `reset`.
    clears : bool
        Whether the accumulator must be zero before the next update's arrivals. The optimizer's step may
        then zero it in its own pass and empty `touched`.
    senders : int
        Number of payloads, of a worker each, that make up a gradient; 1 where each is an estimate of it.
    robust : bool
        Whether the decoder looks for payloads that contradict the others.
    """

    clears: ClassVar[bool] = False
    senders = 1
    robust: ClassVar[bool] = False
    options: ClassVar[tuple[str, ...]] = ("length",)
    state_names: ClassVar[tuple[str, ...]] = ("accumulator", "touched", "count")

    def __init__(
        self, blocks: int, block_shape: tuple[int, ...], dtype: Any = "float32", length: int | None = None
    ) -> None:
        try:
            self.dtype = np.dtype(dtype)
        except TypeError:
            raise InputError(f"dtype = {dtype!r}: not float32 or float64") from None
        if self.dtype not in (np.float32, np.float64):
            raise InputError(f"dtype = {dtype!r}: not float32 or float64")
        self.blocks = positive_int("blocks", blocks)
        try:
            self.block_shape = tuple(index(d) for d in block_shape)
        except TypeError:
            raise InputError(f"block_shape = {block_shape!r}: not a tuple of whole numbers") from None
        if min(self.block_shape, default=1) < 1:
            raise InputError(f"block_shape = {block_shape}: an empty block")
        self.elements = prod(self.block_shape)
        full = self.blocks * self.elements
        self.length = full if length is None else positive_int("decoder.length", length)
        if self.length > full:
            raise InputError(f"decoder.length = {length}: not from 1 to {full}")
        self.accumulator = np.zeros(full, self.dtype)
        self.touched: list[np.ndarray] | None = None
        self.count = 0

    def add(self, codeword: Any, payload: Any) -> None:
        """Add an arrival with dense codewords.

        Parameters
        ----------
        codeword : array_like, shape (k,) or (r, k)
        payload : array_like, shape `block_shape` or (r,) + `block_shape`
            Σ_j g_j d_j for each codeword g, d_j the blocks of the gradient.

        Raises
        ------
        InputError
            If a shape is wrong, or an element is not a finite number: a NaN would spread over the estimate,
            and would stay in some decoders for ever.
        """
        rows, data = self._floats("codeword", codeword), self._floats("payload", payload)
        if rows.ndim not in (1, 2) or rows.shape[-1] != self.blocks:
            raise InputError(f"codeword: shape {rows.shape} is not ({self.blocks},) or (r, {self.blocks})")
        shape = rows.shape[:-1] + self.block_shape
        if data.shape != shape:
            raise InputError(f"payload: shape {data.shape} is not {shape}")
        for name, array in ("codeword", rows), ("payload", data):
            if not finite.all_finite(array.reshape(-1)):
                where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
                raise InputError(f"{name}: element {where} is {array[where]}: it must be finite")
        rows = np.atleast_2d(rows)
        if len(rows):
            self.add_sparse(*sparse_codewords(rows, self.dtype), data.reshape(len(rows), self.elements))

    def _floats(self, name: str, value: Any) -> np.ndarray:
        """Return a C-ordered copy in the decoder's dtype; a copy, because some decoders keep it."""
        try:
            if np.iscomplexobj(value):
                raise TypeError("complex")
            with np.errstate(over="ignore"):  # values too large for float32 are refused as infinite
                return np.array(value, self.dtype, order="C")
        except (TypeError, ValueError) as error:
            raise InputError(f"{name}: not an array of real numbers: {error}") from None

    @abstractmethod
    def add_sparse(self, indices: np.ndarray, values: np.ndarray, payload: np.ndarray) -> None:
        """Add an arrival with sparse codewords, without checks: the hot path.

        Parameters
        ----------
        indices : ndarray of int32, shape (r, w), C-ordered
            Blocks of each codeword; must stay unchanged until the next `reset`.
        values : ndarray of the decoder's dtype, shape (r, w), C-ordered
            Entries of the codewords at those blocks.
        payload : ndarray of the decoder's dtype, shape (r, e), C-ordered
            The combination of blocks of each codeword.
        """

    def copy_payloads(self) -> None:
        """Prepare for payloads that may change before `reset`: a decoder that keeps them copies them."""
        return

    def solve(self) -> None:  # most decoders are always up to date
        """Bring the accumulator up to date."""

    @property
    def scale(self) -> float:
        """Factor from the accumulator to the gradient estimate."""
        return 1.0

    def gradient(self, out: np.ndarray | None = None) -> np.ndarray:
        """Return the gradient estimate.

        Parameters
        ----------
        out : ndarray, shape (k,) + `block_shape`, C-ordered, of the decoder's dtype, optional
            Array for the result. It saves an allocation, which for a large gradient costs as much as
            decoding.

        Returns
        -------
        ndarray, shape (k,) + `block_shape`
            A new array, or `out`.

        Raises
        ------
        InputError
            If `out` has another shape, type or order.
        """
        self.solve()
        result = self._result(out)
        estimate = self.accumulator[: result.size]
        np.multiply(estimate, self.dtype.type(self.scale), out=result.reshape(-1))
        result.reshape(-1)[self.length :] = 0  # padding
        return result

    def _result(self, out: np.ndarray | None) -> np.ndarray:
        """Return `out` if it fits the gradient, or a new array if it is None."""
        shape = (self.blocks, *self.block_shape)
        if out is None:
            return np.empty(shape, self.dtype)
        if not isinstance(out, np.ndarray):
            raise InputError(f"out: a {type(out).__name__} is not an array {self.dtype} {shape}")
        if out.shape != shape or out.dtype != self.dtype or not out.flags.c_contiguous:
            raise InputError(f"out: {out.dtype} {out.shape} is not a C-ordered {self.dtype} {shape}")
        return out

    @property
    def captured(self) -> float:
        """Fraction of an isotropic gradient's energy that the arrivals determine, from 0 to 1.

        By default min(1, q/k), as for orthogonal codewords.
        """
        return min(1.0, self.count / self.blocks)

    @property
    def decodable(self) -> bool:
        """Whether the whole gradient is captured."""
        return self.captured >= 1.0

    @property
    def residual(self) -> float:
        """Norm of the misfit between payloads and estimate, in payload units; nan if unknown."""
        return float("nan")

    @property
    def flagged(self) -> list[int]:
        """Indices since the last `reset`, from 0, of arrivals left out because they contradict the rest.

        Empty for decoders that are not `robust`.
        """
        return []

    @abstractmethod
    def reset(self) -> None:
        """Begin a new update."""
