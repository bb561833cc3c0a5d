"""Lightweight projective derivative codes (after Soto, Ilmer, Guan, Li, ICML 2022).

The abstract gives the idea: low-weight codewords of the partial derivatives, decoded iteratively. That the
codewords are a dithered net which is redrawn when used up, that workers keep what their codewords leave out,
and all that the presets say, is this project's reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ..config.tables import Tables
from .base import Scheme


class LWPD(Scheme):
    """Short, low-weight codewords of the partial derivatives: `Scheme` as it is."""

    name = "lwpd"
    summary = "low-weight codewords of each layer's gradient, with error feedback"
    tables: ClassVar[Tables] = {
        "code": {"family": "net", "blocks": 16, "weight": 4, "rotate": True},
        "memory": {"kind": "worker"},
    }
    presets: ClassVar[Mapping[str, Tables]] = {
        # Mini-batches: an eighth of the gradient a task, in one byte an element, both ways; auto is the net
        # where there is one for so many units. Its rate is about 1.5 times that of full gradients.
        "default": {
            "code": {"family": "auto", "blocks": "units", "weight": 4, "share": 0.125, "rotate": True},
            "memory": {"kind": "worker"},
            "wire": {"dtype": "int8"},
            "downlink": {"kind": "codewords"},
            "update": {"mode": "async"},
        },
        # A link so slow that each byte counts: two directions a task, which the worker chooses. Its rate is
        # about that of full gradients.
        "starved": {
            "code": {"family": "matched", "blocks": "units", "weight": 32, "rows_per_task": 2},
            "memory": {"kind": "worker"},
            "wire": {"dtype": "int8"},
            "update": {"mode": "first"},
        },
        # Fixed shards that differ, full batches: reaches the optimum. Its rate is 1/L, L being the largest
        # eigenvalue of the Hessian. Late payloads are used: a worker that is always late has data of its own.
        "shards": {
            "problem": {"batch": 0},
            "code": {"family": "matched", "blocks": "units", "rows_per_task": 4},
            "memory": {"kind": "difference"},
            "update": {"mode": "first"},
        },
    }
