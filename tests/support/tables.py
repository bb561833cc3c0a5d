"""Tables of a configuration that come in kinds, from their keys."""

from typing import Any

from pdcode.config import StragglersTable


def delayed(kind: str = "none", **keys: Any) -> StragglersTable:
    """The table ``[stragglers]``."""
    return StragglersTable.of({"kind": kind, **keys})
