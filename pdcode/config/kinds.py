"""Kinds: classes, records and functions that a configuration or a command line selects by name.

A kind of a table is a struct with its own keys, see `building.Kind`; its name is the struct's tag. A kind is
built in, an entry point of an installed package, or a class in a plug-in: a Python
file listed under ``plugins`` in the configuration. A module is imported only when one of its kinds is used.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from functools import cache
from importlib import import_module
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from ..util.errors import (
    InputError,
    did_you_mean,
    ensure_file,
    in_one_line,
    not_a_file,
    place_of_user,
    short_repr,
)

KINDS: dict[str, dict[str, Any]] = {
    "commands": {
        name: f"pdcode.cli.{name}:add_parser"
        for name in (
            "run", "submit", "simulate", "replay", "show", "report", "watch", "ask", "check", "predict",
            "reconstruct", "export", "import", "record", "codes", "plan", "compare", "chaos", "bench",
            "doctor", "completion",
        )
    },
    "benches": {
        "machine": "pdcode.cli.bench:add_machine",
        "heldout": "pdcode.cli.heldout:add_parser",
    },
    "exporters": {
        "perfetto": "pdcode.exporters.perfetto:PERFETTO",
        "otf2": "pdcode.exporters.otf2:OTF2",
        "pipit": "pdcode.exporters.pipit:PIPIT",
        "goal": "pdcode.exporters.goal:GOAL",
        "parquet": "pdcode.exporters.tables:PARQUET",
        "csv": "pdcode.exporters.tables:CSV",
        "tensorboard": "pdcode.exporters.tensorboard:TENSORBOARD",
        "prometheus": "pdcode.exporters.prometheus:PROMETHEUS",
    },
    "importers": {
        "kineto": "pdcode.importers.kineto:KINETO",
        "flight-recorder": "pdcode.importers.flight_recorder:FLIGHT_RECORDER",
        "traceml": "pdcode.importers.traceml:TRACEML",
        "pai": "pdcode.importers.pai:PAI",
        "bytedance": "pdcode.importers.bytedance:BYTEDANCE",
        "spot": "pdcode.importers.spot:SPOT",
        "csv": "pdcode.importers.csv:CSV",
    },
    "recordings": {  # the first that fits reads a file, text after all others
        "aedat4": "pdcode.events.readers.aedat4:AEDAT4",
        "aedat3": "pdcode.events.readers.aedat:AEDAT3",
        "aedat2": "pdcode.events.readers.aedat:AEDAT2",
        "event-stream": "pdcode.events.readers.binary:EVENT_STREAM",
        "prophesee": "pdcode.events.readers.binary:PROPHESEE",
        "nmnist": "pdcode.events.readers.binary:NMNIST",
        "text": "pdcode.events.readers.text:TEXT",
    },
    "views": {
        "summary": "pdcode.analysis.summary:summarise",
        "diagnosis": "pdcode.analysis.causes:diagnosed",
        "account": "pdcode.analysis.account:account",
        "answer": "pdcode.analysis.questions:ask",
        "figure": "pdcode.analysis.plots:draw_kind",
        "export": "pdcode.exporters:export",
        "dictionary": "pdcode.events.reconstruction:trained_dictionary",
        "html": "pdcode.analysis.notebook:as_html",
        "live": "pdcode.analysis.notebook:Live",
        "simulation": "pdcode.analysis.prediction:lines",
        "fit": "pdcode.differences.fit:fitted",
    },
    "codes": {
        "matched": "pdcode.schemes.common.adaptive:MatchedTable",
        "energy": "pdcode.schemes.common.adaptive:EnergyTable",
        "file": "pdcode.schemes.common.saved:FileTable",
    },
    "families": {
        "uncoded": "pdcode.codes.constructions.simple:UNCODED",
        "repetition": "pdcode.codes.constructions.simple:REPETITION",
        "pairs": "pdcode.codes.constructions.simple:PAIRS",
        "random": "pdcode.codes.constructions.simple:RANDOM",
        "net": "pdcode.codes.constructions.net:NET",
        "graph": "pdcode.families.graph:GRAPH",
        "steiner": "pdcode.families.equiangular:STEINER",
        "simplex-lines": "pdcode.families.equiangular:SIMPLEX_LINES",
        "tremain": "pdcode.families.equiangular:TREMAIN",
        "haar-simplex": "pdcode.families.lattices:HAAR_SIMPLEX",
        "icosahedron": "pdcode.families.lattices:ICOSAHEDRON",
        "dk": "pdcode.families.lattices:DK",
        "e8": "pdcode.families.lattices:E8",
        "kerdock": "pdcode.families.kerdock:KERDOCK",
        "hadamard": "pdcode.codes.constructions.hadamard:HADAMARD",
        "energy": "pdcode.codes.constructions.energy:ENERGY",
    },
    "designs": {
        "queue": "pdcode.differences.designs:Queue",
        "copies": "pdcode.differences.designs:Copies",
        "combinations": "pdcode.differences.designs:Combinations",
    },
    "decoders": {
        "adjoint": "pdcode.decoders.adjoint:AdjointTable",
        "least_squares": "pdcode.decoders.least_squares:LeastSquaresTable",
        "tracking": "pdcode.decoders.tracking:TrackingTable",
        "mmse": "pdcode.decoders.mmse:MmseTable",
        "peeling": "pdcode.decoders.peeling:PeelingTable",
        "residual": "pdcode.decoders.residual:ResidualTable",
        "summing": "pdcode.decoders.summing:SummingTable",
    },
    "memories": {
        "none": "pdcode.coding.memory:NoMemory",
        "worker": "pdcode.coding.memory:WorkerMemory",
        "difference": "pdcode.coding.memory:DifferenceMemory",
        "coordinator": "pdcode.coding.memory:CoordinatorMemory",
    },
    "problems": {
        "least-squares": "pdcode.problems.losses:LeastSquaresProblem",
        "logistic": "pdcode.problems.losses:Logistic",
        "softmax": "pdcode.problems.losses:Softmax",
        "poisson": "pdcode.problems.losses:Poisson",
        "mlp": "pdcode.problems.losses:Perceptron",
        "weighted-least-squares": "pdcode.problems.weighted:WeightedLeastSquares",
        "weighted-softmax": "pdcode.problems.weighted:WeightedSoftmax",
        "multilabel": "pdcode.problems.weighted:Multilabel",
        "sparse-coding": "pdcode.problems.sparse_coding:SparseCoding",
        "function": "pdcode.problems.function:FunctionProblem",
        "simulation": "pdcode.differences.problem:SimulationProblem",
        "torch": "pdcode.torch.kind:TorchProblem",
    },
    "readers": {
        "digits": "pdcode.problems.bundled:digits",
        "breast-cancer": "pdcode.problems.bundled:breast_cancer",
        "diabetes": "pdcode.problems.bundled:diabetes",
        "mnist5k": "pdcode.problems.bundled:mnist5k",
        "china-flower": "pdcode.problems.photographs:cut_two",
        "photographs": "pdcode.problems.photographs:cut_seven",
        "synthetic": "pdcode.problems.synthetic:generate",
        "csv": "pdcode.problems.delimited:read_csv",
        "parquet": "pdcode.problems.tables:read_parquet",
        "npz": "pdcode.problems.files:read_npz",
        "npy": "pdcode.problems.files:read_npy",
        "svmlight": "pdcode.problems.files:read_svmlight",
        "hdf5": "pdcode.problems.hdf5:read_all",
        "idx": "pdcode.problems.idx:read_images_and_labels",
    },
    "proximals": {
        "l1": "pdcode.coding.proximals:L1",
        "elastic-net": "pdcode.coding.proximals:ElasticNet",
        "box": "pdcode.coding.proximals:Box",
        "group-lasso": "pdcode.coding.proximals:GroupLasso",
        "unit-norm": "pdcode.coding.proximals:UnitNorm",
    },
    "downlinks": {
        "full": "pdcode.downlinks:Full",
        "codewords": "pdcode.downlinks:Codewords",
        "exchange": "pdcode.downlinks:Exchange",
    },
    "reductions": {
        "star": "pdcode.reductions.star:StarTable",
        "allreduce": "pdcode.reductions.allreduce:AllreduceTable",
        "tree": "pdcode.reductions.tree:TreeTable",
        "channel": "pdcode.reductions.channel:ChannelTable",
    },
    "shuffles": {
        "none": "pdcode.shuffling.kinds:Unmoved",
        "uncoded": "pdcode.shuffling.kinds:Uncoded",
        "coded": "pdcode.shuffling.kinds:Coded",
        "exchange": "pdcode.shuffling.kinds:Exchange",
    },
    "optimizers": {
        "sgd": "pdcode.coding.optimizers:SGDTable",
        "adam": "pdcode.coding.optimizers:AdamTable",
        "adamw": "pdcode.coding.optimizers:AdamWTable",
        "sign": "pdcode.coding.optimizers:SignTable",
        "muon": "pdcode.coding.muon:MuonTable",
        "orthogonal": "pdcode.coding.muon:OrthogonalTable",
        "dion2": "pdcode.coding.muon:Dion2Table",
        "schedule-free": "pdcode.coding.schedule_free:ScheduleFreeTable",
    },
    "policies": {
        "async": "pdcode.coding.policies:AsyncTable",
        "all": "pdcode.coding.policies:AllTable",
        "first": "pdcode.coding.policies:FirstTable",
        "quorum": "pdcode.coding.policies:QuorumTable",
        "captured": "pdcode.coding.policies:CapturedTable",
    },
    "stragglers": {
        "none": "pdcode.stragglers.laws:NoDelays",
        "shifted-exponential": "pdcode.stragglers.laws:ShiftedExponential",
        "pareto": "pdcode.stragglers.laws:Pareto",
        "bimodal": "pdcode.stragglers.laws:Bimodal",
        "lognormal": "pdcode.stragglers.laws:Lognormal",
        "markov": "pdcode.stragglers.markov:Markov",
        "slow-set": "pdcode.stragglers.laws:SlowSet",
        "heterogeneous": "pdcode.stragglers.laws:Heterogeneous",
        "trace": "pdcode.stragglers.trace:Recorded",
    },
    "faults": {
        "kill": "pdcode.faults.process:Kill",
        "exit": "pdcode.faults.process:Exit",
        "raise": "pdcode.faults.tasks:Raise",
        "stop": "pdcode.faults.process:Stop",
        "hang": "pdcode.faults.process:Hang",
        "slow": "pdcode.faults.tasks:Slow",
        "nan": "pdcode.faults.payloads:NotANumber",
        "lie": "pdcode.faults.payloads:Lie",
        "collude": "pdcode.faults.payloads:Collude",
        "corrupt": "pdcode.faults.payloads:Corrupt",
        "drop": "pdcode.faults.messages:Drop",
        "delay": "pdcode.faults.messages:Delay",
        "duplicate": "pdcode.faults.messages:Duplicate",
        "cut": "pdcode.faults.messages:Cut",
        "leave": "pdcode.faults.process:Leave",
        "join": "pdcode.faults.process:Join",
        "full-disk": "pdcode.faults.coordinator:FullDisk",
        "kill-rank-0": "pdcode.faults.coordinator:KillRank0",
    },
    "wires": {
        "float64": "pdcode.transport.wires:Float64",
        "float32": "pdcode.transport.wires:Float32",
        "bfloat16": "pdcode.transport.wires:BFloat16",
        "float16": "pdcode.transport.wires:Float16",
        "int8": "pdcode.transport.wires:Int8",
        "int4": "pdcode.transport.wires:Int4",
        "int2": "pdcode.transport.wires:Int2",
        "sign": "pdcode.transport.wires:Sign",
        "qsgd": "pdcode.transport.wires:QSGD",
    },
    "schemes": {
        "lwpd": "pdcode.schemes.lwpd:LWPD",
        "uncoded": "pdcode.schemes.uncoded:Uncoded",
        "streaming": "pdcode.rivals.streaming:Streaming",
        "ringmaster": "pdcode.rivals.ringmaster:Ringmaster",
        "ringmaster-muon": "pdcode.rivals.ringmaster_muon:RingmasterMuon",
        "rennala": "pdcode.rivals.rennala:Rennala",
        "mindflayer": "pdcode.rivals.mindflayer:MindFlayer",
        "shadowheart": "pdcode.rivals.shadowheart:Shadowheart",
        "ringleader": "pdcode.rivals.ringleader:Ringleader",
        "topk": "pdcode.schemes.topk:TopK",
        "randomk": "pdcode.rivals.randomk:RandomK",
        "signsgd": "pdcode.rivals.signsgd:SignSGD",
        "local": "pdcode.schemes.local:Local",
        "diloco": "pdcode.rivals.diloco:DiLoCo",
        "muloco": "pdcode.rivals.muloco:MuLoCo",
        "sparse-muloco": "pdcode.rivals.sparse_muloco:SparseMuLoCo",
        "heloco": "pdcode.rivals.heloco:HeLoCo",
        "delayed-nesterov": "pdcode.rivals.delayed_nesterov:DelayedNesterov",
        "sparseloco": "pdcode.rivals.sparseloco:SparseLoCo",
        "cyclic": "pdcode.rivals.cyclic:Cyclic",
        "frc": "pdcode.rivals.frc:FractionalRepetition",
        "bernoulli": "pdcode.rivals.bernoulli:Bernoulli",
        "expander": "pdcode.rivals.expander:Expander",
        "unequal": "pdcode.rivals.unequal:Unequal",
        "sgc": "pdcode.rivals.sequential.sgc:SequentialCode",
        "sag": "pdcode.rivals.sag:SAG",
        "dsag": "pdcode.rivals.sag:DSAG",
        "differences": "pdcode.differences.scheme:Differences",
        "allreduce": "pdcode.schemes.uncoded:Allreduce",
        "powersgd": "pdcode.rivals.powersgd:PowerSGD",
        "dion": "pdcode.rivals.dion:Dion",
        "ef21-muon": "pdcode.rivals.ef21_muon:EF21Muon",
        "demo": "pdcode.rivals.demo:DeMo",
        "robust": "pdcode.rivals.robust:Robust",
        "lagrange": "pdcode.encoded.lagrange:Lagrange",
        "mds": "pdcode.encoded.mds:MDS",
        "byzantine": "pdcode.encoded.byzantine:Byzantine",
    },
}  # fmt: skip
"""Group -> name -> "module:Class", or the class of a plug-in; families of codes are `codes.Family`, readers
functions of a table, or `problems.Reader`, exporters `exporters.Format`, importers `importers.Importer`,
recordings `events.readers.Recording`, commands and benches functions that add a parser, views functions that
tell of a run."""

FUNCTIONS = "commands", "benches", "views"  # groups whose kinds are functions

OBJECTS: dict[str, Any] = {}
"""Objects that a Python program has given in place of FILE.py:NAME, by the name that stands for them."""


class Record:
    """Base class of kinds that are records; a plug-in's are objects of its module."""

    group: ClassVar[str]
    name: str

    def name_of(self) -> str:
        """Name of the kind."""
        return self.name


class Registered:
    """Base class of kinds that have no table of their own: classes with a name, in a group of `KINDS`."""

    group: ClassVar[str]
    name: ClassVar[str] = ""  #: empty for a base class

    def __init_subclass__(cls, group: str = "", **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if group:
            cls.group = group
        elif "summary" in vars(cls) and not cls.name:
            raise TypeError(f"{cls.__name__} of {cls.group} has a summary, but no name")

    @classmethod
    def name_of(cls) -> str:
        """Name of the kind; empty for a base class."""
        return cls.name


def names(group: str) -> list[str]:
    """Return the names of all kinds of a group."""
    return list(dict.fromkeys([*KINDS[group], *(entry.name for entry in _entries(group))]))


class Names:
    """Names of the kinds of a group; packages are only searched for a name that is not built in."""

    def __init__(self, group: str) -> None:
        self.group = group

    def __contains__(self, name: object) -> bool:
        return name in KINDS[self.group] or name in names(self.group)

    def __iter__(self) -> Iterator[str]:
        return iter(names(self.group))


def package_summary(group: str, name: str) -> str:
    """Return the summary of the package that has an entry point: what is known of a kind without import."""
    entry = next(entry for entry in _entries(group) if entry.name == name)
    return str(entry.dist.metadata.get("Summary") or f"of the package {entry.dist.name}")


def find(group: str, name: Any) -> Any:
    """Return the class of the kind with this name, or None."""
    if not isinstance(name, str):
        return None
    kind: Any = KINDS[group].get(name)
    if kind is None:
        entries = [entry for entry in _entries(group) if entry.name == name]
        if len(entries) > 1:
            places = " and ".join(entry.value for entry in entries)
            raise InputError(f"pdcode.{group}: '{name}' is defined in {places}")
        if entries:
            place = f"pdcode.{group}: '{name}' ({entries[0].value})"
            try:
                kind = entries[0].load()
            except Exception as error:  # the import of another package may raise anything
                raise InputError(f"{place} cannot be imported: {error}") from error
            if group not in FUNCTIONS and getattr(kind, "group", None) != group:
                raise InputError(f"{place} is no kind of this group")
    if isinstance(kind, str):
        module, _, attribute = kind.partition(":")
        kind = getattr(import_module(module), attribute)
    return kind


def members(group: str) -> Iterator[tuple[str, Any]]:
    """Yield name and class of all kinds of a group that can be imported."""
    for name in names(group):
        with suppress(InputError):
            yield name, find(group, name)


@cache
def _entries(group: str) -> tuple[Any, ...]:
    """Return the entry points of installed packages; on demand, as the search takes 60 ms."""
    from importlib import metadata

    return tuple(metadata.entry_points(group=f"pdcode.{group}"))


class _Loader(SourceFileLoader):
    """Loader without a cache of compiled code, which could be the code of another text."""

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.get_data(self.path), self.path)


def _module_name(path: str) -> str:
    return f"pdcode plug-in {path if not_a_file(path) else os.path.realpath(path)}"  # one name for all links


def locate(key: str, reference: str, folder: Path) -> tuple[str, str]:
    """Return a reference with an absolute path, and the path of the Python file to import for it, or "".

    A reference is FILE.py:NAME, the path of an npz file, or a name in `OBJECTS`.
    """
    path, _, name = reference.rpartition(":")
    if reference in OBJECTS:
        return reference, ""
    if reference.endswith(".npz"):
        return os.path.abspath(folder / reference), ""
    if not path.endswith(".py") or not name.isidentifier():
        raise InputError(f"{key}: {short_repr(reference)}: expected FILE.py:NAME")
    path = os.path.abspath(folder / path)
    return f"{path}:{name}", path


def referenced(key: str, reference: str) -> Any:
    """Return the object that a reference names: one of `OBJECTS`, or one of a file already imported."""
    if reference in OBJECTS:
        return OBJECTS[reference]
    if ":" not in reference:
        raise InputError(f"{key}: {short_repr(reference)}: expected FILE.py:NAME")
    path, _, name = reference.rpartition(":")
    module = sys.modules.get(_module_name(path))
    if module is None:
        why = (
            "its file is not imported" if path else "it was an object of a Python program, which no file has"
        )
        raise InputError(f"{key}: {reference!r}: {why}")
    if not hasattr(module, name):
        own = [each for each, value in vars(module).items() if not isinstance(value, ModuleType)]
        raise InputError(f"{key}: {path} has no {name!r}{did_you_mean(name, own)}")
    return getattr(module, name)


@contextmanager
def errors_of_user(name: str) -> Iterator[None]:
    """Turn errors of a user's code into an `InputError` that begins with `name`, with the place.

    The current folder is afterwards what it was, as relative paths of pdcode's are read later.
    """
    try:
        with chdir(os.getcwd()):
            yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        place = place_of_user(error, within=True)
        raise InputError(f"{name}: {in_one_line(error)}{place and f', in {place}'}") from error


def is_loaded(path: str) -> bool:
    """Return whether a plug-in has been imported."""
    return _module_name(path) in sys.modules


def is_plugin(kind: object) -> bool:
    """Return whether the class of an object is defined outside pdcode."""
    return not type(kind).__module__.startswith("pdcode.")


def load_plugin(path: str, key: str = "plugins") -> None:
    """Import a plug-in once, and register the kinds that it defines; the current folder stays the same.

    Messages begin with `key`, which names the file in a configuration.
    """
    module_name = _module_name(path)
    if module_name in sys.modules:
        return
    ensure_file(path, key)
    if not path.endswith(".py"):
        raise InputError(f"{key}: {path}: not a Python file (.py)")
    spec = importlib.util.spec_from_loader(module_name, loader := _Loader(module_name, path))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    arguments, sys.argv = sys.argv, [path]  # a script that parses its arguments when it is imported has none
    try:
        with chdir(os.getcwd()):
            loader.exec_module(module)
        own: dict[tuple[str, str], Any] = {}  # registered together, if the whole file is valid
        for group, name, kind in _kinds_of(module):
            other = own.setdefault((group, name), find(group, name) or kind)
            if other is not kind:
                from inspect import getfile  # takes 40 ms

                place = getfile(getattr(other, "build", None) or getattr(other, "read", other))
                raise InputError(f"'{name}' of {group} is already defined in {place}")
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        if isinstance(error, InputError):
            raise InputError(f"{key}: {path}: {error}") from None
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path
        ]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else "?")
        cure = ""
        if isinstance(error, SystemExit):
            cure = '; what a script does when it is run belongs under `if __name__ == "__main__":`'
        raise InputError(f"{key}: {path}, line {line}: {in_one_line(error)}{cure}") from error
    finally:
        sys.argv = arguments
    for (group, name), kind in own.items():
        KINDS[group][name] = kind


def _kinds_of(module: ModuleType) -> Iterator[tuple[str, str, Any]]:
    """Yield group, name and class of the kinds that a plug-in defines; their base classes have no name."""
    for kind in vars(module).values():
        foreign = isinstance(kind, type) and kind.__module__ != module.__name__
        if getattr(kind, "group", None) in KINDS and not foreign and (name := kind.name_of()):
            yield kind.group, name, kind
