"""Whole gradients: every worker returns its own, and rank 0 takes the mean of those that have arrived."""

from __future__ import annotations

from typing import ClassVar

from ..config.tables import Tables
from .base import Scheme


class Uncoded(Scheme):
    """Whole gradients, without memory."""

    name = "uncoded"
    summary = "whole gradients; rank 0 takes the mean of those that have arrived"
    tables: ClassVar[Tables] = {
        "code": {"family": "uncoded", "blocks": 1, "rotate": False},
        "memory": {"kind": "none"},
    }
