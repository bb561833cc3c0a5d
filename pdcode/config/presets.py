"""Schemes: named defaults for the tables that a configuration does not give. A scheme is data, one short file
each; a preset of it is too, and fills in every key that is not given."""

from __future__ import annotations

from typing import Any

from . import kinds

Tables = dict[str, dict[str, object]]
RIVALS = {"share": "rows_per_task", "rows_per_task": "share"}  # keys that say the same in other words


def tables_of(name: str) -> Tables:
    """Default tables of a scheme; none if there is no such scheme."""
    return getattr(kinds.find("schemes", name), "TABLES", {})


def presets_of(name: str) -> dict[str, Tables]:
    """Presets of a scheme; none if there is no such scheme."""
    return getattr(kinds.find("schemes", name), "PRESETS", {})


def fill(tables: dict[str, Any], overrides: Tables) -> dict[str, Any]:
    """Add what the preset or the scheme says where the configuration says nothing.

    A scheme fills in whole tables, a preset single keys; neither any that contradicts what is given in the
    tables, or will be by the overrides.
    """
    scheme = tables.get("scheme", {})
    name = scheme.get("name", "lwpd") if isinstance(scheme, dict) else "lwpd"
    if not isinstance(name, str):
        return tables
    preset = presets_of(name).get(str(scheme.get("preset"))) if isinstance(scheme, dict) else None
    filled = dict(tables)
    for key, table in (tables_of(name) if preset is None else preset).items():
        given = tables.get(key, {})
        if key not in tables or (preset is not None and isinstance(given, dict)):
            filled[key] = _fitting(table, given | overrides.get(key, {})) | given
    return filled


def impose(tables: dict[str, Any], name: str | None, preset: str | None) -> dict[str, Any]:
    """Let a scheme's tables, and a preset's keys, take the place of those that the configuration has."""
    if name is not None:
        tables = tables | {"scheme": {"name": name}} | tables_of(name)
    if preset is None or not isinstance(tables.get("scheme", {}), dict):
        return tables
    scheme = {"name": "lwpd"} | tables.get("scheme", {}) | {"preset": preset}
    tables = tables | {"scheme": scheme}
    for key, table in presets_of(str(scheme["name"])).get(preset, {}).items():
        given = tables.get(key, {})
        if isinstance(given, dict):  # what is left is what `fill` will not say
            left = _fitting(given, table)
            tables[key] = {name: value for name, value in left.items() if name not in table}
    return tables


def _fitting(filling: dict[str, object], given: dict[str, object]) -> dict[str, object]:
    """Those of the filling's keys that do not contradict what is given."""
    dropped = {RIVALS.get(key) for key in given}
    if given.get("family", filling.get("family")) != filling.get("family"):
        dropped |= {"weight", "options"}  # are those of another family
    return {key: value for key, value in filling.items() if key not in dropped}
