"""Training loss of every scheme robust to Byzantine workers, under every attack by 1, 2 and 3 of 15 workers.

Softmax regression on digits, 300 updates at one rate. Full gradients of mini-batches of 32 rows at each
worker, which has all rows: their mean, their mean clipped to the median norm, and each rule of scheme
`robust`. Scheme `byzantine`: exact gradients of mini-batches of 480 rows. Projective derivative codes with
the decoder `residual`: dense codewords of 9 blocks, 15 of them, of full batches, as payloads must agree. The
attacks start with the first task.
"""

from __future__ import annotations

import sys
from itertools import product
from typing import Any

import numpy as np
from descents import CLOCK, descend, merged, parallel_map
from rich.console import Console
from rich.table import Table

WORKERS = 15
RULES = ("median", "trimmed", "geometric", "krum", "multi-krum", "clipping")
ATTACKS: dict[str, dict[str, Any]] = {
    "none": {},
    "sign flipped": {"kind": "lie", "how": "sign"},
    "10⁶ times": {"kind": "lie", "how": "scale", "value": 1e6},
    "10⁶ everywhere": {"kind": "lie", "how": "constant", "value": 1e6},
    "Gaussian, σ = 100": {"kind": "lie", "how": "gaussian", "value": 100.0},
    "ALIE, μ - 1.5 σ": {"kind": "collude", "how": "little", "value": 1.5},
    "-0.5 μ": {"kind": "collude", "how": "inner-product", "value": 0.5},
    "-10 μ": {"kind": "collude", "how": "inner-product", "value": 10.0},
}
ALL = {"update": {"mode": "all"}, "problem": {"batch": 32}}


def tables_of(liars: int) -> dict[str, dict[str, Any]]:
    """Return the tables of each candidate by name; rules and codes have the largest number of attackers."""
    knows = {"trimmed", "krum", "multi-krum"}
    plain = {"scheme": {"name": "uncoded"}, **ALL}
    found = {"mean": plain, "clipped": {**plain, "update": {"mode": "all", "clip": "median"}}}
    for rule in RULES:
        options = {"rule": rule, **({"liars": liars} if rule in knows else {})}
        found[rule] = {"scheme": {"name": "robust", "options": options}, **ALL}
    found["residual"] = {
        "code": {"family": "random", "blocks": 9, "weight": 9, "rows": WORKERS, "rotate": False},
        "memory": {"kind": "none"},
        "decoder": {"kind": "residual", "faults": liars},
        "update": {"mode": "all"},
        "problem": {"batch": 0},
    }
    options = {"liars": liars}
    found["byzantine"] = {"scheme": {"name": "byzantine", "options": options}, "problem": {"batch": 480}}
    return found


def loss(tables: dict[str, Any]) -> float:
    """Return the loss at the end of a descent; infinite if it has diverged."""
    return descend(tables).loss


def format_loss(value: float) -> str:
    """Format a loss."""
    return "∞" if value == np.inf else f"{value:.3f}" if value < 100 else f"{value:.0e}"


def main(quick: bool) -> None:
    """Print the tables."""
    seeds = (1,) if quick else (1, 2, 3)
    names, attacks, cells = list(tables_of(1)), list(ATTACKS)[: 2 if quick else None], []
    for liars, attack, name, seed in product((1,) if quick else (1, 2, 3), attacks, names, seeds):
        events = [
            {**ATTACKS[attack], "worker": worker, "task": 0} for worker in range(WORKERS - liars, WORKERS)
        ]
        common = {
            "seed": seed,
            "problem": {"kind": "softmax", "data": "digits", "standardise": True, "l2": 1e-3},
            "optimizer": {"rate": 0.05},
            "workers": {"count": WORKERS},
            "stop": {"updates": 2 if quick else 300},
            "faults": {"events": events if ATTACKS[attack] else []},
        }
        own = tables_of(liars)[name]
        shards = {} if name == "byzantine" else {"problem": {"shards": "replicated"}}
        cells.append(((liars, attack, name), merged(CLOCK, common, shards, own)))
    found = list(parallel_map(loss, [tables for _, tables in cells]))
    each = [(key, value) for (key, _), value in zip(cells, found, strict=True)]
    for liars in sorted({key[0] for key, _ in cells}):
        table = Table(title=f"Loss after {cells[0][1]['stop']['updates']} updates, {liars} of {WORKERS} lie")
        for name in ("what they send", *names):
            table.add_column(name)
        for attack in attacks:
            losses = [[value for key, value in each if key == (liars, attack, name)] for name in names]
            table.add_row(attack, *(format_loss(float(np.median(some))) for some in losses))
        Console(width=150).print(table)


if __name__ == "__main__":
    main("--quick" in sys.argv)
