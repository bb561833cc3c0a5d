"""Networks: the layers of a model, its loss, and its weights as views of θ."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..config import ProblemTable
from ..kernels import blas
from ..util.errors import InputError
from ..util.memory import ensure_fits
from .losses import Loss
from .matrix import Array
from .partition import Blocks, partition


class LayerViews(NamedTuple):
    """Views of one layer's weights in θ, shaped for its products."""

    penalised: Array  # (1, p·m), for the encoder; without the row of biases if they are the last of p rows
    forward: Array  # (d_in + 1, d_out): scores = inputs @ forward
    backward: Array  # (d_out, d_in), without the bias: errors of the layer below = errors @ backward
    bias: Array  # (d_out,)


@dataclass(frozen=True, eq=False)
class Network:
    """A multilayer perceptron; without hidden layers it is a linear model."""

    layers: tuple[Blocks, ...]  # shape and blocks of each layer
    loss: Loss  # of the outputs, a mean over the samples
    activation: str  # of the hidden layers: "relu", "tanh" or "gelu"
    l2: float  # weight of the penalty ½·l2·‖W‖² on the weights W
    penalise_bias: bool  # whether the penalty includes biases: ½·l2·‖θ‖²
    dtype: np.dtype  # of θ and of all arrays, float32 or float64

    @property
    def size(self) -> int:
        """Length of θ."""
        return self.layers[-1].offset + self.layers[-1].length

    def views(self, theta: Array) -> list[LayerViews]:
        """Return views of the layers' weights in θ, a contiguous array of the network's dtype and size."""
        if theta.dtype != self.dtype or theta.shape != (self.size,) or not theta.flags.c_contiguous:
            raise ValueError(
                f"θ must be a contiguous {self.dtype} array of {self.size} elements,"
                f" not {theta.dtype} of shape {theta.shape}"
            )
        views = []
        for layer in self.layers:
            weights, penalised = layer.weights(theta), layer.matrix(theta)
            if layer.axis == "input" and not self.penalise_bias:
                penalised = penalised[:-1]
            views.append(LayerViews(penalised.reshape(1, -1), weights.T, weights[:, :-1], weights[:, -1]))
        return views

    def squares(self, theta: Array, views: Sequence[LayerViews]) -> blas.Squares:
        """Return the operation that sums up ‖W‖², or ‖θ‖² with `penalise_bias`; `views` are those of θ."""
        return blas.Squares(theta, [] if self.penalise_bias else [view.bias for view in views])

    def initial(self, seed: int) -> Array:
        """Draw a random θ, keyed by the seed; the network does not depend on axes and blocks.

        Weights are normal with variance 2/d_in before a relu or gelu (He et al. 2015, "Delving deep into
        rectifiers") and 2/(d_in + d_out) elsewhere (Glorot and Bengio 2010, "Understanding the difficulty of
        training deep feedforward neural networks"); biases are zero.
        """
        theta = np.zeros(self.size, self.dtype)
        for layer in self.layers:
            rectified = layer is not self.layers[-1] and self.activation != "tanh"
            variance = 2 / layer.inputs if rectified else 2 / (layer.inputs + layer.outputs)
            key = np.array([seed, layer.layer], np.uint64)
            random = np.random.Generator(np.random.Philox(key=key))
            draws = random.standard_normal((layer.outputs, layer.inputs))
            layer.weights(theta)[:, :-1] = math.sqrt(variance) * draws
        return theta


def build_network(
    table: ProblemTable, features: int, outputs: int, classes: int | None, blocks: int | str | list[int]
) -> Network:
    """Build the network of a [problem] table for data with `features` inputs, without the bias.

    `outputs` is the number of real targets, used only if there are no classes; `blocks` is as for
    `partition`. Raises InputError if kind and targets do not fit, or axis or blocks are invalid.
    """
    loss: Loss = table.loss_of(classes)
    if loss.classes != (classes is not None):
        what = f"{classes} classes" if classes else "real targets"
        raise InputError(f"problem.kind: {table.kind!r} does not go with {what}")
    if loss.max_classes is not None and classes != loss.max_classes:
        raise InputError(f"problem.kind: '{table.kind}' needs two classes, but the data have {classes}")
    hidden, width = list(table.hidden) if table.deep else [], loss.outputs_for(outputs, classes)
    sizes = [features, *hidden, width]
    layers = partition(list(zip(sizes[1:], sizes[:-1], strict=True)), table.axis, blocks)
    dtype, size = np.dtype(table.dtype), layers[-1].offset + layers[-1].length
    key = "problem.hidden" if hidden else "problem.data"
    ensure_fits(key, f"θ of {size:,} elements", 4 * size * dtype.itemsize)  # θ, gradients, optimizer
    return Network(tuple(layers), loss, table.activation, table.l2, table.penalise_bias, dtype)
