"""Base classes of kinds: the keys that all kinds of a table have, and the methods that a kind implements."""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import msgspec
from msgspec import Meta

from ..util.capabilities import Capable
from ..util.errors import InputError, short_repr
from ..util.touches import flops_per_touch
from . import kinds
from .building import Kind
from .fields import Candidates, Count, Fraction, NonNegative, Positive, Rate, Real, Seconds
from .requirements import KeyNeeds, Need, Needs, having, lacking, none_of, one_of, unrounded


class CodeTable(Kind, tag_field="family"):
    """The code: the blocks of gradients, and the combinations of blocks that are sent."""

    table, group, default = "code", "codes", "net"
    worker_selected: ClassVar[bool] = False  #: whether workers choose codewords from their gradients
    adapts: ClassVar[bool] = True  #: whether codewords depend on gradients
    default_weight: ClassVar[int | None] = 32  #: default weight of codewords

    #: number of blocks k of all layers or of each; 1: the layer is sent uncoded; "units": one per hidden unit
    blocks: Positive | list[Positive] | Literal["units"] = 16
    #: codewords r per task, of all layers or of each; none: from `share`, or else 1; auto: the largest share
    #: of 1/8, 1/16 and 1/32 that rank 0's link can carry
    rows_per_task: Positive | list[Positive] | Literal["auto"] | None = None
    share: Fraction | None = None  #: r as a fraction of a layer's blocks, rounded up
    #: whitening of each layer's gradient: norm: divided by its norm; gram: then Newton–Schulz steps
    #: towards equal singular values; auto: norm if gradients are centred, or of a linear model, else gram,
    #: but none if the workers' shards differ, targets are real numbers, or batches are full
    whiten: Literal["none", "norm", "gram", "auto"] = "none"
    #: Newton–Schulz steps of a whitened gradient; auto: 3 if a module has layers of several rows a sample,
    #: such as convolutions, and these steps cost little; else 1
    steps: Annotated[int, Meta(ge=1, le=5)] | Literal["auto"] = 1
    #: matrices of these steps: factors: of samples or outputs, from the two factors of a layer's gradient, as
    #: before there was a choice; auto: also of the gradient itself; whichever need the fewest operations
    form: Literal["auto", "factors"] = "auto"

    #: whether gradients of hidden layers are by inputs less their mean, a running one of a worker's batches;
    #: auto: with whitening "norm", if a network has hidden layers; not of modules of PyTorch
    centre: bool | Literal["auto"] = False

    legacy_values: ClassVar[Mapping[str, Any]] = {"form": "factors"}
    effective: ClassVar[KeyNeeds] = {"steps": {"code.whiten": one_of("gram", "auto")}}

    requires: ClassVar[KeyNeeds] = {
        "centre": {
            key: need._replace(when=lambda config: config.code.centre is True)
            for key, need in {
                "problem.kind": having("layered", "a network, or kind 'torch'"),
                "problem.shards": none_of(
                    "common",
                    needed="mini-batches of each worker's own",
                    why="follows a worker's mini-batches",
                ),
            }.items()
        }
    }
    candidates: ClassVar[Candidates] = {"whiten": ("none", "auto")}

    @classmethod
    def find(cls, name: Any) -> Any:
        """Return the class of a family; all families that do not adapt share `DesignedTable`."""
        if isinstance(name, str) and name in kinds.KINDS["families"] and name not in kinds.KINDS["codes"]:
            return DesignedTable  # without a search of the installed packages
        return super().find(name) or DesignedTable

    @classmethod
    def members(cls) -> Iterator[tuple[str, Any]]:
        yield from super().members()
        yield cls.default, DesignedTable  # as of all other families

    @property
    def family(self) -> str:
        """Name of the kind."""
        return self.name_of()

    @property
    def whitening(self) -> tuple[str, int, str, bool]:
        """Kind, steps and form of the whitening, and centring, see `problems.whitening.Whitening`."""
        return self.whiten, 1 if self.steps == "auto" else self.steps, self.form, self.centre is True

    def make(self, config: Any, layers: Any, rows: Any, weights: Any, dtype: Any) -> Any:
        """Return the `Assignment` of codewords to workers, for a code that adapts."""
        raise NotImplementedError


class DesignedTable(CodeTable, tag=False):
    """A code that is designed before the run."""

    adapts: ClassVar[bool] = False
    default_weight: ClassVar[int | None] = None

    family: str = "net"  #: one of `pdcode codes list`, or auto: the design of least coherence
    #: blocks combined by a codeword, of all layers or of each; none: the family's default
    weight: Positive | list[Positive] | None = None
    #: number of codewords n; none: as many as the workers use, or with `rotate` as many as an update uses
    #: (one round of the code if `async`)
    rows: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    #: whether tasks take successive rows; a new code is drawn when the rows run out and, except in `async`
    #: mode, after every update
    rotate: bool = True
    #: options of the family
    options: dict[str, bool | int | float | str] = msgspec.field(default_factory=dict)


class DecoderTable(Kind, tag_field="kind"):
    """The decoder of arrivals to a gradient; by default the one that the memory needs."""

    table, group, default = "decoder", "decoders", "adjoint"
    makes: ClassVar[Any]  #: the subclass of `decoders.Decoder`
    relays: ClassVar[bool] = False  #: whether replicas can follow: its whole state is the accumulator
    adds: ClassVar[bool] = False  #: whether the sum of payloads of equal codewords can replace them
    adapts: ClassVar[bool] = False  #: whether the captured fraction depends on payloads

    def make(self, context: Any) -> Any:
        """Return the decoder of a layer; `context` is a `decoders.Context`."""
        shape = context.blocks, context.block_shape, context.dtype
        return self.makes(*shape, length=context.length, **self.options(context))

    def options(self, context: Any) -> dict[str, Any]:
        """Return the options of the decoder; by default the keys of its table."""
        return msgspec.structs.asdict(self)


class MemoryTable(Kind, tag_field="kind"):
    """Memory of the residual, the part of a gradient that codewords leave out."""

    table, group, default = "memory", "memories", "none"
    decoder: ClassVar[str] = "adjoint"  #: the decoder that it needs, or the default
    decoders: ClassVar[tuple[str, ...]] = ()  #: kinds replaced by the needed decoder; empty: any decoder fits
    has_residual: ClassVar[bool] = False  #: whether workers have residuals

    @property
    def keep(self) -> float:
        """Factor on the residual from task to task; 1 for kinds without the key."""
        return 1.0

    @property
    def lookahead(self) -> Any:
        """Factor on the residual by which a worker anticipates θ, or "auto"; 0 for kinds without the key."""
        return 0.0

    def decoder_for(self, kind: Any) -> Any:
        """Return the kind of the decoder, given the configured kind, or None."""
        if kind is None or kind in self.decoders:
            return self.decoder
        if self.decoders and DecoderTable.find(kind):  # an unknown kind is refused with the others
            raise InputError(
                f"decoder.kind: memory '{self.kind}' needs '{self.decoder}', got {short_repr(kind)}"
            )
        return kind


class UpdateTable(Kind, Capable, tag_field="mode"):
    """The policy that determines the steps of rank 0."""

    table, group, default = "update", "policies", "async"
    legacy_keys: ClassVar[Mapping[str, Any]] = {"count": None, "fraction": 0.75}
    makes: ClassVar[Any]  #: the subclass of `coding.policies.Policy`
    asynchronous: ClassVar[bool] = False  #: whether each payload is an update by itself
    complete: ClassVar[bool] = False  #: whether an update waits for every payload that is outstanding
    #: capability: the number of payloads alone decides when to step
    by_count: ClassVar[bool] = False
    covers: ClassVar[Mapping[str, tuple[str, ...]]] = {"by_count": ("makes", "make")}
    by_fraction: ClassVar[bool] = False  #: whether the captured fraction of the gradient decides
    requires: ClassVar[KeyNeeds] = {
        "clip": {
            "downlink.kind": lacking(
                "exchanges", "'full' or 'codewords'", "workers cannot apply to others' payloads"
            ),
            "workers.count": Need(
                lambda count, config: count >= 3, "3 or more", "cannot know which of two payloads is right"
            ),
        }
    }

    late: Literal["use", "waste"] = "use"  #: whether late payloads are used in the next update or dropped
    #: whether each payload is scaled to at most the median norm of the workers' last payloads, which limits
    #: the influence of a single worker; the clipped part is lost, also to memories
    clip: Literal["none", "median"] = "none"

    @property
    def mode(self) -> str:
        """Name of the kind."""
        return self.name_of()

    def make(self, workers: int) -> Any:
        """Return the policy of a run, a `coding.policies.Policy`."""
        return self.makes(self, workers)

    def resolved(self, workers: int) -> Self:
        """Return the table with the keys that depend on the number of workers."""
        return self

    def min_payloads(self, workers: int) -> int | None:
        """Return the minimum number of payloads of an update; None: their number does not decide."""
        return None

    def typical_payloads(self, workers: int) -> int:
        """Return the approximate number of payloads of an update."""
        return self.min_payloads(workers) or workers

    def step_factor(self, payloads: int, workers: int) -> float:
        """Return the factor on the learning rate of a step of this many payloads."""
        return 1.0

    def can_progress(self, living: int, workers: int) -> bool:
        """Return whether updates continue with `living` workers if the others never answer."""
        min_payloads = self.min_payloads(workers)
        return min_payloads is not None and min_payloads <= living

    def description(self, workers: int) -> str:
        """Return a description of the policy; the text before " of " is a short form."""
        return self.mode


ALONG = "must follow a step along the gradient"


class Proximal(Kind, tag_field="kind"):
    """A penalty h of the weights, included by each step's proximal operator, not in the gradient."""

    table, group, default = "optimizer.proximal", "proximals", "l1"
    bounded: ClassVar[bool] = False  #: whether h is 0 in a set, which θ then does not leave
    requires: ClassVar[KeyNeeds] = {
        "kind": {
            "code.whiten": one_of("none", "auto", why=ALONG),
            "code.centre": one_of(False, "auto", why=ALONG),
            "optimizer.average": Need(
                lambda average, config: not average or config.optimizer.proximal.bounded,
                "false",
                "leaves weights that are 0, which averages are not",
                only=False,
            ),
        }
    }

    def shrink(self, weights: Any, step: float) -> None:
        """Replace a layer's weights, shape (d_out, d_in), in place by prox_{step·h}(weights).

        These are the x that minimise ½‖x - weights‖² + step·h(x).
        """
        raise NotImplementedError

    def value(self, weights: Any) -> float:
        """Return h of a layer's weights."""
        raise NotImplementedError


class OptimizerTable(Kind, tag_field="kind"):
    """The optimizer on rank 0."""

    table, group, default = "optimizer", "optimizers", "sgd"
    legacy_keys: ClassVar[Mapping[str, Any]] = {
        "momentum": 0.0, "nesterov": False, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "proximal": None
    }  # fmt: skip
    makes: ClassVar[Any]  #: the subclass of `coding.optimizers.Optimizer`
    linear: ClassVar[bool] = False  #: whether steps are linear in the gradients
    has_length: ClassVar[bool] = False  #: whether `step_lengths` hold for any gradient
    gives_way: ClassVar[bool] = False  #: whether it is, in a preset, `sgd` if keys of that are given
    #: touches of an element of θ in a step, see `util.touches`; its gradient's and its own are two
    touches: ClassVar[float] = 2.0
    #: number of samples of an update below which rates of presets shrink with its root, and below twice of
    #: which preset "auto" expects more updates by its root; 0: they do not
    fewest_samples: ClassVar[int] = 0

    #: learning rate of a full-gradient step; with memory "worker" each arrival is scaled by 1/n, with the
    #: other memories every update is a full step, also in `async` mode; auto: of whitened gradients by their
    #: matrices and workers, else by a short trial
    rate: Rate = 0.1
    staleness: Literal["constant", "inverse"] = "constant"  #: "inverse": scales payloads by 1/(1 + staleness)
    #: course of the rate after the warm-up: constant, or to the fraction `final` of it, along a line or half
    #: a wave of a cosine
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: Count = 0  #: updates W of the warm-up; the rate of update k < W is (k + 1)/(W + 1) of it
    updates: Positive | None = None  #: number of updates at which the schedule ends; none: `stop.updates`
    final: Annotated[float, Meta(ge=0, le=1)] = 0.0  #: fraction of the rate at the end of the schedule
    #: weight decay of matrices λ: before a step, weights W lose rate · λ · W, beside the gradient's step
    #: (AdamW's); of an update by a part of the payloads in proportion
    weight_decay: NonNegative = 0.0
    vector_decay: NonNegative = 0.0  #: the same of biases and of all other vectors
    #: largest norm of a decoded gradient, to which longer ones are scaled; none: no limit
    clip: Real | None = None
    #: whether rank 0 keeps an average of θ over updates, in mode `async` over every n-th one of n workers,
    #: beside θ: measurements take the one of lower training loss, as does what the run returns; gradients are
    #: those at θ
    average: bool = False
    #: whether the rate falls where the loss of mini-batches does not, by a rule of rank 0
    plateau: bool = False

    requires: ClassVar[KeyNeeds] = {
        "plateau": {
            "reduce.kind": Need(
                lambda kind, config: not config.reduction.workers_step,
                "'star', or update.mode 'first'",
                "follows losses that rank 0 has, where workers step by themselves",
            )
        }
    }
    effective: ClassVar[KeyNeeds] = {
        ("updates", "final"): {"optimizer.schedule": one_of("linear", "cosine")},
        "clip": {"optimizer.kind": none_of("sign", needed="one whose steps depend on lengths")},
    }

    def check_config(self, config: Any) -> None:
        updates = self.updates or config.stop.updates
        if self.schedule == "constant" or not config.stop.ends:  # refused later
            return
        if updates is None:
            raise InputError(
                f"optimizer.updates: must be given with optimizer.schedule '{self.schedule}', as there is no "
                "stop.updates"
            )
        if self.warmup >= updates:
            raise InputError(f"optimizer.warmup: {self.warmup}, and the schedule ends at update {updates}")

    def resolved(self, updates: int | None) -> Self:
        """Return the table with the end of its schedule, for a run of at most so many updates."""
        if self.schedule == "constant" or self.updates is not None:
            return self
        return msgspec.structs.replace(self, updates=updates)

    def factor(self, update: int) -> float:
        """Return the factor on the rate of an update, which are counted from 0, by warm-up and schedule."""
        if update < self.warmup:
            return (update + 1) / (self.warmup + 1)
        if self.schedule == "constant":
            return 1.0
        assert self.updates is not None
        done = min(1.0, (update - self.warmup) / max(1, self.updates - self.warmup))
        left = 1.0 - done if self.schedule == "linear" else 0.5 + 0.5 * math.cos(math.pi * done)
        return self.final + (1.0 - self.final) * left

    def step_lengths(self, layer: Any) -> tuple[float | None, float | None]:
        """Return the lengths of a step of a layer's weights and biases at rate 1; None: linear steps."""
        return None, None

    @property
    def scheduled(self) -> bool:
        """Whether the rate depends on the update."""
        return self.schedule != "constant" or self.warmup > 0

    @property
    def bounded(self) -> bool:
        """Whether gradients of matrices have a largest length, with which a preset's rate suits any model."""
        return False

    @property
    def reach(self) -> float:
        """How far a gradient moves θ in the end, as a multiple of its step."""
        return 1 / (1 - self.momentum)

    @property
    def decays(self) -> bool:
        """Whether there is a weight decay."""
        return self.weight_decay > 0 or self.vector_decay > 0

    @property
    def momentum(self) -> float:
        """Factor on the last step, added to the next; 0 for kinds without the key."""
        return 0.0

    @property
    def nesterov(self) -> bool:
        """Whether the momentum is Nesterov's."""
        return False

    @property
    def proximal(self) -> Proximal | None:
        """Penalty h whose proximal operator ends each step; None for kinds without the key."""
        return None

    def make(self, size: int, dtype: Any, penalty: Any = None, span: float = 1.0, layers: Any = ()) -> Any:
        """Return the optimizer of a θ of this size and type, a `coding.optimizers.Optimizer`.

        `penalty` is given by the key ``proximal``; `span` the learning rate of the gradient steps whose sums
        the decoded vectors are: 1 for gradients; `layers` the `transport.units.Blocks` of θ.
        """
        return self.makes(self, size, dtype, layers, span)

    def flops(self, layers: Any) -> float:
        """Return the operations of a step that the virtual clock adds to `machine.update_s`."""
        size = sum(layer.length for layer in layers)
        touches = self.touches + self.decays + (self.clip is not None)
        return touches * flops_per_touch(size) * size


class DownlinkTable(Kind, tag_field="kind"):
    """The downlink: the transmission of the new θ to workers."""

    table, group, default = "downlink", "downlinks", "full"
    relays: ClassVar[bool] = False  #: whether workers get payloads, and compute θ themselves
    exchanges: ClassVar[bool] = False  #: whether workers send their payloads to each other

    #: with "codewords" or "exchange": tasks between comparisons of a worker's θ with rank 0's
    check: Positive = 64

    effective: ClassVar[KeyNeeds] = {
        "check": {"downlink.kind": having("relays", "'codewords' or 'exchange'")}
    }

    def state(self, state: Any, workers: int) -> Any:
        """Return rank 0's state, a `coding.state.State`, built on a scheme's."""
        raise NotImplementedError

    def replica(self, scheme: Any, problem: Any, weights: Any, state: Any) -> Any:
        """Return a worker's copy of θ, a `coding.replica.Replica`, and the message layouts.

        `weights` are as for `Scheme.layouts`; `state` is rank 0's, if the worker may use its θ, else None.
        """
        raise NotImplementedError

    def peer_bytes(self, layout: Any) -> int | None:
        """Return the bytes of a worker's message to each other worker; None: there is none."""
        return None

    def link(self, entry: Any) -> Any:
        """Build a worker's link of a run over MPI, an `mpi.link.MPILink`."""
        raise NotImplementedError


SUMMED = "gives rank 0 only the sum of the payloads"
SUMMED_NEEDS: Needs = {
    "decoder.kind": having("adds", "a decoder of sums, such as 'adjoint'", SUMMED),
    "update.clip": one_of("none", why=SUMMED),
    "downlink.kind": one_of("full", why="leaves θ with every worker, or sends it"),
}
"""What sums in place of payloads need."""


class ReduceTable(Kind, tag_field="kind"):
    """The ranks that add up the payloads."""

    table, group, default = "reduce", "reductions", "star"
    makes: ClassVar[Any]  #: the subclass of `reductions.Reduction`
    summed: ClassVar[bool] = False  #: whether workers add up their payloads

    #: workers round once, to integers modulo 2^bits, which anyone adds up exactly; none: not so
    bits: Annotated[int, Meta(ge=2, le=16)] | None = None
    fanout: Annotated[int, Meta(ge=1, le=1024)] = 4  #: with "tree": workers below a worker
    #: where workers add up: updates between comparisons of all workers' θ with rank 0's
    check: Positive = 64

    effective: ClassVar[KeyNeeds] = {
        "check": {"reduce.kind": none_of("star", needed="'allreduce' or 'tree'")},
        "fanout": {"reduce.kind": one_of("tree")},
    }
    requires: ClassVar[KeyNeeds] = {
        "bits": {
            **SUMMED_NEEDS,
            "workers.count": Need(
                lambda count, config: count <= 4 ** (config.reduce.bits - 2),
                "fewer workers, or 2 + ½ log₂ n bits or more for n of them",
                "wraps in the sums of all workers",
            ),
            "update.mode": having("complete", "'all'", "has scales for the sum of all payloads", only="all"),
            "memory.kind": one_of("worker", why="rounds to few integers"),
            "wire.dtype": unrounded("rounds by itself"),
        }
    }

    def make(self, config: Any) -> Any:
        """Return the reduction of a run, a `reductions.Reduction`."""
        return self.makes(config)

    @property
    def adds(self) -> bool:
        """Whether an update gets the sum of all payloads, not the single ones."""
        return self.summed or self.bits is not None


class ShuffleTable(Kind, tag_field="kind"):
    """Reshuffling of the training rows among the workers."""

    table, group, default = "shuffle", "shuffles", "none"
    moves: ClassVar[bool] = False  #: whether rows move

    every: Positive = 100  #: updates between two shuffles
    #: with "coded": batches S that a worker stores, its own included; above 1 whole first shards move, and
    #: XORs of their parts deliver any permutation in (n - S)/S batches
    cache: Positive = 1

    candidates: ClassVar[Candidates] = {"every": (20, 60, 200)}
    effective: ClassVar[KeyNeeds] = {
        "every": {"shuffle.kind": having("moves", "a kind that moves rows")},
        "cache": {"shuffle.kind": one_of("coded")},
    }
    requires: ClassVar[KeyNeeds] = {
        "cache": {
            "workers.count": Need(
                lambda count, config: count > config.shuffle.cache,
                "more workers than that",
                "leaves nothing to be sent where every worker has all batches",
            )
        }
    }

    def check_rows(self, config: Any, source: Any) -> None:
        """Refuse the data of a `problems.DataSource` if their rows cannot move."""

    def companion(self, config: Any, source: Any) -> Any:
        """Build rank 0's side, a `transport.companions.Companion`; None: nothing accompanies tasks.

        The data are refused as by `check_rows`.
        """
        return None

    def recipient(self, config: Any, worker: int, rows: int, problem: Any) -> Any:
        """Build a worker's side, a `transport.companions.Recipient`, for its problem.

        `rows` is the number of training rows of all workers together; None: nothing accompanies tasks.
        """
        return None

    def carrier(self, comm: Any, companion: Any, config: Any) -> Any:
        """Build the `mpi.companions.Carrier` of rank 0's side; only if there is one."""
        raise NotImplementedError

    def channel(self, entry: Any, recipient: Any) -> Any:
        """Build the `mpi.companions.Channel` of a worker's side; only if there is one."""
        raise NotImplementedError


class StragglersTable(Kind, tag_field="kind"):
    """Injected delays, keyed by (seed, worker, task): the same for every scheme."""

    table, group, default = "stragglers", "stragglers", "none"

    @property
    def reads(self) -> str | None:
        """Path of the file from which delays are read, or None."""
        return None

    def make(self, seed: int, workers: int) -> Any:
        """Return the delays of a run, a `stragglers.DelayModel`."""
        raise NotImplementedError


class FaultEvent(Kind, tag_field="kind"):
    """An injected fault, and its time."""

    table, group, default = "faults.events", "faults", "kill"
    ends: ClassVar[bool] = False  #: whether the run ends by it
    numeric: ClassVar[bool] = False  #: whether it needs payloads
    delays: ClassVar[bool] = False  #: whether it makes tasks late: delays that are recorded include it
    joins: ClassVar[bool] = False  #: whether it is a worker that has gone and is back, which is no fault

    at_s: Seconds | None = None  #: when it happens, since the start of the run [s]
