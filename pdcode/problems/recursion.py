"""Errors of the blocks that a task's codewords combine, propagated through these blocks alone."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from ..kernels import activation, encode
from ..transport.units import Blocks
from .forward import Forward
from .matrix import Array


class Part(NamedTuple):
    """Blocks of a layer's output units that a task needs."""

    numbers: Array  # int32 (blocks, 1), ascending
    units: Array  # int64, their units
    size: int  # units of a block
    scale: float  # number of blocks over those in the part

    @classmethod
    def of(cls, blocks: Blocks, codeword: tuple[Array, Array] | None) -> Self | None:
        """Return the blocks of a layer that its codewords combine; None: all units are needed."""
        if blocks.uncoded or blocks.axis == "input" or codeword is None:
            return None
        support, values = codeword
        used = np.zeros(blocks.count, bool)
        used[support[values != 0]] = True
        numbers = used.nonzero()[0]
        if len(numbers) == blocks.count:
            return None
        units = used.repeat(blocks.size)[: blocks.rows].nonzero()[0]
        scale = blocks.count / max(1, len(numbers))
        return cls(numbers.astype(np.int32).reshape(-1, 1), units, blocks.size, scale)

    def columns(self, matrix: Array, scale: float = 1.0) -> Array:
        """Return the units' columns of a matrix, times `scale`."""
        out = np.empty((len(matrix), len(self.numbers) * self.size), matrix.dtype)
        encode.encode(matrix, self.numbers, np.ones(self.numbers.shape, matrix.dtype), self.size, out, scale)
        return out[:, : len(self.units)]


class BlockErrors:
    """Errors of hidden layers, computed for the blocks of a task's codewords and through these only.

    A layer that is cut along its outputs passes on the errors of the c of its k blocks that the task's
    codewords combine, times k/c, in place of all: errors go through these blocks of every layer above. Other
    layers compute and pass on all errors. Errors of units in no such block are not written.

    Parameters
    ----------
    forward : Forward
        The forward pass of the batch.
    layers : sequence of Blocks
    deltas : sequence of ndarray, shape (B, d_out)
        Errors of each layer; those of the last one are given, and stay.
    """

    def __init__(self, forward: Forward, layers: Sequence[Blocks], deltas: Sequence[Array]) -> None:
        self._forward, self._layers, self._deltas = forward, layers, deltas

    def run(self, codewords: Sequence[tuple[Array, Array] | None]) -> None:
        """Write the errors that these codewords need, in a layer's order (r, w), at the θ of `forward`."""
        parts = [Part.of(blocks, word) for blocks, word in zip(self._layers, codewords, strict=True)]
        errors = self._deltas[-1]
        if parts[-1] is not None:
            errors = parts[-1].columns(errors, parts[-1].scale)
        for number in range(len(parts) - 1, 0, -1):
            errors = self._below(number, errors, parts[number], parts[number - 1])

    def _below(self, number: int, errors: Array, above: Part | None, below: Part | None) -> Array:
        """Write the errors of a part of the layer below; return these, scaled as they are passed on."""
        forward, delta = self._forward, self._deltas[number - 1]
        weights = forward.weights[number].backward
        scores, hidden = forward.scores[number - 1], forward.hidden[number - 1]
        if above is not None:
            weights = weights[above.units]
        if below is None:
            np.matmul(errors, weights, out=delta)
            activation.backward(forward.kind, scores, hidden, delta)
            return delta
        if self._layers[number].axis == "output":
            weights = below.columns(weights)
        else:  # in memory a unit's weights are a row
            weights = weights.T[below.units].T
        found = np.matmul(errors, weights)
        activation.backward(forward.kind, below.columns(scores), below.columns(hidden), found)
        delta[:, below.units] = found
        found *= found.dtype.type(below.scale)
        return found
