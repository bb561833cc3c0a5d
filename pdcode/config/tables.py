"""The configuration of a run: one frozen struct a TOML table, checked before any communication starts.

Tables that come in kinds are `Kind`s: here is what all kinds of a table have in common, and the keys of each
kind are where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from ..util.errors import InputError
from . import kinds
from .kinds import STRICT, Kind

Positive = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
LARGEST = 1e9  # keeps out infinity, and times that no clock holds
Real = Annotated[float, Meta(gt=0, le=LARGEST)]
NonNegative = Annotated[float, Meta(ge=0, le=LARGEST)]
Span = Annotated[float, Meta(ge=0, le=1e6)]  # s: more, and the clock stands at its end after few tasks
Factor = Annotated[float, Meta(ge=1, le=LARGEST)]
Fraction = Annotated[float, Meta(gt=0, le=1)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Tables = Mapping[str, Mapping[str, Any]]


class Table(msgspec.Struct, **STRICT):
    """A TOML table; unknown keys are refused."""


class ProblemTable(Kind, tag_field="kind"):
    """What is learnt, from which data."""

    table, group, default = "problem", "problems", "mlp"
    classes: ClassVar[bool | None] = None  # whether targets are classes; None: if they are whole numbers
    most_classes: ClassVar[int | None] = None
    deep: ClassVar[bool] = True  # whether there are hidden layers

    data: str = "digits"  # a name, or the path of a file
    labels: str | None = None  # second file of MNIST IDX data; found by name if not given
    inputs: str = "x"  # name of the inputs in an npz or HDF5 file
    targets: str = "y"  # name of the targets in an npz or HDF5 file
    hidden: list[Positive] = msgspec.field(default_factory=lambda: [64])
    activation: Literal["relu", "tanh", "gelu"] = "relu"
    axis: Literal["auto", "output", "input"] | list[Literal["auto", "output", "input"]] = "auto"
    batch: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 32  # 0 = all rows of the worker's shard
    l2: NonNegative = 0.0
    dtype: Literal["float32", "float64"] = "float32"
    standardise: bool = False
    test_fraction: Annotated[float, Meta(ge=0, lt=1)] = 0.2
    split_seed: Count = 0
    # Rows are dealt out or, "replicated", all with every worker; auto does that on the virtual
    # clock if workers outnumber rows.
    shards: Literal["auto", "shuffled", "contiguous", "replicated"] = "auto"
    evaluate: Positive = 10_000  # rows at the most on which rank 0 measures loss and accuracy
    # synthetic data only
    samples: Positive = 1000
    features: Positive = 20
    outputs: Positive = 1
    noise: NonNegative = 0.1
    condition: Factor = 10.0
    density: Fraction = 1.0  # < 1: CSR inputs

    def loss_of(self, classes: int | None) -> Any:
        """The loss for so many classes or, None, for real targets; a `problems.Loss`."""
        raise NotImplementedError


class CodeTable(Kind, tag_field="family"):
    """Which codewords; blocks = 1 sends a layer whole."""

    table, group, default = "code", "codes", "net"
    chosen: ClassVar[bool] = False  # whether workers choose codewords by what they have to send
    adapts: ClassVar[bool] = True  # whether codewords depend on gradients
    usual: ClassVar[int | None] = 32  # weight of codewords, if it is not given

    blocks: Positive | list[Positive] | Literal["units"] = 16
    rows_per_task: Positive | list[Positive] | None = None  # r; none: by `share`, else 1
    share: Fraction | None = None  # r as a share of a layer's blocks, rounded up

    @classmethod
    def find(cls, name: Any) -> Any:
        """Class of a family; all that do not adapt have one class, and `codes` knows their names."""
        return super().find(name) if name in kinds.KINDS["codes"] else DesignedTable

    @property
    def family(self) -> str:
        """Name of the kind."""
        return self.name_of()

    def make(self, config: Any, layers: Any, rows: Any, weights: Any, dtype: Any) -> Any:
        """Who gets which codewords, a `coding.assignments.Assignment`, if the code adapts."""
        raise NotImplementedError


class DesignedTable(CodeTable, tag=False):
    """A code that is known before the run, by its family."""

    adapts: ClassVar[bool] = False
    usual: ClassVar[int | None] = None

    family: str = "net"  # one of `pdcode codes list`, or auto
    weight: Positive | list[Positive] | None = None
    # Rows of the code. None: where they rotate, k under `async` and what an update uses under other modes;
    # else as many as the workers use.
    rows: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    # Every task takes the next rows of a code that is redrawn when it is used up and, but under `async`, at
    # every update.
    rotate: bool = True
    options: dict[str, bool | int | float | str] = msgspec.field(default_factory=dict)  # of the family


class SchemeTable(Table):
    """What rank 0 and the workers do; it fills in the tables that are not given."""

    name: str = "lwpd"  # of a `schemes.Scheme`
    preset: str | None = None  # of the scheme; fills in keys that are not given
    options: Any = None  # the scheme's own keys, its `Options`

    @classmethod
    def of(cls, table: Any, old: bool = False) -> SchemeTable:
        """The table with the options of the scheme that it names.

        Raises
        ------
        InputError
            Naming key and value.
        """
        made = kinds.build(cls, table, "scheme")
        found = kinds.find("schemes", made.name)
        if found is None:
            known = ", ".join(kinds.names("schemes"))
            raise InputError(f"scheme.name: expected one of {known} (got {made.name!r})")
        if made.preset is not None and made.preset not in found.presets:
            known = f"known: {', '.join(found.presets)}" if found.presets else "it has none"
            raise InputError(f"scheme.preset: scheme '{made.name}' has no preset {made.preset!r}; {known}")
        options = {} if made.options is None else made.options
        return msgspec.structs.replace(made, options=kinds.build(found.Options, options, "scheme.options"))

    def check(self, config: Config) -> None:
        """Refuse combinations of keys that cannot work with the scheme."""
        kinds.find("schemes", self.name).check(config)


class DecoderTable(Kind, tag_field="kind"):
    """From arrivals to a gradient; without `kind`, the decoder that the memory needs."""

    table, group, default = "decoder", "decoders", "adjoint"
    makes: ClassVar[Any]  # a subclass of `decoders.Decoder`
    relays: ClassVar[bool] = False  # whether replicas can follow it: all that it holds is its accumulator
    adapts: ClassVar[bool] = False  # whether what it captures depends on payloads

    def make(self, context: Any) -> Any:
        """The decoder of a layer; `context` is a `decoders.Context`."""
        return self.makes(*context.shape, length=context.length, **self.options(context))

    def options(self, context: Any) -> dict[str, Any]:
        """Options of the decoder: the keys of its table, if it does not say otherwise."""
        return msgspec.structs.asdict(self)


class MemoryTable(Kind, tag_field="kind"):
    """What becomes of the part of a gradient that its codewords leave out."""

    table, group, default = "memory", "memories", "none"
    decoder: ClassVar[str] = "adjoint"  # that it needs, or by default
    decoders: ClassVar[tuple[str, ...]] = ()  # names by which that one may be asked for; none: any will do
    keeps: ClassVar[bool] = False  # whether workers keep what they have not sent

    def decoder_for(self, kind: Any) -> Any:
        """Kind of the decoder, where a configuration asks for one, or for none.

        Raises
        ------
        InputError
            If the memory needs another.
        """
        if kind is None or kind in self.decoders:
            return self.decoder
        if self.decoders:
            raise InputError(f"decoder.kind: memory '{self.kind}' needs '{self.decoder}', got {kind!r}")
        return kind


class WireTable(Table):
    dtype: Literal["float64", "float32", "bfloat16", "float16", "int8"] | None = None  # none: the problem's


class DownlinkTable(Table):
    kind: Literal["full", "codewords"] = "full"
    check: Positive = 64  # codewords: each worker's θ is compared with rank 0's every so many tasks


class UpdateTable(Table):
    """When rank 0 steps."""

    mode: Literal["async", "all", "first", "captured"] = "async"
    count: Positive | None = None  # of `first`; none: three quarters of the workers
    fraction: Fraction = 0.75  # of `captured`
    late: Literal["use", "waste"] = "use"


class OptimizerTable(Table):
    kind: Literal["sgd", "adam"] = "sgd"
    # η. With memory "worker" an arrival is worth 1/n of a step, as the sum over n workers is divided by n;
    # without memory an update is a whole step on the mean of what has arrived, in `async` too.
    rate: Real = 0.1
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    beta1: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Meta(ge=0, lt=1)] = 0.999
    epsilon: Real = 1e-8
    staleness: Literal["constant", "inverse"] = "constant"


class WorkersTable(Table):
    count: Positive = 8


class StragglersTable(Kind, tag_field="kind"):
    """Injected delays, keyed by (seed, worker, task), so that every scheme meets the same ones."""

    table, group, default = "stragglers", "stragglers", "none"

    @property
    def reads(self) -> str | None:
        """File from which delays are read."""
        return None

    def make(self, seed: int, workers: int) -> Any:
        """The delays of a run, a `stragglers.Model`.

        Raises
        ------
        InputError
            If a file cannot be used.
        """
        raise NotImplementedError


class MachineTable(Table):
    """What a task costs on the virtual clock; a run over MPI takes no notice of it."""

    flops_per_s: Annotated[float, Meta(ge=1, le=1e18)] = 5e9  # of a worker, on its tasks
    task_s: Span = 5e-5  # of a worker, each task, beside its flops
    arrival_s: Span = 3e-5  # of rank 0, each arrival
    dispatch_s: Span = 5e-6  # of rank 0, each task that it sends
    update_s: Span = 0.0  # of rank 0, each update


class LinkTable(Table):
    """The network on the virtual clock; a run over MPI takes no notice of it."""

    latency_s: Span = 2e-5  # one way
    bandwidth: Annotated[float, Meta(ge=1, le=1e18)] = 1e9  # bytes/s of rank 0's link, each way
    half_duplex: bool = False  # rank 0 sends or receives, one message at a time; if both wait it sends
    # θ that goes to many workers at once: a pipelined tree, or one by one, as a run over MPI sends it.
    broadcast: Literal["tree", "star"] = "tree"
    fanout: Annotated[int, Meta(ge=1, le=1024)] = 2  # of the tree
    segment: Positive = 65536  # bytes of the pieces that go through the tree


class FaultsTable(Table):
    """Faults that are injected to try the error paths."""

    raise_worker: Count | None = None  # this worker raises an exception …
    raise_task: Count = 0  # … at this task
    nan_worker: Count | None = None  # this worker sends gradients that are no numbers …
    nan_task: Count = 0  # … from this task on


class StopTable(Table):
    """The first of these that is reached ends the run."""

    updates: Positive | None = None
    seconds: Real | None = None
    loss: Real | None = None
    accuracy: Annotated[float, Meta(ge=-LARGEST, le=1)] | None = None


class TraceTable(Table):
    path: str = "results/trace.h5"
    flush_s: Real = 1.0
    progress_s: Real = 1.0  # how often rank 0 measures loss and accuracy, but for 5 % of its time at the most
    arrivals: Literal["all", "sampled", "none"] = "all"
    sample: Positive = 100


class Config(Table):
    """A whole run."""

    seed: Count = 1
    plugins: list[str] = []  # Python files with further kinds; paths are relative to this file's folder
    problem: ProblemTable = kinds.field(ProblemTable)
    code: CodeTable = kinds.field(CodeTable)
    scheme: SchemeTable = msgspec.field(default_factory=lambda: SchemeTable.of({}))
    decoder: DecoderTable = kinds.field(DecoderTable)
    memory: MemoryTable = kinds.field(MemoryTable)
    wire: WireTable = WireTable()
    downlink: DownlinkTable = DownlinkTable()
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
        """Make a configuration of the tables of a TOML file, or of a trace.

        Parameters
        ----------
        tables : mapping
        old : bool
            Whether to drop keys that a table's kind does not have: traces up to version 0.1 have the keys of
            all kinds.

        Raises
        ------
        InputError
            Naming key and value.
        """
        made_here = {"scheme", *KINDS}
        config = kinds.build(cls, {key: table for key, table in tables.items() if key not in made_here})
        for path in config.plugins:
            kinds.load_plugin(path)
        made = {
            name: base.of(tables[name], old)
            for name, base in KINDS.items()
            if name in tables and base is not DecoderTable
        }
        config = msgspec.structs.replace(config, scheme=SchemeTable.of(tables.get("scheme", {}), old), **made)
        decoder = tables.get("decoder", {})
        if isinstance(decoder, Mapping):
            decoder = {**decoder, "kind": config.memory.decoder_for(decoder.get("kind"))}
        return msgspec.structs.replace(config, decoder=DecoderTable.of(decoder, old))

    def __reduce__(self) -> tuple[Any, ...]:
        """A process that has not imported the plug-ins makes it from plain tables."""
        return Config.of, (msgspec.to_builtins(self),)


KINDS: dict[str, type[Kind]] = {
    each.table: each for each in (ProblemTable, CodeTable, DecoderTable, MemoryTable, StragglersTable)
}
"""The tables that come in kinds."""
