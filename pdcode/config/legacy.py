"""Reading of recorded configurations, also from earlier versions of pdcode.

Traces up to version 0.1 have the keys of all kinds in a table that comes in kinds. Keys that the table's kind
does not have are dropped here, and missing keys get their former values.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from ..util.errors import InputError, not_a_file
from ..util.files import writable_by_others
from . import building, kinds
from .building import Kind
from .defaults import without_effect
from .interfaces import DecoderTable, MemoryTable
from .schema import KINDS, Config, FaultsTable

AnyKind = TypeVar("AnyKind", bound=Kind)


def read(tables: Mapping[str, Any], digests: Sequence[str] = ()) -> Config:
    """Build the configuration that a file records; `digests` are its plug-ins' digests, if it has them."""
    load_plugins(tables, digests)
    read = dict(tables)
    for name, base in KINDS.items():
        if name in tables and base is not DecoderTable:
            read[name] = _upgraded(base, tables[name])
    if isinstance(table := tables.get("decoder"), Mapping):
        memory = MemoryTable.of(read.get("memory", {}))
        read["decoder"] = _upgraded(DecoderTable, {**table, "kind": memory.decoder_for(table.get("kind"))})
    if "faults" in tables:
        read["faults"] = _upgraded_faults(tables["faults"])
    config = Config.of(read)
    _ensure_named(config, tables.get("plugins", []))
    return config


def load_plugins(tables: Mapping[str, Any], digests: Sequence[str] = ()) -> None:
    """Import the plug-ins that a recorded configuration names, and refuse plug-ins that cannot be trusted.

    A plug-in is a program, and who wrote the file with the configuration may be anybody. It is imported if
    the user has named it, or if it is unchanged since the run and no other user can have written it.
    """
    paths = building.build(list[str], tables.get("plugins", []), "plugins")
    known = dict(zip(paths, digests, strict=False))
    for path in paths:
        if not kinds.is_loaded(path) and not not_a_file(path) and (why := _distrust(path, known.get(path))):
            raise InputError(
                f"plugins: {path}: not imported, because {why}; to have it run, name it: --plugin of "
                "`replay` and `predict`, else `plugins` in your configuration"
            )
        kinds.load_plugin(os.path.realpath(path))


def _ensure_named(config: Config, plugins: Sequence[str]) -> None:
    """Refuse keys ``FILE.py:NAME`` whose file is not among the plug-ins, which were examined.

    A run records the files of such keys among its plug-ins.
    """
    for name in KINDS:
        table = getattr(config, name)
        for key in getattr(table, "references", ()):
            file = str(getattr(table, key) or "").rpartition(":")[0]
            if file not in ("", *plugins):
                raise InputError(f"{name}.{key}: {file}: not imported, because the run's plug-ins lack it")


def _distrust(path: str, digest: str | None) -> str:
    """Return why a plug-in that a file names may be another's program; empty if it is the user's."""
    if not os.path.isabs(path):
        return "its path is relative"
    if digest is None:
        return "no digest of it is recorded"
    if digest != plugin_digest(path):
        return "it differs from the plug-in of the run"
    return writable_by_others(Path(path))


def plugin_digest(path: str) -> str:
    """Return the digest of a plug-in's text; empty if it cannot be read."""
    from hashlib import sha256  # loads OpenSSL, which most ranks do not need

    try:
        return sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""


def read_kind(base: type[AnyKind], table: Any) -> AnyKind:
    """Build the kind that a recorded table names; plug-ins are loaded."""
    return base.of(_upgraded(base, table))


def check(tables: Any) -> None:
    """Refuse a recorded configuration whose common keys have wrong types or values.

    Unknown keys and the keys of kinds are not checked: they may be from another version or a plug-in.
    """
    building.build(dict[str, Any], tables)
    for name, hint in get_type_hints(Config, include_extras=True).items():
        value = tables.get(name, check)
        if value is not check and isinstance(hint, type):
            building.build(dict[str, Any], value, name)
            value = {key: value[key] for key in value if key in getattr(hint, "__struct_fields__", ())}
        if value is not check:
            building.build(hint, value, name)


def _upgraded(base: type[Kind], table: Any) -> Any:
    """Return a recorded table with the keys that its kind has today."""
    kind = base.named(table) if isinstance(table, Mapping) else None
    if kind is None:
        return table
    tag = str(base.__struct_config__.tag_field)
    known = {key: value for key, value in table.items() if key in (tag, *kind.__struct_fields__)}
    named = {tag: table.get(tag) or base.default}
    made = without_effect(base.table, {**kind.legacy_values, **known}, named)
    if getattr(kind, "asks", False) and made.get("task") == "auto":  # its user was asked, if at all
        made["task"] = "type"
    if made.get("standardise", False) is None:  # was a value, of no scaling
        made["standardise"] = False
    return made


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
