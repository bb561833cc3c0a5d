"""Wire formats of codewords: sparse, a pair (indices, values) of shape (r, w).

Rank 0 sends the values of its codes exactly, in the problem's dtype, and indices in the smallest integer
type. Worker-selected codewords take one byte per value: v = q·s with q from -127 to 127, and one float32
scale s = 1/‖q‖ per codeword. Workers encode with the rounded codewords, so the payload has no error from this
rounding. Their indices take as many bits as k needs. Of a worker-selected codeword of weight 1 only the index
of its block is sent, as the sign of a codeword does not matter.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

from ..kernels import codewords, finite, selection


class CodewordFormat(ABC):
    """Format of the codewords of one layer in a message, `bytes` long, a multiple of 8.

    There are r = `rows` codewords of weight w over k = `blocks` blocks, with values of type `dtype`.
    """

    bytes: int

    def __init__(self, blocks: int, rows: int, weight: int, dtype: np.dtype) -> None:
        self.blocks, self.rows, self.weight, self.dtype = blocks, rows, weight, np.dtype(dtype)

    def empty(self) -> tuple[np.ndarray, np.ndarray]:
        """Allocate arrays for `read`: indices (int32) and values (`dtype`), shape (r, w)."""
        shape = self.rows, self.weight
        return np.zeros(shape, np.int32), np.zeros(shape, self.dtype)

    @abstractmethod
    def views(self, section: np.ndarray) -> Any:
        """Return views of a message's section, for `write` and `read`."""

    @abstractmethod
    def write(self, views: Any, indices: np.ndarray, values: np.ndarray) -> None:
        """Write codewords, shape (r, ≤ w), to a message; shorter ones are padded with index 0 and value 0."""

    @abstractmethod
    def read(self, views: Any, pair: tuple[np.ndarray, np.ndarray]) -> bool:
        """Read codewords from a message into arrays of `empty`.

        Return whether a worker's codewords are valid: finite, with indices less than k. Rank 0's always are.
        """


class GivenFormat(CodewordFormat):
    """Format of rank 0's codewords: exact values, then indices."""

    def __init__(self, blocks: int, rows: int, weight: int, dtype: np.dtype) -> None:
        super().__init__(blocks, rows, weight, dtype)
        self._index = np.min_scalar_type(blocks - 1)
        count = rows * weight
        self._indices = -(-count * self.dtype.itemsize // 8) * 8  # offset
        self.bytes = -(-(self._indices + count * self._index.itemsize) // 8) * 8

    def views(self, section: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return views of values (r, w) and indices (r, w)."""
        count, shape = self.rows * self.weight, (self.rows, self.weight)
        values = section[: count * self.dtype.itemsize].view(self.dtype)
        indices = section[self._indices : self._indices + count * self._index.itemsize].view(self._index)
        return values.reshape(shape), indices.reshape(shape)

    def write(self, views: tuple[np.ndarray, np.ndarray], indices: np.ndarray, values: np.ndarray) -> None:
        sent, places = views
        if codewords.write_codewords(sent, places, indices, values):
            return
        weight = indices.shape[1]
        for view, array in zip(views, (values, indices), strict=True):
            view[:, :weight], view[:, weight:] = array, 0

    def read(self, views: tuple[np.ndarray, np.ndarray], pair: tuple[np.ndarray, np.ndarray]) -> bool:
        if not codewords.read_codewords(*views, *pair):
            pair[1][...], pair[0][...] = views
        return True


class RoundedFormat(CodewordFormat):
    """Format of worker-selected codewords: scales, values of one byte, and packed indices."""

    def __init__(self, blocks: int, rows: int, weight: int, dtype: np.dtype) -> None:
        super().__init__(blocks, rows, weight, dtype)
        self._bits = (blocks - 1).bit_length()
        self._packed = 4 * rows + rows * weight  # offset of the indices
        self._end = self._packed + selection.size(rows * weight, self._bits)
        self.bytes = -(-self._end // 8) * 8

    def views(self, section: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return views of scales (r,), values (r, w) and packed indices."""
        values = section[4 * self.rows : self._packed].view(np.int8).reshape(self.rows, self.weight)
        return section[: 4 * self.rows].view(np.float32), values, section[self._packed : self._end]

    def write(
        self, views: tuple[np.ndarray, np.ndarray, np.ndarray], indices: np.ndarray, values: np.ndarray
    ) -> None:
        scales, sent, packed = views
        weight = indices.shape[1]
        places = np.zeros((self.rows, self.weight), np.int32)
        places[:, :weight] = indices
        selection.pack(places.reshape(-1), self._bits, packed)
        largest = np.abs(values).max(axis=1, keepdims=True)
        codes = np.rint(values * np.divide(127, largest, out=np.zeros_like(largest), where=largest > 0))
        norms = np.sqrt(np.square(codes).sum(axis=1))
        np.divide(1, norms, out=scales, where=norms > 0, casting="same_kind")
        scales[norms == 0] = 0
        sent[:, :weight], sent[:, weight:] = codes, 0

    def read(
        self, views: tuple[np.ndarray, np.ndarray, np.ndarray], pair: tuple[np.ndarray, np.ndarray]
    ) -> bool:
        scales, values, packed = views
        selection.unpack(packed, self._bits, pair[0].reshape(-1))
        np.multiply(values, scales[:, None], out=pair[1], casting="unsafe")
        return bool(pair[0].max() < self.blocks) and bool(finite.all_finite(scales))


class Chunks(NamedTuple):
    """Chunks of `size` consecutive blocks of a unit; a worker selects `selected` blocks of each.

    The last chunk may have fewer blocks; if it has fewer than `selected`, all of them are selected. Row i ·
    selected + j belongs to chunk i.
    """

    size: int
    selected: int

    def rows(self, blocks: int) -> int:
        """Return the number of blocks selected among `blocks`."""
        full, last = divmod(blocks, self.size)
        return full * min(self.selected, self.size) + min(self.selected, last)

    def starts(self, blocks: int) -> np.ndarray:
        """Return the first block of each row's chunk, shape (rows,), int32."""
        return np.arange(self.rows(blocks), dtype=np.int32) // min(self.selected, self.size) * self.size


class SelectionFormat(CodewordFormat):
    """Format of worker-selected single blocks: packed indices relative to the start of their chunk."""

    def __init__(self, blocks: int, rows: int, dtype: np.dtype, chunks: Chunks) -> None:
        super().__init__(blocks, rows, 1, dtype)
        if rows != chunks.rows(blocks):
            raise ValueError(f"{rows} rows are not the {chunks.rows(blocks)} of {chunks} in {blocks} blocks")
        self._bits = (min(chunks.size, blocks) - 1).bit_length()
        self._starts = chunks.starts(blocks)
        self._last = np.minimum(self._starts + (chunks.size - 1), blocks - 1)
        self._end = selection.size(rows, self._bits)
        self.bytes = -(-self._end // 8) * 8

    def empty(self) -> tuple[np.ndarray, np.ndarray]:
        indices, values = super().empty()
        values.fill(1)
        return indices, values

    def views(self, section: np.ndarray) -> np.ndarray:
        """Return a view of the packed indices."""
        return section[: self._end]

    def write(self, views: np.ndarray, indices: np.ndarray, values: np.ndarray) -> None:
        selection.pack(indices.reshape(-1) - self._starts, self._bits, views)

    def read(self, views: np.ndarray, pair: tuple[np.ndarray, np.ndarray]) -> bool:
        places = pair[0].reshape(-1)
        selection.unpack(views, self._bits, places)
        places += self._starts
        return bool((places <= self._last).all())
