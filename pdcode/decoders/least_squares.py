"""The least-squares decoder: the minimum-norm solution over all that has arrived."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from ..errors import InputError
from ..kernels import decode, factor, specialise
from .base import Decoder

PANEL_BYTES = 1 << 18  # of payloads gathered at a time: stays in the second-level cache


class LeastSquares(Decoder):
    """ĝ = G⁺ y, exact for every prefix of the arrivals, of any rank.

    The algebra runs on the codewords, O(k·q) for each, in float64. Payloads stay where they were received and
    are read once, by one GEMM in panels, when the gradient is asked for.

    Parameters
    ----------
    blocks, block_shape, dtype, length
        As for `Decoder`.
    copy : bool
        Whether `add_sparse` copies payloads. If not, a payload must stay unchanged until `reset`; `add`
        copies in any case.
    capacity : int, optional
        Codewords between two resets for which room is made at once (default 2k); it grows when needed.
    """

    options = (*Decoder.options, "copy", "capacity")

    def __init__(
        self,
        blocks: int,
        block_shape: tuple[int, ...],
        dtype: Any = "float32",
        length: int | None = None,
        copy: bool = False,
        capacity: int | None = None,
    ) -> None:
        super().__init__(blocks, block_shape, dtype, length)
        if capacity is not None and capacity < 1:
            raise InputError(f"decoder.capacity = {capacity}: not a positive number")
        self.copy = copy
        self._gather = specialise(decode.gather, self.dtype)
        self._payloads: list[np.ndarray] = []  # kept alive, and found by address
        self._words = np.empty((0, self.blocks))
        self._addresses = np.empty(0, np.uint64)
        self._panel = np.empty(PANEL_BYTES // self.dtype.itemsize, self.dtype)
        self._solved = 0  # codewords that the accumulator accounts for
        self._make_room(capacity or 2 * self.blocks)

    def _make_room(self, capacity: int) -> None:
        count = self.count
        words, addresses = np.zeros((capacity, self.blocks)), np.zeros(capacity, np.uint64)
        words[:count], addresses[:count] = self._words[:count], self._addresses[:count]
        self._words, self._addresses = words, addresses
        self._inverse = np.empty((self.blocks, capacity), self.dtype)
        self._factors = factor.Factorisation(self.blocks, capacity)
        for word in words[:count]:
            self._factors.add(word)
        if self._panel.size < capacity * 16:
            self._panel = np.empty(capacity * 16, self.dtype)

    def add_sparse(self, indices: np.ndarray, values: np.ndarray, payload: np.ndarray) -> None:
        rows = len(indices)
        if payload.shape != (rows, self.elements) or payload.dtype != self.dtype:  # read by address later on
            shape = (rows, self.elements)
            raise InputError(f"payload: {payload.dtype} {payload.shape} is not {self.dtype} {shape}")
        if self.copy or not payload.flags.c_contiguous:
            payload = payload.copy()
        if self.count + rows > len(self._words):
            self._make_room(max(2 * len(self._words), self.count + rows))
        self._payloads.append(payload)
        address, stride = payload.ctypes.data, payload.strides[0]
        for row in range(rows):
            word = self._words[self.count]
            word.fill(0)
            np.add.at(word, indices[row], values[row])  # adds: padding repeats index 0
            self._addresses[self.count] = address + row * stride
            self._factors.add(word)
            self.count += 1

    def solve(self) -> None:
        count = self.count
        if self._solved == count:
            return
        if count == 0:
            self.accumulator.fill(0)
        else:
            inverse = self._inverse[:, :count]
            inverse[...] = self._factors.pseudoinverse()
            result = self.accumulator.reshape(self.blocks, self.elements)
            for part, panel in self._panels():
                np.matmul(inverse, panel, out=result[:, part])
        self._solved = count

    def _panels(self) -> Any:
        """Yield (slice of a block's elements, payloads there as a (q, T) matrix)."""
        count = self.count
        addresses = self._addresses[:count]
        tile = min(self.elements, self._panel.size // count // 16 * 16)
        for start in range(0, self.elements, tile):
            width = min(tile, self.elements - start)
            panel = self._panel[: count * width].reshape(count, width)
            self._gather(addresses, start, panel)
            yield slice(start, start + width), panel

    @property
    def captured(self) -> float:
        """rank/k."""
        return self._factors.rank / self.blocks

    @property
    def decodable(self) -> bool:
        """Whether the codewords have rank k, so that the gradient is exact."""
        return self._factors.rank == self.blocks

    def residuals(self) -> np.ndarray:
        """Norms of y_i - g_iᵀ ĝ of each codeword that has arrived, float64, shape (q,): a check on faults.

        Zero but for rounding until the arrivals are redundant; then far from zero only if payloads contradict
        each other.
        """
        self.solve()
        squares = np.zeros(self.count)
        result = self.accumulator.reshape(self.blocks, self.elements)
        for part, panel in self._panels() if self.count else ():
            squares += np.square(panel - self._words[: self.count] @ result[:, part]).sum(axis=1)
        return np.sqrt(squares)

    @property
    def residual(self) -> float:
        """Norm of y - Gĝ over all arrivals; computed on request, by one GEMM."""
        return sqrt(float(np.square(self.residuals()).sum()))

    def reset(self) -> None:
        """Begin a new update; references to payloads are given up."""
        self._payloads.clear()
        self._factors.reset()
        self.count = 0
        self._solved = -1
