"""A communication hook for PyTorch's DistributedDataParallel (DDP) that sends codewords of gradients.

Each rank whitens the gradient of each hidden matrix (`problems.whitening`), adds the residual of earlier
steps (error feedback), and sends codewords of the result: rounded to two bits an element and gathered by all
ranks, or to float16 or eight bits, and added up. Each rank decodes the same mean. Embeddings, output layers
and normalisation are not whitened, and vectors are sent whole; rounding errors stay in the residual.

Three lines change in a script::

    from pdcode.torch import ddp
    coded = ddp.Coded(model)  # model = DistributedDataParallel(…)
    model.register_comm_hook(coded, ddp.hook)
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
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
from ..problems.whitening import WhitenedGradient, Whitening
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

    `payload` has the rows of a message, `scratch` a gradient.
    """

    def __init__(
        self, name: str, number: int, parameter: Tensor, whitening: Whitening | None, state: "Coded"
    ) -> None:
        if parameter.device.type != "cpu":
            raise InputError(f"pdcode.torch.ddp: {name} is on {parameter.device}: only CPU tensors are coded")
        dtype = np.dtype(np.float64 if parameter.dtype == torch.float64 else np.float32)
        rows, length = (parameter.shape or (1,))[0], parameter.numel()
        self.name, self.task, self._state = name, 0, state
        self.memory, self.scratch = np.zeros(length, dtype), np.zeros(length, dtype)
        self._tensor = torch.from_numpy(self.scratch).view(parameter.shape)
        self._whiten: Callable[[], None] = lambda: None
        if whitening is not None:
            blocks = Blocks(0, "output", 1, rows, length // rows, 0, 0)
            self._whiten = WhitenedGradient(blocks, self.scratch.reshape(rows, -1), whitening).run
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

    def load(self, gradient: Tensor) -> bool:
        """Take a gradient into `scratch`, whitened; return whether it is finite."""
        self._tensor.copy_(gradient)
        if not finite.all_finite(self.scratch):
            return False
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

    def average(self, wires: Sequence[np.ndarray], gradient: Tensor) -> None:
        """Decode the mean of the rounded messages of all ranks."""
        self.scratch.fill(0)
        for rank, wire in enumerate(wires):
            pair = self.codewords(rank)
            if fold.decode(self.scratch, *pair, self.block, INT2, wire, -1 / len(wires)) < 0:
                self.scratch.fill(np.nan)
        self._finish(gradient)

    def decode(self, mean: np.ndarray, gradient: Tensor) -> None:
        """Decode a mean of payloads."""
        self.scratch.fill(0)
        decode.adjoint_decode(self.scratch, *self.codewords(0), mean.reshape(self.payload.shape), 1.0)
        self._finish(gradient)

    def _finish(self, gradient: Tensor) -> None:
        gradient.copy_(self._tensor)
        self.task += 1


class Coded:
    """State of the hook: the residuals of this rank, by the names of parameters, and how they are coded.

    Parameters
    ----------
    module : Module
        The model, a `DistributedDataParallel` or the module in it, on the CPU.
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
        module: nn.Module,
        *,
        wire: str = "int2",
        share: float = 0.25,
        whitened: Iterable[str] | None = None,
        steps: int = 5,
        family: str = "uncoded",
        seed: int = 0,
        process_group: Any = None,
    ) -> None:
        if isinstance(module, DistributedDataParallel):
            process_group, module = process_group or module.process_group, module.module
        if wire not in WIRES:
            raise InputError(f"pdcode.torch.ddp: wire: {expected(wire, WIRES)}")
        if not 0 < share <= 1:
            raise InputError(f"pdcode.torch.ddp: share: {share!r} is not above 0 and at most 1")
        self.group, self.wire, self.share, self.family = process_group, wire, share, family
        self.seed, self.steps = seed, steps
        self.rank, self.ranks = dist.get_rank(process_group), dist.get_world_size(process_group)
        if wire == "int8" and self.ranks > 127:
            raise InputError(f"pdcode.torch.ddp: wire: 'int8' is for up to 127 ranks, not {self.ranks}")
        trained = {name: each for name, each in module.named_parameters() if each.requires_grad}
        names = {*(hidden_matrices(module) if whitened is None else whitened)}
        for name in sorted(names - {name for name, each in trained.items() if each.ndim > 1}):
            raise InputError(f"pdcode.torch.ddp: whitened: {name!r} is no trained matrix of the model")
        self.bytes = 0
        self._whitened, self._parameters = sorted(names), [*trained.values()]  # which fixes their ids
        self._sections = {
            id(each): Section(name, number, each, Whitening("gram", steps) if name in names else None, self)
            for number, (name, each) in enumerate(trained.items())
        }

    def reduce(self, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        """Start the reduction of a bucket; return the future of its buffer, with the mean that is decoded."""
        gradients = bucket.gradients()
        try:
            sections = [self._sections[id(each)] for each in bucket.parameters()]
        except KeyError:
            raise InputError("pdcode.torch.ddp: a bucket has a parameter that is not the model's") from None
        work, read = (self._gather if self.wire == "int2" else self._add)(sections, gradients)

        def finish(_: object) -> Tensor:
            for section, part, gradient in zip(sections, read(), gradients, strict=True):
                if self.wire == "int2":
                    section.average(part, gradient)
                else:
                    section.decode(part, gradient)
            return bucket.buffer()

        return work.get_future().then(finish)

    def _gather(self, sections: list[Section], gradients: list[Tensor]) -> tuple[Any, Callable[[], list]]:
        """Start an all-gather of rounded messages; return it, and a function that gives each section's."""
        ends = np.cumsum([quantise.size(INT2, each.rows, each.block) for each in sections]).tolist()
        places = [slice(*pair) for pair in pairwise([0, *ends])]
        message = torch.empty(ends[-1], dtype=torch.uint8)
        gathered = [torch.empty_like(message) for _ in range(self.ranks)]
        for section, gradient, place in zip(sections, gradients, places, strict=True):
            wire = message.numpy()[place]
            if section.load(gradient):
                section.round(wire)
            else:
                quantise.encode(INT2, np.full(section.payload.size, np.nan), wire, section.rows, 0, 0, 0, 0)
        self.bytes += len(message)
        work = dist.all_gather(gathered, message, group=self.group, async_op=True)
        return work, lambda: [[each.numpy()[place] for each in gathered] for place in places]

    def _add(self, sections: list[Section], gradients: list[Tensor]) -> tuple[Any, Callable[[], list]]:
        """Start an all-reduce of payloads; return it, and a function that gives each section's mean."""
        ends = np.cumsum([0, *(each.payload.size for each in sections)]).tolist()
        places = [slice(*pair) for pair in pairwise(ends)]
        payload, ready = np.empty(ends[-1], sections[0].payload.dtype), []
        for section, gradient, place in zip(sections, gradients, places, strict=True):
            if section.load(gradient):
                section.encode()
                ready.append((section, place))
            else:
                section.payload.fill(np.nan)
            payload[place] = section.payload.reshape(-1)
        sent, scale = self._round(payload, [each.block for each in sections for _ in range(each.rows)])
        with np.errstate(invalid="ignore"):
            error = payload - sent * scale
        error = np.where(np.isfinite(error), error, payload)
        for section, place in ready:
            section.restore(error[place])
        self.bytes += sent.nbytes

        def read() -> list[np.ndarray]:
            with np.errstate(invalid="ignore"):
                mean = (sent * (scale / self.ranks)).astype(payload.dtype)
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
        residuals = {each.name: torch.from_numpy(each.memory.copy()) for each in self._sections.values()}
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
            section.memory[:] = state["residuals"][name].numpy()

    def _coding(self) -> dict[str, Any]:
        """Return what must be the same when a state is loaded."""
        names = "rank", "ranks", "wire", "share", "family", "seed", "steps"
        return {name: getattr(self, name) for name in names} | {"whitened": self._whitened}

    def __reduce__(self) -> NoReturn:
        raise TypeError("a process group cannot be pickled: save Coded.state_dict()")


def hook(state: Coded, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Reduce a bucket of gradients: the hook to register with a state, ``Coded``."""
    return state.reduce(bucket)
