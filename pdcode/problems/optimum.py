"""The exact minimiser of least squares."""

from typing import Any

import numpy as np

from .matrix import Array, Matrix, as_dense
from .network import Network
from .samples import CHUNK


def least_squares(network: Network, x: Matrix, y: Array) -> Array:
    """Compute the minimum-norm θ that minimises ½ mean ‖x·θ - y‖² + ½·l2·‖W‖², the network's penalty.

    The network has one layer; `x` has shape (rows, d + 1) with the column of ones, and `y` shape (rows, T). A
    QR factorisation reduces the rows to a triangle, some rows at a time. Sparse inputs are never made dense
    as a whole, and the error grows with the condition number of x, not with its square as by the normal
    equations.
    """
    width = x.shape[1]
    triangle: Any = np.sqrt(network.l2 * len(x)) * np.eye(width, width + y.shape[1])
    if not network.penalise_bias:
        triangle[-1] = 0
    for start in range(0, len(x), CHUNK):
        rows = slice(start, start + CHUNK)
        block = np.hstack([as_dense(x[rows]), y[rows]]).astype(np.float64)
        triangle = np.linalg.qr(np.vstack([triangle, block]), mode="r")
    solution = np.linalg.lstsq(triangle[:, :width], triangle[:, width:], rcond=None)[0]
    theta = np.empty(network.size, network.dtype)
    network.layers[0].weights(theta)[:] = solution.T
    return theta
