"""Uncoded full gradients: rank 0 averages the gradients that have arrived."""

from __future__ import annotations

from typing import ClassVar

from ..config.tables import Tables
from .base import Scheme


class Uncoded(Scheme):
    """Uncoded full gradients, without memory."""

    name = "uncoded"
    summary = "full gradients; rank 0 averages those that have arrived"
    tables: ClassVar[Tables] = {
        "code": {"family": "uncoded", "blocks": 1, "rotate": False},
        "memory": {"kind": "none"},
    }
