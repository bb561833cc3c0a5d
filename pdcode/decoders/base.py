"""What all decoders share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import isfinite, prod
from operator import index
from typing import Any, ClassVar

import numpy as np

from ..kernels import finite
from ..problems.partition import sparse_codewords
from ..util.errors import InputError


def count_of(name: str, value: Any) -> int:
    """Positive whole number that is given for an option; InputError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name} = {value!r}: not a positive whole number")
    return int(value)


def number_of(name: str, value: Any) -> float:
    """Finite number that is given for an option; InputError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not isfinite(value):
        raise InputError(f"{name} = {value!r}: not a number")
    return float(value)


@dataclass(frozen=True)
class Context:
    """What the decoder of a layer can be made of.

    Attributes
    ----------
    shape : tuple
        Blocks k, shape of a block, and dtype, as for `Decoder`.
    length : int
        Elements of the gradient.
    workers : int
        Number of workers n.
    mean_of : int or None
        n where payloads are to be summed over the workers and divided by n, as nothing of a gradient is lost,
        or its best part is sent; None where they are samples of the gradient.
    rows : int or None
        Rows of the layer's code, if that is known.
    wire : str
        Format of payloads on the wire.
    """

    shape: tuple[int, tuple[int, ...], Any]
    length: int
    workers: int = 1
    mean_of: int | None = None
    rows: int | None = None
    wire: str = ""


class Decoder(ABC):
    """Folds arrivals in one by one; a gradient estimate is ready after each.

    Parameters
    ----------
    blocks : int
        Number of blocks k.
    block_shape : tuple of int
        Shape of a block; e is its number of elements.
    dtype : dtype
        float32 or float64.
    length : int, optional
        Elements of the gradient, if fewer than k·e: where the layer has not k·b rows, the last blocks are
        short. What codewords say of the padding is then ignored.

    Attributes
    ----------
    accumulator : ndarray, shape (k·e,)
        `scale` times this is the estimate, once `solve` has been called.
    touched : list of ndarray of int32, or None
        Index arrays of the arrivals since the accumulator was last zero: all blocks that can be nonzero.
        None: any can.
    count : int
        Codewords that have arrived since the last `reset`, q.
    clears : bool
        Whether the accumulator has to be zero when the next update's arrivals begin, so that a step may as
        well zero it in its own pass and empty `touched`.
    robust : bool
        Whether it looks for payloads that contradict the others.
    """

    clears: ClassVar[bool] = False
    robust: ClassVar[bool] = False
    options: ClassVar[tuple[str, ...]] = ("length",)

    def __init__(
        self, blocks: int, block_shape: tuple[int, ...], dtype: Any = "float32", length: int | None = None
    ) -> None:
        try:
            self.dtype = np.dtype(dtype)
        except TypeError:
            raise InputError(f"dtype = {dtype!r}: not float32 or float64") from None
        if self.dtype not in (np.float32, np.float64):
            raise InputError(f"dtype = {dtype!r}: not float32 or float64")
        self.blocks = count_of("blocks", blocks)
        try:
            self.block_shape = tuple(index(d) for d in block_shape)
        except TypeError:
            raise InputError(f"block_shape = {block_shape!r}: not a tuple of whole numbers") from None
        if min(self.block_shape, default=1) < 1:
            raise InputError(f"block_shape = {block_shape}: an empty block")
        self.elements = prod(self.block_shape)
        full = self.blocks * self.elements
        self.length = full if length is None else count_of("decoder.length", length)
        if self.length > full:
            raise InputError(f"decoder.length = {length}: not from 1 to {full}")
        self.accumulator = np.zeros(full, self.dtype)
        self.touched: list[np.ndarray] | None = None
        self.count = 0

    def add(self, codeword: Any, payload: Any) -> None:
        """Fold in an arrival, given densely.

        Parameters
        ----------
        codeword : array_like, shape (k,) or (r, k)
        payload : array_like, shape `block_shape` or (r,) + `block_shape`
            Σ_j g_j d_j for each codeword g.

        Raises
        ------
        InputError
            If a shape is wrong, or an element is no number, NaN or infinite: it would spread over the
            estimate and, where a decoder keeps an estimate, never leave it.
        """
        words, data = self._floats("codeword", codeword), self._floats("payload", payload)
        if words.ndim not in (1, 2) or words.shape[-1] != self.blocks:
            raise InputError(f"codeword: shape {words.shape} is not ({self.blocks},) or (r, {self.blocks})")
        shape = words.shape[:-1] + self.block_shape
        if data.shape != shape:
            raise InputError(f"payload: shape {data.shape} is not {shape}")
        for name, array in ("codeword", words), ("payload", data):
            if not finite.all_finite(array.reshape(-1)):
                where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
                raise InputError(f"{name}: element {where} is {array[where]}: it must be finite")
        words = np.atleast_2d(words)
        if len(words):
            self.add_sparse(*sparse_codewords(words, self.dtype), data.reshape(len(words), self.elements))

    def _floats(self, name: str, value: Any) -> np.ndarray:
        """A copy of an array as C-ordered floats: least squares keeps it."""
        try:
            if np.iscomplexobj(value):
                raise TypeError("complex")
            with np.errstate(over="ignore"):  # what is too large for float32 is refused as infinite
                return np.array(value, self.dtype, order="C")
        except (TypeError, ValueError) as error:
            raise InputError(f"{name}: not an array of real numbers: {error}") from None

    @abstractmethod
    def add_sparse(self, indices: np.ndarray, values: np.ndarray, payload: np.ndarray) -> None:
        """Fold in an arrival: the hot path.

        Parameters
        ----------
        indices : ndarray of int32, shape (r, w), C-ordered
            Blocks of each codeword; not to be changed before the next `reset`.
        values : ndarray of the decoder's dtype, shape (r, w), C-ordered
            Their entries.
        payload : ndarray of the decoder's dtype, shape (r, e), C-ordered
            One combination of blocks for each codeword.
        """

    def solve(self) -> None:  # noqa: B027  most decoders are always up to date
        """Bring the accumulator up to date."""

    @property
    def scale(self) -> float:
        """Factor from the accumulator to the gradient estimate."""
        return 1.0

    def gradient(self, out: np.ndarray | None = None) -> np.ndarray:
        """Return the estimate.

        Parameters
        ----------
        out : ndarray, shape (k,) + `block_shape`, C-ordered, of the decoder's dtype, optional
            Where to write it: spares an allocation, which for a large gradient costs as much as decoding it.

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
        np.multiply(self.accumulator, self.dtype.type(self.scale), out=result.reshape(-1))
        result.reshape(-1)[self.length :] = 0  # padding
        return result

    def _result(self, out: np.ndarray | None) -> np.ndarray:
        """The array that a gradient is written into."""
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

        Here min(1, q/k), which takes the arrivals to be orthogonal until there are k of them.
        """
        return min(1.0, self.count / self.blocks)

    @property
    def decodable(self) -> bool:
        """Whether all of the gradient is captured."""
        return self.captured >= 1.0

    @property
    def residual(self) -> float:
        """Norm of what arrivals contradict of the estimate, in payload units; nan if it cannot be told."""
        return float("nan")

    @property
    def flagged(self) -> list[int]:
        """Arrivals since the last `reset`, counted from 0, that contradict the rest and are left out.

        Only a `robust` decoder looks for any.
        """
        return []

    def trim(self, length: int) -> None:
        """Ignore from now on what lies beyond `length` elements, the padding of short last blocks."""
        self.length = length

    @abstractmethod
    def reset(self) -> None:
        """Begin a new update."""
