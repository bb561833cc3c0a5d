"""Lightweight projective derivative codes (after Soto, Ilmer, Guan, Li, ICML 2022).

The abstract gives the idea: low-weight codewords of the partial derivatives, decoded iteratively. The
dithered net, redrawn when its rows run out, the error feedback and the presets are this project's reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ..config import Tables
from .base import Scheme

NET: Mapping[str, Any] = {"family": "auto", "blocks": "units", "weight": 4, "rotate": True}


class LWPD(Scheme):
    """Low-weight codewords of the partial derivatives, with the defaults of `Scheme`."""

    name = "lwpd"
    summary = "low-weight codewords of each layer's gradient, with error feedback"
    tables: ClassVar[Tables] = {
        "code": {"family": "net", "blocks": 16, "weight": 4, "rotate": True},
        "memory": {"kind": "worker"},
    }
    presets: ClassVar[Mapping[str, Tables]] = {
        # Classifiers, mini-batches: each task sends an eighth of the whitened gradient, less on slow links,
        # two bits an element, to rank 0 and to the other workers. Family "auto" is the net where one exists.
        # The rate of whitened gradients has no dimension.
        "default": {
            "code": {**NET, "rows_per_task": "auto", "whiten": "auto"},
            "memory": {"kind": "worker", "lookahead": "auto"},
            "wire": {"dtype": "int2"},
            "downlink": {"kind": "exchange"},
            "update": {"mode": "async"},
            "optimizer": {"rate": 2.0},
        },
        # Very slow links: the same with a thirty-second of the gradient, and half the rate, since memories
        # hold more.
        "starved": {
            "code": {**NET, "share": 0.03125, "whiten": "auto"},
            "memory": {"kind": "worker", "lookahead": "auto"},
            "wire": {"dtype": "int2"},
            "downlink": {"kind": "exchange"},
            "update": {"mode": "async"},
            "optimizer": {"rate": 1.0},
        },
        # Nothing scarce, no stragglers: workers add up their whitened gradients.
        "ring": {
            "code": {"family": "uncoded", "blocks": 1, "rotate": False, "whiten": "auto"},
            "memory": {"kind": "none"},
            "update": {"mode": "all"},
            "reduce": {"kind": "allreduce"},
            "optimizer": {"rate": 0.7, "momentum": 0.8, "nesterov": True},
        },
        # The same with stragglers: the first three quarters of whitened gradients.
        "first": {
            "code": {"family": "uncoded", "blocks": 1, "rotate": False, "whiten": "auto"},
            "memory": {"kind": "none"},
            "wire": {"dtype": "float16"},
            "update": {"mode": "first", "late": "waste"},
            "optimizer": {"rate": 0.7, "momentum": 0.8, "nesterov": True},
        },
        # Real targets: steps shrink with the gradient. The rate is the user's.
        "regression": {
            "code": {**NET, "share": 0.125},
            "memory": {"kind": "worker"},
            "wire": {"dtype": "int2"},
            "downlink": {"kind": "exchange"},
            "update": {"mode": "first"},
            "optimizer": {"momentum": 0.6, "nesterov": True},
        },
        # Distinct shards, full batches: converges to the optimum with rate 1/L, L being the largest
        # eigenvalue of the Hessian; whitened steps would not. Stale payloads are used: a
        # permanent straggler has data of its own.
        "shards": {
            "problem": {"batch": 0},
            "code": {"family": "matched", "blocks": "units", "rows_per_task": 4},
            "memory": {"kind": "difference"},
            "update": {"mode": "first"},
        },
    }
