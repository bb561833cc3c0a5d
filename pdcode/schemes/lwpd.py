"""Lightweight projective derivative codes (after Soto, Ilmer, Guan, Li, ICML 2022).

The abstract of the paper has the idea: low-weight codewords of the partial derivatives, decoded iteratively.
The dithered net that is redrawn when its rows are used up, the error feedback and the presets are this
project's reading.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from ..config import NetworkTable, Tables
from ..fitted import LOCAL_MATRICES, UPDATES_NEEDED
from ..problems import Problem
from .base import EQUAL, UNCODED, Entrants, Scheme

TURN: Mapping[str, Any] = {"family": "uncoded", "blocks": "units", "rotate": True}
"""Blocks in turn: codewords of weight 1, because with error feedback heavier ones gain nothing."""
WHITENED: Tables = {**UNCODED, "code": {**UNCODED["code"], **EQUAL}}
OF_ALL: Mapping[str, Any] = {"kind": "schedule-free", "rate": 5.0, "longest": 0.4, "average": True}
"""Steps by the mean of all workers, whose bound stands for laws of matrices, workers and batch."""
OF_FIRST: Mapping[str, Any] = {"rate": 0.7, "momentum": 0.7, "nesterov": True, "average": True}
"""Steps by the mean of the first workers: those above gain nothing there (docs/results/whitening.md)."""

MEAN: Tables = {
    **UNCODED,
    "memory": {"kind": "worker"},
    "wire": {"dtype": "int2"},
    "update": {"mode": "all"},
    "reduce": {"kind": "allreduce"},
}
LINEAR: Tables = {**UNCODED, "problem": {"standardise": "white"}}
SUMMED: Tables = {
    **LINEAR,
    "update": {"mode": "all"},
    "reduce": {"kind": "allreduce"},
    "optimizer": {"rate": "auto", "momentum": 0.3, "nesterov": True, "average": True},
}
"""Linear models: of white inputs, the Hessian of squared errors is the identity."""


class LWPD(Scheme):
    """Low-weight codewords of the partial derivatives, with the defaults of `Scheme`."""

    name = "lwpd"
    summary = "low-weight codewords of each layer's gradient, with error feedback"
    tables: ClassVar[Tables] = {
        "code": {"family": "net", "blocks": 16, "weight": 4, "rotate": True},
        "memory": {"kind": "worker"},
    }
    candidates: ClassVar[Mapping[str, float]] = UPDATES_NEEDED
    presets: ClassVar[Mapping[str, Tables]] = {
        # Classifiers with mini-batches. A task sends an eighth of the whitened gradient (less on slow links)
        # at two bits per element to rank 0 and to the other workers.
        # The learning rate of whitened gradients is dimensionless.
        "default": {
            "code": {**TURN, **EQUAL, "rows_per_task": "auto"},
            "memory": {"kind": "worker", "lookahead": "auto"},
            "wire": {"dtype": "int2"},
            "downlink": {"kind": "exchange"},
            "update": {"mode": "async"},
            "optimizer": {"rate": 2.0, "average": True},
        },
        # Very slow links: a thirty-second of the gradient, and half the rate, since residuals are larger.
        "starved": {
            "code": {**TURN, **EQUAL, "share": 0.03125},
            "memory": {"kind": "worker", "lookahead": "auto"},
            "wire": {"dtype": "int2"},
            "downlink": {"kind": "exchange"},
            "update": {"mode": "async"},
            "optimizer": {"rate": 1.0, "average": True},
        },
        # Fast links without stragglers: workers add up their whitened gradients by all-reduce.
        "ring": {**WHITENED, "update": {"mode": "all"}, "reduce": {"kind": "allreduce"}, "optimizer": OF_ALL},
        # Links without stragglers: an all-reduce in four bits.
        "sharded": {
            **WHITENED,
            "wire": {"dtype": "int4"},
            "update": {"mode": "all"},
            "reduce": {"kind": "allreduce"},
            "optimizer": OF_ALL,
        },
        # The same with stragglers: the payloads of all but slow workers are averaged by these workers.
        "sharded-first": {
            **WHITENED,
            "wire": {"dtype": "int4"},
            "update": {"mode": "first", "count": "auto", "late": "waste", "full_step": 8},
            "reduce": {"kind": "allreduce"},
            "optimizer": OF_FIRST,
        },
        # Linear classifiers without stragglers: the mean of plain gradients is orthogonalised by each worker.
        "orthogonal": {
            **MEAN,
            "optimizer": {"kind": "orthogonal", "rate": 0.9, "momentum": 0.4, "average": True},
        },
        # The same for networks: where shards differ, gradients of equal length would counteract each other.
        "orthogonal-network": {
            **MEAN,
            "problem": {"standardise_targets": True},
            "optimizer": {
                "kind": "orthogonal",
                "rate": 0.25,
                "momentum": 0.8,
                "iterations": 1,
                "average": True,
            },
        },
        # Fast links with stragglers: the first whitened gradients, of all but slow workers.
        "first": {
            **WHITENED,
            "wire": {"dtype": "float16"},
            "update": {"mode": "first", "count": "auto", "late": "waste", "full_step": 8},
            "optimizer": OF_FIRST,
        },
        # Linear models whose least loss is far from 0: gradients are not whitened, so that steps shrink with
        # them, but inputs are, once. Targets stay: on their scale the random weights of the start are mostly
        # near 0.
        "small-regression": {
            **LINEAR,
            "update": {"mode": "async"},
            "optimizer": {"rate": "auto", "average": True},
        },
        # The same on slow links: an eighth of the gradient at two bits per element.
        "regression": {
            "problem": LINEAR["problem"],
            "code": {**TURN, "share": 0.125},
            "memory": {"kind": "worker"},
            "wire": {"dtype": "int2"},
            "downlink": {"kind": "exchange"},
            "update": {"mode": "async"},
            "optimizer": {"rate": "auto", "average": True},
        },
        # The same without stragglers, by all-reduce, and by one in four bits, without bias.
        "ring-regression": SUMMED,
        "sharded-regression": {**SUMMED, "wire": {"dtype": "qsgd"}},
        # Networks with squared errors: as "default", with steps as long as the errors. Those of mini-batches
        # remain at the end, so that the rate falls, and an average of θ is better.
        "whitened-regression": {
            "problem": {"standardise": "guarded", "standardise_targets": True},
            "code": {**TURN, "rows_per_task": "auto", "whiten": "auto", "steps": "auto"},
            "memory": {"kind": "worker", "lookahead": "auto"},
            "wire": {"dtype": "int2"},
            "downlink": {"kind": "exchange"},
            "update": {"mode": "async"},
            "optimizer": {"kind": "sgd", "rate": 1.0, "average": True, "plateau": True},
        },
        # Networks with other losses far from 0: steps of a bounded length, whatever the targets' scale.
        "deep-regression": {
            "problem": {"standardise": True, "standardise_targets": True},
            "code": {**TURN, "share": 0.125},
            "memory": {"kind": "worker"},
            "wire": {"dtype": "int2"},
            "downlink": {"kind": "exchange"},
            "update": {"mode": "first"},
            "optimizer": {"kind": "adam", "rate": 0.01},
        },
        # Different shards with full batches: converges to the optimum at rate 1/L, where L is the largest
        # eigenvalue of the Hessian; whitened steps do not. Stale payloads are used, because a permanent
        # straggler has data of its own.
        "shards": {
            "problem": {"batch": 0},
            "code": {"family": "matched", "blocks": "units", "rows_per_task": 4},
            "memory": {"kind": "difference"},
            "update": {"mode": "first"},
        },
    }

    entrants: ClassVar[Entrants] = {f"preset {name}": f":{name}" for name in presets}

    linear = "small-regression", "regression", "ring-regression", "sharded-regression"
    regressions = *linear, "deep-regression"

    @classmethod
    def suits(cls, preset: str, problem: Problem) -> bool:
        if not problem.table.batch:
            return preset == "shards"
        local = preset.startswith("local:")
        if local and len(problem.layers) > LOCAL_MATRICES:
            return False
        if not problem.near_zero:
            if problem.curvature is None and not problem.table.latent:
                table: Any = problem.table
                scaled = getattr(table, "squared", False) and table.standardise_targets is not False
                differ = ("orthogonal-network",) * (problem.table.shards == "contiguous")
                whitened = local or preset in ("whitened-regression", *differ)
                return preset == "deep-regression" or (whitened and scaled)
            return preset in cls.linear
        if preset.startswith("orthogonal"):
            networks = isinstance(problem.table, NetworkTable)
            return networks and preset == "orthogonal" + "-network" * (len(problem.layers) > 1)
        return preset not in ("shards", "whitened-regression", *cls.regressions)
