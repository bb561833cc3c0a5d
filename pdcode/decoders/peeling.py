"""The peeling decoder: exact, for codewords of low weight, at a cost independent of k."""

from __future__ import annotations

from math import sqrt
from typing import ClassVar

import numpy as np

from ..config import DecoderTable
from ..kernels import peeling as graph
from .base import Decoder
from .deferred import DeferredDecoder, Structure
from .linear import TILE


class PeelingDecoder(DeferredDecoder):
    """Peeling decoder: a codeword with one unknown block releases that block, in cascade.

    The decoder of LT codes (Luby, FOCS 2002) over the reals. Blocks that are not released are zero. It starts
    only when a codeword of weight 1 arrives, and needs more arrivals than least squares; in return its
    bookkeeping costs O(edges) in total. Payloads stay where they were received; each released block costs one
    combination of w blocks when the gradient is needed.
    """

    state_names = (*DeferredDecoder.state_names, "_executed", "_filled")
    _executed = 0  # number of releases that the accumulator accounts for

    def _prepare(self, capacity: int) -> Structure:
        self._graph = graph.Peeling(self.blocks, capacity)
        self._filled = np.zeros(self.blocks, bool)  # blocks of the accumulator that may be nonzero
        return self._graph

    def solve(self) -> None:
        result, released = self.accumulator.reshape(self.blocks, self.elements), self._graph.schedule[:, 1]
        if self._executed == 0:
            self._filled[released] = False
            result[self._filled] = 0  # remainder of the previous update
            self._filled.fill(False)
        self._graph.release(self._executed, self._received.addresses, result)
        self._filled[released] = True
        self._executed = len(released)

    @property
    def known(self) -> np.ndarray:
        """Released blocks, in the order of release."""
        return np.array(self._graph.schedule[:, 1])

    @property
    def captured(self) -> float:
        """Fraction of the blocks that are released."""
        return self._graph.released / self.blocks

    @property
    def residual(self) -> float:
        """Norm of y - Gĝ over the codewords whose blocks are all known; computed on request."""
        self.solve()
        rows = np.flatnonzero(self._graph.unknown == 0)
        words, total = self._graph.codewords()[rows], 0.0
        result = self.accumulator.reshape(self.blocks, self.elements)
        for start in range(0, self.elements if len(rows) else 0, TILE):
            part = result[:, start : start + TILE]
            tile = np.empty((len(rows), part.shape[1]), self.dtype)
            self._received.combine(np.eye(len(rows)), tile, start, rows)
            total += float(np.square(tile - words @ part).sum())
        return sqrt(total)

    def reset(self) -> None:
        super().reset()
        self._executed = 0


class PeelingTable(DecoderTable, tag="peeling"):
    """Exact decoding of low-weight codewords, block by block."""

    makes: ClassVar[type[Decoder]] = PeelingDecoder
