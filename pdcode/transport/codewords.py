"""Wire format of codewords: sparse, with indices in the smallest integer type, and exact or rounded values.

Rank 0 sends the values of its codes exactly, in the problem's dtype. Worker-selected codewords take one byte
per value: v = q·s with q from -127 to 127, and one float32 scale s = 1/‖q‖ per codeword. Workers encode with
the rounded codewords, hence without a rounding error.
"""

from __future__ import annotations

import numpy as np

from ..kernels import finite


class CodewordFormat:
    """Format of the codewords of one layer in a message.

    Parameters
    ----------
    blocks : int
        k; indices are less than k.
    rows, weight : int
        Codewords r, and their weight w.
    dtype : dtype
        Type of values.
    rounded : bool
        Whether values are sent as one byte each.

    Attributes
    ----------
    bytes : int
        Length in a message, a multiple of 8.
    """

    def __init__(self, blocks: int, rows: int, weight: int, dtype: np.dtype, rounded: bool) -> None:
        self.blocks, self.rows, self.weight = blocks, rows, weight
        self.dtype, self.rounded = np.dtype(dtype), rounded
        self._index = np.min_scalar_type(blocks - 1)
        count = rows * weight
        self._values = 4 * rows if rounded else 0  # offset of the values
        self._indices = self._values + count * (1 if rounded else self.dtype.itemsize)
        if not rounded or self._index.itemsize > 1:
            self._indices = -(-self._indices // 8) * 8
        self.bytes = -(-(self._indices + count * self._index.itemsize) // 8) * 8

    def empty(self) -> tuple[np.ndarray, np.ndarray]:
        """Allocate arrays for `read`: indices (int32) and values (`dtype`), shape (r, w)."""
        shape = self.rows, self.weight
        return np.zeros(shape, np.int32), np.zeros(shape, self.dtype)

    def views(self, section: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return views of a message: scales (r,), values (r, w) and indices (r, w), to be reused."""
        count, shape = self.rows * self.weight, (self.rows, self.weight)
        kind = np.dtype(np.int8) if self.rounded else self.dtype
        values = section[self._values : self._values + count * kind.itemsize].view(kind).reshape(shape)
        end = self._indices + count * self._index.itemsize
        indices = section[self._indices : end].view(self._index).reshape(shape)
        return section[: self._values].view(np.float32), values, indices

    def write(
        self, views: tuple[np.ndarray, np.ndarray, np.ndarray], indices: np.ndarray, values: np.ndarray
    ) -> None:
        """Write codewords to a message.

        Parameters
        ----------
        views
            Views of the message's section.
        indices, values : ndarray, shape (r, ≤ w)
            Shorter codewords are padded with index 0 and value 0.
        """
        scales, sent, places = views
        weight = indices.shape[1]
        if weight < self.weight:
            sent[:, weight:], places[:, weight:] = 0, 0
            sent, places = sent[:, :weight], places[:, :weight]
        places[...] = indices
        if not self.rounded:
            sent[...] = values
            return
        largest = np.abs(values).max(axis=1, keepdims=True)
        codes = np.rint(values * np.divide(127, largest, out=np.zeros_like(largest), where=largest > 0))
        norms = np.sqrt(np.square(codes).sum(axis=1))
        np.divide(1, norms, out=scales, where=norms > 0, casting="same_kind")
        scales[norms == 0] = 0
        sent[...] = codes

    def read(
        self,
        views: tuple[np.ndarray, np.ndarray, np.ndarray],
        pair: tuple[np.ndarray, np.ndarray],
    ) -> bool:
        """Read codewords from a message into arrays of `empty`.

        Returns
        -------
        bool
            Whether a worker's codewords are valid: finite, with indices less than k. Rank 0's always are.
        """
        scales, values, places = views
        pair[0][...] = places
        if not self.rounded:
            pair[1][...] = values
            return True
        np.multiply(values, scales[:, None], out=pair[1], casting="unsafe")
        return bool(places.max() < self.blocks) and bool(finite.all_finite(scales))
