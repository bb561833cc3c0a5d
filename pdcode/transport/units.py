"""Units: ranges of θ cut into blocks, and their places in a payload."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..util.errors import InputError

Array = npt.NDArray[Any]
Axis = Literal["output", "input"]

ALIGNMENT = 64  # bytes; each layer starts on a cache line in a payload


@dataclass(frozen=True)
class Unit:
    """A range of θ, cut into equal blocks that codewords combine.

    A unit may be a layer (`Blocks`), but need not: it may be single elements, chunks, or all of θ.

    Attributes
    ----------
    offset : int
        First element in θ.
    length : int
        Number of elements of θ.
    count : int
        Number of blocks k; 1 sends the unit uncoded. A short last block is padded with zeros.
    """

    offset: int
    length: int
    count: int

    @property
    def elements(self) -> int:
        """Number of elements of a block, ⌈length / k⌉."""
        return -(-self.length // self.count)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a block."""
        return (self.elements,)

    @property
    def uncoded(self) -> bool:
        """Whether the unit is sent uncoded."""
        return self.count == 1


@dataclass(frozen=True, init=False)
class Blocks(Unit):
    """The blocks of a matrix of a model's parameters, of a layer with its biases, or of all vectors together.

    The matrix is stored in θ as a C-ordered matrix of shape (rows, width). Block j is its rows j·size …
    (j+1)·size - 1: contiguous memory for either axis. The last blocks may be short or empty; they are padded
    with zeros. The gradient of a layer is SᵀO, and is cut along the columns of the small factor S.

    Attributes
    ----------
    layer : int
        Number of the layer or matrix, from the inputs.
    axis : "output" or "input"
        Units that are cut: output units (S = Δ, O = A), or input units with the bias last (S = A, O = Δ).
    rows, width : int
        p and m, the numbers of columns of S and of O.
    bias : int
        Number of columns of biases in (d_out, d_in + bias), 1 or 0. Vectors are biases without weights.
    name : str
        Name of the parameters.
    """

    layer: int
    axis: Axis
    rows: int
    width: int
    bias: int
    name: str

    def __init__(
        self,
        layer: int,
        axis: Axis,
        count: int,
        rows: int,
        width: int,
        offset: int,
        bias: int = 1,
        name: str = "",
    ) -> None:
        super().__init__(offset, rows * width, count)
        given = {"layer": layer, "axis": axis, "rows": rows, "width": width, "bias": bias}
        for key, value in (given | {"name": name or str(layer)}).items():
            object.__setattr__(self, key, value)

    @property
    def size(self) -> int:
        """Number of rows of a block, b = ⌈p / k⌉."""
        return -(-self.rows // self.count)

    @property
    def elements(self) -> int:
        """Number of elements of a block, b·m."""
        return self.size * self.width

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of a block, (b, m)."""
        return self.size, self.width

    @property
    def inputs(self) -> int:
        """Number of input units d_in, without the bias; 0 for vectors."""
        return (self.width if self.axis == "output" else self.rows) - self.bias

    @property
    def description(self) -> str:
        """The sides of the matrix, as text."""
        if not self.inputs:
            return "vectors"
        return f"{self.inputs} inputs{' and bias' * self.bias} → {self.outputs} outputs"

    @property
    def outputs(self) -> int:
        """Number of output units d_out."""
        return self.rows if self.axis == "output" else self.width

    def matrix(self, flat: Array) -> Array:
        """Return a view of a θ-sized array as this layer's (p, m) matrix."""
        return flat[self.offset : self.offset + self.length].reshape(self.rows, self.width)

    def weights(self, flat: Array) -> Array:
        """Return a view of a θ-sized array as weights (d_out, d_in + bias), biases last, for either axis."""
        matrix = self.matrix(flat)
        return matrix if self.axis == "output" else matrix.T

    def unbiased(self, flat: Array) -> Array:
        """Return a view of a θ-sized array as weights without biases, (d_out, d_in)."""
        return self.weights(flat)[:, : self.inputs]

    def biases(self, flat: Array) -> Array:
        """Return a view of the biases in a θ-sized array, (d_out,), or of all vectors; it may be empty."""
        return self.weights(flat)[:, self.inputs :].reshape(-1)

    def split(self, flat: Array) -> Array:
        """Copy this layer's part of a θ-sized array to blocks (k, b, m), padded with zeros."""
        blocks = np.zeros((self.count, *self.shape), flat.dtype)
        blocks.reshape(-1)[: self.length] = flat[self.offset : self.offset + self.length]
        return blocks


def rearrange(theta: Array, layers: Sequence[Blocks], others: Sequence[Blocks]) -> Array:
    """Return θ for other blocks of the same layers, whose weights may be stored along the other axis."""
    found = np.empty_like(theta)
    for layer, other in zip(layers, others, strict=True):
        other.weights(found)[:] = layer.weights(theta)
    return found


def payload_layout(
    layers: Sequence[Unit], rows: Sequence[int], dtype: npt.DTypeLike
) -> tuple[list[int], int]:
    """Compute the layout of a payload with `rows` rows of each layer or other unit.

    Returns the first element of each layer, and the number of elements of the payload; both are multiples of
    64 bytes.
    """
    line = ALIGNMENT // np.dtype(dtype).itemsize
    offsets: list[int] = []
    end = 0
    for layer, count in zip(layers, rows, strict=True):
        offsets.append(end)
        end += -(-count * layer.elements // line) * line
    return offsets, end


def per_layer(key: str, value: object, layers: int) -> list:
    """Return a list with one value per layer, from a single value or such a list."""
    if isinstance(value, (list, tuple, np.ndarray)):
        if len(value) != layers:
            raise InputError(f"{key}: {list(value)} has {len(value)} entries, but there are {layers} layers")
        return list(value)
    return [value] * layers


def cut(units: Sequence[Unit], parts: int) -> list[Unit]:
    """Cut units where `parts` equal ranges of their elements meet, coded ones at the nearest block."""
    total = sum(unit.length for unit in units)
    ends = [total * part // parts for part in range(1, parts)]
    pieces, start = list[Unit](), 0
    for unit in units:
        size = 1 if unit.uncoded else unit.elements
        blocks = -(-unit.length // size)
        inner = {round((end - start) / size) for end in ends}
        places = [0, *sorted(place for place in inner if 0 < place < blocks), blocks]
        for first, last in pairwise(places):
            length = min(last * size, unit.length) - first * size
            pieces.append(Unit(unit.offset + first * size, length, 1 if unit.uncoded else last - first))
        start += unit.length
    return pieces


def task_rows(layers: Sequence[Unit], rows: int | Sequence[int]) -> list[int]:
    """Return the number of codewords per task of each layer: r, or 1 for an uncoded layer."""
    counts = per_layer("code.rows_per_task", rows, len(layers))
    return [1 if layer.uncoded else int(count) for layer, count in zip(layers, counts, strict=True)]


def sparse_codewords(dense: Array, dtype: npt.DTypeLike) -> tuple[Array, Array]:
    """Return the sparse form of dense codewords (r, k): indices, int32, and values, both of shape (r, w).

    w is the largest weight. Codewords of smaller weight are padded with index 0 and value 0.
    """
    dense = np.atleast_2d(dense)
    zero = dense == 0
    weight = max(1, int((~zero).sum(axis=1).max(initial=0)))
    order = np.argsort(zero, axis=1, kind="stable")[:, :weight]
    values = np.take_along_axis(dense, order, axis=1)
    return np.where(values != 0, order, 0).astype(np.int32), np.ascontiguousarray(values, dtype)
