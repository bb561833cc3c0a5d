"""Lightweight projective derivative codes (after Soto, Ilmer, Guan, Li, ICML 2022).

The abstract gives the idea: low-weight codewords of the partial derivatives, decoded iteratively. The
dithered net, redrawn when its rows run out, the error feedback and the presets are this project's reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ..config.tables import Tables
from .base import Scheme


class LWPD(Scheme):
    """Low-weight codewords of the partial derivatives, with the defaults of `Scheme`."""

    name = "lwpd"
    summary = "low-weight codewords of each layer's gradient, with error feedback"
    tables: ClassVar[Tables] = {
        "code": {"family": "net", "blocks": 16, "weight": 4, "rotate": True},
        "memory": {"kind": "worker"},
    }
    presets: ClassVar[Mapping[str, Tables]] = {
        # Mini-batches: each task sends an eighth of the gradient at one byte per element, both ways. "auto"
        # is the net where one exists. The best learning rate is about 1.5 times that of full gradients.
        "default": {
            "code": {"family": "auto", "blocks": "units", "weight": 4, "share": 0.125, "rotate": True},
            "memory": {"kind": "worker"},
            "wire": {"dtype": "int8"},
            "downlink": {"kind": "codewords"},
            "update": {"mode": "async"},
        },
        # Very slow links: two worker-selected codewords per task. The best learning rate is about that of
        # full gradients.
        "starved": {
            "code": {"family": "matched", "blocks": "units", "weight": 32, "rows_per_task": 2},
            "memory": {"kind": "worker"},
            "wire": {"dtype": "int8"},
            "update": {"mode": "first"},
        },
        # Distinct shards, full batches: converges to the optimum with rate 1/L, L being the largest
        # eigenvalue of the Hessian. Stale payloads are used: a permanent straggler has data of its own.
        "shards": {
            "problem": {"batch": 0},
            "code": {"family": "matched", "blocks": "units", "rows_per_task": 4},
            "memory": {"kind": "difference"},
            "update": {"mode": "first"},
        },
    }
