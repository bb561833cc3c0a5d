"""Default values of keys, and the origin of the value of each key.

A key has the first of these values that exists:

1. the value of the command line: `--set`, or an option such as `-n`;
2. the value of the file;
3. the value of the scheme's preset, for single keys, or of the scheme, for whole tables; the
   learning rate of a preset, its momentum and its schedule follow other keys by `Scheme.settle`;
4. the default of its field, in `config.schema`, in `config.interfaces` or in the class of the kind.

A value drops keys of later levels that have no effect with it. `config.load.resolve` applies these levels.
Preset "auto" of scheme `lwpd` is the candidate with which a run begins (`choice.preset`); it is the
default where a configuration gives that scheme no preset and no key of the tables in `FILLED`.

Where the value is none or "auto", it then follows

5. from another key: `DERIVED`;
6. from the data and the number of workers, where it is "auto": `automatic.keys.resolve_auto`;
7. from rank 0's link and the workers' tasks, by `[link]` and `[machine]` or measured:
   `automatic.link_sizing.resolve_rows` and `Scheme.with_speeds`.

"auto" in `[problem]`, and none where the description of a key gives its meaning, are values themselves.
"""

import functools
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from ..util.errors import InputError
from . import kinds, requirements
from .fields import Table, Tables
from .problems import NetworkTable
from .requirements import Needs, by_key, in_full
from .schema import AUTO, KINDS, Config, SchemeTable

FILLED = "code", "memory", "decoder", "wire", "downlink", "reduce", "update", "optimizer"
"""Tables that presets fill in, besides ``[scheme]``."""

KIND_KEYS = "kind", "mode", "family"
"""Keys that name the kind of a table; in the tables of a scheme or preset they say what it is."""

ALTERNATIVES = {"share": "rows_per_task", "rows_per_task": "share"}  # either key replaces the other

DERIVED = {
    "code.blocks": "code.path",
    "decoder.kind": "memory.kind",
    "optimizer.updates": "stop.updates",
    "update.count": "workers.count",
    "wire.dtype": "problem.dtype",
}
"""Key -> the key that determines it if it is not given."""


class Origins(dict[str, str]):
    """Origins of the keys whose value is not the default of their field: "table.key" -> origin."""

    def note_tables(
        self, of_file: Tables, filled: Tables, commanded: Iterable[tuple[list[str], Any]]
    ) -> None:
        """Note the keys of the file, of scheme and preset, and of the command line."""
        chosen, given = SchemeTable.of(filled.get("scheme", {})), flat(of_file)
        preset = flat(_scheme({"name": chosen.name}).presets.get(chosen.preset, {}))
        for name, value in flat(filled).items():
            provider = f"preset {chosen.preset}" if name in preset else f"scheme {chosen.name}"
            self[name] = "file" if name in given and given[name] == value else provider
        for keys, value in commanded:
            names = flat({keys[0]: value}) if len(keys) == 1 else [".".join(keys[:2])]
            self.update(dict.fromkeys(names, "command line"))

    def note_completed(self, tables: Tables, config: Config) -> None:
        """Note the keys that are not in the tables, but determined by another key."""
        if config.decoder.kind != tables.get("decoder", {}).get("kind"):
            self["decoder.kind"] = _derived("decoder.kind")
        if config.code.paths and "blocks" not in tables["code"]:
            self["code.blocks"] = _derived("code.blocks")

    def note_resolved(self, before: Config, after: Config, origin: str = "") -> None:
        """Note the keys that differ from an earlier configuration, by this origin or by another key."""
        old = flat(msgspec.to_builtins(before))
        for name, value in flat(msgspec.to_builtins(after)).items():
            if name not in old or old[name] != value:
                self[name] = origin or _derived(name)


def settled(config: Config, origins: Origins) -> Config:
    """Return a configuration whose inputs and rate follow other keys, the rate by the scheme's laws."""
    scheme: Any = _scheme({"name": config.scheme.name})
    made: Config = scheme.settle(_settle_scaling(config), origins)
    return made


def _settle_scaling(config: Config) -> Config:
    """Return a configuration that keeps inputs apart where a penalty is of the weight of each."""
    problem = config.problem
    if config.optimizer.proximal is None or not isinstance(problem, NetworkTable) or problem.latent:
        return config
    if problem.standardise not in (AUTO, "white"):
        return config
    return config.with_keys(problem={"standardise": problem.standardise == "white"})


def _derived(name: str) -> str:
    """Return the origin of a key that another key has determined."""
    return f"by {DERIVED.get(name, 'other keys')}"


def flat(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of all tables by their dotted names."""
    found: dict[str, Any] = {}
    for name, table in tables.items():
        if isinstance(table, Mapping):
            found |= {f"{name}.{key}": value for key, value in table.items()}
        else:
            found[name] = table
    return found


def with_derived_keys(config: Config) -> Config:
    """Return a configuration with values for the keys that other keys determine."""
    wire = msgspec.structs.replace(config.wire, dtype=config.wire.dtype or config.problem.dtype)
    update = config.update.resolved(config.workers.count)
    optimizer = config.optimizer.resolved(config.stop.updates)
    return msgspec.structs.replace(config, wire=wire, update=update, optimizer=optimizer)


def add_defaults(tables: dict[str, Any], overrides: Tables) -> dict[str, Any]:
    """Add the defaults of the scheme or preset for tables and keys that are not given.

    A scheme provides whole tables, a preset single keys. No key is added that contradicts the tables or the
    overrides.
    """
    chosen = tables.get("scheme", {})
    scheme = _scheme(chosen)
    if scheme is None or is_auto(tables):
        return tables
    preset = scheme.presets.get(str(chosen.get("preset")))
    filled = dict(tables)
    for name, table in (scheme.tables if preset is None else preset).items():
        given = tables.get(name, {})
        adds_keys = preset is not None or name in scheme.unused  # an error names the key that is given
        if name not in tables or (adds_keys and isinstance(given, dict)):
            wanted = {**given, **overrides.get(name, {})}
            own = _giving_way(table, wanted) if preset is not None and name == "optimizer" else table
            filled[name] = _fitting(name, own, wanted) | given
    return filled


def replace_defaults(tables: dict[str, Any], name: str | None, preset: str | None) -> dict[str, Any]:
    """Replace tables of the configuration by the scheme's tables, and keys by the preset's keys."""
    if name is not None:
        scheme = _scheme({"name": name})
        own = {key: dict(table) for key, table in scheme.tables.items()} if scheme else {}
        tables = tables | {"scheme": {"name": name}} | own
    if preset is None or not isinstance(tables.get("scheme", {}), dict):
        return tables
    tables = tables | {"scheme": {**tables.get("scheme", {}), "preset": preset}}
    scheme = _scheme(tables["scheme"])
    if is_auto(tables):  # nothing of another scheme is given any more
        return without_filled(tables)
    for key, table in (scheme.presets.get(preset, {}) if scheme else {}).items():
        given = tables.get(key, {})
        if isinstance(given, dict):  # drop keys that contradict the preset; `add_defaults` adds the preset's
            left = _fitting(key, given, table)
            tables[key] = {name: value for name, value in left.items() if name not in table}
    return tables


def without_filled(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables without the tables that presets fill, but with a penalty: a part of the problem."""
    optimizer = tables.get("optimizer")
    kept = {key: table for key, table in tables.items() if key not in FILLED}
    if isinstance(optimizer, Mapping) and "proximal" in optimizer:
        kept["optimizer"] = {"proximal": optimizer["proximal"]}
    return kept


def is_auto(tables: Mapping[str, Any]) -> bool:
    """Return whether the tables have preset "auto"."""
    scheme = tables.get("scheme")
    return isinstance(scheme, Mapping) and scheme.get("preset") == AUTO


def with_default_preset(tables: dict[str, Any], overridden: Iterable[str]) -> dict[str, Any]:
    """Return the tables with preset "auto" if that is the default; `overridden` are tables with overrides."""
    chosen = tables.get("scheme", {})
    free = isinstance(chosen, Mapping) and "preset" not in chosen
    if not free or {*FILLED} & {*tables, *overridden} or not getattr(_scheme(chosen), "candidates", None):
        return tables
    return tables | {"scheme": {**chosen, "preset": AUTO}}


def with_needed_keys(tables: dict[str, Any], origins: Origins) -> tuple[dict[str, Any], Config]:
    """Return the tables with the keys that have one value which fits the rest, unless given; and the whole.

    With preset "auto" the whole lacks the tables that presets fill: nothing is known of them but what other
    tables need.
    """
    unknown, tried = {*FILLED} if is_auto(tables) else set(), set[str]()

    def config_of(tables: dict[str, Any]) -> Config:
        return Config.of({name: table for name, table in tables.items() if name not in unknown})

    config = config_of(tables)
    while True:
        found = requirements.needed(config)
        free = (each for each in found if each[0] not in tried and _is_free(tables, each[0], origins))
        if (first := next(free, None)) is None:
            return tables, config
        key, value, owner = first
        tried.add(key)
        filled = _with_key(tables, key.split("."), value)
        with suppress(InputError):  # else the requirement is what is refused
            config, tables, origins[key] = config_of(filled), filled, f"needed by {owner}"


def _is_free(tables: Mapping[str, Any], key: str, origins: Origins) -> bool:
    """Return whether a key is not given, or by a scheme or preset and not the kind of a table."""
    *path, last = key.split(".")
    holder: Any = functools.reduce(lambda table, part: table.get(part) or {}, path, tables)
    if last not in holder:
        return True
    name, *inner = path
    if inner or origins.get(key) in ("file", "command line"):
        return False
    base = KINDS.get(name)
    return last not in KIND_KEYS or (base is not None and holder[last] == base.default)


def _with_key(tables: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    first, *rest = path
    return {**tables, first: _with_key(tables.get(first) or {}, rest, value) if rest else value}


def preset_filled(config: Config, name: str, origins: Origins) -> Config:
    """Return a configuration with preset "auto" with one of its candidates, "preset" or "scheme:preset"."""
    scheme, _, preset = name.rpartition(":")
    given = config.scheme.given or {}
    chosen = {"name": scheme or config.scheme.name, "preset": preset}
    tables = add_defaults({**given, "scheme": chosen}, {})
    for key, value in flat(_scheme(chosen).presets[preset]).items():
        table, _, last = key.partition(".")
        own = given.get(table)
        if last in KIND_KEYS and isinstance(own, Mapping) and own.get(last, value) != value:
            raise InputError(f"{key}: {own.get(last)!r} is given, and preset '{name}' has {value!r}")
    origins.note_tables(given, tables, ())
    made = with_needed_keys(tables, origins)[1]
    filled = {key: getattr(made, key) for key in FILLED}
    filled["code"], problem = made.code.completed(), config.problem
    own = _fitting("problem", _scheme(chosen).presets[preset].get("problem", {}), {"kind": problem.kind})
    own = {key: value for key, value in own.items() if getattr(problem, key) in (None, AUTO)}
    filled["problem"] = msgspec.structs.replace(problem, **own)
    return settled(msgspec.structs.replace(config, scheme=made.scheme, **filled), origins)


def without_conflicting(name: str, table: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Return a table without the keys without effect under the overrides, such as another kind's keys."""
    table, base = without_effect(name, table, overrides), KINDS.get(name)
    tag = str(base.__struct_config__.tag_field if base else None)
    if base is None or overrides.get(tag, table.get(tag)) == table.get(tag):
        return table
    return _of_kind(base, table, overrides[tag])


def without_effect(name: str, table: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table without the keys that have no effect with the chosen values of other keys."""
    declared = by_key(_class_of(name, {**table, **chosen}).effective)
    lost = {key for key, needs in declared if _loses_effect(name, needs, chosen)}
    return {key: value for key, value in table.items() if key not in lost}


def _loses_effect(name: str, needs: Needs, chosen: Mapping[str, Any]) -> bool:
    """Return whether values of keys of a table violate requirements on this table."""
    for key, need in in_full(needs):
        value = chosen.get(key.removeprefix(f"{name}."), msgspec.UNSET)
        if need.of_kind and value is not msgspec.UNSET:
            value = KINDS[name].find(value) or msgspec.UNSET
        if value is not msgspec.UNSET and not need.test(value, None):
            return True
    return False


def _class_of(name: str, table: Mapping[str, Any]) -> Any:
    """Return the class of a table; the base class if the table names a kind that does not exist."""
    base = KINDS.get(name)
    if base is None:
        return type(getattr(Config(), name, Table()))
    return base.find(table.get(str(base.__struct_config__.tag_field), base.default)) or base


def _scheme(table: Any) -> Any:
    """Return the class of the scheme that the table names, or None."""
    name = table.get("name", SchemeTable().name) if isinstance(table, dict) else None
    return kinds.find("schemes", name)


def _fitting(name: str, filling: Any, given: Any) -> dict[str, Any]:
    """Return the keys of `filling` that do not contradict the given ones."""
    dropped = {ALTERNATIVES.get(key) for key in given}
    if given.get("blocks") == 1:  # nothing is coded
        dropped |= {"rows_per_task", "share"}
    base = KINDS.get(name)
    if base is not None:
        tag = str(base.__struct_config__.tag_field)
        kind = given.get(tag, filling.get(tag, base.default))
        if kind != filling.get(tag, base.default):
            dropped |= {"weight", "options"}  # they belong to another family
        filling = _of_kind(base, filling, kind)
    return {key: value for key, value in without_effect(name, filling, given).items() if key not in dropped}


def _giving_way(table: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a preset's table ``[optimizer]`` as of the given kind, whose steps need another rate.

    It is also the default kind if a key is given that this one has, and the preset's lacks, unless steps of
    the preset's kind are what it is.
    """
    base = KINDS["optimizer"]
    own, default = (base.find(each) for each in (table.get("kind", base.default), base.default))
    yields = own.gives_way and {*given} & {*default.__struct_fields__} - {*own.__struct_fields__}
    kind = base.find(given.get("kind", default.name_of() if yields else own.name_of()))
    if kind is own:
        return table
    return {key: table[key] for key in table if kind and key in kind.__struct_fields__} | {"rate": AUTO}


def _of_kind(base: Any, table: Any, kind: Any) -> dict[str, Any]:
    """Return the keys of a table that the kind has; all keys if the kind does not exist.

    Keys that the table's own kind does not have are kept, to be refused.
    """
    kind_class, own = base.find(kind), base.named(table)
    if kind_class is None or own is None:
        return dict(table)
    known = base.__struct_config__.tag_field, *own.__struct_fields__
    return kind_class.shared_keys(table) | {key: table[key] for key in table if key not in known}
