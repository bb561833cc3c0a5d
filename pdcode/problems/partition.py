"""Units of θ: the parameters of a model, their blocks, and their places in θ and in a payload."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ..util.errors import InputError, expected
from .matrix import Array

Axis = Literal["output", "input"]

MAX_EMPTY_BLOCKS = 64  # number of blocks allowed for a layer of fewer parameters, for small examples
MIN_UNITS = 16  # outputs or inputs from which on a matrix of a model is cut into a block for each
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


def partition(
    shapes: Sequence[tuple[int, int]],
    axis: str | Sequence[str] = "auto",
    blocks: int | str | Sequence[int] = 1,
) -> list[Blocks]:
    """Cut every layer of a network into blocks.

    Parameters
    ----------
    shapes : sequence of (d_out, d_in)
        Shape of each layer, without the bias.
    axis : "auto", "output", "input" or list of these
        Axis of all layers, or of each; auto takes the axis with the smaller payload, "output" if equal.
    blocks : int, list of int, or "units"
        Number of blocks k of all layers, or of each. "units": one block per hidden unit, with its weights and
        bias, and the output layer uncoded; without hidden layers, one block per input.

    Raises
    ------
    InputError
        If a list does not have one entry per layer, or k < 1.
    """
    axes = per_layer("problem.axis", axis, len(shapes))
    if blocks == "units":
        blocks = [outputs for outputs, _ in shapes[:-1]] + [1] if len(shapes) > 1 else [shapes[0][1] + 1]
        units = "output" if len(shapes) > 1 else "input"
        axes = [units if wanted == "auto" else wanted for wanted in axes]
    counts = per_layer("code.blocks", blocks, len(shapes))
    layers: list[Blocks] = []
    offset = 0
    for number, ((outputs, inputs), wanted, count) in enumerate(zip(shapes, axes, counts, strict=True)):
        _check_count(count, outputs * (inputs + 1), f"layer {number}")
        layers.append(_blocks(number, wanted, count, outputs, inputs + 1, offset))
        offset += layers[-1].length
    return layers


def _blocks(
    number: int,
    axis: str,
    count: int,
    outputs: int,
    columns: int,
    offset: int,
    bias: int = 1,
    name: str = "",
) -> Blocks:
    """Cut a matrix (outputs, columns) along an axis, or that with the smaller payload."""
    if axis not in ("auto", "output", "input"):
        raise InputError(f"problem.axis: {expected(axis, ('auto', 'output', 'input'))}")
    by_output = Blocks(number, "output", int(count), outputs, columns, offset, bias, name)
    by_input = Blocks(number, "input", int(count), columns, outputs, offset, bias, name)
    if axis == "auto":
        return min(by_output, by_input, key=lambda each: each.elements)
    return by_input if axis == "input" else by_output


def _check_count(count: object, size: int, what: str) -> None:
    """Refuse a number of blocks that is none, or more than a matrix has parameters."""
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
        raise InputError(f"code.blocks: {count!r} is not a positive whole number")
    if count > max(MAX_EMPTY_BLOCKS, size):
        raise InputError(f"code.blocks: {count} is more than the {size} parameters of {what}")


class Parameter(NamedTuple):
    """Place of a parameter in θ: rows and columns of a unit's weights."""

    shape: tuple[int, ...]
    unit: Blocks
    rows: slice
    columns: slice

    def view(self, flat: Array) -> Array:
        """Return a view of a θ-sized array, of the parameter's shape."""
        return self.unit.weights(flat)[self.rows, self.columns].reshape(self.shape)


def arrange(
    shapes: Mapping[str, tuple[int, ...]],
    blocks: int | str | Sequence[int] = 1,
    axis: str | Sequence[str] = "output",
) -> tuple[list[Blocks], dict[str, Parameter]]:
    """Arrange named parameters in θ: matrices with their biases, then all other vectors together.

    A parameter of two or more axes is a matrix of its first axis, the outputs, and the rest, the inputs. A
    vector named "w.bias" is the last column of the matrix "w", or "w.weight", if it has an element for each
    output. The other vectors are one unit: uncoded beside matrices; without matrices it is a matrix of one
    column.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Shapes of the parameters by name.
    blocks : int, list of int, or "units"
        Number of blocks k of all matrices, or of each unit. "units": a block for each output, or input, of
        matrices with `MIN_UNITS` of them, or the most; others, such as output layers of few classes, are
        uncoded.
    axis : "auto", "output", "input" or list of these
        Axis of all matrices, or of each unit; auto as for `partition`, with "units" the outputs.

    Returns
    -------
    units : list of Blocks
    places : dict of str to Parameter
        In the order of `shapes`.

    Raises
    ------
    InputError
        If there are no parameters, a list does not have one entry per unit, k < 1, or vectors have the axis
        "input".
    """
    stems = {name.removesuffix("weight").removesuffix(".") + ".bias": name for name in shapes}
    stems |= {f"{name}.bias": name for name in shapes}
    biases = {
        stems[name]: name
        for name, shape in shapes.items()
        if name in stems and len(shapes[stems[name]]) > 1 and shape == shapes[stems[name]][:1]
    }
    matrices = [name for name, shape in shapes.items() if len(shape) > 1]
    vectors = [name for name in shapes if name not in (*matrices, *biases.values())]
    sides = [(shapes[name][0], prod(shapes[name][1:]) + (name in biases)) for name in matrices]
    names, has_bias = [*matrices], [int(name in biases) for name in matrices]
    if length := sum(prod(shapes[name]) for name in vectors):
        sides.append((length, 1))
        names.append(vectors[0] if len(vectors) == 1 else "vectors")
        has_bias.append(1 if matrices else 0)
    if not sides or not all(map(prod, sides)):
        raise InputError("problem.start: there are no parameters, or a matrix without elements")
    axes = per_layer("problem.axis", axis, len(sides))
    if length:
        if axes[-1] == "input" and (not matrices or not isinstance(axis, str)):
            raise InputError(f"problem.axis: 'input', but {names[-1]!r} has no inputs")
        axes[-1] = "output"
    if blocks == "units":
        axes = ["output" if wanted == "auto" else wanted for wanted in axes]
        cuts = [
            1 if matrices and 1 in pair else pair[wanted == "input"]
            for pair, wanted in zip(sides, axes, strict=True)
        ]
        counts = [number if number >= min(MIN_UNITS, max(cuts)) else 1 for number in cuts]
    else:
        counts = per_layer("code.blocks", blocks, len(sides))
        if length and matrices and isinstance(blocks, int):
            counts[-1] = 1
    units, offset = list[Blocks](), 0
    for number, (name, pair, bias) in enumerate(zip(names, sides, has_bias, strict=True)):
        _check_count(counts[number], prod(pair), repr(name))
        units.append(_blocks(number, axes[number], counts[number], *pair, offset, bias, name))
        offset += prod(pair)
    places, whole, start = dict[str, Parameter](), slice(None), 0
    for name, unit in zip(matrices, units, strict=False):
        places[name] = Parameter(shapes[name], unit, whole, slice(unit.inputs))
        if name in biases:
            places[biases[name]] = Parameter((unit.outputs,), unit, whole, slice(unit.inputs, None))
    for name in vectors:
        end = start + prod(shapes[name])
        places[name], start = Parameter(shapes[name], units[-1], slice(start, end), whole), end
    return units, {name: places[name] for name in shapes}


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


def per_layer(key: str, value: object, layers: int) -> list:
    """Return a list with one value per layer, from a single value or such a list."""
    if isinstance(value, (list, tuple, np.ndarray)):
        if len(value) != layers:
            raise InputError(f"{key}: {list(value)} has {len(value)} entries, but there are {layers} layers")
        return list(value)
    return [value] * layers
