"""DeMo: each worker has its own momentum, and sends its largest coefficients in a cosine transform.

Peng, Quesnelle and Kingma, "DeMo: decoupled momentum optimization", arXiv 2411.19870, 2024 (ICLR 2026 with
three more authors). A worker's momentum m ← β m + gradient is cut into chunks and transformed by an
orthonormal DCT-II; the k largest coefficients of each chunk are sent and subtracted from m. Rank 0 transforms
their mean back, and steps along its signs. As in the authors' code, chunks of weights are two-dimensional
with the largest divisors of the layer's sides up to 64, chunks of biases one-dimensional, and a coefficient
is averaged over the workers that sent it. The paper's factor of the gradient, the learning rate, is left out:
it changes no sign as long as it is constant.

A chunk's coefficients are one worker-selected codeword. Each is sent in one byte, relative to the largest;
the rounding error stays in the momentum. This rounding is the project's own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..codes import Code
from ..coding import flops
from ..coding.ahead import LookAhead
from ..coding.memory import CodewordSelector
from ..coding.optimizers import Optimizer, SignDescent
from ..coding.source import Source
from ..config import Candidates, Positive, Table, Tables
from ..config.requirements import Needs, lacking, one_of
from ..decoders import Decoder
from ..kernels import decode
from ..problems import Problem
from ..schemes.base import EXCHANGE, FIRST, UNCODED, WHITEN, WHITENING, CodewordRule, Entrants, Scheme, Work
from ..schemes.common.assignments import Assignment, WorkerSelected
from ..transport.layout import Layout, Pair
from ..transport.messages import Reply, Task
from ..transport.units import Blocks, Unit
from ..util.stateful import Stateful


@dataclass(frozen=True)
class ChunkedUnit(Unit):
    """Coefficients of a layer's weights or biases, chunk after chunk, `size` coefficients each."""

    size: int


def largest_divisor(length: int, max_side: int) -> int:
    """Return the largest divisor of a length that is at most `most`."""
    return next(size for size in range(min(length, max_side), 0, -1) if length % size == 0)


def dct(size: int) -> np.ndarray:
    """Return the matrix of the orthonormal DCT-II, shape (size, size), float64."""
    number = np.arange(size)
    matrix = np.sqrt(2 / size) * np.cos(np.pi / size * (number + 0.5) * number[:, None])
    matrix[0] /= np.sqrt(2)
    return matrix


class Transform:
    """Orthonormal map of θ-sized vectors to coefficients: each layer's weights, then its biases."""

    def __init__(self, layers: Sequence[Blocks], max_side: int, dtype: np.dtype) -> None:
        self.units: list[ChunkedUnit] = []
        self.flops = 0.0  # operations of one transform
        self._pieces: list[tuple[Blocks, slice, np.ndarray, np.ndarray]] = []
        for layer in layers:
            at = layer.offset
            parts = ((slice(0, layer.inputs), layer.inputs), (slice(layer.inputs, None), layer.bias))
            for columns, width in parts:
                if not width:
                    continue
                length, sides = layer.outputs * width, (layer.outputs, width)
                down, across = (dct(largest_divisor(each, max_side)).astype(dtype) for each in sides)
                self._pieces.append((layer, columns, down, across))
                self.units.append(ChunkedUnit(at, length, length, len(down) * len(across)))
                self.flops += 2.0 * length * (len(down) + len(across))
                at += length

    def _views(self, flat: np.ndarray, coefficients: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield views of the chunks of both, shape (rows, columns, height, width), and their DCT matrices."""
        for unit, (layer, columns, down, across) in zip(self.units, self._pieces, strict=True):
            matrix = layer.weights(flat)[:, columns]
            high, wide = matrix.shape[0] // len(down), matrix.shape[1] // len(across)
            chunks = matrix.reshape(high, len(down), wide, len(across)).transpose(0, 2, 1, 3)
            part = coefficients[unit.offset : unit.offset + unit.length]
            yield chunks, part.reshape(chunks.shape), down, across

    def forward(self, flat: np.ndarray, coefficients: np.ndarray) -> None:
        """Write the coefficients of a vector of θ's size."""
        for chunks, part, down, across in self._views(flat, coefficients):
            np.matmul(down @ chunks, across.T, out=part)

    def inverse(self, coefficients: np.ndarray, flat: np.ndarray) -> np.ndarray:
        """Write and return the vector of θ's size that has these coefficients."""
        for chunks, part, down, across in self._views(flat, coefficients):
            chunks[:] = down.T @ part @ across
        return flat


class CoefficientSource(Source):
    """Source of the coefficients of another source's vector."""

    state_names = ("_source",)

    def __init__(self, source: Source, transform: Transform) -> None:
        self._source, self._transform = source, transform
        self.gradient = np.empty_like(source.gradient)

    def __call__(self, theta: np.ndarray, task: Task) -> float:
        loss = self._source(theta, task)
        self._transform.forward(self._source.gradient, self.gradient)
        return loss


class LargestOfChunks(Stateful):
    """Selector of the `count` coefficients of largest absolute value in each chunk of `size`."""

    def __init__(self, size: int, count: int) -> None:
        self._size, self._count = size, count

    def select(self, residual: np.ndarray) -> Pair:
        chunks = residual.reshape(-1, self._size)
        places = np.argpartition(np.abs(chunks), self._size - self._count, axis=1)[:, -self._count :]
        values = np.take_along_axis(chunks, places, axis=1)
        largest = np.abs(values).max(axis=1, keepdims=True)  # its square may overflow
        values /= np.where(largest > 0, largest, 1)
        values /= np.where(largest > 0, np.linalg.norm(values, axis=1, keepdims=True), 1)
        places += self._size * np.arange(len(chunks))[:, None]
        return places.astype(np.int32), values


class SenderMean(Decoder):
    """Mean of each element over the payloads that have it; 0 for elements without any.

    The accumulator has the sums, then the numbers of payloads.
    """

    clears = True

    def __init__(self, *shape: Any, **common: Any) -> None:
        super().__init__(*shape, **common)
        self.accumulator = np.zeros(2 * self.length, self.dtype)
        self._sums, self._counts = np.split(self.accumulator, 2)

    def add_sparse(self, indices: np.ndarray, values: np.ndarray, payload: np.ndarray) -> None:
        decode.adjoint_decode(self._sums, indices, values, payload, 1.0)
        self._counts[indices[values != 0]] += 1
        self.count += len(payload)

    def gradient(self, out: np.ndarray | None = None) -> np.ndarray:
        result = self._result(out)
        np.divide(self._sums, np.maximum(self._counts, 1), out=result.reshape(-1))
        return result

    def reset(self) -> None:
        self.accumulator.fill(0)
        self.count = 0


class CoefficientSigns(SignDescent):
    """Optimizer that steps along the signs of the vector whose coefficients the decoders have."""

    def __init__(self, transform: Transform, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._transform, self._coefficients = transform, np.empty(self.size, self.dtype)

    def step(
        self,
        theta: np.ndarray,
        units: Sequence[Unit],
        decoders: Sequence[Decoder],
        damping: float = 1.0,
        fraction: float = 1.0,
    ) -> float:
        for unit, decoder in zip(units, decoders, strict=True):
            part = self._coefficients[unit.offset : unit.offset + unit.length]
            decoder.gradient(part.reshape(decoder.blocks, *decoder.block_shape))
        self._transform.inverse(self._coefficients, self.whole_gradient)
        return super().step(theta, *self._whole, damping, fraction)


class DeMo(Scheme):
    """The largest DCT coefficients of each worker's momentum; rank 0 steps along the signs of their mean."""

    name = "demo"
    summary = "the largest cosine coefficients of each worker's momentum; steps along signs"
    entrants: ClassVar[Entrants] = {
        "DeMo": f"{FIRST}{EXCHANGE}",
        "whitened DeMo": f"{FIRST}{EXCHANGE}{WHITEN}",
    }
    unused = ("code", "decoder", *WHITENING)
    requires: ClassVar[Needs] = {
        "memory.kind": one_of("worker", why="has its momentum at the worker"),
        "optimizer.kind": one_of("sign", why="steps along signs"),
        "update.mode": lacking(
            "by_fraction", "a mode that counts, such as 'first'", "has workers choose coefficients"
        ),
    }
    tables: ClassVar[Tables] = {
        **UNCODED,
        "memory": {"kind": "worker", "keep": 0.999},
        "update": {"mode": "all"},
        "optimizer": {"kind": "sign", "rate": 0.001},
    }

    class Options(Table):
        """Keys of ``[scheme] options``."""

        chunk: Positive = 64  #: longest side of a chunk
        largest: Positive = 32  #: coefficients of each chunk that a task sends, k; all of a smaller chunk

        candidates: ClassVar[Candidates] = {"largest": (8, 32, 128)}

    def transform(self, problem: Problem) -> Transform:
        """Build the transform of θ-sized vectors."""
        return Transform(problem.layers, self.options.chunk, problem.dtype)

    def units(self, problem: Problem) -> Sequence[Unit]:
        return self.transform(problem).units

    def codewords(self, units: Sequence[Unit]) -> CodewordRule:
        chunks = [unit for unit in units if isinstance(unit, ChunkedUnit)]
        pairs = list(zip(chunks, self.selected_counts(units), strict=True))

        def select(worker: int) -> list[CodewordSelector | None]:
            return [None if unit.uncoded else LargestOfChunks(unit.size, count) for unit, count in pairs]

        return CodewordRule([unit.count // unit.size for unit in chunks], select)

    def selected_counts(self, units: Sequence[Unit]) -> list[int]:
        """Return the number of coefficients of a chunk that a task sends, for each unit."""
        return [min(self.options.largest, unit.size) for unit in units if isinstance(unit, ChunkedUnit)]

    def assignment(self, units: Sequence[Unit]) -> Assignment:
        rows, dtype = self.codewords(units).rows, np.dtype(self.config.problem.dtype)
        return WorkerSelected(units, rows, dtype, self.selected_counts(units))

    def decoders(self, units: Sequence[Unit], designs: Mapping[int, Code] | None) -> list[Decoder]:
        dtype = self.config.problem.dtype
        return [SenderMean(unit.count, unit.shape, dtype, length=unit.length) for unit in units]

    def optimizer(self, problem: Problem, span: float = 1.0) -> Optimizer:
        table, size, dtype = self.config.optimizer, problem.size, problem.dtype
        return CoefficientSigns(self.transform(problem), table, size, dtype, problem.layers, span)

    def source(self, problem: Problem, worker: int, rows: int, reply: Reply | None = None) -> Source:
        return CoefficientSource(super().source(problem, worker, rows), self.transform(problem))

    def look_ahead(self, problem: Problem) -> LookAhead | None:
        ahead = super().look_ahead(problem)
        if ahead is not None:
            transform, flat = self.transform(problem), np.empty(problem.size, problem.dtype)
            ahead.vector = lambda coefficients: transform.inverse(coefficients, flat)
        return ahead

    def work(self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int) -> Work:
        # Selection takes about five operations per element. A replica also transforms back, and so does the
        # look-ahead.
        transforms = 1 + self.config.downlink.relays + bool(self.config.memory.lookahead)
        return (
            super()
            .work(problem, layouts, number, shard)
            .plus(transforms * self.transform(problem).flops)
            .plus(flops.touched(problem, 5.0))
        )
