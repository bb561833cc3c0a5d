"""Description of a run's delays, from its table ``[stragglers]``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import StragglersTable, legacy
from ..util.errors import InputError


def words(table: Mapping[str, Any]) -> str:
    """Describe the injected delays; empty if the trace does not tell."""
    if not table:
        return ""
    try:
        return legacy.read_kind(StragglersTable, table).describe()
    except InputError:  # a kind of a plug-in or of another version
        return ", ".join([str(table.get("kind")), *(f"{key} {table[key]}" for key in table if key != "kind")])
