"""Tables of a configuration that come in kinds, from their keys."""

from __future__ import annotations

from typing import Any

from pdcode.config.tables import Stragglers


def delayed(kind: str = "none", **keys: Any) -> Stragglers:
    """The table ``[stragglers]``."""
    return Stragglers.of({"kind": kind, **keys})
