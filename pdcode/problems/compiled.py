"""Networks with their compiled kernels, as a model; `plan.NetworkPlan` is what runs use of them."""

import numpy as np

from ..config import NetworkTable
from ..util.errors import InputError
from . import counts
from .dataset import Rows
from .evaluation import Evaluation
from .losses import Loss
from .matrix import Array
from .model import Key, Measurement, ensure_theta_fits
from .network import Network
from .partition import partition
from .plan import NetworkPlan


class CompiledNetwork(Network):
    """A network whose gradients and losses compiled kernels compute."""

    def gradient(
        self,
        theta: Array,
        rows: Rows,
        out: Array,
        key: Key | None = None,
        state: dict[str, Array] | None = None,
    ) -> float:
        plan = NetworkPlan(self, rows[0], rows[1], 0)
        loss = plan.gradient(theta, None)
        out[:] = plan.full_gradient
        return loss

    def evaluate(self, theta: Array, train: Rows, test: Rows) -> Measurement:
        plan, scored = NetworkPlan(self, train[0], train[1], 0), test if len(test[0]) else train
        loss, accuracy = plan.gradient(theta, None), Evaluation(self, scored[0], scored[1]).accuracy(theta)
        return Measurement(loss, accuracy, self.in_units(float(np.linalg.norm(plan.full_gradient))))

    def flops(self, rows: int, like: Rows) -> float:
        return counts.gradient(self, rows * self.samples, self.layers[0].inputs + 1.0)


def build_network(
    table: NetworkTable,
    features: int,
    outputs: int,
    classes: int | None,
    blocks: int | str | list[int],
    loss_unit: float | None = None,
) -> CompiledNetwork:
    """Build the network of a [problem] table for data with `features` inputs, without the bias.

    `outputs` is the number of real targets, used only if there are no classes; `blocks` is as for
    `partition`, and `loss_unit` for `Network`. Raises InputError if kind and targets do not fit, or axis or
    blocks are invalid.
    """
    loss: Loss = table.loss_of(classes)
    if loss.classes != (classes is not None):
        what = f"{classes} classes" if classes else "real targets"
        raise InputError(f"problem.kind: {table.kind!r} does not go with {what}")
    if loss.max_classes is not None and classes != loss.max_classes:
        raise InputError(f"problem.kind: '{table.kind}' needs two classes, but the data have {classes}")
    hidden, width = list(table.hidden or ()) if table.deep else [], loss.outputs_for(outputs, classes)
    sizes = [loss.inputs_for(features), *hidden, width]
    layers = partition(list(zip(sizes[1:], sizes[:-1], strict=True)), table.axis, blocks)
    dtype, size = np.dtype(table.dtype), layers[-1].offset + layers[-1].length
    ensure_theta_fits(table, size)
    others = table.activation or "relu", table.l2, table.penalise_bias, dtype, loss_unit, table.recursive
    return CompiledNetwork(tuple(layers), loss, *others, loss.samples_for(outputs))
