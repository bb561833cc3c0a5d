"""The configuration of a run: a frozen struct for each TOML table, checked before communication starts.

A table that comes in kinds has its common keys here; the keys of each kind are defined with the kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_type_hints

import msgspec
from msgspec import Meta

from ..util.errors import InputError, shown
from . import kinds
from .kinds import STRICT, Kind
from .wires import WireName

Positive = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
LARGEST = 1e9  # upper bound that excludes infinity and times that overflow int64 ns
Real = Annotated[float, Meta(gt=0, le=LARGEST)]
NonNegative = Annotated[float, Meta(ge=0, le=LARGEST)]
Span = Annotated[float, Meta(ge=0, le=1e6)]  # s; bounded so that int64 ns cannot overflow within few tasks
Factor = Annotated[float, Meta(ge=1, le=LARGEST)]
Fraction = Annotated[float, Meta(gt=0, le=1)]
Tables = Mapping[str, Mapping[str, Any]]
BUNDLED = ("digits", "breast-cancer", "diabetes", "mnist5k", "synthetic")  # values of problem.data


class Table(msgspec.Struct, **STRICT):
    """A TOML table; unknown keys are refused."""


class ProblemTable(Kind, tag_field="kind"):
    """The model, its loss, and the data."""

    table, group, default = "problem", "problems", "mlp"
    classes: ClassVar[bool | None] = None  #: whether targets are classes; None: if they are integers
    most_classes: ClassVar[int | None] = None  #: largest number of classes; None: no limit
    counts: ClassVar[bool] = False  #: whether targets are counts, none of them negative
    deep: ClassVar[bool] = True  #: whether there are hidden layers
    paths: ClassVar[tuple[str, ...]] = ("data", "labels")
    before: ClassVar[Mapping[str, Any]] = {"penalise_bias": True, "task": "type"}

    #: name of a bundled data set, or path of a file: in a TOML file relative to its folder, on the command
    #: line to the current folder
    data: str = "digits"
    labels: str | None = None  #: path, as for `data`, of the labels of IDX data; none: found by its name
    #: what the targets are, for kinds that do both: classes or real numbers; auto: classes if they are
    #: integers, refused if in doubt; type: classes if and only if their type is an integer
    task: Literal["auto", "classification", "regression", "type"] = "auto"
    inputs: str = "x"  #: name of the inputs in an npz or HDF5 file
    targets: str = "y"  #: name of the targets in an npz or HDF5 file
    hidden: list[Positive] = msgspec.field(default_factory=lambda: [64])  #: units of each hidden layer
    activation: Literal["relu", "tanh", "gelu"] = "relu"  #: activation function of the hidden layers
    #: axis of each layer that is cut into blocks: output units or input units; auto: the smaller payload
    axis: Literal["auto", "output", "input"] | list[Literal["auto", "output", "input"]] = "auto"
    batch: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 32  #: rows of a mini-batch; 0: the whole shard
    l2: NonNegative = 0.0  #: the loss includes ½·l2·‖W‖², W being the weights without biases
    penalise_bias: bool = False  #: whether the penalty includes biases: ½·l2·‖θ‖²
    dtype: Literal["float32", "float64"] = "float32"  #: element type of θ, data and gradients
    #: scale each input to mean 0 and standard deviation 1; sparse inputs to largest magnitude 1, uncentred
    standardise: bool = False
    test_fraction: Annotated[float, Meta(ge=0, lt=1)] = 0.2  #: fraction of the rows kept for testing
    split_seed: Count = 0  #: seed of the split into training and test rows, and of synthetic data
    #: how training rows are divided among workers; "replicated": every worker has all rows; auto: contiguous
    #: for HDF5 files, replicated on the virtual clock if workers outnumber rows, else shuffled
    shards: Literal["auto", "shuffled", "contiguous", "replicated"] = "auto"
    evaluate: Positive = 10_000  #: maximum number of rows on which rank 0 measures loss and accuracy
    samples: Positive = 1000  #: synthetic data: number of rows, training and test
    features: Positive = 20  #: synthetic data: number of inputs
    outputs: Positive = 1  #: synthetic data: number of targets or classes
    noise: NonNegative = 0.1  #: synthetic data: standard deviation of the targets' noise
    condition: Factor = 10.0  #: synthetic data: condition number of the Hessian XᵀX
    density: Fraction = 1.0  #: synthetic data: fraction of nonzero inputs; below 1 they are sparse (CSR)

    @property
    def classification(self) -> bool | None:
        """Whether targets are classes, by the kind or `task`; None: if they are integers."""
        if self.classes is not None:
            return self.classes
        return {"classification": True, "regression": False}.get(self.task)

    def loss_of(self, classes: int | None) -> Any:
        """Return the loss, a `problems.Loss`, for this number of classes; None: for real targets."""
        raise NotImplementedError


class CodeTable(Kind, tag_field="family"):
    """The code: how gradients are cut into blocks, and which combinations of blocks are sent."""

    table, group, default = "code", "codes", "net"
    chosen: ClassVar[bool] = False  #: whether workers choose codewords from their gradients
    adapts: ClassVar[bool] = True  #: whether codewords depend on gradients
    usual: ClassVar[int | None] = 32  #: default weight of codewords

    #: number of blocks k of all layers or of each; 1: the layer is sent uncoded; "units": one per hidden unit
    blocks: Positive | list[Positive] | Literal["units"] = 16
    #: codewords r per task, of all layers or of each; none: from `share`, or else 1; auto: the largest share
    #: of 1/8, 1/16 and 1/32 that rank 0's link can carry
    rows_per_task: Positive | list[Positive] | Literal["auto"] | None = None
    share: Fraction | None = None  #: r as a fraction of a layer's blocks, rounded up
    #: what a worker makes of each layer's gradient: norm: divided by its norm; gram: then one Newton–Schulz
    #: step towards equal singular values; auto: gram, but none if the workers' shards differ, targets are
    #: real numbers or batches are full
    whiten: Literal["none", "norm", "gram", "auto"] = "none"

    @classmethod
    def find(cls, name: Any) -> Any:
        """Return the class of a family; all families that do not adapt share `DesignedTable`."""
        if isinstance(name, str) and name in kinds.KINDS["families"] and name not in kinds.KINDS["codes"]:
            return DesignedTable  # without a search of the installed packages
        return super().find(name) or DesignedTable

    @property
    def family(self) -> str:
        """Name of the kind."""
        return self.name_of()

    def make(self, config: Any, layers: Any, rows: Any, weights: Any, dtype: Any) -> Any:
        """Return the `coding.assignments.Assignment` of codewords to workers, for a code that adapts."""
        raise NotImplementedError


class DesignedTable(CodeTable, tag=False):
    """A code that is designed before the run."""

    adapts: ClassVar[bool] = False
    usual: ClassVar[int | None] = None

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


class SchemeTable(Table):
    """The scheme, which also provides defaults for tables that are not given."""

    name: str = "lwpd"  #: name of the scheme
    preset: str | None = None  #: name of one of the scheme's presets, which provides defaults for single keys
    options: Any = None  #: the scheme's own keys

    @classmethod
    def of(cls, table: Any, old: bool = False) -> SchemeTable:
        """Build the table, with the options of the scheme that it names.

        Raises
        ------
        InputError
            If a key or value is invalid; the message names both.
        """
        built = kinds.build(cls, table, "scheme")
        scheme = kinds.find("schemes", built.name)
        if scheme is None:
            names = ", ".join(kinds.names("schemes"))
            raise InputError(f"scheme.name: expected one of {names} (got {shown(built.name)})")
        if built.preset is not None and built.preset not in scheme.presets:
            names = f"known: {', '.join(scheme.presets)}" if scheme.presets else "it has none"
            raise InputError(
                f"scheme.preset: scheme '{built.name}' has no preset {shown(built.preset)}; {names}"
            )
        options = {} if built.options is None else built.options
        return msgspec.structs.replace(built, options=kinds.build(scheme.Options, options, "scheme.options"))

    def check(self, config: Config) -> None:
        """Refuse combinations of keys that cannot work with the scheme."""
        kinds.find("schemes", self.name).check(config)


class DecoderTable(Kind, tag_field="kind"):
    """The decoder of arrivals to a gradient; by default the one that the memory needs."""

    table, group, default = "decoder", "decoders", "adjoint"
    makes: ClassVar[Any]  #: the subclass of `decoders.Decoder`
    relays: ClassVar[bool] = False  #: whether replicas can follow: its whole state is the accumulator
    adds: ClassVar[bool] = False  #: whether the sum of payloads of equal codewords stands for them
    adapts: ClassVar[bool] = False  #: whether the captured fraction depends on payloads

    def make(self, context: Any) -> Any:
        """Return the decoder of a layer; `context` is a `decoders.Context`."""
        shape = context.blocks, context.block_shape, context.dtype
        return self.makes(*shape, length=context.length, **self.options(context))

    def options(self, context: Any) -> dict[str, Any]:
        """Return the options of the decoder; by default the keys of its table."""
        return msgspec.structs.asdict(self)


class MemoryTable(Kind, tag_field="kind"):
    """Memory of the part of a gradient that its codewords leave out."""

    table, group, default = "memory", "memories", "none"
    decoder: ClassVar[str] = "adjoint"  #: the decoder that it needs, or the default
    decoders: ClassVar[tuple[str, ...]] = ()  #: kinds that stand for the needed decoder; empty: any decoder
    keeps: ClassVar[bool] = False  #: whether workers keep the part that they have not sent

    def decoder_for(self, kind: Any) -> Any:
        """Return the kind of the decoder, given the configured kind, or None.

        Raises
        ------
        InputError
            If the memory needs another decoder.
        """
        if kind is None or kind in self.decoders:
            return self.decoder
        if self.decoders:
            raise InputError(f"decoder.kind: memory '{self.kind}' needs '{self.decoder}', got {shown(kind)}")
        return kind


class WireTable(Table):
    """Format of payloads in messages."""

    #: type of payload elements on the wire, of all layers or of each; none: the problem's
    dtype: WireName | list[WireName] | None = None

    @property
    def formats(self) -> list[WireName]:
        """The formats that are given."""
        if self.dtype is None:
            return []
        return self.dtype if isinstance(self.dtype, list) else [self.dtype]


class DownlinkTable(Table):
    """The downlink: the way in which workers get the new θ."""

    #: θ itself, or the payloads from which workers compute it: sent by rank 0 ("codewords"), or by workers to
    #: each other while rank 0 says in which order they are used ("exchange")
    kind: Literal["full", "codewords", "exchange"] = "full"
    #: with "codewords" or "exchange": tasks between comparisons of a worker's θ with rank 0's
    check: Positive = 64

    @property
    def relays(self) -> bool:
        """Whether workers get payloads, and compute θ themselves."""
        return self.kind != "full"

    @property
    def exchanges(self) -> bool:
        """Whether workers send their payloads to each other."""
        return self.kind == "exchange"


class ReduceTable(Table):
    """Who adds up the payloads."""

    #: "star": rank 0, which sends θ to all; "allreduce": the workers, each of which has a θ of its own
    kind: Literal["star", "allreduce"] = "star"
    check: Positive = 64  #: with "allreduce": updates between comparisons of all workers' θ with rank 0's

    @property
    def summed(self) -> bool:
        """Whether workers add up their payloads."""
        return self.kind == "allreduce"


class UpdateTable(Table):
    """The policy by which rank 0 makes an optimizer step."""

    #: after each arrival, all workers' arrivals, the first `count`, at least `count` and those that come soon
    #: after, or once a `fraction` is captured
    mode: Literal["async", "all", "first", "quorum", "captured"] = "async"
    #: with "first" or "quorum": (least) arrivals per update; none: three quarters of the workers
    count: Positive | None = None
    fraction: Fraction = 0.75  #: with "captured": captured fraction of the gradient at which to step
    late: Literal["use", "waste"] = "use"  #: whether late payloads are used in the next update or dropped
    #: whether each payload is scaled to at most the median norm of the workers' last payloads: no single
    #: worker can then lead θ far astray, but neither does what is cut off return to a worker's memory
    clip: Literal["none", "median"] = "none"


class Proximal(Kind, tag_field="kind"):
    """A penalty h of the weights that each step's proximal operator takes into account, not the gradient."""

    table, group, default = "optimizer.proximal", "proximals", "l1"
    bounded: ClassVar[bool] = False  #: whether θ must stay in a set

    def shrink(self, weights: Any, step: float) -> None:
        """Replace a layer's weights, ndarray of shape (d_out, d_in), by the proximal operator's, in place.

        These are the x that minimise ½‖x - weights‖² + step·h(x).
        """
        raise NotImplementedError

    def value(self, weights: Any) -> float:
        """Return h of a layer's weights."""
        raise NotImplementedError


class OptimizerTable(Table):
    """The optimizer on rank 0."""

    #: stochastic gradient descent, Adam, or steps of the learning rate along the gradient's signs
    kind: Literal["sgd", "adam", "sign"] = "sgd"
    #: learning rate of a full-gradient step; with memory "worker" each arrival is scaled by 1/n, with the
    #: other memories every update is a full step, also in `async` mode
    rate: Real = 0.1
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.0  #: sgd: factor on the last step, added to the next
    nesterov: bool = False  #: sgd: whether the momentum is Nesterov's; else it is the heavy ball's
    beta1: Annotated[float, Meta(ge=0, lt=1)] = 0.9  #: adam: decay of the mean gradient
    beta2: Annotated[float, Meta(ge=0, lt=1)] = 0.999  #: adam: decay of the mean squared gradient
    epsilon: Real = 1e-8  #: adam: added to the denominator
    staleness: Literal["constant", "inverse"] = "constant"  #: "inverse": scales payloads by 1/(1 + staleness)
    #: sgd: penalty h that is added to the loss: each step ends by its proximal operator, a table by kind;
    #: none: there is none
    proximal: Any = None

    @classmethod
    def of(cls, table: Any, old: bool = False) -> OptimizerTable:
        """Build the table with its penalty; `old` as for `Kind.of`.

        Raises
        ------
        InputError
            If a key or value is invalid; the message names both.
        """
        built = kinds.build(cls, table, "optimizer")
        if built.proximal is None:
            return built
        return msgspec.structs.replace(built, proximal=Proximal.of(built.proximal, old))

    def check(self, config: Config) -> None:
        """Refuse steps after which the proximal operator would not lead to a minimum of loss and penalty."""
        if self.proximal is None:
            return
        name = f"{self.proximal.table}: '{self.proximal.kind}'"
        if self.kind != "sgd":
            raise InputError(
                f"{name} needs steps along the gradient, optimizer.kind 'sgd', not '{self.kind}'"
            )
        if self.nesterov and self.proximal.bounded:
            raise InputError(f"{name} is left by optimizer.nesterov; use the heavy ball, nesterov = false")
        if config.code.whiten in ("norm", "gram"):
            raise InputError(
                f"{name} needs gradients as they are, not code.whiten '{config.code.whiten}'; use 'none' or "
                "'auto'"
            )
        self.proximal.check(config)


class WorkersTable(Table):
    """The workers."""

    count: Positive = 8  #: number of workers n
    #: further ranks of a run over MPI, that wait: each takes the place of a worker that dies or leaves, with
    #: its data; not with downlink.kind "exchange" or reduce.kind "allreduce"
    spares: Count = 0


class StragglersTable(Kind, tag_field="kind"):
    """Injected delays, keyed by (seed, worker, task): the same for every scheme."""

    table, group, default = "stragglers", "stragglers", "none"

    @property
    def reads(self) -> str | None:
        """Path of the file from which delays are read, or None."""
        return None

    def make(self, seed: int, workers: int) -> Any:
        """Return the delays of a run, a `stragglers.Model`.

        Raises
        ------
        InputError
            If the file of delays cannot be used.
        """
        raise NotImplementedError


class MachineTable(Table):
    """Computation costs on the virtual clock; ignored by runs over MPI."""

    flops_per_s: Annotated[float, Meta(ge=1, le=1e18)] = 5e9  #: a worker's speed on its tasks [flop/s]
    task_s: Span = 5e-5  #: a worker's fixed time per task, in addition to its flops [s]
    arrival_s: Span = 3e-5  #: rank 0's time per arrival [s]
    #: rank 0's speed on payloads, in addition to their fixed time; none: they take no more [bytes/s]
    decode_bandwidth: Annotated[float, Meta(ge=1, le=1e18)] | None = None
    dispatch_s: Span = 5e-6  #: rank 0's time per dispatched task [s]
    update_s: Span = 0.0  #: rank 0's time per update [s]
    #: number of coordinators, each with a link, a processor and a part of θ's elements
    coordinators: Annotated[int, Meta(ge=1, le=1024)] = 1


class LinkTable(Table):
    """The network on the virtual clock; ignored by runs over MPI."""

    latency_s: Span = 2e-5  #: one-way latency of a message [s]
    #: bandwidth of rank 0's link in each direction [bytes/s]
    bandwidth: Annotated[float, Meta(ge=1, le=1e18)] = 1e9
    half_duplex: bool = False  #: whether rank 0 cannot send and receive at once; sending has priority
    #: how θ reaches many workers: by a pipelined tree, or one by one as in a run over MPI
    broadcast: Literal["star", "tree"] = "star"
    fanout: Annotated[int, Meta(ge=1, le=1024)] = 2  #: number of children of a node of the tree
    segment: Positive = 65536  #: size of the segments pipelined through the tree [bytes]


class FaultEvent(Kind, tag_field="kind"):
    """A fault that is injected: what happens, and when."""

    table, group, default = "faults.events", "faults", "kill"
    ends: ClassVar[bool] = False  #: whether the run ends by it
    numeric: ClassVar[bool] = False  #: whether it needs payloads
    joins: ClassVar[bool] = False  #: whether it is a worker that has gone and is back, which is no fault

    at_s: Span | None = None  #: when it happens, since the start of the run [s]


class FaultsTable(Table):
    """Injected faults, keyed by (seed, worker): the same for every scheme, and on both clocks."""

    paths: ClassVar[tuple[str, ...]] = ("spot",)

    #: faults, a table each, by kind (`"kill"` if none is given): `[[faults.events]]`
    events: list[Any] = []
    #: mean time between failures of each worker, exponential: faults beside those of `events` [s]
    mtbf_s: Real | None = None
    failure: Any = None  #: what happens then: a table as of `events`, without worker and time; none: a kill
    #: path of a recorded spot trace (lines `ms,add|remove,node`): worker i follows the i-th of the places
    #: that nodes take in turn, modulo their number; in a TOML file relative to its folder, on the command
    #: line to the current folder
    spot: str | None = None
    #: how a worker goes whose node does: `leave`, after its task, as one that is warned; `kill`, at once
    spot_end: Literal["leave", "kill"] = "leave"
    spot_speed: Real = 1.0  #: how many times as fast as recorded

    @classmethod
    def of(cls, table: Any, old: bool = False) -> FaultsTable:
        """Build the table with its events; `old` as for `Kind.of`.

        Raises
        ------
        InputError
            If a key or value is invalid; the message names both.
        """
        if old and isinstance(table, Mapping):
            before = [
                {"kind": kind, "worker": table[f"{kind}_worker"], "task": table.get(f"{kind}_task", 0)}
                for kind in ("raise", "nan")  # keys of traces up to arithmetic 2
                if table.get(f"{kind}_worker") is not None
            ]
            known = {key: value for key, value in table.items() if key in cls.__struct_fields__}
            table = known | ({"events": before} if before else {})
        built = kinds.build(cls, table, "faults")
        failure = None if built.failure is None else FaultEvent.of(built.failure, old)
        events = [FaultEvent.of(each, old) for each in built.events]
        return msgspec.structs.replace(built, events=events, failure=failure)

    def __bool__(self) -> bool:
        return bool(self.events) or self.mtbf_s is not None or self.spot is not None

    def completed(self) -> FaultsTable:
        """Return the table with the keys that follow from its files: as it is."""
        return self

    @property
    def injected(self) -> list[FaultEvent]:
        """The events, and what happens at the rate of `mtbf_s`."""
        failure = self.failure or FaultEvent.of({})
        return [*self.events, *([] if self.mtbf_s is None else [failure])]

    def check(self, config: Config) -> None:
        """Refuse faults that cannot happen."""
        for each in self.injected:
            each.check(config)
        if self.failure is not None:
            for key in ("worker", "at_s", "task"):
                if getattr(self.failure, key, None) is not None:
                    raise InputError(f"faults.failure.{key}: workers and times are drawn, by faults.mtbf_s")

    def ensure_endless(self, what: str) -> None:
        """Refuse faults that end the run.

        Raises
        ------
        InputError
            Naming what they would end.
        """
        for each in self.injected:
            if each.ends:
                raise InputError(f"faults.events: kind '{each.kind}' would end every {what}")


class StopTable(Table):
    """Conditions that end a run; the first to be met counts."""

    updates: Positive | None = None  #: number of updates
    seconds: Real | None = None  #: time of the run, virtual or real [s]
    loss: Real | None = None  #: training loss to fall to
    #: test accuracy (R² for least squares, D² for Poisson regression) to reach
    accuracy: Annotated[float, Meta(ge=-LARGEST, le=1)] | None = None
    #: longest wait for payloads in flight when a run ends; none: four times a usual task, at least 1 s, and
    #: without limit on the virtual clock if there are no faults [s]
    drain_s: Span | None = None

    @property
    def ends(self) -> bool:
        """Whether a condition is given."""
        return any(value is not None for value in (self.updates, self.seconds, self.loss, self.accuracy))


class TraceTable(Table):
    """The trace file."""

    #: path of the HDF5 file, also in a TOML file relative to the current folder
    path: str = "results/trace.h5"
    flush_s: Real = 1.0  #: time after which recorded rows are on disk [s]
    #: period of measuring loss and accuracy; longer if that takes over 5 % of the time [s]
    progress_s: Real = 1.0
    #: time between checkpoints, from which `--resume` goes on, on the run's clock; none: there are none [s]
    checkpoint_s: Real | None = None
    arrivals: Literal["all", "sampled", "none"] = "all"  #: which arrivals to record
    sample: Positive = 100  #: with "sampled": record every `sample`-th task of each worker


class Config(Table):
    """The configuration of a run."""

    seed: Count = 1  #: key of all randomness except the split of the data
    #: paths of Python files that define further kinds: in a TOML file relative to its folder, on the command
    #: line to the current folder
    plugins: list[str] = []
    problem: ProblemTable = kinds.field(ProblemTable)
    code: CodeTable = kinds.field(CodeTable)
    scheme: SchemeTable = msgspec.field(default_factory=lambda: SchemeTable.of({}))
    decoder: DecoderTable = kinds.field(DecoderTable)
    memory: MemoryTable = kinds.field(MemoryTable)
    wire: WireTable = WireTable()
    downlink: DownlinkTable = DownlinkTable()
    reduce: ReduceTable = ReduceTable()
    update: UpdateTable = UpdateTable()
    optimizer: OptimizerTable = OptimizerTable()
    workers: WorkersTable = WorkersTable()
    stragglers: StragglersTable = kinds.field(StragglersTable)
    machine: MachineTable = MachineTable()
    link: LinkTable = LinkTable()
    faults: FaultsTable = FaultsTable()
    stop: StopTable = StopTable()
    trace: TraceTable = TraceTable()

    @classmethod
    def of(cls, tables: Mapping[str, Any], old: bool = False) -> Config:
        """Build a configuration from the tables of a TOML file or of a trace.

        Parameters
        ----------
        tables : mapping
            Table name -> keys and values.
        old : bool
            Whether to drop keys that a table's kind does not have: traces up to version 0.1 hold the keys of
            all kinds.

        Raises
        ------
        InputError
            If a key or value is invalid; the message names both.
        """
        made_here = {"scheme", "faults", "optimizer", *KINDS}
        config = kinds.build(cls, {key: table for key, table in tables.items() if key not in made_here})
        for path in config.plugins:
            kinds.load_plugin(path)
        own = {
            name: base.of(tables[name], old)
            for name, base in KINDS.items()
            if name in tables and base is not DecoderTable
        }
        scheme = SchemeTable.of(tables.get("scheme", {}), old)
        faults = FaultsTable.of(tables.get("faults", {}), old)
        optimizer = OptimizerTable.of(tables.get("optimizer", {}), old)
        config = msgspec.structs.replace(config, scheme=scheme, faults=faults, optimizer=optimizer, **own)
        decoder = tables.get("decoder", {})
        if isinstance(decoder, Mapping):
            decoder = {**decoder, "kind": config.memory.decoder_for(decoder.get("kind"))}
        return msgspec.structs.replace(config, decoder=DecoderTable.of(decoder, old))

    @classmethod
    def check_recorded(cls, tables: Any) -> None:
        """Refuse a recorded configuration whose common keys have wrong types or values.

        Unknown keys and the keys of kinds are not checked: they may be those of another version or a plug-in.

        Raises
        ------
        InputError
            If a value is invalid; the message names the key.
        """
        kinds.build(dict[str, Any], tables)
        for name, hint in get_type_hints(cls, include_extras=True).items():
            value = tables.get(name, cls)
            if value is not cls and isinstance(hint, type):
                kinds.build(dict[str, Any], value, name)
                value = {key: value[key] for key in value if key in getattr(hint, "__struct_fields__", ())}
            if value is not cls:
                kinds.build(hint, value, name)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as plain tables, so that a process without the plug-ins can rebuild it."""
        return Config.of, (msgspec.to_builtins(self),)


KINDS: dict[str, type[Kind]] = {
    each.table: each for each in (ProblemTable, CodeTable, DecoderTable, MemoryTable, StragglersTable)
}
"""Table name -> base class, for the tables that come in kinds."""
