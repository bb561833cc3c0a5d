"""Problems: a model with its data, losses, gradients and coded derivatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..config import ProblemTable
from ..util.errors import InputError
from ..util.memory import ensure_fits
from . import optimum, split, synthetic
from .dataset import Dataset
from .evaluation import Evaluation
from .formats import format_of
from .loading import load
from .losses import LeastSquaresProblem
from .matrix import Array
from .network import Network, build_network
from .partition import Blocks, sparse_codewords, task_rows
from .plan import GradientPlan


class Problem:
    """A model and its data; built by `create` or `from_dataset`.

    Attributes
    ----------
    table : pdcode.config.ProblemTable
        The table ``[problem]``.
    dataset : Dataset
        Training and test rows.
    network : Network
        The model.
    layers : list of Blocks
        Blocks of each layer's gradient.
    size : int
        Length of θ.
    dtype : numpy dtype
        Type of θ, float32 or float64.
    rows : int
        Number of training rows.
    classes : int or None
        Number of classes; None for regression.
    """

    def __init__(self, table: ProblemTable, dataset: Dataset, network: Network) -> None:
        self.table, self.dataset, self.network = table, dataset, network
        self.layers: list[Blocks] = list(network.layers)
        self.size, self.dtype = network.size, network.dtype
        self.rows, self.classes = dataset.rows, dataset.classes
        self._plans: dict[tuple[int, ...], GradientPlan] = {}

    @classmethod
    def from_dataset(
        cls, table: Mapping[str, Any] | ProblemTable, dataset: Dataset, blocks: int | str | list[int] = 1
    ) -> Problem:
        """Build a problem on given rows, such as a worker's shard."""
        table = as_table(table)
        network = build_network(table, dataset.features, dataset.outputs, dataset.classes, blocks)
        return cls(table, dataset, network)

    def blocks(self, layer: int) -> Blocks:
        """Return the blocks of a layer's gradient."""
        return self.layers[layer]

    def weights(self, theta: Array, layer: int) -> Array:
        """Return a view of a layer's weights in θ, shape (d_out, d_in + 1), biases last, for either axis."""
        return self.layers[layer].weights(theta)

    def initial(self, seed: int) -> Array:
        """Draw a random θ, see `Network.initial`."""
        return self.network.initial(seed)

    def loss(self, theta: npt.ArrayLike) -> float:
        """Compute the mean training loss plus the penalty, on at most `evaluate` rows, evenly spaced."""
        return self._training.loss(self._theta(theta))

    def accuracy(self, theta: npt.ArrayLike) -> float:
        """Compute the accuracy on the test rows: the fraction of correct classes, R² or D².

        At most `evaluate` rows are used, evenly spaced. Without test rows, training rows are used.
        """
        return self._testing.accuracy(self._theta(theta))

    def gradient(self, theta: npt.ArrayLike, indices: npt.ArrayLike | None = None) -> Array:
        """Compute the gradient of the mean loss over training rows, shape (size,).

        Parameters
        ----------
        theta : array_like, shape (size,)
            Parameters θ.
        indices : array_like of int, shape (B,), optional
            Numbers of training rows, repetitions allowed; by default all rows.

        Raises
        ------
        InputError
            If θ has another length, or an index is out of range.
        """
        plan, rows = self._plan(indices, [1] * len(self.layers))
        plan.gradient(self._theta(theta), rows)
        return plan.full_gradient.copy()

    def coded_derivative(
        self,
        theta: npt.ArrayLike,
        indices: npt.ArrayLike | None,
        codewords: Sequence[npt.ArrayLike | None],
    ) -> list[Array]:
        """Compute combinations of blocks of the gradient, without forming the gradient.

        Parameters
        ----------
        theta, indices
            As for `gradient`.
        codewords : sequence of array_like, shape (r, k_l)
            Dense codewords of each layer, r_l of them; None stands for [[1]] of an uncoded layer.

        Returns
        -------
        list of ndarray, shape (r_l, b_l, m_l)
            Σ_j codewords[l][ρ, j] · block j of layer l.

        Raises
        ------
        InputError
            If a shape does not fit, or an index is out of range.
        """
        dense = self._dense(codewords)
        plan, rows = self._plan(indices, [len(words) for words in dense])
        plan.coded_derivative(
            self._theta(theta), rows, [sparse_codewords(words, self.dtype) for words in dense]
        )
        payloads = []
        for words, layer, view in zip(dense, self.layers, plan.views, strict=True):
            combined = words.astype(self.dtype) * view if layer.uncoded else view.copy()
            payloads.append(combined.reshape(-1, *layer.shape))
        return payloads

    def plan(
        self,
        batch: int,
        codewords_per_task: int | Sequence[int] | None = None,
        payload: Array | None = None,
        weight: float = 1.0,
        whiten: str = "none",
    ) -> GradientPlan:
        """Build a `GradientPlan` for batches of a fixed size; 0 takes all rows."""
        network, data = self.network, self.dataset
        return GradientPlan(network, data.x, data.y, batch, codewords_per_task, payload, weight, whiten)

    def ensure_fits(self, key: str, rows: int) -> None:
        """Refuse a number of rows, determined by `key`, whose gradient would need too much memory."""
        widths = sum(2 * layer.outputs + (layer.inputs + 1 if layer.layer else 0) for layer in self.layers)
        what = f"the gradient of {rows:,} rows at once"
        ensure_fits(key, what, (4 * self.size + rows * widths) * self.dtype.itemsize)

    @cached_property
    def optimum(self) -> Array | None:
        """θ of least training loss for least squares; None for other kinds of problem."""
        if not isinstance(self.table, LeastSquaresProblem):
            return None
        return optimum.least_squares(self.network, self.dataset.x, self.dataset.y)

    @cached_property
    def _training(self) -> Evaluation:
        return Evaluation(self.network, self.dataset.x, self.dataset.y, self.table.evaluate)

    @cached_property
    def _testing(self) -> Evaluation:
        data = self.dataset
        if not len(data.test_x):
            return self._training
        return Evaluation(self.network, data.test_x, data.test_y, self.table.evaluate)

    def _theta(self, theta: npt.ArrayLike) -> Array:
        """Convert θ to a contiguous array of the problem's dtype."""
        theta = np.ascontiguousarray(theta, self.dtype)
        if theta.shape != (self.size,):
            raise InputError(f"θ has shape {theta.shape}, not ({self.size},)")
        return theta

    def _plan(self, indices: npt.ArrayLike | None, codewords: list[int]) -> tuple[GradientPlan, Array | None]:
        """Return a plan for this number of rows, the last one if it fits, and checked row numbers."""
        rows = None if indices is None else np.asarray(indices)
        if rows is not None:
            if rows.ndim != 1 or not rows.size or rows.dtype.kind not in "iu":
                raise InputError(f"indices must be one row of whole numbers, not {rows.dtype} {rows.shape}")
            if rows.min() < 0 or rows.max() >= self.rows:
                raise InputError(
                    f"indices run from {rows.min()} to {rows.max()}, but there are {self.rows} rows"
                )
            rows = rows.astype(np.int64)
        key = (0 if rows is None else len(rows), *task_rows(self.layers, codewords))
        if key not in self._plans:
            self._plans = {key: self.plan(key[0], codewords)}
        return self._plans[key], rows

    def _dense(self, codewords: Sequence[npt.ArrayLike | None]) -> list[Array]:
        """Convert codewords to arrays (r, k) and check their shapes."""
        if len(codewords) != len(self.layers):
            raise InputError(f"codewords: {len(codewords)} given, but there are {len(self.layers)} layers")
        dense = []
        for words, layer in zip(codewords, self.layers, strict=True):
            given = 1.0 if words is None and layer.uncoded else words
            array = np.atleast_2d(np.asarray(given, float))
            if array.ndim != 2 or array.shape[1] != layer.count:
                raise InputError(
                    f"codewords of layer {layer.layer} have shape {array.shape}, not (r, {layer.count})"
                )
            dense.append(array)
        return dense


def create(table: Mapping[str, Any] | ProblemTable, blocks: int | str | list[int] = 1) -> Problem:
    """Create a problem and load its data.

    Parameters
    ----------
    table : dict or pdcode.config.ProblemTable
        The [problem] table of a configuration.
    blocks : int, list of int or "units"
        Number of blocks of all layers' gradients, or of each; 1 sends a layer uncoded; "units" as for
        `partition`.

    Returns
    -------
    Problem

    Raises
    ------
    InputError
        If the table, the data or `blocks` are invalid; the message names key and value.
    """
    table = as_table(table)
    return Problem.from_dataset(table, load(table), blocks)


def synthetic_sizes(table: ProblemTable, blocks: int | str | list[int]) -> dict[str, int]:
    """Return sizes of a problem on synthetic data without generating them: "parameters", training "rows".

    The result is empty for other data: their sizes are known only after they have been read.
    """
    if format_of(table) != "synthetic":
        return {}
    classes = synthetic.number_of_classes(table) or None
    network = build_network(table, table.features, table.outputs, classes, blocks)
    return {"parameters": network.size, "rows": table.samples - split.test_rows(table, table.samples)}


def as_table(table: Mapping[str, Any] | ProblemTable) -> ProblemTable:
    """Convert to a checked [problem] table."""
    return table if isinstance(table, ProblemTable) else ProblemTable.of(table)
