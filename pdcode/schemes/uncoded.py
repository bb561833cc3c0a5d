"""Uncoded full gradients: rank 0 averages the gradients that have arrived.

Presets round them: ``qsgd`` without bias (Alistarh, Grubic, Li, Tomioka and Vojnovic, "QSGD", NeurIPS 2017),
``ef-signsgd`` to one bit, with error feedback (Karimireddy, Rebjock, Stich and Jaggi, "Error feedback fixes
SignSGD and other gradient compression schemes", ICML 2019).
"""

from __future__ import annotations

from collections.abc import Mapping
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
    presets: ClassVar[Mapping[str, Tables]] = {
        "qsgd": {**tables, "wire": {"dtype": "qsgd"}, "update": {"mode": "all"}},
        "ef-signsgd": {
            **tables,
            "memory": {"kind": "worker"},
            "wire": {"dtype": "sign"},
            "update": {"mode": "all"},
        },
    }
