"""Reading of recorded configurations, including those of earlier versions of pdcode.

Traces up to version 0.1 have the keys of all kinds in a table that comes in kinds. Keys that the table's kind
does not have are dropped here, and missing keys get their former values.
"""

from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from . import kinds
from .interfaces import DecoderTable, MemoryTable
from .kinds import Kind
from .schema import KINDS, Config, FaultsTable

AnyKind = TypeVar("AnyKind", bound=Kind)


def read(tables: Mapping[str, Any]) -> Config:
    """Build the configuration that a trace records."""
    for path in tables.get("plugins", ()):
        kinds.load_plugin(path)
    read = dict(tables)
    for name, base in KINDS.items():
        if name in tables and base is not DecoderTable:
            read[name] = _upgraded(base, tables[name])
    if isinstance(table := tables.get("decoder"), Mapping):
        memory = MemoryTable.of(read.get("memory", {}))
        read["decoder"] = _upgraded(DecoderTable, {**table, "kind": memory.decoder_for(table.get("kind"))})
    if "faults" in tables:
        read["faults"] = _upgraded_faults(tables["faults"])
    return Config.of(read)


def read_kind(base: type[AnyKind], table: Any) -> AnyKind:
    """Build the kind that a recorded table names; plug-ins are loaded."""
    return base.of(_upgraded(base, table))


def check(tables: Any) -> None:
    """Refuse a recorded configuration whose common keys have wrong types or values.

    Unknown keys and the keys of kinds are not checked: they may be those of another version or a plug-in.
    """
    kinds.build(dict[str, Any], tables)
    for name, hint in get_type_hints(Config, include_extras=True).items():
        value = tables.get(name, check)
        if value is not check and isinstance(hint, type):
            kinds.build(dict[str, Any], value, name)
            value = {key: value[key] for key in value if key in getattr(hint, "__struct_fields__", ())}
        if value is not check:
            kinds.build(hint, value, name)


def _upgraded(base: type[Kind], table: Any) -> Any:
    """Return a recorded table with the keys that its kind has today."""
    kind = base.named(table) if isinstance(table, Mapping) else None
    if kind is None:
        return table
    known = base.__struct_config__.tag_field, *kind.__struct_fields__
    return {**kind.legacy_values, **{key: value for key, value in table.items() if key in known}}


def _upgraded_faults(table: Any) -> Any:
    if not isinstance(table, Mapping):
        return table
    before = [
        {"kind": kind, "worker": table[f"{kind}_worker"], "task": table.get(f"{kind}_task", 0)}
        for kind in ("raise", "nan")  # keys of traces up to arithmetic 2
        if table.get(f"{kind}_worker") is not None
    ]
    known = {key: value for key, value in table.items() if key in FaultsTable.__struct_fields__}
    return known | ({"events": before} if before else {})
