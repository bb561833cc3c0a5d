"""Schemes: named defaults for the tables that a configuration does not give. A scheme is data, one short file
each."""

from __future__ import annotations

from typing import Any

from . import lwpd, uncoded

SCHEMES: dict[str, dict[str, dict[str, object]]] = {"lwpd": lwpd.TABLES, "uncoded": uncoded.TABLES}


def fill(tables: dict[str, Any]) -> dict[str, Any]:
    """Add the scheme's tables where the configuration has none."""
    scheme = tables.get("scheme", {})
    name = scheme.get("name", "lwpd") if isinstance(scheme, dict) else "lwpd"
    return (SCHEMES.get(name, {}) if isinstance(name, str) else {}) | tables


def impose(tables: dict[str, Any], name: str) -> dict[str, Any]:
    """Put the scheme's tables in the place of those that the configuration has."""
    return tables | {"scheme": {"name": name}} | SCHEMES.get(name, {})
