"""The peeling decoder: exact, for codewords of low weight, at a cost independent of k."""

from math import sqrt
from typing import ClassVar

import numpy as np

from ..config import DecoderTable
from .base import Decoder
from .deferred import DeferredDecoder, Structure


class Graph:
    """Codewords received, and the blocks that they release: O(edges) in all, for any order of arrival.

    Attributes
    ----------
    words : list of dict
        Nonzero weights of each codeword by block.
    unknown : list of set
        Blocks of each codeword that are not released.
    released : dict
        Codeword that releases each block, in order of release.
    """

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self.reset()

    def reset(self) -> None:
        self.words: list[dict[int, float]] = []
        self.unknown: list[set[int]] = []
        self.released: dict[int, int] = {}
        self._holders: list[list[int]] = [[] for _ in range(self.blocks)]  # codewords of an unknown block

    def add_sparse(self, indices: np.ndarray, values: np.ndarray) -> None:
        """Add codewords (r, w); weights of a repeated block add up, and 0 pads."""
        for block in indices[(values != 0) & ((indices < 0) | (indices >= self.blocks))]:
            raise ValueError(f"codeword has a weight for block {block}: blocks are 0 to {self.blocks - 1}")
        for pair in zip(indices.tolist(), values.tolist(), strict=True):
            word: dict[int, float] = {}
            for block, weight in zip(*pair, strict=True):
                if weight:
                    word[block] = word.get(block, 0.0) + weight
            number, word = len(self.words), {block: weight for block, weight in word.items() if weight}
            self.words.append(word)
            self.unknown.append(word.keys() - self.released.keys())
            for block in self.unknown[number]:
                self._holders[block].append(number)
            self._release(number)

    def _release(self, number: int) -> None:
        """Release the only unknown block of a codeword, if it has only one, and what follows from that."""
        ready = [number]
        while ready:
            number = ready.pop()
            if len(self.unknown[number]) == 1:  # 0: another codeword has released its last block
                (block,) = self.unknown[number]
                self.released[block] = number
                for other in reversed(self._holders[block]):
                    self.unknown[other].remove(block)
                    if len(self.unknown[other]) == 1:
                        ready.append(other)


class PeelingDecoder(DeferredDecoder):
    """Peeling decoder: a codeword with one unknown block releases that block, in cascade.

    The decoder of LT codes (Luby, FOCS 2002) over the reals. Blocks that are not released are zero. It starts
    only when a codeword of weight 1 arrives, and needs more arrivals than least squares; in return its
    bookkeeping costs O(edges) in total. Payloads stay where they were received; each released block costs one
    combination of w blocks when the gradient is needed.
    """

    state_names = (*DeferredDecoder.state_names, "_executed")
    _executed = 0  # number of releases that the accumulator accounts for

    def _prepare(self, capacity: int) -> Structure:
        self._graph = Graph(self.blocks)
        return self._graph

    def solve(self) -> None:
        result, real = self.accumulator.reshape(self.blocks, self.elements), self.dtype.type
        if self._executed == 0:
            result.fill(0)  # remainder of the previous update
        released, rows = [*self._graph.released.items()], self._received.rows()
        with np.errstate(over="ignore", invalid="ignore"):  # a fault's payload may be of any size
            for block, number in released[self._executed :]:
                word = self._graph.words[number]
                np.multiply(rows[number], real(1 / word[block]), out=result[block])
                for other, weight in word.items():
                    if other != block:
                        result[block] -= real(weight / word[block]) * result[other]
        self._executed = len(released)

    @property
    def known(self) -> np.ndarray:
        """Released blocks, in the order of release."""
        return np.array([*self._graph.released], np.int32)

    @property
    def captured(self) -> float:
        """Fraction of the blocks that are released."""
        return len(self._graph.released) / self.blocks

    @property
    def residual(self) -> float:
        """Norm of y - Gĝ over the codewords whose blocks are all known; computed on request."""
        self.solve()
        result, total = self.accumulator.reshape(self.blocks, self.elements), 0.0
        for number, row in enumerate(self._received.rows()):
            if not self._graph.unknown[number]:
                misfit = row.astype(float)
                for block, weight in self._graph.words[number].items():
                    misfit -= weight * result[block].astype(float)
                total += float(misfit @ misfit)
        return sqrt(total)

    def reset(self) -> None:
        super().reset()
        self._executed = 0


class PeelingTable(DecoderTable, tag="peeling"):
    """Exact decoding of low-weight codewords, block by block."""

    makes: ClassVar[type[Decoder]] = PeelingDecoder
