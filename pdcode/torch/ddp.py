"""A communication hook for PyTorch's DistributedDataParallel (DDP) that sends codewords of gradients.

Each rank whitens the gradient of each hidden matrix (`problems.whitening`), adds the residual of earlier
steps (error feedback), and sends codewords of the result: rounded to two bits an element and gathered by all
ranks, or to float16 or eight bits, and added up. Each rank decodes the same mean. Embeddings, output layers
and normalisation are not whitened, and vectors are sent whole; rounding errors stay in the residual.

A linear layer with more units than the rank has samples is whitened by its samples: hooks of `nn.Linear` keep
inputs and errors of a pass, and a few rows of the gradient tell whether it is their product. If a parameter
is the same when a pass begins with gradients that were cleared, the script has thrown the last gradients
away, and the residual returns to the state at the last step.

Three lines change in a script::

    from pdcode.torch import ddp
    coded = ddp.Coded(model)  # model = DistributedDataParallel(…)
    model.register_comm_hook(coded, ddp.hook)
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from itertools import pairwise
from math import ceil
from typing import Any, NoReturn

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .. import codes
from ..kernels import decode, encode, finite, fold, quantise
from ..problems.factors import DenseFactors, FactoredGradient
from ..problems.whitening import WhitenedGradient, Whitening, form_of
from ..schemes.common.assignments import Rotating
from ..transport.layout import Pair, uncoded_codeword
from ..transport.units import Blocks, Unit
from ..util.errors import InputError, expected
from ..util.rng import WIRE

WIRES = "int2", "float16", "int8"
INT2 = quantise.KINDS["int2"]
BLOCK, LEAST_BLOCKS = 256, 8  # elements of a block; a parameter of fewer blocks is sent whole
STEP = 4  # number of blocks: a multiple of it, as codes of weight 4 need
LARGEST = float(np.finfo(np.float16).max)
CHECKED, CLOSE = 8, 0.02  # rows of a gradient compared with its factors; inputs may be rounded to bfloat16
WATCHED = 256  # elements of a parameter by which a change is seen that PyTorch does not count
OUTSIDE = nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase
"""Modules whose parameters are not whitened."""


def hidden_matrices(module: nn.Module) -> list[str]:
    """Return the names of the parameters that are whitened by default.

    They are all trainable matrices and kernels of convolutions, but not embeddings, normalisation,
    or the last one of the module, in the order of definition: the output layer.
    """
    outside = {
        id(each)
        for part in module.modules()
        if isinstance(part, OUTSIDE)
        for each in part.parameters(recurse=False)
    }
    trained = [(name, each) for name, each in module.named_parameters() if each.requires_grad]
    names = [name for name, each in trained if each.ndim > 1 and id(each) not in outside]
    return names[:-1]


class Section:
    """One parameter at one rank: its residual, its codewords and its whitening.

    `payload` has the rows of a message, `scratch` a gradient, and `before` the residual at the last step.
    """

    def __init__(
        self, name: str, number: int, parameter: Tensor, whitening: Whitening | None, state: "Coded"
    ) -> None:
        if parameter.device.type != "cpu":
            raise InputError(f"pdcode.torch.ddp: {name} is on {parameter.device}: only CPU tensors are coded")
        dtype = np.dtype(np.float64 if parameter.dtype == torch.float64 else np.float32)
        rows, length = (parameter.shape or (1,))[0], parameter.numel()
        self.name, self.task, self._state = name, 0, state
        self.memory, self.before, self.scratch = np.zeros((3, length), dtype)
        self._tensor = torch.from_numpy(self.scratch).view(parameter.shape)
        self._matrix, self._whitened = self.scratch.reshape(rows, -1), whitening is not None
        self._parameter, self._seen, self.factors = parameter, (-1, parameter), list[DenseFactors]()
        if whitening is not None:
            self._whitening = whitening
            self._blocks = Blocks(0, "output", 1, rows, length // rows, 0, 0)
            self._by_samples: FactoredGradient | None = None
        self._uncoded, self._codes, self.rows, self.block = uncoded_codeword(dtype), None, 1, length
        count = length // BLOCK // STEP * STEP
        if parameter.ndim > 1 and count >= LEAST_BLOCKS:
            unit, self.rows = Unit(0, length, count), ceil(state.share * count)
            self.block = unit.elements
            code = codes.design(state.family, codes.fitting_rows(state.family, self.rows, count), count)
            given = [unit], [self.rows], dtype, {count: code}, state.seed
            self._codes = Rotating(*given, by_worker=True)
        self.payload = np.zeros((self.rows, self.block), dtype)
        self._keys = state.seed, WIRE, state.rank, number

    def codewords(self, rank: int) -> Pair:
        """Return the codewords of a rank in this step."""
        if self._codes is None:
            return self._uncoded
        return self._codes.codewords(self._codes.row_of(rank, self.task))[0]

    def watch(self, _: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        """Keep the factors of a layer's gradient when the backward pass gets there: a forward hook."""
        if not outputs.requires_grad or torch.compiler.is_compiling():
            return
        rows = inputs[0].detach().reshape(-1, self._matrix.shape[1])
        if self._is_by_samples(len(rows)):
            outputs.register_hook(partial(self._keep, rows))

    def _keep(self, inputs: Tensor, errors: Tensor) -> None:
        kept = sum(len(each.errors) for each in self.factors)
        if self._is_by_samples(kept + len(inputs)):  # else `_whiten` finds that some are missing
            pair = errors.detach().reshape(len(inputs), -1), inputs
            delta, rows = (each.to(self._tensor.dtype).numpy() for each in pair)
            self.factors.append(DenseFactors(delta, rows, None))

    def _is_by_samples(self, samples: int) -> bool:
        """Return whether it takes fewer operations to whiten the gradient of so many samples by them."""
        entries = self._matrix.shape[1] + 1.0
        return form_of(self._blocks, samples, entries, self._whitening, formed=True) == "samples"

    def _whiten(self) -> None:
        """Whiten the gradient in `scratch`, by the factors if it is their product."""
        factors, self.factors = self.factors, []
        samples = sum(len(each.errors) for each in factors)
        if samples and self._is_product(factors):
            if self._by_samples is None or self._by_samples.samples != samples:
                payload = np.empty((1, 1), self.memory.dtype)  # no codewords of it are asked for
                self._by_samples = FactoredGradient(self._blocks, samples, self._whitening, 1.0, payload)
            self._by_samples.fill(factors)
            self._by_samples.form(self._matrix)
        else:
            self._by_gradient.run()

    @cached_property
    def _by_gradient(self) -> WhitenedGradient:
        return WhitenedGradient(self._blocks, self._matrix, self._whitening)

    def _is_product(self, factors: Sequence[DenseFactors]) -> bool:
        """Return whether some rows of the gradient are the product of the factors: none is missing."""
        rows = np.unique(np.linspace(self.task % 7, len(self._matrix) - 1, CHECKED).astype(int))
        product = sum(each.errors[:, rows].T @ each.inputs for each in factors)
        some = self._matrix[rows]
        return bool(np.abs(product - some).max() <= CLOSE * np.abs(some).max())

    def begin(self) -> None:
        """Forget the passes before this one if the script has thrown their gradients away."""
        if self.factors or not self._stepped():
            gradient = self._parameter.grad
            if gradient is None or not gradient.any():
                self.factors = []
                self.residual = self.residual  # without the passes since the last step

    @property
    def residual(self) -> np.ndarray:
        """The residual of the passes whose gradients were used."""
        return self.memory if self._stepped() else self.before

    @residual.setter
    def residual(self, residual: np.ndarray) -> None:
        self.memory[:] = residual
        self._seen = -1, self._seen[1]  # no pass since

    def _stepped(self) -> bool:
        """Return whether the parameter has changed since the last pass, or there was none."""
        version, sample = self._seen
        return version != self._parameter._version or not torch.equal(sample, self._sample())

    def _sample(self) -> Tensor:
        values = self._parameter.detach().flatten()
        return values[:: max(1, len(values) // WATCHED)].clone()

    def load(self, gradient: Tensor, scale: float) -> bool:
        """Take a gradient into `scratch`, whitened and without a scale; return whether it is finite."""
        self._tensor.copy_(gradient)
        if self._stepped():
            np.copyto(self.before, self.memory)
            self._seen = self._parameter._version, self._sample()
        if not finite.all_finite(self.scratch):
            self.factors = []
            return False
        if scale != 1:  # which may be so large that squares overflow
            self.scratch /= scale
            self.factors = [DenseFactors(each.errors / scale, each.inputs, None) for each in self.factors]
        if self._whitened:
            self._whiten()
        return True

    def round(self, wire: np.ndarray) -> None:
        """Encode and round the gradient in `scratch` into a message of two bits an element."""
        seed, stream, rank, number = self._keys
        keys = seed, stream, rank, self.task, number
        fold.encode(
            self.memory, self.scratch, *self.codewords(rank), self.block, INT2, wire, self.payload, *keys
        )

    def encode(self) -> None:
        """Encode the gradient in `scratch` into `payload`, by codewords that all ranks share."""
        encode.feedback_encode(self.memory, self.scratch, *self.codewords(0), self.block, self.payload)

    def restore(self, error: np.ndarray) -> None:
        """Add what rounding has left out of the payload to the residual."""
        decode.adjoint_decode(self.memory, *self.codewords(0), error.reshape(self.payload.shape), 1.0)

    def average(self, wires: Sequence[np.ndarray], gradient: Tensor, scale: float) -> None:
        """Decode the mean of the rounded messages of all ranks."""
        self.scratch.fill(0)
        for rank, wire in enumerate(wires):
            pair = self.codewords(rank)
            if fold.decode(self.scratch, *pair, self.block, INT2, wire, -1 / len(wires)) < 0:
                self.scratch.fill(np.nan)
        self._finish(gradient, scale)

    def decode(self, mean: np.ndarray, gradient: Tensor, scale: float) -> None:
        """Decode a mean of payloads."""
        self.scratch.fill(0)
        decode.adjoint_decode(self.scratch, *self.codewords(0), mean.reshape(self.payload.shape), 1.0)
        self._finish(gradient, scale)

    def _finish(self, gradient: Tensor, scale: float) -> None:
        gradient.copy_(self._tensor if scale == 1 else self._tensor.mul_(scale))
        self.task += 1


class Coded:
    """State of the hook: the residuals of this rank, by the names of parameters, and how they are coded.

    Parameters
    ----------
    module : Module, optional
        The model, a `DistributedDataParallel` or the module in it, on the CPU; `bind` takes one later.
    wire : {"int2", "float16", "int8"}
        Wire format: two bits an element, with codewords that differ between the ranks, gathered by all; or
        float16 or eight bits, with codewords that all ranks share, added up. With eight bits, n ranks have
        127/n steps in each direction.
    share : float
        Share of the elements of a parameter that a rank sends in a step, above 0 and at most 1. Parameters of
        fewer than 2,048 elements, and vectors, are sent whole.
    whitened : iterable of str, optional
        Names of the parameters whose gradients are whitened; default: `hidden_matrices`.
    steps : int
        Number of Newton–Schulz steps of the whitening.
    family : str
        Family of the codes, see ``pdcode codes list``; "uncoded": blocks in turn.
    seed : int
        Key of the codes, the same on all ranks.
    process_group : ProcessGroup, optional
        The ranks; default: the ranks of a `DistributedDataParallel`, or all.
    scaler : GradScaler, optional
        The scaler of the loss. Gradients are whitened and kept without its scale, and handed over with it.

    Attributes
    ----------
    bytes : int
        Bytes that this rank has given to collective operations.

    Raises
    ------
    InputError
        If an argument is invalid, or a parameter is not on the CPU.

    Notes
    -----
    A whitened gradient has a length of its own: it asks for a learning rate of its own, whatever the loss.
    What was left out of a step comes in a later one, so a momentum of about 0.5 does better than 0.9.
    """

    def __init__(
        self,
        module: nn.Module | None = None,
        *,
        wire: str = "int2",
        share: float = 0.25,
        whitened: Iterable[str] | None = None,
        steps: int = 5,
        family: str = "uncoded",
        seed: int = 0,
        process_group: Any = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        if wire not in WIRES:
            raise InputError(f"pdcode.torch.ddp: wire: {expected(wire, WIRES)}")
        if not 0 < share <= 1:
            raise InputError(f"pdcode.torch.ddp: share: {share!r} is not above 0 and at most 1")
        self.group, self.wire, self.share, self.family = process_group, wire, share, family
        self.seed, self.steps, self.scaler, self.bytes = seed, steps, scaler, 0
        self._names = None if whitened is None else {*whitened}
        self._sections: dict[int, Section] = {}
        if module is not None:
            self.bind(module)

    def bind(self, module: nn.Module) -> None:
        """Take the model, if it was not there yet when the state was made: a trainer makes it later.

        Parameters
        ----------
        module : Module
            As for the constructor; the process group is initialised.

        Raises
        ------
        InputError
            If the state has a model, or as the constructor does.
        """
        if self._sections:
            raise InputError("pdcode.torch.ddp: the state has a model")
        if isinstance(module, DistributedDataParallel):
            self.group, module = self.group or module.process_group, module.module
        self.rank, self.ranks = dist.get_rank(self.group), dist.get_world_size(self.group)
        if self.wire == "int8" and self.ranks > 127:
            raise InputError(f"pdcode.torch.ddp: wire: 'int8' is for up to 127 ranks, not {self.ranks}")
        trained = {name: each for name, each in module.named_parameters() if each.requires_grad}
        names = {*hidden_matrices(module)} if self._names is None else self._names
        for name in sorted(names - {name for name, each in trained.items() if each.ndim > 1}):
            raise InputError(f"pdcode.torch.ddp: whitened: {name!r} is no trained matrix of the model")
        self._whitened, self._parameters = sorted(names), [*trained.values()]  # which fixes their ids
        whitening = Whitening("gram", self.steps)
        self._sections = {
            id(each): Section(name, number, each, whitening if name in names else None, self)
            for number, (name, each) in enumerate(trained.items())
        }
        module.register_forward_pre_hook(self._begin)
        for part in module.modules():
            section = self._sections.get(id(getattr(part, "weight", None)))
            if isinstance(part, nn.Linear) and section is not None and section.name in names:
                part.register_forward_hook(section.watch)

    def _ensure_bound(self) -> None:
        if not self._sections:
            raise InputError("pdcode.torch.ddp: the state has no model yet: call bind(model) first")

    def _begin(self, *_: object) -> None:
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            for section in self._sections.values():
                section.begin()

    def reduce(self, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        """Start the reduction of a bucket; return the future of its buffer, with the mean that is decoded."""
        gradients = bucket.gradients()
        self._ensure_bound()
        try:
            sections = [self._sections[id(each)] for each in bucket.parameters()]
        except KeyError:
            raise InputError("pdcode.torch.ddp: a bucket has a parameter that is not the model's") from None
        scale = 1.0 if self.scaler is None else self.scaler.get_scale()
        work, read = (self._gather if self.wire == "int2" else self._add)(sections, gradients, scale)

        def finish(_: object) -> Tensor:
            for section, part, gradient in zip(sections, read(), gradients, strict=True):
                if self.wire == "int2":
                    section.average(part, gradient, scale)
                else:
                    section.decode(part, gradient, scale)
            return bucket.buffer()

        return work.get_future().then(finish)

    def _gather(
        self, sections: list[Section], gradients: list[Tensor], scale: float
    ) -> tuple[Any, Callable[[], list]]:
        """Start an all-gather of rounded messages; return it, and a function that gives each section's."""
        ends = np.cumsum([quantise.size(INT2, each.rows, each.block) for each in sections]).tolist()
        places = [slice(*pair) for pair in pairwise([0, *ends])]
        message = torch.empty(ends[-1], dtype=torch.uint8)
        gathered = [torch.empty_like(message) for _ in range(self.ranks)]
        for section, gradient, place in zip(sections, gradients, places, strict=True):
            wire = message.numpy()[place]
            if section.load(gradient, scale):
                section.round(wire)
            else:
                quantise.encode(INT2, np.full(section.payload.size, np.nan), wire, section.rows, 0, 0, 0, 0)
        self.bytes += len(message)
        work = dist.all_gather(gathered, message, group=self.group, async_op=True)
        return work, lambda: [[each.numpy()[place] for each in gathered] for place in places]

    def _add(
        self, sections: list[Section], gradients: list[Tensor], scale: float
    ) -> tuple[Any, Callable[[], list]]:
        """Start an all-reduce of payloads; return it, and a function that gives each section's mean."""
        ends = np.cumsum([0, *(each.payload.size for each in sections)]).tolist()
        places = [slice(*pair) for pair in pairwise(ends)]
        payload, ready = np.empty(ends[-1], sections[0].payload.dtype), []
        for section, gradient, place in zip(sections, gradients, places, strict=True):
            if section.load(gradient, scale):
                section.encode()
                ready.append((section, place))
            else:
                section.payload.fill(np.nan)
            payload[place] = section.payload.reshape(-1)
        sent, unit = self._round(payload, [each.block for each in sections for _ in range(each.rows)])
        with np.errstate(invalid="ignore"):
            error = payload - sent * unit
        error = np.where(np.isfinite(error), error, payload)
        for section, place in ready:
            section.restore(error[place])
        self.bytes += sent.nbytes

        def read() -> list[np.ndarray]:
            with np.errstate(invalid="ignore"):
                mean = (sent * (unit / self.ranks)).astype(payload.dtype)
            return [mean[place] for place in places]

        return dist.all_reduce(torch.from_numpy(sent), group=self.group, async_op=True), read

    def _round(self, payload: np.ndarray, lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Round a payload, with rows of these lengths; return numbers to be added up, and their scales."""
        if self.wire == "float16":
            most = LARGEST / self.ranks * (1 - 2**-11) ** self.ranks  # sums are rounded, too
            halves = np.clip(payload / self.ranks, -most, most).astype(np.float16)
            return halves, np.full(1, self.ranks, payload.dtype)
        largest = np.maximum.reduceat(np.abs(payload), np.cumsum([0, *lengths[:-1]]))
        shared = torch.from_numpy(np.nan_to_num(largest, nan=np.inf))
        dist.all_reduce(shared, dist.ReduceOp.MAX, group=self.group)  # all ranks need the same scales
        self.bytes += shared.nbytes
        scale = np.repeat(shared.numpy() / (127 // self.ranks), lengths)
        codes = np.zeros_like(payload)
        np.divide(payload, scale, out=codes, where=(scale > 0) & np.isfinite(scale))
        return np.rint(codes).astype(np.int8), scale

    def state_dict(self) -> dict[str, Any]:
        """Return the state of this rank, which differs from the state of others: numbers, texts and tensors.

        ``torch.load`` reads a file of it without unpickling code.
        """
        residuals = {each.name: torch.from_numpy(each.residual.copy()) for each in self._sections.values()}
        tasks = {each.name: each.task for each in self._sections.values()}
        return {"coding": self._coding(), "tasks": tasks, "residuals": residuals}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state that this rank has saved.

        Raises
        ------
        InputError
            If it is the state of another rank, number of ranks or model, or of other arguments.
        """
        coding, named = self._coding(), {each.name: each for each in self._sections.values()}
        for key, value in coding.items():
            if (saved := state["coding"].get(key)) != value:
                raise InputError(f"pdcode.torch.ddp: the state has {key} = {saved!r}, not {value!r}")
        sizes = {name: len(each.memory) for name, each in named.items()}
        if {name: len(each) for name, each in state["residuals"].items()} != sizes:
            raise InputError("pdcode.torch.ddp: the state is of another model")
        for name, section in named.items():
            section.task = state["tasks"][name]
            section.residual = state["residuals"][name].numpy()

    def _coding(self) -> dict[str, Any]:
        """Return what must be the same when a state is loaded."""
        self._ensure_bound()
        names = "rank", "ranks", "wire", "share", "family", "seed", "steps"
        return {name: getattr(self, name) for name in names} | {"whitened": self._whitened}

    def __reduce__(self) -> NoReturn:
        raise TypeError("a process group cannot be pickled: save Coded.state_dict()")


def hook(state: Coded, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Reduce a bucket of gradients: the hook to register with a state, ``Coded``."""
    return state.reduce(bucket)
