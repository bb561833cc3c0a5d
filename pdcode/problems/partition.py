"""Units of θ: the parameters of a model, their blocks, and their places in θ and in a payload."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from ..transport.units import Blocks, per_layer
from ..util.errors import InputError, expected
from .matrix import Array

MAX_EMPTY_BLOCKS = 64  # number of blocks allowed for a layer of fewer parameters, for small examples
MIN_UNITS = 16  # outputs or inputs from which on a matrix of a model is cut into a block for each


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
    number: int, axis: str, count: int, outputs: int, columns: int, offset: int, bias: int = 1, name: str = ""
) -> Blocks:
    """Cut a matrix (outputs, columns) along an axis, or along the axis with the smaller payload."""
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
