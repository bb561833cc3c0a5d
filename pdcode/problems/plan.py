"""Coded derivatives and gradients of batches of a fixed size, in preallocated buffers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from ..kernels import activation, blas, encode, passes
from ..transport.units import Blocks, payload_layout, task_rows
from .dataset import Rows
from .factors import DenseFactors, FactoredGradient, Factors, Products, chosen
from .forward import Forward
from .function import mean as mean_of_parts
from .layers import CentredLayer, DenseLayer, InputMean, SparseLayer
from .matrix import Array, Matrix
from .model import Key, Model
from .network import Network
from .recursion import BlockErrors
from .whitening import NONE, WhitenedGradient, WhitenedLayer, Whitening, root_factor, step_factor

ZERO_ROWS = 256  # rows on which the loss is computed to which the losses of a model are compared

Codeword = tuple[Array, Array]  # indices int32 (r, w), values (r, w)


class LayerResult(NamedTuple):
    """Views of one layer's result."""

    matrix: Array  # (r·b, m)
    flat: Array  # (1, r·b·m)
    bias: Array | None  # (r·b,), the last column if that is the bias and is not penalised
    unbiased: Array  # (r·b, m - 1), the other columns


class PlanOptions(NamedTuple):
    """Options of a `GradientPlan`.

    Attributes
    ----------
    codewords_per_task : int or list of int, optional
        r, of all layers or of each; an uncoded layer has the one codeword [1]. Without r only `gradient` is
        available.
    payload : ndarray, shape (payload_size,), optional
        Buffer for payloads, such as the send buffer of a message; allocated if not given.
    weight : float
        Factor of gradients and coded derivatives, not of losses: the weight of a worker's shard, if shards
        differ in size.
    whiten : Whitening
        Whitening of each layer's gradient; the penalty's gradient is added unwhitened.
    """

    codewords_per_task: int | Sequence[int] | None = None
    payload: Array | None = None
    weight: float = 1.0
    whiten: Sequence[Any] = NONE


DEFAULTS = PlanOptions()


class GradientPlan(ABC):
    """Gradients and coded derivatives of a worker's batches of a fixed size, in preallocated buffers.

    Parameters
    ----------
    layers : sequence of Blocks
        Blocks of the parameters.
    dtype : numpy dtype
    options : PlanOptions

    Attributes
    ----------
    size : int
        Length of θ.
    payload : ndarray, shape (payload_size,)
        The coded derivatives of all layers; padding between layers is zero.
    offsets : list of int
        First element of each layer in a payload.
    views : list of ndarray, shape (r_l, b·m)
        Views of each layer in the payload.
    """

    def __init__(self, layers: Sequence[Blocks], dtype: np.dtype, options: PlanOptions) -> None:
        self.size, self.dtype, self.weight = layers[-1].offset + layers[-1].length, dtype, options.weight
        rows = [0] * len(layers)
        self.offsets, self.payload_size = [0] * len(rows), 0
        if options.codewords_per_task is not None:
            rows = task_rows(layers, options.codewords_per_task)
            self.offsets, self.payload_size = payload_layout(layers, rows, dtype)
        self.payload = np.empty(self.payload_size, dtype) if options.payload is None else options.payload
        if self.payload.shape != (self.payload_size,) or self.payload.dtype != dtype:
            raise ValueError(f"the payload must be {self.payload_size} elements of {dtype}")
        self.payload.fill(0)
        self.views = [
            self.payload[start : start + count * layer.elements].reshape(count, layer.elements)
            for layer, count, start in zip(layers, rows, self.offsets, strict=True)
        ]

    @cached_property
    def full_gradient(self) -> Array:
        """The result of `gradient`, θ-sized; allocated on first use, as coded derivatives do not need it."""
        return np.empty(self.size, self.dtype)

    @abstractmethod
    def gradient(self, theta: Array, indices: Array | None, key: Key | None = None) -> float:
        """Write the gradient of a batch to `full_gradient`; return as `coded_derivative`."""

    def coded_derivative(
        self,
        theta: Array,
        indices: Array | None,
        codewords: Sequence[Codeword | None],
        key: Key | None = None,
    ) -> float:
        """Write the coded derivatives of a batch to `payload`; return its mean loss, including the penalty.

        `indices`, int64 (batch,), are the rows of the batch, which must be in range; they are ignored if the
        batch is all rows. `codewords` are the indices and values of each layer, (r, w), int32 and of the
        plan's dtype; they are ignored if the layer is uncoded. `key` is for the model's random numbers.
        """
        loss = self.prepare(theta, indices, key)
        self.encode(codewords)
        return loss

    @abstractmethod
    def prepare(self, theta: Array, indices: Array | None, key: Key | None = None) -> float:
        """Compute what `encode` needs of a batch; return as `coded_derivative`."""

    @abstractmethod
    def encode(self, codewords: Sequence[Codeword | None]) -> None:
        """Write the coded derivatives of the batch of the last `prepare`, at its θ, to `payload`."""

    def _checked(self, number: int, codeword: Codeword | None) -> Codeword:
        """Return a layer's codewords, after checking that they fit its part of the payload."""
        wanted = len(self.views[number])
        if codeword is None or len(codeword[0]) != wanted:
            raise ValueError(f"layer {number} needs {wanted} codewords")
        return codeword


class ModelPlan(GradientPlan):
    """Plan of any model: the full gradient, which is then encoded, or factors of it.

    Parameters
    ----------
    model : Model
    rows : tuple of ndarray
        The rows from which batches are drawn.
    state : dict of str to ndarray
        The worker's arrays, see `Model.state`, and means of inputs, if these are centred.
    batch : int
        Rows of a batch; 0 takes all rows.
    layers, dtype, options
        As for `GradientPlan`. Losses are compared to the loss of the first θ on the first rows.
    products : dict of str to Products
        Matrices of whose gradients the model may be asked for factors, where these are cheaper.
    """

    def __init__(
        self,
        model: Model,
        rows: Rows,
        state: dict[str, Array],
        batch: int,
        layers: Sequence[Blocks],
        dtype: np.dtype,
        options: PlanOptions,
        products: Mapping[str, Products],
    ) -> None:
        super().__init__(layers, dtype, options)
        self._whitening, self._whitened = Whitening(*options.whiten), list[WhitenedGradient]()
        self._state = {name: state[name] for name in model.state()}
        self._means, self._centring = dict[str, InputMean](), list[passes.Operation]()
        for layer in layers if self._whitening.centred else ():
            if layer.inputs and layer.name in products and products[layer.name].centred:
                self._means[layer.name] = mean = InputMean.of(layer, state, dtype)
                parts = layer, layer.matrix(self.full_gradient)
                self._centring += [mean.centre(*parts), mean.carry(*parts)]
        if self._whitening.kind != "none":
            self._centring = []  # whitening centres them
            self._zero_loss = self._loss_at_start(model, rows, batch) if model.near_zero else 0.0
            out = self.full_gradient
            self._whitened = [
                WhitenedGradient(
                    each, each.matrix(out), self._whitening, self.weight, self._means.get(each.name)
                )
                for each in layers
            ]
        self._model, self._rows = model, rows
        self._layers, self._full = layers, batch == 0
        coded = [0 if each.uncoded else len(view) for each, view in zip(layers, self.views, strict=True)]
        facts = layers, products, batch or len(rows[0])
        self._wanted = [  # matrices for which factors are cheaper: for gradients, for coded derivatives
            chosen(*facts, [0] * len(layers), self._whitening),
            chosen(*facts, coded, self._whitening),
        ]
        self._factors = dict[int, list[Factors]]()  # of the last batch, by layer, in place of gradients
        self._by_samples = dict[int, FactoredGradient]()

    def _loss_at_start(self, model: Model, rows: Rows, batch: int) -> float:
        """Return the loss of the first rows at the first θ."""
        start, some = np.ascontiguousarray(model.initial(0), self.dtype), tuple(x[:ZERO_ROWS] for x in rows)

        def loss(*part: Any) -> float:
            return float(model.gradient(start, part, self.full_gradient, None, model.state()))

        size = model.rows_at_once(ZERO_ROWS, batch, rows)
        return loss(*some) if size == ZERO_ROWS else mean_of_parts(loss, some, size)

    def gradient(self, theta: Array, indices: Array | None, key: Key | None = None) -> float:
        return self._compute(theta, indices, key, coded=False)

    def prepare(self, theta: Array, indices: Array | None, key: Key | None = None) -> float:
        return self._compute(theta, indices, key, coded=True)

    def _compute(self, theta: Array, indices: Array | None, key: Key | None, coded: bool) -> float:
        """Compute the whitened gradient, of matrices that are to be coded from factors these alone."""
        rows, out = self._rows, self.full_gradient
        if not self._full:
            rows = tuple(each[indices] for each in rows)
        self._factors = {}
        wanted = self._wanted[coded]
        means: dict[str, Array | None] = {name: None for name in self._means if name not in wanted}
        if wanted or means:
            more = [means] if means else []  # which models without centred inputs need not take
            loss, found = self._model.factored(theta, rows, out, key, self._state, wanted, *more)
            layers = ((number, layer.name) for number, layer in enumerate(self._layers) if layer.inputs)
            self._factors = {number: found[name] for number, name in layers if name in found}
        else:
            loss = self._model.gradient(theta, rows, out, key, self._state)
        for name, mean in means.items():
            if mean is not None:
                self._means[name].move(mean)
        for operation in self._centring:
            operation()
        if self.weight != 1 and not self._whitened:
            for number, layer in enumerate(self._layers):
                if number not in self._factors:
                    layer.matrix(out)[...] *= self.dtype.type(self.weight)
        for number, whitened in enumerate(self._whitened):
            layer, factor = self._layers[number], step_factor(float(loss), self._zero_loss)
            if number in self._factors:
                by_samples = self._filled(number)
                by_samples.step_factor = factor
                if not coded or layer.uncoded:
                    by_samples.form(layer.matrix(out))
            else:
                whitened.step_factor = factor
                whitened.run()
        return float(loss)

    def _filled(self, number: int) -> FactoredGradient:
        """Return a layer with its factors; it is made again where the number of samples changes."""
        blocks = self._layers[number]
        factors = [each for each in self._factors[number] if isinstance(each, DenseFactors)]
        samples = sum(len(each.errors) for each in factors)
        found = self._by_samples.get(number)
        if found is None or found.samples != samples:
            payload = self.views[number].reshape(-1, blocks.width)
            mean = self._means.get(blocks.name)
            found = FactoredGradient(blocks, samples, self._whitening, self.weight, payload, mean)
            self._by_samples[number] = found
        found.fill(factors)
        return found

    def encode(self, codewords: Sequence[Codeword | None]) -> None:
        for number, (layer, view) in enumerate(zip(self._layers, self.views, strict=True)):
            part = self.full_gradient[layer.offset : layer.offset + layer.length]
            if layer.uncoded:
                view[0] = part
                continue
            support, values = self._checked(number, codewords[number])
            if number in self._factors and self._whitened:
                self._by_samples[number].coded(support, values)
            elif number in self._factors:
                view.fill(0)
                for each in self._factors[number]:
                    weighted = values * self.dtype.type(self.weight)
                    each.add_coded(layer, support, weighted, view.reshape(-1, layer.width))
            else:
                encode.encode(part.reshape(1, -1), support, values, layer.elements, view.reshape(1, -1))


class NetworkPlan(GradientPlan):
    """Compiled plan of a network: coded derivatives without the gradient.

    Parameters
    ----------
    network : Network
        The network.
    x, y : ndarray or Csr, ndarray
        The rows from which batches are drawn, as for `Forward`.
    batch : int
        Rows of a batch; 0 takes all rows.
    options : PlanOptions
        Whitening compares losses to the mean loss of zero scores on the rows given here.
    state : dict of str to ndarray
        The worker's arrays: means of the inputs of hidden layers, if these are centred.
    """

    def __init__(
        self,
        network: Network,
        x: Matrix,
        y: Array,
        batch: int,
        options: PlanOptions = DEFAULTS,
        state: dict[str, Array] | None = None,
    ) -> None:
        super().__init__(network.layers, network.dtype, options)
        self.network, self._l2, dtype = network, options.weight * network.l2, network.dtype
        self._forward = forward = Forward(network, x, y, batch)
        self._deltas = [np.empty_like(scores) for scores in forward.scores[:-1]] + [forward.scores[-1]]
        whitening, layers = Whitening(*options.whiten), list(forward.layers)
        self._centring: passes.Operation = None
        if whitening.centred and len(layers) > 1:
            means = {} if state is None else state
            hidden = [
                CentredLayer(layer, InputMean.of(layer.blocks, means, network.dtype))
                for layer in layers[1:]
                if isinstance(layer, DenseLayer)  # as all hidden layers are
            ]
            self._centring, layers[1:] = passes.Pass([layer.centring for layer in hidden]), hidden
        self._layers: list[DenseLayer | SparseLayer | WhitenedLayer] = [*layers]
        self._whitened: list[WhitenedLayer] = []
        if whitening.kind != "none":
            inputs = [forward.entries, *(layer.inputs + 1.0 for layer in network.layers[1:])]
            self._whitened = [
                WhitenedLayer(layer, whitening, forward.count, nonzeros, self.weight)
                for layer, nonzeros in zip(layers, inputs, strict=True)
            ]
            self._layers = [*self._whitened]
            self._factor = partial(step_factor, zero=forward.zero_loss() if network.near_zero else 0.0)
            if network.loss_unit is not None:  # each target has variance 1, in the mean
                self._factor = partial(root_factor, zero=0.5 * network.layers[-1].outputs)
        self._results: list[LayerResult] = []  # the same memory as `views`
        for layer, view, delta in zip(self._layers, self.views, self._deltas, strict=True):
            blocks = layer.blocks
            self._results.append(self._result_views(blocks, view.reshape(-1, blocks.width)))
            layer.attach(delta, len(view), self._results[-1].matrix)
        self._uncoded_codeword = (np.zeros((1, 1), np.int32), np.ones((1, 1), dtype))
        self._uncoded_gradients = [
            layer.gradient(part.matrix) if layer.blocks.uncoded and part.matrix.size else None
            for layer, part in zip(self._layers, self._results, strict=True)
        ]
        self._recursion = BlockErrors(forward, network.layers, self._deltas) if network.recursive else None
        self._backward: passes.Operation = None  # computes the errors of all layers, at the bound θ
        self._gradient: passes.Operation = None  # computes errors and gradients

    @cached_property
    def _gradients(self) -> list[LayerResult]:
        return [self._result_views(layer, layer.matrix(self.full_gradient)) for layer in self.network.layers]

    def prepare(self, theta: Array, indices: Array | None, key: Key | None = None) -> float:
        loss = self._run_forward(theta, indices)
        if self._recursion is None:
            self._backward()
        return loss

    def encode(self, codewords: Sequence[Codeword | None]) -> None:
        if self._recursion is not None:
            self._recursion.run(codewords)
        parts = zip(self._layers, self._results, self._uncoded_gradients, strict=True)
        for number, (layer, part, whole) in enumerate(parts):
            if whole is not None:
                support, values = self._uncoded_codeword
                whole()
            else:
                support, values = self._checked(number, codewords[number])
                layer.coded(support, values)
            if self._l2:
                self._add_penalty(number, support, values, layer.blocks.elements, part)

    def gradient(self, theta: Array, indices: Array | None, key: Key | None = None) -> float:
        loss = self._run_forward(theta, indices)
        if self._gradient is None:
            self._gradient = passes.Pass([self._backward, *self._gradient_operations()])
        self._gradient()
        return loss

    def _gradient_operations(self) -> list[passes.Operation]:
        """Return the operations that compute all layers' gradients from their errors, with the penalty's."""
        parts = zip(self._layers, self._gradients, strict=True)
        operations = [layer.gradient(part.matrix) for layer, part in parts]
        if self._l2:
            pairs = [
                (weights.penalised, part.flat[:, : weights.penalised.shape[1]])
                if part.bias is None
                else (weights.backward, part.unbiased)
                for weights, part in zip(self._forward.weights, self._gradients, strict=True)
            ]
            for weights, out in pairs:  # adds l2 times the weights
                whole = *self._uncoded_codeword, weights.shape[1]
                operations.append(passes.Call(encode.encode, weights, *whole, out, self._l2, True))
        return operations

    def _run_forward(self, theta: Array, indices: Array | None) -> float:
        """Compute the forward pass, the loss, and the errors of the last layer."""
        forward = self._forward
        if forward.bind(theta):
            self._backward, self._gradient = passes.Pass(self._backward_operations()), None
        forward.select(indices)
        forward.run()
        if self._centring is not None:
            self._centring()
        loss = forward.loss(self.weight)
        for layer in self._whitened:
            layer.step_factor = self._factor(loss)
        return self.network.in_units(loss + forward.penalty)

    def _backward_operations(self) -> list[passes.Operation]:
        """Return the operations that compute the errors of all layers from the last layer's errors."""
        forward = self._forward
        operations: list[passes.Operation] = []
        for number in range(len(self._deltas) - 1, 0, -1):
            delta, below, weights = self._deltas[number], self._deltas[number - 1], forward.weights[number]
            scores, hidden = forward.scores[number - 1], forward.hidden[number - 1]
            operations.append(blas.Product(delta, weights.backward, below))
            operations.append(passes.Call(activation.backward, forward.kind, scores, hidden, below))
        return operations

    def _result_views(self, blocks: Blocks, matrix: Array) -> LayerResult:
        """Return the views of a layer's result, (r·b, m)."""
        biased = blocks.axis == "output" and not self.network.penalise_bias
        return LayerResult(matrix, matrix.reshape(1, -1), matrix[:, -1] if biased else None, matrix[:, :-1])

    def _add_penalty(self, number: int, support: Array, values: Array, block: int, part: LayerResult) -> None:
        """Add l2 times the combinations of blocks of a layer's weights to `part`."""
        bias = None if part.bias is None else part.bias.copy()
        encode.encode(
            self._forward.weights[number].penalised, support, values, block, part.flat, self._l2, True
        )
        if part.bias is not None:
            part.bias[:] = bias
