"""Problems: a model with its rows, gradients and coded derivatives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..config import NetworkTable, ProblemTable
from ..transport.units import Blocks, rearrange, sparse_codewords, task_rows
from ..util.errors import InputError, prefix_errors, short_repr
from ..util.formats import number
from ..util.memory import ensure_fits
from ..util.rng import BatchSampler
from . import counts, curvature, factors, optimum, split, synthetic
from .compiled import build_network
from .curvature import Curvature
from .dataset import Dataset, RowSet
from .evaluation import Evaluation
from .factors import Products, chosen
from .files import read_arrays, trained_theta
from .formats import format_of
from .loading import load
from .losses import LeastSquaresProblem
from .matrix import Array, Csr
from .model import Measurement, Model, ModelTable, ensure_theta_fits
from .network import Network
from .partition import arrange, partition
from .plan import GradientPlan, ModelPlan, NetworkPlan, PlanOptions
from .whitening import NONE, Whitening

UNEQUAL = 10.0  # ratio of scales of inputs that is worth a line
# Rows of the descent that shows whether the loss of a linear classifier comes near 0, also for each input (of
# two any classes are separable: Cover 1965), and what is left of the first loss if it does.
DESCENT_ROWS, DESCENT_SHARE, NEAR = 500, 16, 0.35


class Problem:
    """A model, its rows and its blocks; built by `create` or `from_dataset`.

    Attributes
    ----------
    table : pdcode.config.ProblemTable
        The table ``[problem]``.
    dataset : RowSet
        Training and test rows.
    model : Model
        The model.
    layers : list of Blocks
        Blocks of the model's parameters.
    size : int
        Length of θ.
    dtype : numpy dtype
        Type of θ, float32 or float64.
    rows : int
        Number of training rows.
    state : dict of str to ndarray
        The worker's arrays of the model, see `Model.state`.
    """

    dataset: RowSet
    model: Model
    scored = True  # whether `measure` may take time for more than the loss
    drawn = True  # whether `initial` draws θ

    def __init__(
        self, table: ProblemTable, dataset: RowSet, model: Model, layers: Sequence[Blocks] = ()
    ) -> None:
        self.table, self.dataset, self.model, self.layers = table, dataset, model, list(layers)
        self.size, self.dtype, self.rows = model.size, np.dtype(table.dtype), dataset.rows
        self.state = model.state()
        self._plans: dict[tuple[int, ...], GradientPlan] = {}

    @classmethod
    def from_dataset(
        cls, table: Mapping[str, Any] | ProblemTable, dataset: RowSet, blocks: int | str | list[int] = 1
    ) -> Problem:
        """Build a problem on given rows, such as a worker's shard."""
        table = as_table(table)
        if isinstance(table, ModelTable):
            table = table.with_axes(blocks)
            model = table.built()
            ensure_theta_fits(table, model.size)
            return cls(table, dataset, model, arrange(model.shapes, blocks, table.axis)[0])
        assert isinstance(table, NetworkTable)
        assert isinstance(dataset, Dataset)
        sizes, unit = (dataset.features, dataset.outputs, dataset.classes), dataset.common.loss_unit
        network = build_network(table, *sizes, blocks, unit)
        return NetworkProblem(table, dataset, network)

    @property
    def classes(self) -> int | None:
        """Number of classes; None if there are none."""
        return None

    def blocks(self, layer: int) -> Blocks:
        """Return the blocks of a layer's gradient."""
        return self.layers[layer]

    def weights(self, theta: Array, layer: int) -> Array:
        """Return a view of a layer's weights in θ, (d_out, d_in + bias), biases last, for either axis."""
        return self.layers[layer].weights(theta)

    def penalised(self, theta: Array) -> Iterator[Array]:
        """Yield views of the weights in θ that a penalty includes: each layer's weights, without biases."""
        for layer in self.layers:
            yield layer.unbiased(theta)

    def initial(self, seed: int) -> Array:
        """Draw the θ, keyed by the seed, from which a run starts."""
        return self._initial(seed) if self.drawn else np.zeros(self.size, self.dtype)

    def _initial(self, seed: int) -> Array:
        return self._theta(self.model.initial(seed))

    @property
    def undrawn(self) -> Self:
        """The problem with a θ of zeros, which take neither time nor memory before they are written."""
        made = copy(self)
        made.drawn = False
        return made

    def batches(
        self, seed: int, worker: int, batch: int | None = None, rows: int | None = None
    ) -> BatchSampler:
        """Return the sampler of a worker's batches, by default of `table.batch` of its rows."""
        batch = self.table.batch if batch is None else batch
        epochs = self.table.sampling == "epochs"
        return BatchSampler(seed, worker, self.rows if rows is None else rows, batch, epochs)

    def measure(self, theta: Array) -> Measurement:
        """Measure θ on the training rows, and its accuracy on test rows, if there are any."""
        return self.model.evaluate(theta, self.dataset.train, self.dataset.test)

    def loss(self, theta: npt.ArrayLike) -> float:
        """Compute the mean training loss plus the penalty, on at most `evaluate` rows, evenly spaced."""
        return self._sample.measure(self._theta(theta)).loss

    def accuracy(self, theta: npt.ArrayLike) -> float:
        """Compute the accuracy on the test rows: the fraction of correct classes, R², D², or a score.

        At most `evaluate` rows are used, evenly spaced. Without test rows, training rows are used.
        """
        return self._sample.measure(self._theta(theta)).accuracy

    def gradient_flops(self, batch: int, whiten: Sequence[Any] = NONE) -> float:
        """Return the flops of the full gradient of a mini-batch."""
        return self._task_flops(batch, Whitening(*whiten), [0] * len(self.layers), [0] * len(self.layers))

    def passes_flops(self, batch: int, whiten: Sequence[Any] = NONE) -> float:
        """Return the flops of `GradientPlan.prepare`, of a plan for one codeword of each layer."""
        rows, steps = [int(not layer.uncoded) for layer in self.layers], Whitening(*whiten)
        wanted = chosen(self.layers, self.products, batch, rows, steps)
        encoded = sum(
            factors.coded(layer, self.products[layer.name], batch, 1, 0, steps)
            for layer, r in zip(self.layers, rows, strict=True)
            if r and layer.name in wanted
        )
        return self._task_flops(batch, steps, rows, [0] * len(rows)) - encoded

    def coded_flops(
        self, batch: int, whiten: Sequence[Any], rows: Sequence[int], weights: Sequence[int]
    ) -> float:
        """Return the flops of coded derivatives by r codewords of weight w of each layer."""
        coded = [0 if layer.uncoded else r for layer, r in zip(self.layers, rows, strict=True)]
        return self._task_flops(batch, Whitening(*whiten), coded, weights)

    def _task_flops(
        self, batch: int, whiten: Whitening, rows: Sequence[int], weights: Sequence[int]
    ) -> float:
        """Return the flops of whitened gradients, and of their encoding where r > 0."""
        gradient = self.model.flops(batch, self.dataset.train)
        total = gradient + sum(factors.calls(each, whiten, gradient) for each in self.products.values())
        for layer in self.layers:
            total += factors.formed(layer, self.products.get(layer.name), batch, whiten)
        wanted = chosen(self.layers, self.products, batch, rows, whiten)
        for layer, r, w in zip(self.layers, rows, weights, strict=True):
            total += 2.0 * r * w * layer.elements
            if layer.name in wanted:
                total -= factors.saved(layer, self.products[layer.name], batch, r, w, whiten)
        return max(total, gradient / 2)  # a gradient's products are at most half of it

    @cached_property
    def products(self) -> Mapping[str, Products]:
        """Matrices of whose gradients factors are used, where they are cheaper."""
        by_factors = isinstance(self.table, ModelTable) and self.table.by_factors
        return self.model.products(self.dataset.train) if by_factors else {}

    def gradient(self, theta: npt.ArrayLike, indices: npt.ArrayLike | None = None) -> Array:
        """Compute the gradient of the mean loss over training rows, shape (size,).

        With ``standardise_targets`` it is the gradient of the loss of the scaled targets.

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
        count = self.rows if indices is None else np.size(indices)
        size = self.model.rows_at_once(count, self.table.batch, self.dataset.train)
        if size < count:
            chosen = np.arange(count) if indices is None else np.asarray(indices)
            return self._by_parts(self._theta(theta), chosen, size)[1]
        plan, rows = self._plan(indices, [1] * len(self.layers))
        plan.gradient(self._theta(theta), rows)
        return plan.full_gradient.copy()

    def _by_parts(self, theta: Array, rows: Array, size: int) -> tuple[float, Array]:
        """Return loss and gradient of rows, of at most `size` of them at a time."""
        loss, total = 0.0, np.zeros(self.size, self.dtype)
        for start in range(0, len(rows), size):
            plan, part = self._plan(rows[start : start + size], [1] * len(self.layers))
            share = min(size, len(rows) - start) / len(rows)
            loss += share * plan.gradient(theta, part)
            total += self.dtype.type(share) * plan.full_gradient
        return loss, total

    def coded_derivative(
        self, theta: npt.ArrayLike, indices: npt.ArrayLike | None, codewords: Sequence[npt.ArrayLike | None]
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
        whiten: Sequence[Any] = NONE,
    ) -> GradientPlan:
        """Build a `GradientPlan` for batches of a fixed size, 0 takes all rows; others: `PlanOptions`."""
        return self._planned(batch, PlanOptions(codewords_per_task, payload, weight, whiten))

    def _planned(self, batch: int, options: PlanOptions) -> GradientPlan:
        parts = self.layers, self.dtype, options, self.products
        return ModelPlan(self.model, self.dataset.train, self.state, batch, *parts)

    def ensure_fits(self, key: str, rows: int) -> None:
        """Refuse a number of rows, determined by `key`, whose gradient would need too much memory."""
        what = f"the gradient of {rows:,} rows at once"
        ensure_fits(key, what, 4 * self.size * self.dtype.itemsize + rows * self.dataset.row_bytes)

    def remarks(self, rows: int) -> list[str]:
        """Describe the data, of so many training rows, and its treatment, one line each."""
        if self.model.description:
            return [self.model.description]
        shapes = ", ".join(f"{each.dtype} {each.shape[1:]}" for each in self.dataset.train)
        return [f"{self.table.data}: {rows:,} training rows of {shapes}"]

    @property
    def optimum(self) -> Array | None:
        """θ of least training loss for least squares; None for other kinds of problem."""
        return None

    @property
    def curvature(self) -> Curvature | None:
        """Bounds on the Hessian of the training loss, at any θ, for linear models; None: not known."""
        return None

    @property
    def near_zero(self) -> bool:
        """Whether the least loss may be near 0."""
        return self.model.near_zero

    @cached_property
    def _sample(self) -> Problem:
        """The problem on at most `evaluate` rows."""
        return Problem(self.table, self.dataset.sample(self.table.evaluate), self.model, self.layers)

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


class NetworkProblem(Problem):
    """A network and its rows, with a compiled plan."""

    table: NetworkTable
    dataset: Dataset
    model: Network

    def __init__(self, table: NetworkTable, dataset: Dataset, network: Network) -> None:
        super().__init__(table, dataset, network, network.layers)

    @property
    def classes(self) -> int | None:
        return self.dataset.classes

    def _initial(self, seed: int) -> Array:
        if self.table.init is None:
            return super()._initial(seed)
        if self.table.init.endswith(".npz"):
            arrays = read_arrays(self.table.init, "init")
            given = {name: each.shape for name, each in arrays.items() if each.dtype.kind in "fiu"}
            if given != self.model.shapes:
                what = f"real arrays of shapes {short_repr(given)}, not {short_repr(self.model.shapes)}"
                raise InputError(f"problem.init: {self.table.init!r} has {what}")
            return self.model.flat(arrays, self.dtype)
        theta, cut = trained_theta(self.table.init)
        with prefix_errors(f"problem.init: {self.table.init!r}"):
            theta = self._theta(theta)
            if cut is None:
                return theta
            shapes = [(each.outputs, each.inputs) for each in self.layers]
            return rearrange(theta, partition(shapes, *cut), self.layers)

    def penalised(self, theta: Array) -> Iterator[Array]:
        for layer in self.layers:
            yield layer.weights(theta) if self.model.penalise_bias else layer.unbiased(theta)

    def measure(self, theta: Array) -> Measurement:
        if not self.scored:
            return Measurement(self.loss(theta))
        size = self.model.rows_at_once(self.rows, self.table.batch, self.dataset.train)
        if size < self.rows:
            loss, gradient = self._by_parts(theta, np.arange(self.rows), size)
        else:
            loss, gradient = self._whole.gradient(theta, None), self._whole.full_gradient
        norm = self.model.in_units(float(np.linalg.norm(gradient)))
        return Measurement(loss, self.accuracy(theta), norm)

    def loss(self, theta: npt.ArrayLike) -> float:
        return self._training.loss(self._theta(theta))

    def accuracy(self, theta: npt.ArrayLike) -> float:
        return self._testing.accuracy(self._theta(theta))

    def gradient_flops(self, batch: int, whiten: Sequence[Any] = NONE) -> float:
        return counts.gradient(self.model, batch * self.model.samples, self._entries, whiten)

    def passes_flops(self, batch: int, whiten: Sequence[Any] = NONE) -> float:
        return counts.passes(self.model, batch * self.model.samples, self._entries)

    def coded_flops(
        self, batch: int, whiten: Sequence[Any], rows: Sequence[int], weights: Sequence[int]
    ) -> float:
        data = self._entries, whiten, self.dataset.is_sparse
        return counts.coded(self.model, batch * self.model.samples, *data, rows, weights)

    def _planned(self, batch: int, options: PlanOptions) -> GradientPlan:
        return NetworkPlan(self.model, self.dataset.x, self.dataset.y, batch, options, self.state)

    def ensure_fits(self, key: str, rows: int) -> None:
        what, width = f"the gradient of {rows:,} rows at once", self.model.row_bytes(self.dataset.train)
        ensure_fits(key, what, 4 * self.size * self.dtype.itemsize + int(rows * width))

    def remarks(self, rows: int) -> list[str]:
        data, task = self.dataset, f"classification, {self.classes} classes"
        scaled = data.common.deviation is not None
        if self.classes is None:
            task = f"regression, {data.outputs} target{'s' if data.outputs > 1 else ''}"
        lines = [f"{self.table.data}: {task}; {rows:,} training rows of {data.features:,} inputs"]
        if scaled and not data.is_sparse:
            lines[0] += ", scaled" if data.common.decorrelation is None else ", made white"
        if self.table.latent:
            shape = f"{self.layers[0].outputs:,} elements, at {self.model.samples:,} places"
            features = f"{self.layers[0].inputs:,} features of {shape}"
            lines = [f"{self.table.data}: {features}; {rows:,} training rows of {data.outputs:,} elements"]
        if scaled and data.is_sparse:
            lines.append("sparse inputs are scaled to largest magnitude 1, not centred, to stay sparse")
        return [*lines, *data.common.coding.remarks, *self._scales()]

    def _scales(self) -> list[str]:
        """Return a line if inputs are of unequal scale; of images a few rarely differ from zero."""
        data = self.dataset
        if data.common.deviation is not None or self.table.latent or isinstance(data.x, Csr):
            return []
        x = data.x[:, :-1]
        scales = np.maximum(x.max(axis=0), -x.min(axis=0))
        names = data.common.coding.inputs
        small = np.flatnonzero((scales > 0) & (scales < scales.max(initial=0) / UNEQUAL))
        if len(small) <= (0 if names else np.count_nonzero(scales) // 10):
            return []
        least, most = min(small, key=scales.__getitem__), int(scales.argmax())
        shown = [
            f"{names[each] if names else f'input {each}'} to {number(float(scales[each]))}"
            for each in (most, least)
        ]
        what = f"inputs differ in scale by a factor of {float(scales[most] / scales[least]):,.0f}"
        return [f"{what} ({', '.join(shown)}), and descent is slow then: problem.standardise = true"]

    @property
    def _entries(self) -> float:
        """Number of inputs of a row with the bias; of sparse rows the average number of nonzeros."""
        return self.layers[0].inputs + 1.0 if self.model.loss.latent else self.dataset.inputs_per_row

    @cached_property
    def optimum(self) -> Array | None:
        if not isinstance(self.table, LeastSquaresProblem):
            return None
        return optimum.least_squares(self.model, self.dataset.x, self.dataset.y)

    @cached_property
    def curvature(self) -> Curvature | None:
        factor = self.model.loss.curvature
        if len(self.layers) > 1 or self.table.latent or factor is None:
            return None
        return curvature.of_linear(self.dataset.x, factor, self.table.l2)

    @cached_property
    def near_zero(self) -> bool:
        """Whether the loss of the model may be near 0, of a linear one also whether a descent gets there."""
        if not self.model.near_zero or self.curvature is None:
            return self.model.near_zero
        rows = max(DESCENT_ROWS, DESCENT_SHARE * self.dataset.features)
        few = NetworkProblem(self.table, self.dataset.sample(rows), self.model)
        least = curvature.descend(few.gradient, few.loss, self.size, 1 / self.curvature.mean)
        shares = np.unique(few.dataset.y, return_counts=True)[1] / len(few.dataset.y)
        constant = -float(shares @ np.log(shares))  # the cross-entropy of a guess without inputs
        return least <= NEAR * constant

    @cached_property
    def _whole(self) -> GradientPlan:
        return self.plan(0)

    @cached_property
    def _training(self) -> Evaluation:
        data = self.dataset.sample(self.table.evaluate)
        return Evaluation(self.model, data.x, data.y, self.table.batch)

    @cached_property
    def _testing(self) -> Evaluation:
        data = self.dataset.sample(self.table.evaluate)
        if not len(data.test_x):
            return self._training
        return Evaluation(self.model, data.test_x, data.test_y, self.table.batch)


def of_network(problem: Problem, owner: str) -> NetworkProblem:
    """Return the problem of a network; refuse other models' problems, for an owner such as "scheme 'mds'"."""
    if not isinstance(problem, NetworkProblem):
        raise InputError(f"problem.kind: '{problem.table.kind}' does not go with {owner}; it needs a network")
    return problem


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
    if not isinstance(table, NetworkTable) or format_of(table) != "synthetic":
        return {}
    classes = synthetic.number_of_classes(table) or None
    network = build_network(table, table.features, table.outputs, classes, blocks)
    return {"parameters": network.size, "rows": table.samples - split.test_rows(table, table.samples)}


def as_table(table: Mapping[str, Any] | ProblemTable) -> ProblemTable:
    """Convert to a checked [problem] table."""
    return table if isinstance(table, ProblemTable) else ProblemTable.of(table)
