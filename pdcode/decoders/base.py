"""What all decoders share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError
from ..problems.partition import sparse_codewords


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
    """

    clears: ClassVar[bool] = False
    options: ClassVar[tuple[str, ...]] = ("length",)

    def __init__(
        self, blocks: int, block_shape: tuple[int, ...], dtype: Any = "float32", length: int | None = None
    ) -> None:
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise InputError(f"dtype = {dtype!r}: not float32 or float64")
        if blocks < 1:
            raise InputError(f"blocks = {blocks}: not a positive number")
        self.blocks, self.block_shape = int(blocks), tuple(int(d) for d in block_shape)
        self.elements = prod(self.block_shape)
        full = self.blocks * self.elements
        if self.elements < 1:
            raise InputError(f"block_shape = {block_shape}: an empty block")
        if length is not None and not 0 < length <= full:
            raise InputError(f"decoder.length = {length}: not from 1 to {full}")
        self.length = full if length is None else int(length)
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
            If a shape is wrong.
        """
        words = np.asarray(codeword, self.dtype)
        data = np.array(payload, self.dtype, order="C")  # a copy: least_squares keeps it
        if words.ndim not in (1, 2) or words.shape[-1] != self.blocks:
            raise InputError(f"codeword: shape {words.shape} is not ({self.blocks},) or (r, {self.blocks})")
        shape = words.shape[:-1] + self.block_shape
        if data.shape != shape:
            raise InputError(f"payload: shape {data.shape} is not {shape}")
        words = np.atleast_2d(words)
        if len(words):
            self.add_sparse(*sparse_codewords(words, self.dtype), data.reshape(len(words), self.elements))

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

    def gradient(self) -> np.ndarray:
        """Return the estimate, a new array of shape (k,) + `block_shape`."""
        self.solve()
        result = self.accumulator * self.dtype.type(self.scale)
        result[self.length :] = 0  # padding
        return result.reshape(self.blocks, *self.block_shape)

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

    def trim(self, length: int) -> None:
        """Ignore from now on what lies beyond `length` elements, the padding of short last blocks."""
        self.length = length

    @abstractmethod
    def reset(self) -> None:
        """Begin a new update."""
