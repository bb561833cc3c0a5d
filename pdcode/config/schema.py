"""The configuration of a run: a frozen struct for each TOML table, checked before communication starts.

The keys of a table that comes in kinds are defined with its kinds; `interfaces` has their base classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from ..util.errors import InputError, did_you_mean, expected, short_repr
from . import building, kinds
from .building import Kind
from .fields import MAX_VALUE, Bandwidth, Bytes, Candidates, Count, Duration, Positive, Real, Seconds, Table
from .interfaces import (
    CodeTable,
    DecoderTable,
    DownlinkTable,
    FaultEvent,
    MemoryTable,
    OptimizerTable,
    ReduceTable,
    ShuffleTable,
    StragglersTable,
    UpdateTable,
)
from .problems import ProblemTable
from .requirements import KeyNeeds, Need, given, lacking, one_of

if TYPE_CHECKING:
    from ..reductions.base import Reduction

AUTO = "auto"
"""Value of ``[scheme] preset`` that has the preset chosen by predicted times, see `choice.preset`."""


class SchemeTable(Table):
    """The scheme, which also provides defaults for tables that are not given."""

    name: str = "lwpd"  #: name of the scheme
    #: name of one of the scheme's presets, which provides defaults for single keys; "auto": the one with the
    #: shortest predicted time
    preset: str | None = None
    options: Any = None  #: the scheme's own keys
    #: with preset "auto": the keys of other tables that are given, by table; filled in when a file is read
    given: dict[str, Any] | None = None

    @property
    def is_auto(self) -> bool:
        """Whether the preset is still to be chosen."""
        return self.preset == AUTO

    @classmethod
    def of(cls, table: Any) -> SchemeTable:
        """Build the table, with the options of the scheme that it names."""
        built = building.build(cls, table, "scheme")
        scheme = kinds.find("schemes", built.name)
        if scheme is None:
            raise InputError(f"scheme.name: {expected(built.name, kinds.names('schemes'))}")
        presets = [*scheme.presets, *([AUTO] if scheme.candidates else [])]
        if built.preset is not None and built.preset not in presets:
            names = f"known: {', '.join(presets)}" if presets else "it has none"
            raise InputError(
                f"scheme.preset: scheme '{built.name}' has no preset {short_repr(built.preset)}; {names}"
                f"{did_you_mean(built.preset, presets)}"
            )
        options = {} if built.options is None else built.options
        if isinstance(options, Mapping):
            others = ((name, each.Options) for name, each in kinds.members("schemes"))
            kind = f"scheme '{built.name}'"
            building.refuse_keys_of_others("scheme.options", options, scheme.Options, kind, others)
        return msgspec.structs.replace(
            built, options=building.build(scheme.Options, options, "scheme.options")
        )

    def check_config(self, config: Config) -> None:
        """Refuse combinations of keys that cannot work with the scheme."""
        kinds.find("schemes", self.name).check(config)


class WireTable(Table):
    """Format of payloads in messages."""

    #: name of the format of payloads in messages, of all layers or of each; none: the problem's type
    dtype: str | list[str] | None = None

    candidates: ClassVar[Candidates] = {"dtype": (None, "float16", "int8", "int4", "int2")}
    requires: ClassVar[KeyNeeds] = {
        "dtype": {
            "problem.dtype": Need(
                lambda dtype, config: dtype == "float64" or "float64" not in config.wire.formats,
                "'float64'",
                "is wider",
            )
        }
    }

    @property
    def formats(self) -> list[str]:
        """Names of the formats that are given."""
        if self.dtype is None:
            return []
        return self.dtype if isinstance(self.dtype, list) else [self.dtype]

    def kinds(self) -> list[Any]:
        """Return the classes of these formats, subclasses of `transport.wires.WireFormat`."""
        classes = [kinds.find("wires", name) for name in self.formats]
        if None in classes:
            unknown = self.formats[classes.index(None)]
            raise InputError(f"wire.dtype: {expected(unknown, kinds.names('wires'))}")
        return classes


REPLACED = "cannot replace a worker to which the others send payloads"


class WorkersTable(Table):
    """The workers."""

    count: Positive = 8  #: number of workers n
    #: spare ranks of a run over MPI: each replaces a worker that dies or leaves, with its data; not with
    #: downlink.kind "exchange" or reduce.kind "allreduce"
    spares: Count = 0

    requires: ClassVar[KeyNeeds] = {
        "spares": {
            "downlink.kind": lacking("exchanges", "'full' or 'codewords'", REPLACED),
            "reduce.kind": one_of("star", why=REPLACED),
        }
    }


class MachineTable(Table):
    """Computation costs on the virtual clock, and in predictions; no cost of a run over MPI."""

    flops_per_s: Annotated[float, Meta(ge=1, le=1e18)] = 5e9  #: a worker's speed on its tasks [flop/s]
    task_s: Seconds = 5e-5  #: a worker's fixed time per task, in addition to its flops [s]
    oversleep_s: Seconds = 0.0  #: time by which each injected delay lasts longer, as sleeps do over MPI [s]
    arrival_s: Seconds = 3e-5  #: rank 0's time per arrival [s]
    #: rank 0's speed on the bytes of payloads, in addition to their fixed time and to what it computes;
    #: none: unlimited [bytes/s]
    decode_bandwidth: Bandwidth | None = None
    dispatch_s: Seconds = 5e-6  #: rank 0's time per dispatched task [s]
    update_s: Seconds = 0.0  #: rank 0's time per update [s]
    #: rank 0's speed on what it computes, in addition to these times, as a multiple of a worker's: reading
    #: and adding up payloads, copies of θ into tasks, steps; with `reduce.kind = "allreduce"` workers do that
    coordinator_speed: Real = 1.0
    #: number of coordinators, each with a link, a processor and a part of θ's elements
    coordinators: Annotated[int, Meta(ge=1, le=1024)] = 1


class LinkTable(Table):
    """The network on the virtual clock, and in predictions; over MPI only of broadcasts of rows."""

    latency_s: Seconds = 2e-5  #: one-way latency of a message [s]
    #: bandwidth of rank 0's link in each direction [bytes/s]
    bandwidth: Bandwidth = 1e9
    half_duplex: bool = False  #: whether rank 0 cannot send and receive at once; sending has priority
    #: transmission of θ to many workers: one by one as in a run over MPI, by a pipelined tree, from worker to
    #: worker, or by a medium that all hear; rows of `shuffle.kind = "coded"` are also broadcast so, over MPI
    #: by a chain, but not by "tree"
    broadcast: Literal["star", "tree", "chain", "multicast"] = "star"
    fanout: Annotated[int, Meta(ge=1, le=1024)] = 2  #: number of children of a node of the tree
    segment: Bytes = 65536  #: size of the segments pipelined through the tree or chain [bytes]

    effective: ClassVar[KeyNeeds] = {
        "fanout": {"link.broadcast": one_of("tree")},
        "segment": {"link.broadcast": one_of("tree", "chain")},
    }

    @property
    def children(self) -> int:
        """Copies of θ that rank 0 sends to many workers, which pass them on; 0: one for each worker."""
        return {"star": 0, "tree": self.fanout}.get(self.broadcast, 1)


class FaultsTable(Table):
    """Injected faults, keyed by (seed, worker): the same for every scheme, and on both clocks."""

    paths: ClassVar[tuple[str, ...]] = ("spot",)
    effective: ClassVar[KeyNeeds] = {
        "failure": {"faults.mtbf_s": given("a time")},
        ("spot_end", "spot_speed"): {"faults.spot": given("a file")},
        "audit_tolerance": {"faults.audit": given("a share")},
    }
    requires: ClassVar[KeyNeeds] = {
        "audit": {
            "reduce.kind": one_of("star", why="recomputes payloads"),
            "reduce.bits": one_of(None, why="recomputes payloads"),
            "shuffle.kind": one_of("none", why="recomputes from the rows of the start"),
        }
    }

    #: faults, a table each, by kind (`"kill"` if none is given): `[[faults.events]]`
    events: list[Any] = msgspec.field(default_factory=list)
    #: mean time between failures of each worker, exponential, in addition to `events` [s]
    mtbf_s: Duration | None = None
    failure: Any = None  #: these failures, a table as in `events` without worker and time; none: kills
    #: path of a recorded spot trace (lines `ms,add|remove,node`): worker i follows the i-th of the places
    #: that nodes take in turn, modulo their number; in a TOML file relative to its folder, on the command
    #: line to the current folder
    spot: str | None = None
    #: end of a worker whose node is removed: `leave`, after its task, as after a warning; `kill`, at once
    spot_end: Literal["leave", "kill"] = "leave"
    spot_speed: Real = 1.0  #: speed of the spot trace, relative to the recording
    #: share of the workers' tasks, drawn by (seed, worker, task), that rank 0 recomputes, to name workers
    #: whose payloads are wrong: [audits](faults.md#audits)
    audit: Annotated[float, Meta(ge=0, le=1)] = 0.0
    #: difference of a payload from the recomputed one up to which it is not wrong, as a share of its norm; 0:
    #: every bit is the same, as on processors of one type
    audit_tolerance: Annotated[float, Meta(ge=0, le=1)] = 0.0

    @classmethod
    def of(cls, table: Any) -> FaultsTable:
        """Build the table with its events."""
        built = building.build(cls, table, "faults")
        failure = None if built.failure is None else FaultEvent.of(built.failure)
        events = [FaultEvent.of(each) for each in built.events]
        return msgspec.structs.replace(built, events=events, failure=failure)

    def __bool__(self) -> bool:
        return bool(self.events) or self.mtbf_s is not None or self.spot is not None

    def completed(self) -> FaultsTable:
        """Return the table; no key follows from its files."""
        return self

    @property
    def injected(self) -> list[FaultEvent]:
        """The events, and the failures at the rate of `mtbf_s`."""
        failure = self.failure or FaultEvent.of({})
        return [*self.events, *([] if self.mtbf_s is None else [failure])]

    def check_config(self, config: Config) -> None:
        """Refuse faults that cannot happen."""
        for each in self.injected:
            each.check_config(config)
        if self.failure is not None:
            for key in ("worker", "at_s", "task"):
                if (value := getattr(self.failure, key, None)) is not None:
                    why = "workers and times are drawn, by faults.mtbf_s; leave it out"
                    raise InputError(f"faults.failure.{key}: {value}: {why}")

    def ensure_endless(self) -> None:
        """Refuse faults that end the run."""
        for each in self.injected:
            if each.ends:
                raise InputError(f"faults.events: kind '{each.kind}' would end every run")


class StopTable(Table):
    """Conditions that end a run, as soon as one of them is met."""

    updates: Positive | None = None  #: number of updates
    epochs: Real | None = None  #: passes over the training rows, of the payloads that were used
    seconds: Duration | None = None  #: time of the run, virtual or real [s]
    #: training loss to reach
    loss: Annotated[float, Meta(ge=-MAX_VALUE, le=MAX_VALUE)] | None = None
    #: test accuracy (R² for least squares, D² for Poisson regression) to reach
    accuracy: Annotated[float, Meta(ge=-MAX_VALUE, le=1)] | None = None
    #: maximum wait for payloads in flight when a run ends; none: four times a typical task, at least 1 s, and
    #: without limit on the virtual clock if there are no faults [s]
    drain_s: Seconds | None = None

    @property
    def ends(self) -> bool:
        """Whether a condition is given."""
        given = self.updates, self.epochs, self.seconds, self.loss, self.accuracy
        return any(value is not None for value in given)

    @property
    def limited(self) -> bool:
        """Whether a number of updates or epochs, or a time, is given."""
        return any(value is not None for value in (self.updates, self.epochs, self.seconds))

    def fraction(self, seconds: float, updates: int, epochs: float = 0.0) -> float:
        """Return the fraction of a run that is done by its limits of time and work; 0 without them."""
        work = updates / (self.updates or math.inf), epochs / (self.epochs or math.inf)
        return min(1.0, max(seconds / (self.seconds or math.inf), *work))


class TraceTable(Table):
    """The trace file."""

    #: path of the HDF5 file, also in a TOML file relative to the current folder
    path: str = "results/trace.h5"
    flush_s: Duration = 1.0  #: time after which recorded rows are on disk [s]
    #: period of measuring loss and accuracy, longer if that takes over 5 % of the time; none: 1 s, shorter at
    #: the start and near the target. On the virtual clock, where measuring takes no time, none: by updates,
    #: more often near the target, and the update that reached it is looked for [s]
    progress_s: Duration | None = None
    progress_updates: Positive | None = None  #: updates after which they are measured, too; none: by time
    #: time between checkpoints for `--resume`, on the run's clock; none: no checkpoints [s]
    checkpoint_s: Duration | None = None
    arrivals: Literal["all", "sampled", "none"] = "all"  #: which arrivals to record
    sample: Positive = 100  #: with "sampled": record every `sample`-th task of each worker

    effective: ClassVar[KeyNeeds] = {"sample": {"trace.arrivals": one_of("sampled")}}


class Config(Table):
    """The configuration of a run."""

    seed: Count = 1  #: key of all randomness except the split of the data
    #: paths of Python files that define further kinds: in a TOML file relative to its folder, on the command
    #: line to the current folder
    plugins: list[str] = msgspec.field(default_factory=list)
    problem: ProblemTable = building.field(ProblemTable)
    code: CodeTable = building.field(CodeTable)
    scheme: SchemeTable = msgspec.field(default_factory=lambda: SchemeTable.of({}))
    decoder: DecoderTable = building.field(DecoderTable)
    memory: MemoryTable = building.field(MemoryTable)
    wire: WireTable = WireTable()
    downlink: DownlinkTable = building.field(DownlinkTable)
    reduce: ReduceTable = building.field(ReduceTable)
    shuffle: ShuffleTable = building.field(ShuffleTable)
    update: UpdateTable = building.field(UpdateTable)
    optimizer: OptimizerTable = building.field(OptimizerTable)
    workers: WorkersTable = WorkersTable()
    stragglers: StragglersTable = building.field(StragglersTable)
    machine: MachineTable = MachineTable()
    link: LinkTable = LinkTable()
    faults: FaultsTable = FaultsTable()
    stop: StopTable = StopTable()
    trace: TraceTable = TraceTable()

    def with_keys(self, **tables: dict[str, Any]) -> Config:
        """Return the configuration with other values of some keys, a dict for each table."""
        replace = msgspec.structs.replace
        changed = {name: replace(getattr(self, name), **keys) for name, keys in tables.items()}
        return replace(self, **changed)

    def with_seed(self, seed: int) -> Config:
        """Return the configuration with another seed."""
        return msgspec.structs.replace(self, seed=seed, problem=self.problem.of_seed(seed, self.seed))

    @property
    def reduction(self) -> Reduction:
        """Who adds up the payloads of an update."""
        return self.reduce.make(self)

    @property
    def relies_on_parts(self) -> str:
        """The key for which a run cannot resume without the state of every worker, and its value; or none."""
        if self.reduction.workers_step:
            return f"reduce.kind {self.reduce.kind!r}"
        return "memory.kind 'difference'" if self.memory.kind == "difference" else ""

    @classmethod
    def of(cls, tables: Mapping[str, Any]) -> Config:
        """Build a configuration from tables: name -> keys and values."""
        made_here = {"scheme", "faults", *KINDS}
        config = building.build(cls, {key: table for key, table in tables.items() if key not in made_here})
        for path in config.plugins:
            kinds.load_plugin(path)
        own = {
            name: base.of(tables[name])
            for name, base in KINDS.items()
            if name in tables and base is not DecoderTable
        }
        scheme = SchemeTable.of(tables.get("scheme", {}))
        faults = FaultsTable.of(tables.get("faults", {}))
        config = msgspec.structs.replace(config, scheme=scheme, faults=faults, **own)
        config.wire.kinds()  # refuses unknown names
        decoder = tables.get("decoder", {})
        if isinstance(decoder, Mapping):
            decoder = {**decoder, "kind": config.memory.decoder_for(decoder.get("kind"))}
        problem = config.problem.of_seed(config.seed)
        return msgspec.structs.replace(config, decoder=DecoderTable.of(decoder), problem=problem)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as plain tables, so that a process without the plug-ins can rebuild it."""
        return Config.of, (msgspec.to_builtins(self),)


KINDS: dict[str, type[Kind]] = {
    each.table: each
    for each in (
        ProblemTable,
        CodeTable,
        DecoderTable,
        MemoryTable,
        UpdateTable,
        OptimizerTable,
        StragglersTable,
        DownlinkTable,
        ReduceTable,
        ShuffleTable,
    )
}
"""Table name -> base class, for the tables that come in kinds."""

building.whole.append(Config)
