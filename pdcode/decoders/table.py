"""The table decoder: the mean of the last gradient of each part of the data."""

from typing import Any

import numpy as np

from .base import Decoder, positive_int


class TableDecoder(Decoder):
    """Table decoder: ĝ is the mean of the last payload of each row, over the rows that have been received.

    Codewords are unit vectors over rows, not over blocks: they name the part of the data of a payload.
    `reset` keeps the table of `rows` gradients. An arrival costs O(e); after as many arrivals as rows the sum
    is computed anew, so that rounding errors do not add up over a run.
    """

    options = (*Decoder.options, "rows")
    state_names = (*Decoder.state_names, "_table", "_received", "_changes")

    def __init__(self, *shape: Any, rows: int = 1, **common: Any) -> None:
        super().__init__(*shape, **common)
        self._table = np.zeros((positive_int("decoder.rows", rows), self.elements), self.dtype)
        self._received = np.zeros(len(self._table), bool)
        self._changes = 0  # of the sum since it was last computed anew

    def add_sparse(self, indices: np.ndarray, values: np.ndarray, payload: np.ndarray) -> None:
        for number, gradient in zip(indices[:, 0].tolist(), payload, strict=True):
            row = self._table[number]
            np.subtract(gradient, row, out=row)
            self.accumulator += row
            row[:] = gradient
            self._received[number] = True
        self.count += len(payload)
        self._changes += len(payload)
        if self._changes >= len(self._table):
            np.sum(self._table, axis=0, out=self.accumulator)
            self._changes = 0

    @property
    def scale(self) -> float:
        return 1 / max(1, int(self._received.sum()))

    @property
    def captured(self) -> float:
        """Fraction of the rows that have been received."""
        return float(self._received.mean())

    def reset(self) -> None:
        """Begin a new update and keep the table."""
        self.count = 0
