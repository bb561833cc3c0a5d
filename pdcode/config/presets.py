"""Schemes' and presets' defaults for what a configuration does not say."""

from __future__ import annotations

from typing import Any

from . import kinds
from .tables import KINDS, SchemeTable, Tables

RIVALS = {"share": "rows_per_task", "rows_per_task": "share"}  # keys that say the same in other words


def fill(tables: dict[str, Any], overrides: Tables) -> dict[str, Any]:
    """Add what the preset or the scheme says where the configuration says nothing.

    A scheme fills in whole tables, a preset single keys; neither any that contradicts what is given in the
    tables, or will be by the overrides.
    """
    chosen = tables.get("scheme", {})
    scheme = _scheme(chosen)
    if scheme is None:
        return tables
    preset = scheme.presets.get(str(chosen.get("preset")))
    filled = dict(tables)
    for name, table in (scheme.tables if preset is None else preset).items():
        given = tables.get(name, {})
        by_key = preset is not None or name in scheme.unused  # an error names the key that is given
        if name not in tables or (by_key and isinstance(given, dict)):
            filled[name] = _fitting(name, table, {**given, **overrides.get(name, {})}) | given
    return filled


def impose(tables: dict[str, Any], name: str | None, preset: str | None) -> dict[str, Any]:
    """Let a scheme's tables, and a preset's keys, take the place of those that the configuration has."""
    if name is not None:
        scheme = _scheme({"name": name})
        own = {key: dict(table) for key, table in scheme.tables.items()} if scheme else {}
        tables = tables | {"scheme": {"name": name}} | own
    if preset is None or not isinstance(tables.get("scheme", {}), dict):
        return tables
    tables = tables | {"scheme": {**tables.get("scheme", {}), "preset": preset}}
    scheme = _scheme(tables["scheme"])
    for key, table in (scheme.presets.get(preset, {}) if scheme else {}).items():
        given = tables.get(key, {})
        if isinstance(given, dict):  # what is left is what `fill` will not say
            left = _fitting(key, given, table)
            tables[key] = {name: value for name, value in left.items() if name not in table}
    return tables


def without_others(name: str, table: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """The keys of a table, without those of another kind where the overrides change its kind."""
    base = KINDS.get(name)
    tag = str(base.__struct_config__.tag_field if base else None)
    if base is None or overrides.get(tag, table.get(tag)) == table.get(tag):
        return table
    return _of_kind(base, table, overrides[tag])


def _scheme(table: Any) -> Any:
    """Class of the scheme that the table names; None if there is none of that name."""
    name = table.get("name", SchemeTable().name) if isinstance(table, dict) else None
    return kinds.find("schemes", name)


def _fitting(name: str, filling: Any, given: Any) -> dict[str, Any]:
    """Those of the filling's keys that do not contradict what is given."""
    dropped = {RIVALS.get(key) for key in given}
    base = KINDS.get(name)
    if base is not None:
        tag = str(base.__struct_config__.tag_field)
        kind = given.get(tag, filling.get(tag, base.default))
        if kind != filling.get(tag, base.default):
            dropped |= {"weight", "options"}  # are those of another family
        filling = _of_kind(base, filling, kind)
    return {key: value for key, value in filling.items() if key not in dropped}


def _of_kind(base: Any, table: Any, kind: Any) -> dict[str, Any]:
    """The keys of a table that a kind has; all of them if there is no such kind."""
    found, tag = base.find(kind), base.__struct_config__.tag_field
    if found is None:
        return dict(table)
    return {key: value for key, value in table.items() if key == tag or key in found.__struct_fields__}
