"""`TorchModel`: a module whose parameters are views of θ."""

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from functools import cached_property, partial
from math import nan, prod
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from ..config import kinds
from ..kernels import philox
from ..problems.dataset import Rows
from ..problems.factors import DenseFactors, Factors, Products
from ..problems.function import FLOPS, chunks, mean, scored
from ..problems.matrix import Array
from ..problems.model import Key, Measurement, Model
from ..problems.partition import arrange
from ..util import threads
from ..util.errors import InputError, not_a_file
from ..util.rng import MODEL
from . import examination, graph
from .losses import CLASSES, REGRESSIONS, accuracy, functional, of_outputs

CHUNK = 256  # rows that are measured at once
STATISTICS = 2048  # training rows from which statistics of the data are computed
LARGE = 1 << 14  # elements of a matrix whose gradient is not copied
ZERO_ROWS = 2  # a forward pass of these rows shows how matrices are used; one row has no variance
CHECKED = 4  # rows whose gradient by factors is compared with the other one
CACHED = 1 << 26  # bytes of arrays whose views are kept, four arrays at least


class TorchModel(Model):
    """A module, its loss and its score.

    A weight and the bias of its name are views of one matrix of θ. The statistics of batch
    normalisation are computed anew for each measurement, as are other buffers; of these each worker has its
    own, except for buffers that are not in the module's ``state_dict``.

    Parameters
    ----------
    make : callable or torch.nn.Module
        Function or class that makes the module, or a module.
    options : dict
        Keyword arguments of `make`.
    loss, score : callable
        Functions of module and rows; `score` may be None.
    table : kind.TorchProblem
    """

    checked = False  # PyTorch derives the gradient from the loss

    def __init__(self, make: Any, options: dict[str, Any], loss: Any, score: Any, table: Any) -> None:
        self._make, self._options, self._init, self._batch = make, options, table.init, table.batch
        self.loss, self._score, self._row_flops = loss, score, table.flops
        if score is not None and table.score is None:
            self.score = "accuracy"
        self.near_zero = table.loss_name not in REGRESSIONS if table.near_zero is None else table.near_zero
        self.dtype: torch.dtype = getattr(torch, table.dtype)
        self.given = dict[torch.dtype, str]()  # types that the user's parameters have
        self._seed: int = table.frozen_seed or 0
        self.axis, self.module = table.axis, self._made(self._seed)
        self._parameters = {n: p for n, p in self.module.named_parameters() if p.requires_grad}
        for name, each in self._parameters.items():
            if each.dtype != self.dtype:
                raise InputError(f"problem.module: {name!r} stays {each.dtype}, and is not made {self.dtype}")
        units = {name: place.unit for name, place in self._places.items()}
        self._biases = {  # name and `id` of the bias in a weight's matrix
            units[n].name: (n, id(p))
            for n, p in self._parameters.items()
            if p.dim() == 1 and units[n].inputs and units[n].bias
        }
        self._copies = {  # convolutions would copy transposed weights themselves, in each pass, and slowly
            n: torch.empty_like(p.data)
            for n, p in self._parameters.items()
            if p.dim() > 2 and units[n].axis == "input"
        }
        self._row_bytes = dict[Any, float]()  # by rows' shapes, as those below
        self._products, self._reasons = dict[Any, dict[str, Products]](), dict[Any, str]()  # by rows' shapes
        large = (n for n, p in self._parameters.items() if p.dim() == 2 and p.numel() >= LARGE)
        self._large = [name for name in large if name in self._biases]
        self._started: tuple[int, Array] | None = None  # seed and θ of the last start
        self._bound: Array | None = None
        self._views: OrderedDict[int, tuple[Array, dict[str, Tensor]]] = OrderedDict()
        norms = (nn.modules.batchnorm._NormBase,)
        self._norms = [
            each for each in self.module.modules()
            if isinstance(each, norms) and each.training and each.running_mean is not None
        ]  # fmt: skip
        self._buffers = {
            f"{where}.{name}".lstrip("."): (owner, name)
            for where, owner in self.module.named_modules()
            for name, buffer in owner._buffers.items()
            if buffer is not None and name not in owner._non_persistent_buffers_set
            if not isinstance(owner, norms)
        }
        owners = (*self._norms, *(owner for owner, _ in self._buffers.values() if owner.training))
        self._refreshed = {id(each): each for each in owners}  # by a pass in training mode
        self._start = {name: buffer.clone() for name, buffer in self._own_buffers()}

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: tuple(each.shape) for name, each in self._parameters.items()}

    def initial(self, seed: int) -> Array:
        if seed != (self._seed if self._started is None else self._started[0]):
            self._started = seed, self._flat(self._made(seed))
        return self._last_start().copy()

    def state(self) -> dict[str, Array]:
        return {name: each.numpy().copy() for name, each in self._start.items()}

    def gradient(
        self, theta: Array, rows: Rows, out: Array, key: Key | None, state: dict[str, Array] | None = None
    ) -> float:
        return self.factored(theta, rows, out, key, {} if state is None else state, ())[0]

    def factored(
        self,
        theta: Array,
        rows: Rows,
        out: Array,
        key: Key | None,
        state: dict[str, Array],
        names: Collection[str],
        means: dict[str, Array | None] | None = None,
    ) -> tuple[float, dict[str, list[Factors]]]:
        means = {} if means is None else means
        with self.forward(theta, rows, key, state) as loss:
            views, uses = self._viewed(out), self._uses(loss, {*self._large, *names, *means})
            for name in means:
                if name in uses and self._known(name, uses[name]):
                    means[name] = graph.mean(uses[name])
            whole = {name: uses[name] for name in names if name in uses and self._known(name, uses[name])}
            products = {
                name: uses[name][0]
                for name in self._large
                if name not in names and len(uses.get(name, ())) == 1
                if uses[name][0].node.name() == "AddmmBackward0" and uses[name][0].turned
            }
            done = {*whole, *products}
            done |= {self._biases[name][0] for name in whole if any(each.biased for each in whole[name])}
            asked = [name for name in views if name not in done]
            nodes = [*products.values(), *(each for name in whole for each in whole[name])]
            parameters = [self._parameters[name] for name in asked]
            given = dict[int, Any]()  # to nodes; the engine's results may lack the hooks on their outputs
            for number, each in enumerate(nodes):
                each.node.register_prehook(partial(given.__setitem__, number))
            found = torch.autograd.grad(
                loss, [*parameters, *(each.edge for each in nodes)], allow_unused=True
            )
        captured = enumerate(zip(nodes, found[len(asked) :], strict=True))
        errors = {use: given[number][0] if number in given else each for number, (use, each) in captured}
        for name, gradient in zip(asked, found, strict=False):
            if gradient is None:
                views[name].zero_()
            else:
                views[name].copy_(gradient.to_dense() if gradient.is_sparse else gradient)
        with torch.no_grad():
            for name, use in products.items():
                if errors[use] is None:
                    views[name].zero_()
                else:
                    torch.mm(errors[use].t(), use.inputs, out=views[name])
            return float(loss.item()), {
                name: self._factors(name, whole[name], errors, views) for name in whole
            }

    def products(self, like: Rows) -> dict[str, Products]:
        shape = row_shapes(like)
        if shape not in self._products:
            matrices = {name for name, each in self.shapes.items() if len(each) > 1}
            with self._forward_of_zeros(like) as loss:
                self._products[shape] = graph.products(self._uses(loss, matrices), ZERO_ROWS)
        return self._products[shape]

    def why_not_factored(self, rows: Rows) -> str:
        """Return why gradients are not computed from factors, after a comparison; empty if they are."""
        shape = row_shapes(rows)
        if shape not in self._reasons:
            self._reasons[shape] = self._compared(rows)
        return self._reasons[shape]

    def _compared(self, rows: Rows) -> str:
        """Compare gradients by factors with full ones, of a few rows."""
        from .counting import Counter

        try:
            with kinds.errors_of_user("a pass of rows of zeros"):
                names = [*self.products(rows)]
        except InputError as error:
            return str(error)
        with self._forward_of_zeros(rows) as loss, Counter() as counter:
            self._uses(loss, names)
        if counter.flops:
            return "inputs of layers are not saved, but computed again in the backward pass"
        if not names:
            return "no use of a matrix is recognised"
        some, theta = tuple(each[:CHECKED] for each in rows), self._last_start()
        gradient, out, random = np.empty_like(theta), np.empty_like(theta), np.random.default_rng(0)
        self.gradient(theta, some, gradient, None, self.state())
        _, factors = self.factored(theta, some, out, None, self.state(), names)
        indices, units = np.tile(np.arange(2, dtype=np.int32), (2, 1)), arrange(self.shapes, 2, self.axis)[0]
        for name, layer in ((each.name, each) for each in units if each.inputs and each.name in names):
            values = random.choice([-1, 1], (2, 2)).astype(theta.dtype)
            expected = np.tensordot(values, layer.split(gradient), 1).reshape(-1, layer.width)
            coded = np.zeros_like(expected)
            for each in factors.get(name, ()):
                each.add_coded(layer, indices, values, coded)
            difference, near = np.abs(coded - expected).max(), np.sqrt(np.finfo(theta.dtype).eps)
            if not difference <= near * np.abs(expected).max():
                return f"the gradient of {name!r} by its factors differs by {difference:.2g}"
        return ""

    def examine(self, theta: Array, rows: Rows) -> list[str]:
        return examination.examine(self, theta, rows)

    def why_impure(self, theta: Array, rows: Rows) -> str:
        return examination.why_impure(self, theta, rows)

    def evaluate(self, theta: Array, train: Rows, test: Rows) -> Measurement:
        size = self.rows_at_once(CHUNK, self._batch, train)  # first, as it may bind another θ
        with self._evaluating(theta, train):

            def loss(*rows: Any) -> float:
                return float(self.loss(self.module, *map(torch.as_tensor, rows)).item())

            def score(*rows: Any) -> float:
                return float(self._score(self.module, *map(torch.as_tensor, rows)))

            accuracy = mean(score, scored(train, test), size) if self._score else nan
            return Measurement(mean(loss, train, size), accuracy)

    def losses(self, theta: Array, rows: Rows, parts: Sequence[Rows]) -> list[float]:
        """Return the losses of parts of rows, with the statistics of all."""
        with self._evaluating(theta, rows):
            return [float(self.loss(self.module, *map(torch.as_tensor, part)).item()) for part in parts]

    def flops(self, rows: int, like: Rows) -> float:
        if self._row_flops is None:
            self._row_flops = self._counted(like) or FLOPS * self.size
        return rows * self._row_flops

    def row_bytes(self, like: Rows) -> float:
        """Count the bytes that a forward pass of rows keeps for the backward pass."""
        shape = row_shapes(like)
        if shape not in self._row_bytes:
            self.bind(self._last_start())
            own = {each.untyped_storage().data_ptr() for each in self.module.parameters()}
            kept = dict[int, int]()

            def keep(each: Tensor) -> Tensor:
                storage = each.untyped_storage()
                if storage.data_ptr() not in own:
                    kept[storage.data_ptr()] = storage.nbytes()
                return each

            with saved_tensors_hooks(keep, keep), self.forward(self._last_start(), twice(like)):
                self._row_bytes[shape] = sum(kept.values()) / 2
        return self._row_bytes[shape]

    def weights(self, theta: Array, train: Rows) -> dict[str, Array]:
        """Return a copy of the module's ``state_dict`` at θ, with statistics and buffers of training rows."""
        with self._evaluating(theta, train):
            return {name: each.numpy().copy() for name, each in self.module.state_dict().items()}

    def trained(self, theta: Array, train: Rows) -> nn.Module:
        """Return a copy of the module at θ, in evaluation mode."""
        module = self._made(self._seed)
        weights = self.weights(theta, train)
        module.load_state_dict({name: torch.from_numpy(each) for name, each in weights.items()})
        return module.eval()

    def bind(self, theta: Array) -> None:
        """Make the parameters views of θ, or copies, and set the number of threads, which changes results."""
        if not threads.changed:
            threads.changed.append(partial(_restore, torch.get_num_threads(), torch.get_rng_state()))
        if torch.get_num_threads() != (number := threads.requested() or 1):  # of this thread
            torch.set_num_threads(number)
        if self._bound is theta and not self._copies:
            return
        self._last_start()
        for name, view in self._viewed(theta).items():
            if name in self._copies:
                self._copies[name].flatten(1).copy_(view.flatten(1))
            if self._bound is not theta:
                self._parameters[name].data = self._copies.get(name, view)
        self._bound = theta

    def _made(self, seed: int) -> nn.Module:
        """Make the module, in training mode, with random numbers by the seed."""
        generator = torch.default_generator
        before = generator.get_state()
        generator.manual_seed(seed)
        try:
            with kinds.errors_of_user("problem.module"):
                copied = isinstance(self._make, nn.Module)
                module = deepcopy(self._make) if copied else self._make(**self._options)
                if not isinstance(module, nn.Module):
                    raise InputError(f"problem.module: it is {type(module).__name__}, not a torch.nn.Module")
                examination.refuse_unfit(self._make if copied else module)
                if copied:
                    examination.copy_hooks(self._make, module)
                self.given = self.given or examination.types(module)
                module = examination.converted(module, self.dtype).train()
        finally:
            generator.set_state(before)
        if self._init is not None:
            load_weights(module, self._init)
        return module

    def _last_start(self) -> Array:
        """Return θ of the last start: at first the module has it, until its parameters become views."""
        if self._started is None:
            self._started = self._seed, self._flat(self.module)
        return self._started[1]

    def _flat(self, module: nn.Module) -> Array:
        found = {name: each.detach().numpy() for name, each in module.named_parameters()}
        return self.flat(
            {name: found[name] for name in self.shapes}, np.dtype(str(self.dtype).removeprefix("torch."))
        )

    def _viewed(self, flat: Array) -> dict[str, Tensor]:
        """Return views of an array in θ's order; the last ones are kept."""
        at = flat.__array_interface__["data"][0]
        found = self._views.get(at)
        if found is None:
            found = flat, {name: torch.from_numpy(view) for name, view in self.views(flat).items()}
            self._views[at] = found
            while len(self._views) > max(4, CACHED // flat.nbytes):
                self._views.popitem(last=False)
        self._views.move_to_end(at)
        return found[1]

    @contextmanager
    def forward(
        self, theta: Array, rows: Rows, key: Key | None = None, state: dict[str, Array] | None = None
    ) -> Iterator[Tensor]:
        """Compute the loss of rows, with a worker's buffers, by default the buffers at the start."""
        self.bind(theta)
        torch.default_generator.manual_seed(random_seed(key))
        with self._with_buffers(self.state() if state is None else state):
            loss = self.loss(self.module, *map(torch.as_tensor, rows))
            if loss.dim():
                raise InputError(f"problem.loss: it has shape {tuple(loss.shape)}, not the shape of a number")
            yield loss

    def _forward_of_zeros(self, like: Rows) -> AbstractContextManager[Tensor]:
        """Compute the loss of rows that are the same at all ranks and workers."""
        rows = tuple(np.zeros((ZERO_ROWS, *each.shape[1:]), each.dtype) for each in like)
        return self.forward(self._last_start(), rows)

    def _uses(self, loss: Tensor, names: Collection[str]) -> dict[str, list[graph.Use]]:
        hooked = {name for name, each in self._parameters.items() if each._backward_hooks}  # they change it
        weights = {id(self._parameters[name]): name for name in {*names} - hooked}
        biases = {name: number for name, (bias, number) in self._biases.items() if bias not in hooked}
        return graph.uses(loss, weights, biases)

    def _known(self, name: str, uses: list[graph.Use]) -> bool:
        """Return whether uses are of the kind that `products` has found, for any rows."""
        kinds = {found[name].kind for found in self._products.values() if name in found}
        return {each.kind for each in uses} == kinds

    def _factors(
        self, name: str, uses: list[graph.Use], errors: dict[graph.Use, Any], views: dict[str, Tensor]
    ) -> list[Factors]:
        """Return a matrix's factors; the gradient of a bias that is used elsewhere is one of them."""
        bias, (rows, *inner) = name in self._biases, self.shapes[name]
        found = [each.factors(errors[each], bias) for each in uses if errors[each] is not None]
        if bias and not any(each.biased for each in uses):
            gradient = views[self._biases[name][0]].numpy()[None].copy()
            found.append(DenseFactors(gradient, np.zeros((1, prod(inner)), gradient.dtype), 1.0))
        if not found:  # the loss does not depend on them
            zeros = np.zeros((1, rows), self._last_start().dtype)
            found.append(DenseFactors(zeros, np.zeros((1, prod(inner)), zeros.dtype), 0.0 if bias else None))
        return found

    def _own_buffers(self) -> Iterator[tuple[str, Tensor]]:
        for name, (owner, key) in self._buffers.items():
            buffer = owner._buffers[key]
            assert buffer is not None
            yield name, buffer

    @contextmanager
    def _with_buffers(self, state: Mapping[str, Array]) -> Iterator[None]:
        """Lend the module a worker's buffers."""
        lent = {name: torch.from_numpy(array) for name, array in state.items()}
        before = dict(self._own_buffers()) if lent else {}
        self._set_buffers(lent)
        try:
            yield
            for name, buffer in self._own_buffers() if lent else ():
                if buffer is not lent[name]:
                    lent[name].copy_(buffer.detach())
        finally:
            self._set_buffers(before)

    def _set_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        for name, buffer in buffers.items():
            owner, key = self._buffers[name]
            owner._buffers[key] = buffer

    @contextmanager
    def _evaluating(self, theta: Array, train: Rows) -> Iterator[None]:
        """Put the module into evaluation mode at θ, with buffers computed from training rows."""
        size = self.rows_at_once(CHUNK, self._batch, train) if self._refreshed else 0
        self.bind(theta)
        torch.default_generator.manual_seed(random_seed(None))
        momenta = [each.momentum for each in self._norms]
        with self._with_buffers(self.state()), torch.no_grad():
            try:
                self.module.eval()
                for each in self._norms:
                    each.reset_running_stats()
                    each.momentum = None  # an average over all rows
                for owner in self._refreshed.values():
                    owner.training = True
                parts = chunks(tuple(each[:STATISTICS] for each in train), size) if self._refreshed else ()
                for number, part in enumerate(parts):
                    if not number or len(part[0]) == size:
                        self.loss(self.module, *map(torch.as_tensor, part))
                self.module.eval()
                yield
            finally:
                for each, momentum in zip(self._norms, momenta, strict=True):
                    each.momentum = momentum
                self.module.train()

    def _counted(self, like: Rows) -> float:
        """Count the operations of a row's gradient."""
        from .counting import Counter

        theta = self._last_start()
        with Counter() as counter:
            self.gradient(theta, twice(like), np.empty_like(theta), None, self.state())
        return counter.flops / 2


def twice(rows: Rows) -> Rows:
    """Return the first row twice, as one row has no variance."""
    return tuple(np.repeat(each[:1], 2, axis=0) for each in rows)


def row_shapes(rows: Rows) -> tuple[Any, ...]:
    """Return the shapes and types of a row's parts."""
    return tuple((each.shape[1:], each.dtype) for each in rows)


def _restore(number: int, state: Tensor) -> None:
    """Restore the number of threads and the generator, which models set, for the program of a caller."""
    torch.set_num_threads(number)
    torch.set_rng_state(state)


def random_seed(key: Key | None) -> int:
    """Return the seed of PyTorch's generator for a key."""
    if key is None:
        return 0
    seed, worker, task, step = key
    drawn = np.empty(step + 1, np.int64)
    philox.integers(seed, MODEL, worker, task, np.iinfo(np.int64).max, drawn)
    return int(drawn[-1])


def model_of(table: Any) -> TorchModel:
    """Return the model of a [problem] table, the same one for all workers of a process."""
    made = kinds.referenced("problem.module", table.module)
    loss = table.function_of("loss") if ":" in table.loss else functional(table.loss)
    score = table.function_of("score") or (accuracy if table.loss_name in CLASSES else None)
    if not callable(made):
        raise InputError(f"problem.module: {table.module!r} is neither a module nor makes one")
    common = msgspec.json.encode(msgspec.structs.replace(table, factors="auto"))  # plans use factors or not
    key = made, loss, score, common, table.init and stamp(Path(table.init))
    if key not in _MODELS:
        _MODELS.clear()
        called = of_outputs(loss, table.loss_name, table.dtype)
        _MODELS[key] = TorchModel(made, table.options, called, score, table)
    return _MODELS[key]


_MODELS: dict[Any, TorchModel] = {}


def stamp(path: Path) -> int:
    """Return the time at which a file of weights was written."""
    if why := not_a_file(str(path)):
        raise InputError(f"problem.init: {path}: {why}")
    return path.stat().st_mtime_ns


def load_weights(module: nn.Module, path: str) -> None:
    """Load all weights from a safetensors file; of tied ones one name is enough."""
    try:
        weights = load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"problem.init: {path}: {error}") from None
    own = module.state_dict()
    places = {each.data_ptr() for name, each in own.items() if name in weights}
    missing = [name for name, each in own.items() if name not in weights and each.data_ptr() not in places]
    unknown = [name for name in weights if name not in own]
    shaped = [name for name in weights if name in own and own[name].shape != weights[name].shape]
    for names, what in ((missing, "does not have"), (unknown, "has"), (shaped, "has another shape for")):
        if names:
            raise InputError(
                f"problem.init: {path} {what} {names[0]!r}{' of the module' * (names is missing)}"
            )
    module.load_state_dict(weights, strict=False)
