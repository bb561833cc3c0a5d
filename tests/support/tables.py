"""Tables of a configuration that come in kinds, from their keys."""

from __future__ import annotations

from typing import Any

from pdcode.config import StragglersTable


def delayed(kind: str = "none", **keys: Any) -> StragglersTable:
    """The table ``[stragglers]``."""
    return StragglersTable.of({"kind": kind, **keys})
