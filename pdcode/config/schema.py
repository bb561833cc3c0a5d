"""The configuration of a run: a frozen struct for each TOML table, checked before communication starts.

The keys of a table that comes in kinds are defined with its kinds; `interfaces` has their base classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from ..util.errors import InputError, did_you_mean, expected, short_repr
from . import building, kinds
from .building import Kind
from .fields import MAX_VALUE, Bandwidth, Bytes, Candidates, Count, Duration, Positive, Real, Seconds, Table
from .interfaces import (
    CodeTable,
    DecoderTable,
    FaultEvent,
    MemoryTable,
    OptimizerTable,
    StragglersTable,
    UpdateTable,
)
from .problems import ProblemTable
from .requirements import KeyNeeds, Need, given, having, none_of, one_of, unrounded

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

    def check(self, config: Config) -> None:
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


class DownlinkTable(Table):
    """The downlink: the transmission of the new θ to workers."""

    #: θ itself, or the payloads from which workers compute it: sent by rank 0 ("codewords"), or by workers to
    #: each other while rank 0 sends the order of their use ("exchange")
    kind: Literal["full", "codewords", "exchange"] = "full"
    #: with "codewords" or "exchange": tasks between comparisons of a worker's θ with rank 0's
    check: Positive = 64

    effective: ClassVar[KeyNeeds] = {"check": {"downlink.kind": one_of("codewords", "exchange")}}
    requires: ClassVar[KeyNeeds] = {
        "kind": {
            "decoder.kind": having(
                "relays",
                "a decoder whose state can be sent to a late worker, such as 'adjoint'",
                "has every worker decode",
            )
        }
    }

    @property
    def relays(self) -> bool:
        """Whether workers get payloads, and compute θ themselves."""
        return self.kind != "full"

    @property
    def exchanges(self) -> bool:
        """Whether workers send their payloads to each other."""
        return self.kind == "exchange"


SUMMED = "gives rank 0 only the sum of the payloads"
SUMMED_NEEDS: dict[str, Need] = {
    "decoder.kind": having("adds", "a decoder of sums, such as 'adjoint'", SUMMED),
    "update.clip": one_of("none", why=SUMMED),
    "downlink.kind": one_of("full", why="leaves θ with every worker, or sends it"),
}


class ReduceTable(Table):
    """The ranks that add up the payloads."""

    #: "star": rank 0, which sends θ to all; "allreduce": the workers, each of which has its own θ; if
    #: `wire.dtype` rounds, or with `update.mode = "first"`, each averages a range of elements, and rounds
    #: the mean again; "tree": the workers along a tree, which needs `bits`
    kind: Literal["star", "allreduce", "tree"] = "star"
    #: workers round once, to integers modulo 2^bits, which anyone adds up exactly; none: not so
    bits: Annotated[int, Meta(ge=2, le=16)] | None = None
    fanout: Annotated[int, Meta(ge=1, le=1024)] = 4  #: with "tree": workers below a worker
    #: with "allreduce" or "tree": updates between comparisons of all workers' θ with rank 0's
    check: Positive = 64

    effective: ClassVar[KeyNeeds] = {
        "check": {"reduce.kind": none_of("star", needed="'allreduce' or 'tree'")},
        "fanout": {"reduce.kind": one_of("tree")},
    }
    requires: ClassVar[KeyNeeds] = {
        "kind": {
            **SUMMED_NEEDS,
            "update.mode": Need(
                lambda mode, config: mode.complete or mode.name_of() == "first",
                "'all' or 'first'",
                "has workers wait for each other",
                of_kind=True,
            ),
            "update.late": one_of(
                "waste", why="adds up payloads at the same θ", when=lambda config: config.sums_first
            ),
            "wire.dtype": Need(
                lambda name, config: not (config.has_owners and isinstance(config.wire.dtype, list)),
                "one format for all layers",
                "cuts layers into ranges of elements",
            ),
            "code.rows_per_task": none_of(
                "auto", needed="a number, or code.share", why="has no link of rank 0 that would determine it"
            ),
            "memory.kind": one_of(
                "none", "worker", why="has owners round the mean again", when=lambda config: config.has_owners
            ),
            "reduce.bits": Need(
                lambda bits, config: bits is not None or config.reduce.kind != "tree",
                "a number of bits",
                "adds up payloads without decoding them",
            ),
        },
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
        },
    }

    @property
    def summed(self) -> bool:
        """Whether workers add up their payloads."""
        return self.kind != "star"

    @property
    def adds(self) -> bool:
        """Whether an update gets the sum of all payloads, not the single ones."""
        return self.summed or self.bits is not None


class ShuffleTable(Table):
    """Reshuffling of the training rows among the workers."""

    #: how rows move: "uncoded", each worker gets its new rows from rank 0; "coded", all get XORs of rows,
    #: which they decode by their old rows; "exchange", workers send each other rows
    kind: Literal["none", "uncoded", "coded", "exchange"] = "none"
    every: Positive = 100  #: updates between two shuffles
    #: with "coded": batches S that a worker stores, its own included; above 1 whole first shards move, and
    #: XORs of their parts deliver any permutation in (n - S)/S batches
    cache: Positive = 1

    candidates: ClassVar[Candidates] = {"every": (20, 60, 200)}
    effective: ClassVar[KeyNeeds] = {
        "every": {"shuffle.kind": none_of("none", needed="a kind that moves rows")},
        "cache": {"shuffle.kind": one_of("coded")},
    }
    requires: ClassVar[KeyNeeds] = {
        "kind": {
            "problem.shards": none_of(
                "replicated", "common", needed="shards that differ", why="moves rows among shards"
            ),
            "reduce.kind": one_of("star", why="has rows follow the tasks that rank 0 sends"),
            "scheme.name": Need(
                lambda name, config: kinds.find("schemes", name).has_shard,
                "a scheme whose workers have a shard each, such as 'lwpd'",
                "moves rows among shards",
            ),
        },
        "cache": {
            "workers.count": Need(
                lambda count, config: count > config.shuffle.cache,
                "more workers than that",
                "leaves nothing to be sent where every worker has all batches",
            )
        },
    }


REPLACED = "cannot replace a worker to which the others send payloads"


class WorkersTable(Table):
    """The workers."""

    count: Positive = 8  #: number of workers n
    #: spare ranks of a run over MPI: each replaces a worker that dies or leaves, with its data; not with
    #: downlink.kind "exchange" or reduce.kind "allreduce"
    spares: Count = 0

    requires: ClassVar[KeyNeeds] = {
        "spares": {
            "downlink.kind": none_of("exchange", needed="'full' or 'codewords'", why=REPLACED),
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

    def check(self, config: Config) -> None:
        """Refuse faults that cannot happen."""
        for each in self.injected:
            each.check(config)
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
    downlink: DownlinkTable = DownlinkTable()
    reduce: ReduceTable = ReduceTable()
    shuffle: ShuffleTable = ShuffleTable()
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
    def has_owners(self) -> bool:
        """Whether workers that add up payloads average a range of elements each: if rounded, or the first."""
        rounded = any(name != self.problem.dtype for name in self.wire.formats)
        return self.reduce.summed and (rounded or self.sums_first)

    @property
    def owners(self) -> int:
        """Number of ranges of elements that have an owner."""
        workers = self.workers.count
        return (self.update.min_payloads(workers) or workers) if self.sums_first else workers

    @property
    def sums_all(self) -> bool:
        """Whether all workers add up their payloads, without rank 0."""
        return self.reduce.summed and self.update.complete

    @property
    def sums_first(self) -> bool:
        """Whether the workers with the first payloads, which rank 0 chooses, add these up."""
        return self.reduce.summed and not self.update.complete

    @property
    def relies_on_parts(self) -> str:
        """The key for which a run cannot resume without the state of every worker, and its value; or none."""
        if self.sums_all:
            return f"reduce.kind {self.reduce.kind!r}"
        return "memory.kind 'difference'" if self.memory.kind == "difference" else ""

    @property
    def has_replicas(self) -> bool:
        """Whether tasks have what brings a worker's replica of θ up to date."""
        return self.downlink.relays or self.sums_first

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
    )
}
"""Table name -> base class, for the tables that come in kinds."""

building.whole.append(Config)
