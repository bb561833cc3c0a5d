"""Kinds: classes that a configuration selects by name.

A kind is a struct with its own keys and with methods that build the object it describes. Its name is the
struct's tag. A kind is built in, an entry point of an installed package, or a class in a plug-in: a Python
file listed under ``plugins`` in the configuration. A module is imported only when one of its kinds is used.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import chdir, contextmanager, suppress
from functools import cache
from importlib import import_module
from importlib.machinery import SourceFileLoader
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import msgspec.inspect

from ..util import units
from ..util.errors import (
    InputError,
    did_you_mean,
    ensure_file,
    expected,
    in_one_line,
    not_a_file,
    place_of_user,
    short_repr,
    shorten,
)
from ..util.formats import listing
from .fields import Table

KINDS: dict[str, dict[str, Any]] = {
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
}
"""Group -> name -> "module:Class", or the class of a plug-in; families of codes are `codes.Family`, readers
functions of a table, or `problems.Reader`."""

OBJECTS: dict[str, Any] = {}
"""Objects that a Python program has given in place of FILE.py:NAME, by the name that stands for them."""

TYPES = {
    "object": "table",
    "array": "list",
    "str": "text",
    "int": "integer",
    "float": "number",
    "bool": "true or false",
}
"""Type in a message of msgspec -> a user's word for it."""

Struct = TypeVar("Struct")


class Kind(Table):
    """Base class of the configuration tables that come in kinds.

    Attributes
    ----------
    table : str
        Name of the table.
    group : str
        Key of `KINDS`; the entry point group is ``pdcode.<group>``.
    default : str
        Name of the kind of a table that names none.
    paths : tuple of str
        Keys that are paths of files to read; in a TOML file they are relative to its folder.
    references : tuple of str
        Keys that are FILE.py:NAME, of an object in a Python file that becomes a plug-in, or npz files; a kind
        may allow single words.
    legacy_values : dict
        Values of newer keys for traces that lack them.
    legacy_keys : dict
        Defaults of keys that all kinds had up to version 0.1; with these values they are ignored.
    nested : dict
        Keys whose values are tables that come in kinds, and their base classes.
    """

    table: ClassVar[str]
    group: ClassVar[str]
    default: ClassVar[str]
    paths: ClassVar[tuple[str, ...]] = ()
    references: ClassVar[tuple[str, ...]] = ()
    legacy_values: ClassVar[Mapping[str, Any]] = {}
    legacy_keys: ClassVar[Mapping[str, Any]] = {}
    nested: ClassVar[Mapping[str, type[Kind]]] = {}

    @classmethod
    def of(cls, table: Any) -> Self:
        """Build the kind that a table names, from the table's keys."""
        if not isinstance(table, Mapping):
            tag = cls.__struct_config__.tag_field
            raise InputError(f"{cls.table}: expected table, such as {{{tag} = …}} (got {short_repr(table)})")
        kind, tag_field = cls.named(table), str(cls.__struct_config__.tag_field)
        if kind is None:
            raise InputError(f"{cls.table}.{tag_field}: {expected(table[tag_field], names(cls.group))}")
        fields = kind.__struct_fields__
        ignored = {tag_field, *(key for key, value in cls.legacy_keys.items() if table.get(key) == value)}
        keys = {key: value for key, value in table.items() if key in fields or key not in ignored}
        name = table.get(tag_field) or cls.default
        refuse_keys_of_others(cls.table, keys, kind, f"{tag_field} {name!r}", cls.members())
        others = chain.from_iterable(each.__struct_fields__ for _, each in cls.members())
        built: Self = build(kind, keys, cls.table, others)
        inner = {key: base.of(table[key]) for key, base in kind.nested.items() if table.get(key) is not None}
        return msgspec.structs.replace(built, **inner) if inner else built

    @classmethod
    def named(cls, table: Mapping[str, Any]) -> Any:
        """Return the class of the kind that a table names, or None."""
        name = table.get(str(cls.__struct_config__.tag_field))
        return cls.find(cls.default if name is None else name)

    @classmethod
    def find(cls, name: Any) -> Any:
        """Return the class of the kind with this name, or None."""
        return find(cls.group, name)

    @classmethod
    def members(cls) -> Iterator[tuple[str, Any]]:
        """Yield name and class of all kinds of the table that can be imported."""
        return members(cls.group)

    @classmethod
    def name_of(cls) -> str:
        """Name of the kind; empty for a base class."""
        return str(cls.__struct_config__.tag or "")

    @classmethod
    def shared_keys(cls, table: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keys of a table of another kind that this kind has, too."""
        tag = cls.__struct_config__.tag_field
        return {key: value for key, value in table.items() if key == tag or key in cls.__struct_fields__}

    def completed(self) -> Self:
        """Return the kind with the keys that follow from its files."""
        return self

    @property
    def kind(self) -> str:
        """Name of the kind."""
        return self.name_of()

    def check(self, config: Any) -> None:
        """Refuse a configuration in which this kind cannot work, by an `InputError` naming key and value."""

    def describe(self) -> str:
        """Return the kind and its keys, as one line of text."""
        keys = [(key, getattr(self, key)) for key in self.__struct_fields__]
        described = [
            f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in keys
            if value is not None
        ]
        return f"{self.kind} ({', '.join(described)})" if described else self.kind


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


def field(base: type[Kind]) -> Any:
    """Return a field of `Config` whose default is the default kind of the table."""
    return msgspec.field(default_factory=lambda: base.of({}))


def names(group: str) -> list[str]:
    """Return the names of all kinds of a group."""
    return list(dict.fromkeys([*KINDS[group], *(entry.name for entry in _entries(group))]))


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
            try:
                kind = entries[0].load()
            except Exception as error:  # the import of another package may raise anything
                place = f"'{name}' ({entries[0].value})"
                raise InputError(f"pdcode.{group}: {place} cannot be imported: {error}") from error
    if isinstance(kind, str):
        module, _, attribute = kind.partition(":")
        kind = getattr(import_module(module), attribute)
    return kind


def members(group: str) -> Iterator[tuple[str, Any]]:
    """Yield name and class of all kinds of a group that can be imported."""
    for name in names(group):
        with suppress(InputError):
            yield name, find(group, name)


def refuse_keys_of_others(
    where: str, table: Mapping[str, Any], own: Any, kind: str, others: Iterable[tuple[str, Any]]
) -> None:
    """Refuse a key of a table that only other kinds have, and name these.

    `own` is the struct of the table's kind, and `kind` describes it; `others` are names and structs.
    """
    unknown = next((key for key in table if key not in own.__struct_fields__), None)
    if unknown is None:
        return
    if having := [repr(name) for name, each in others if unknown in each.__struct_fields__]:
        raise InputError(
            f"{where}.{unknown}: {kind} has no such key (value {short_repr(table[unknown])}); "
            f"{listing(having)} {'has' if len(having) == 1 else 'have'} it"
        )


@cache
def _entries(group: str) -> tuple[Any, ...]:
    """Return the entry points of installed packages; on demand, as the search takes 60 ms."""
    from importlib import metadata

    return tuple(metadata.entry_points(group=f"pdcode.{group}"))


class _Loader(SourceFileLoader):
    """Loader without a cache of compiled code, which could be that of another text."""

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
                place = inspect.getfile(getattr(other, "build", None) or getattr(other, "read", other))
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
        foreign = inspect.isclass(kind) and kind.__module__ != module.__name__
        if getattr(kind, "group", None) in KINDS and not foreign and (name := kind.name_of()):
            yield kind.group, name, kind


whole: list[type[msgspec.Struct]] = []
"""The class of the whole configuration, from `config.schema`, which imports this."""


def build(struct: type[Struct], table: Any, where: str = "", others: Iterable[str] = ()) -> Struct:
    """Convert a table to a struct.

    `where` is its name, for messages, empty for the whole configuration; `others` are keys of other kinds,
    which may have been meant. Times, rates and sizes may be text with a unit.
    """
    try:
        return msgspec.convert(table, struct)
    except msgspec.ValidationError as error:
        plain = _without_units(msgspec.inspect.type_info(struct), table)
        if plain == table:
            raise InputError(_explain(str(error), struct, table, where, others)) from None
    try:
        return msgspec.convert(plain, struct)
    except msgspec.ValidationError as error:
        raise InputError(_explain(str(error), struct, table, where, others)) from None


def _without_units(kind: Any, value: Any) -> Any:
    """Return a value of a type with plain numbers in place of text with a unit; other text stays."""
    if isinstance(value, Mapping):
        inner = {
            field.encode_name: field.type for each in _types(kind) for field in getattr(each, "fields", ())
        }
        return {
            key: _without_units(inner[key], each) if key in inner else each for key, each in value.items()
        }
    if isinstance(value, list):
        items = [item for each in _types(kind) if (item := getattr(each, "item_type", None)) is not None]
        return [_without_units(items[0], each) for each in value] if items else value
    if isinstance(value, str) and (quantity := _quantity(kind)):
        with suppress(ValueError):
            return units.number(value, quantity)
    return value


def quantities(struct: Any) -> dict[str, str]:
    """Return the keys of a table that are times, rates or sizes, with which of these."""
    info: Any = msgspec.inspect.type_info(struct)
    return {field.encode_name: found for field in info.fields if (found := _quantity(field.type))}


def _types(kind: Any) -> list[Any]:
    """Return the types of which a type is the union, without marks."""
    if isinstance(kind, msgspec.inspect.Metadata):
        return _types(kind.type)
    return [*chain(*map(_types, kind.types))] if isinstance(kind, msgspec.inspect.UnionType) else [kind]


def _quantity(kind: Any) -> str:
    """Return what a type is a number of, see `fields.TIME`; empty for other types."""
    if isinstance(kind, msgspec.inspect.UnionType):
        return next(filter(None, map(_quantity, kind.types)), "")
    return str((kind.extra or {}).get("quantity", "")) if isinstance(kind, msgspec.inspect.Metadata) else ""


def _explain(message: str, struct: Any, table: Any, where: str, others: Iterable[str]) -> str:
    """Reword a message of msgspec in the form of pdcode's.

    ``Expected `int`, got `str` - at `$.blocks``` becomes ``code.blocks: expected integer (got 'four')``.
    """
    at = re.search(r" - at `\$([^`]*)`$", message)
    text = message[: at.start()] if at else message
    if named := re.match(r"Expected `([^`]*)`", text):
        types = ", ".join(TYPES.get(each, each) for each in named[1].split(" | ") if each != "null")
        text = text.partition(", got ")[0].replace(named[1], " or ".join(types.rsplit(", ", 1)))
    text = text.replace("`", "")
    path = [part for part in re.sub(r"\[[^]]*\]", "", at[1] if at else "").split(".") if part]
    value, holder, kind = table, struct, msgspec.inspect.type_info(struct)
    for key in path:
        value = value.get(key) if isinstance(value, dict) else value  # an index keeps the list
        fields = chain(*(getattr(each, "fields", ()) for each in _types(kind)))
        kind = next((field.type for field in fields if field.encode_name == key), kind)
    if quantity := _quantity(kind):
        text = _in_units(text, quantity)
    missing = text.startswith("Object missing required field")
    if missing or text.startswith("Object contains unknown field"):
        for key in path:
            holder = get_type_hints(holder)[key]
        known = holder.__struct_fields__
        name = text.split()[-1] if missing else next(key for key in value if key not in known)
        key = ".".join(filter(None, (where, *path, shorten(name))))
        if missing:
            as_what = quantities(holder).get(name)
            return f"{key}: must be given" + (f", as a {units.described(as_what)}" if as_what else "")
        tag = holder.__struct_config__.tag_field
        tagged = [f"{tag} ({holder.name_of()})"] if tag else []
        listed = ", ".join([*tagged, *known]) or "none"
        meant = did_you_mean(name, known) or did_you_mean(name, others) or _elsewhere(name, where)
        meant = meant or next((hint for words, hint in NO_KEYS.items() if name.lower() in words.split()), "")
        if "epoch" in name and meant.endswith("updates'?"):
            meant += " (an epoch is rows / problem.batch gradients; an update of all workers has one of each)"
        return f"{key}: unknown key (value {short_repr(value[name])}); known: {listed}{meant}"
    if text.startswith("Invalid enum value"):
        for key in path[:-1]:
            holder = get_type_hints(holder)[key]
        hint = get_type_hints(holder)[path[-1]]
        real = [f"any {TYPES[each.__name__]}" for each in get_args(hint) if each in (int, float)]
        choices = [*real, *["true", "false"] * (bool in get_args(hint)), *map(str, _choices(hint))]
        return f"{'.'.join(filter(None, (where, *path)))}: {expected(value, choices)}"
    key = ".".join(filter(None, (where, *path)))
    got = f"{text[:1].lower()}{text[1:]} (got {short_repr(value)})"
    return f"{key}: {got}{_cure(text, value, kind, key)}"


def _cure(text: str, value: Any, kind: Any, key: str) -> str:
    """Return how a value of the wrong type or size was probably meant, to end a message."""
    fields = [field.encode_name for each in _types(kind) for field in getattr(each, "fields", ())]
    if text == "Expected table" and fields:
        return f"; its keys are set as in {key}.{fields[0]}=…"
    if "integer" in text and isinstance(value, float) and value.is_integer():
        return f"; write {value:.0f}"
    items = [item for each in _types(kind) if (item := getattr(each, "item_type", None)) is not None]
    if text == "Expected list" and items and not isinstance(items[0], msgspec.inspect.AnyType):
        return f"; write [{msgspec.json.encode(value).decode()}]"
    percent = value.removesuffix("%") if isinstance(value, str) else value
    if text in ("Expected number", "Expected number <= 1.0", "Expected number < 1.0"):
        with suppress(TypeError, ValueError):
            if 1 < float(percent) <= 100:
                return f"; {float(percent):g} % is {float(percent) / 100:g}"
    return ""


ELSEWHERE = 0.85  # least similarity of an unknown key to a key of another table that is suggested


NO_KEYS = {
    "device devices gpu gpus cuda accelerator": "; there is no such key, as ranks compute on CPUs",
    "threads num_threads n_threads n_jobs": "; OMP_NUM_THREADS has the number of a rank's threads",
}
"""Words of other programs for what is no key -> the end of a message."""


def _elsewhere(name: str, where: str) -> str:
    """Return the end of a message about an unknown key that is another table, or that another table has."""
    if where and name in whole[0].__struct_fields__:
        return f"; {name} is no key of [{where}]: it stands above that line"
    found = meant_key(name)
    return f"; did you mean {found!r}?" if found else ""


def meant_key(name: str) -> str:
    """Return the key, with its table, that is meant by a name alone; empty if none is like it."""
    (config,) = whole
    order = dict.fromkeys(("stop", "workers", "problem", *config.__struct_fields__))
    tables = [(key, getattr(config(), key)) for key in order]
    keys = [(key, each) for key, table in tables for each in getattr(table, "__struct_fields__", ())]
    for key, table in tables:
        others = table.members() if isinstance(table, Kind) else ()
        keys += [(key, each) for _, kind in others for each in kind.__struct_fields__]
    meant = did_you_mean(name, [each for _, each in keys], ELSEWHERE)
    return next((f"{key}.{each}" for key, each in keys if meant.endswith(f" {each!r}?")), "")


def _in_units(text: str, quantity: str) -> str:
    """Reword "Expected number" and its bounds as a quantity with its unit."""
    found = re.fullmatch(r"Expected (?:number|integer)(?: ([<>]=?) (\S+))?", text)
    if found is None:
        return text
    if found[1] is None:
        return f"Expected a {units.described(quantity)}"
    return f"Expected a {quantity} {found[1]} {float(found[2]):.15g} {units.QUANTITIES[quantity].unit}"


def _choices(hint: Any) -> list[Any]:
    """Return the values of an enumeration; empty for other types."""
    hints = [hint, *get_args(hint), *(inner for outer in get_args(hint) for inner in get_args(outer))]
    return next((list(get_args(each)) for each in hints if get_origin(each) is Literal), [])
