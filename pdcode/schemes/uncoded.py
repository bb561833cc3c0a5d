"""Gradients without a code."""

from __future__ import annotations

from typing import ClassVar

from ..config.tables import Scheme, Tables


class Uncoded(Scheme, tag="uncoded"):
    """Every worker returns its whole gradient; rank 0 takes the mean of what has arrived."""

    tables: ClassVar[Tables] = {
        "code": {"family": "uncoded", "blocks": 1, "rotate": False},
        "memory": {"kind": "none"},
    }
