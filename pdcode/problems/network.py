"""Networks: the layers of a model, its loss, and its weights as views of θ."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..kernels import blas
from ..transport.units import Blocks
from .dataset import Rows
from .losses import Loss
from .matrix import Array
from .model import Model

DRAWN = 1 << 20  # weights that are drawn at once: a signal has to wait for them, and they take memory


class LayerViews(NamedTuple):
    """Views of one layer's weights in θ, shaped for its products."""

    penalised: Array  # (1, p·m), for the encoder; without the row of biases if they are the last of p rows
    forward: Array  # (d_in + 1, d_out): scores = inputs @ forward
    backward: Array  # (d_out, d_in), without the bias: errors of the layer below = errors @ backward
    bias: Array  # (d_out,)


@dataclass(frozen=True, eq=False)
class Network(Model):
    """A multilayer perceptron; without hidden layers it is a linear model. `CompiledNetwork` is complete."""

    layers: tuple[Blocks, ...]  # shape and blocks of each layer
    loss: Loss  # of the outputs, a mean over the samples
    activation: str  # of the hidden layers: "relu", "tanh" or "gelu"
    l2: float  # weight of the penalty ½·l2·‖W‖² on the weights W
    penalise_bias: bool  # whether the penalty includes biases: ½·l2·‖θ‖²
    dtype: np.dtype  # of θ and of all arrays, float32 or float64
    loss_unit: float | None = None  # the data's squared losses over scaled targets' losses; None: not scaled
    recursive: bool = False  # whether coded derivatives are by errors through the codewords' blocks alone
    samples: int = 1  # rows of inputs and outputs for a row of targets; more only if inputs are latent

    @property
    def size(self) -> int:
        """Length of θ."""
        return self.layers[-1].offset + self.layers[-1].length

    @property
    def near_zero(self) -> bool:  # type: ignore[override]
        """Whether the least loss is near 0, as the loss of classes may be."""
        return bool(self.loss.classes)

    def in_units(self, loss: float) -> float:
        """Return a loss, with penalty, or norm of its gradient in the units of the data's targets."""
        return loss if self.loss_unit is None else self.loss_unit * loss

    @property
    def score(self) -> str:  # type: ignore[override]
        """Name of the accuracy."""
        return self.loss.score

    def row_bytes(self, like: Rows) -> float:
        """Return the bytes of a row's scores, errors, and activations of hidden layers."""
        widths = (2 * each.outputs + (each.inputs + 1 if each.layer else 0) for each in self.layers)
        return float(sum(widths) * self.samples * self.dtype.itemsize)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        sizes = [(f"{layer.name}.{part}", layer) for layer in self.layers for part in ("weight", "bias")]
        return {n: (each.outputs, each.inputs)[: 1 + n.endswith("weight")] for n, each in sizes}

    def views(self, flat: Array) -> dict[str, Array]:
        parts = [part for layer in self.layers for part in (layer.unbiased(flat), layer.biases(flat))]
        return dict(zip(self.shapes, parts, strict=True))

    def layer_views(self, theta: Array) -> list[LayerViews]:
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
        """Return the operation that sums up ‖W‖², or ‖θ‖² with `penalise_bias`; `views` are views of θ."""
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
            weights = layer.weights(theta)[:, :-1]
            for piece in pieces(*weights.shape):
                weights[piece] = math.sqrt(variance) * random.standard_normal(weights[piece].shape)
        return theta


def pieces(rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
    """Yield the rows and columns of pieces of at most `DRAWN` elements, which cover a matrix in its order."""
    height = max(1, DRAWN // max(1, columns))
    for row in range(0, rows, height):
        for column in range(0, columns, DRAWN):
            yield slice(row, row + height), slice(column, column + DRAWN)
