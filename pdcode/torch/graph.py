"""Factors of matrices' gradients, read off PyTorch's graph of a loss.

After the forward pass, the edges to a weight are its uses. A use by a linear layer, a convolution or an
embedding has saved its inputs, which PyTorch shows for debugging; the errors, the gradient of its outputs,
are asked of the engine, which then forms no gradient of the weight. These attributes are no interface that
PyTorch promises: a missing or unknown use counts as not recognised, and `TorchModel.why_not_factored`
compares results.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from functools import cache
from math import prod
from operator import mul
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge
from torch.nn import functional

from ..kernels import encode
from ..problems.factors import DenseFactors, Factors, Products
from ..problems.matrix import Array
from ..transport.units import Blocks


class Use(ABC):
    """A use of a weight by a node of the graph.

    Attributes
    ----------
    node : torch.autograd.graph.Node
    inputs : Tensor
        Saved inputs.
    turned : bool
        Whether the node uses the transposed weight.
    biased : bool
        Whether the node also adds the bias that is in the weight's matrix.
    joined : bool
        Whether it does so, or the node after it.
    hidden : bool
        Whether the inputs depend on parameters.
    """

    kind: Any
    bias_at = 0  # position of the bias among the node's inputs
    kernel: tuple[int, ...] = ()  # shape of the weight's channels

    def __init__(self, node: Any, inputs: Tensor, turned: bool = False) -> None:
        self.node, self.inputs, self.turned = node, inputs, turned
        self.biased = self.joined = self.hidden = False

    @property
    def edge(self) -> GradientEdge:
        """Edge at which the engine gives the errors."""
        return GradientEdge(self.node, 0)

    @property
    @abstractmethod
    def samples(self) -> int:
        """Number of samples of the products."""

    @abstractmethod
    def factors(self, errors: Tensor, bias: bool) -> Factors:
        """Return the factors, with a column for the bias if the matrix has one."""

    def mean(self) -> Tensor:
        """Return the mean of the samples' inputs, shape (inputs,)."""
        return self.inputs.detach().mean(0)


class Linear(Use):
    """Errors and inputs, (n, outputs) and (n, inputs), of a weight (outputs, inputs) or (inputs, outputs)."""

    kind = "dense"

    @property
    def samples(self) -> int:
        return len(self.inputs)

    def factors(self, errors: Tensor, bias: bool) -> Factors:
        first, rest = (errors, self.inputs) if self.turned else (self.inputs, errors)
        return DenseFactors(_array(first), _array(rest), float(self.biased) if bias else None)


class Convolution(Use):
    """Errors (B, outputs, …) and inputs (B, inputs, …) of a convolution in one group."""

    kind, bias_at = "convolution", 2

    def __init__(self, node: Any, inputs: Tensor, weight: torch.Size) -> None:
        super().__init__(node, inputs)
        self.kernel = tuple(weight[2:])
        names = "stride", "padding", "dilation", "transposed", "output_padding", "groups"
        self.geometry = [_saved(node, name) for name in names]

    @property
    def places(self) -> list[int]:
        """Sides of an output, which the geometry determines."""
        sides, (stride, padding, dilation, *_) = list[int](), self.geometry
        for number, size in enumerate(self.inputs.shape[2:]):
            reach = dilation[number] * (self.kernel[number] - 1)
            sides.append((size + 2 * padding[number] - reach - 1) // stride[number] + 1)
        return sides

    @property
    def samples(self) -> int:
        return len(self.inputs) * prod(self.places)

    def factors(self, errors: Tensor, bias: bool) -> Factors:
        return ConvolutionFactors(self, errors.contiguous(), bias)

    def mean(self) -> Tensor:
        found = self.inputs.detach().mean(0)
        for axis in zip(found.shape[1:], self.places, self.kernel, *self.geometry[:3], strict=True):
            found = found.movedim(1, -1) @ _shares(found.dtype, *axis)
        return found.reshape(-1)


@cache
def _shares(
    dtype: torch.dtype, size: int, places: int, kernel: int, stride: int, padding: int, dilation: int
) -> Tensor:
    """Return at which share of the places an element of the kernel meets each input, (size, kernel)."""
    met = stride * np.arange(places)[:, None] + dilation * np.arange(kernel) - padding
    return torch.from_numpy((met == np.arange(size)[:, None, None]).mean(1)).to(dtype)


class ConvolutionFactors(Factors):
    """Factors of a convolution: combined errors, or channels, belong to a convolution of fewer of them.

    Blocks of inputs that are no whole channels are combined after the inputs are copied for each place.
    """

    def __init__(self, use: Convolution, errors: Tensor, bias: bool) -> None:
        self.use, self.errors, self.bias = use, errors, bias

    def add_coded(self, blocks: Blocks, indices: Array, values: Array, out: Array) -> None:
        kernel = prod(self.use.kernel)
        if blocks.axis == "output":
            errors = self._combined(self.errors, indices, values, blocks.size, len(out))
            flat = self._products(errors, self.use.inputs)
            out[:, : flat.shape[1]] += flat
            if self.bias and self.use.biased:
                out[:, -1] += errors.numpy().reshape(len(errors), len(out), -1).sum(axis=(0, 2))
        elif blocks.size % kernel or self.bias:
            bias = float(self.use.biased) if self.bias else None
            errors = self.errors.movedim(1, -1).reshape(-1, blocks.outputs)
            factors = DenseFactors(_array(errors), self._unfolded(), bias)
            factors.add_coded(blocks, indices, values, out)
        else:
            channels = self._combined(
                self.use.inputs, indices, values, blocks.size // kernel, len(out) // kernel
            )
            out += self._products(self.errors, channels).T

    def _combined(self, source: Tensor, indices: Array, values: Array, block: int, count: int) -> Tensor:
        """Return combinations of blocks of channels, (B, count, …)."""
        encoded, places = source.new_empty((len(source), count, *source.shape[2:])), source[0, 0].numel()
        flat = _array(source).reshape(len(source), -1), encoded.numpy().reshape(len(source), -1)
        encode.encode(flat[0], indices, values, block * places, flat[1])
        return encoded

    def _products(self, errors: Tensor, inputs: Tensor) -> Array:
        """Return the gradient of a weight, (outputs, inputs·kernel)."""
        shape = errors.shape[1], inputs.shape[1], *self.use.kernel
        weight = errors.new_empty(shape)  # only its shape is used
        backward = torch.ops.aten.convolution_backward
        with torch.no_grad():
            found = backward(errors, inputs, weight, None, *self.use.geometry, [False, True, False])[1]
        return _array(found.reshape(errors.shape[1], -1))

    def _unfolded(self) -> Array:
        """Return the inputs for each place of the outputs, (B·places, inputs·kernel)."""
        stride, padding, dilation, *_ = self.use.geometry
        inputs = functional.pad(
            self.use.inputs.detach(), [each for side in reversed(padding) for each in (side, side)]
        )
        batch, channel, *steps = inputs.stride()
        shape = len(inputs), *self.errors.shape[2:], inputs.shape[1], *self.use.kernel
        strides = batch, *map(mul, stride, steps), channel, *map(mul, dilation, steps)
        return _array(inputs.as_strided(shape, strides).reshape(-1, prod(shape[-1 - len(stride) :])))


class Lookup(Use):
    """Errors (n, width) of the rows of an embedding that its inputs name."""

    kind = "lookup"

    @property
    def samples(self) -> int:
        return self.inputs.numel()

    def factors(self, errors: Tensor, bias: bool) -> Factors:
        numbers, padding = _array(self.inputs).reshape(-1), _saved(self.node, "padding_idx")
        kept = numbers != (padding + 2**63) % 2**64 - 2**63  # -1, none, is shown without its sign
        return LookupFactors(numbers[kept], _array(errors).reshape(len(numbers), -1)[kept])


class LookupFactors(Factors):
    """Rows of the gradient by number; several may be for the same row."""

    def __init__(self, numbers: Array, errors: Array) -> None:
        self.numbers, self.errors = numbers, errors

    def add_coded(self, blocks: Blocks, indices: Array, values: Array, out: Array) -> None:
        into = torch.from_numpy(out)
        if blocks.axis == "input":
            encoded = torch.empty((len(self.errors), len(out)), dtype=into.dtype)
            encode.encode(self.errors, indices, values, blocks.size, encoded.numpy())
            into.T.index_add_(0, torch.from_numpy(self.numbers), encoded)
            return
        holders, within = np.divmod(self.numbers, blocks.size)
        for row, (support, weights) in enumerate(zip(indices, values, strict=True)):
            for each, weight in zip(support, weights, strict=True):
                if weight and len(chosen := np.flatnonzero(holders == each)):
                    places = torch.from_numpy(row * blocks.size + within[chosen])
                    errors = torch.from_numpy(self.errors[chosen])
                    into[:, : errors.shape[1]].index_add_(0, places, errors, alpha=float(weight))


def uses(loss: Tensor, weights: dict[int, str], biases: dict[str, int]) -> dict[str, list[Use]]:
    """Return the uses of weights, of each weight all of whose uses are recognised.

    Parameters
    ----------
    loss : Tensor
    weights : dict of int to str
        Names of the weights by the `id` of their parameters.
    biases : dict of str to int
        `id` of the bias in the matrix of a weight, by the weight's name.
    """
    found, counts, added = dict[str, list[Use | None]](), Counter[int](), dict[Any, int]()
    stack, seen = [loss.grad_fn] if weights else [], set[Any]()
    while stack:
        node = stack.pop()
        if _kind(node) == "AddBackward0" and _saved(node, "alpha") == 1:
            added.update(_joined(node))
        for position, (below, _) in enumerate(node.next_functions):
            turned = _kind(below) == "TBackward0"
            inner = below.next_functions[0][0] if turned else below
            parameter = _parameter(inner)
            counts[id(parameter)] += 1
            name = weights.get(id(parameter))
            if name is not None:
                use = recognised(node, position, turned, parameter)
                if use is not None and name in biases and (turned or use.bias_at):  # else it is no column
                    at = node.next_functions[use.bias_at][0]
                    use.biased = id(_parameter(at)) == biases[name]
                found.setdefault(name, []).append(use)
            elif below is not None and below not in seen:
                seen.add(below)
                stack.append(below)
    known = {name: [each for each in whole if each] for name, whole in found.items() if None not in whole}
    for name, whole in known.items():
        bias = biases.get(name, 0)
        joined = [each for each in whole if each.biased or (each.turned and added.get(each.node) == bias)]
        for each in joined if len(joined) == counts[bias] else ():
            each.joined = True
        if sum(each.biased for each in whole) != counts[bias]:  # it is used elsewhere, too
            for each in whole:
                each.biased = False
    return known


def _joined(node: Any) -> Iterator[tuple[Any, int]]:
    """Yield a node and the `id` of the parameter that a sum adds to its result, which may be reshaped before.

    The bias of a linear layer is added so where its inputs are not contiguous.
    """
    for position, (below, _) in enumerate(node.next_functions):
        while _kind(below) in ("ViewBackward0", "UnsafeViewBackward0"):
            below = below.next_functions[0][0]
        parameter = _parameter(node.next_functions[1 - position][0])
        if below is not None and parameter is not None:
            yield below, id(parameter)


def recognised(node: Any, position: int, turned: bool, weight: Tensor) -> Use | None:
    """Return the use of a weight, or of its transpose, as an input of a node; None if it is not known."""
    made: Use | None = None
    plain = {"AddmmBackward0": (2, "mat1"), "MmBackward0": (1, "self")}
    if _kind(node) in plain:
        at, saved = plain[_kind(node)]
        inputs = _saved(node, saved)
        scaled = _kind(node) == "AddmmBackward0" and (_saved(node, "alpha"), _saved(node, "beta")) != (1, 1)
        if position == at and inputs is not None and not scaled:
            made = Linear(node, inputs, turned)
    elif _kind(node) == "ConvolutionBackward0" and position == 1 and not turned:
        inputs, groups = _saved(node, "input"), _saved(node, "groups")
        if inputs is not None and groups == 1 and _saved(node, "transposed") is False:
            convolution = Convolution(node, inputs, weight.shape)
            made = None if None in convolution.geometry else convolution
    elif _kind(node) == "EmbeddingBackward0" and position == 0 and not turned:
        indices, special = (
            _saved(node, "indices"),
            (_saved(node, "scale_grad_by_freq"), _saved(node, "sparse")),
        )
        if indices is not None and special == (False, False) and _saved(node, "padding_idx") is not None:
            made = Lookup(node, indices)
    if made is None or made.inputs.layout != torch.strided:
        return None
    made.hidden = node.next_functions[position - 1][0] is not None  # of an embedding it is the weight
    return made if made.inputs.dtype == weight.dtype or made.kind == "lookup" else None


def products(found: dict[str, list[Use]], rows: int) -> dict[str, Products]:
    """Return how the gradients of weights arise, for so many rows."""
    kinds = {name: {each.kind for each in whole} for name, whole in found.items()}
    return {
        name: Products(
            sum(each.samples for each in whole) / rows,
            kinds[name].pop(),
            prod(whole[0].kernel),
            all(each.joined for each in whole) and any(each.hidden for each in whole),
            all(each.biased for each in whole),
        )
        for name, whole in found.items()
        if len(kinds[name]) == 1
    }


def mean(whole: list[Use]) -> Array:
    """Return the mean of the inputs of a weight's uses, shape (inputs,)."""
    means, samples = [_array(each.mean()) for each in whole], [each.samples for each in whole]
    return np.average(means, axis=0, weights=samples) if len(whole) > 1 else means[0]


def _kind(node: Any) -> str:
    """Return the name of a node, which `name()` takes longer to find."""
    return type(node).__name__


def _parameter(node: Any) -> Any:
    """Return the parameter whose gradient a node accumulates; None if it does not."""
    return node.variable if _kind(node) == "AccumulateGrad" else None


def _saved(node: Any, name: str) -> Any:
    """Return what a node has saved; None if this version of PyTorch does not show it."""
    return getattr(node, f"_saved_{name}", None)


def _array(tensor: Tensor) -> Array:
    found: Array = tensor.detach().contiguous().numpy()
    return found
