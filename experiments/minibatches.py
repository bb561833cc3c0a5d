"""Updates and bytes to a loss for low-weight codewords with a memory, with mini-batches.

784-256-10 on 4,000 images of MNIST, 16 workers, batch 32 each. Rank 0 steps at the first 12 payloads; later
ones are used in the next update, but not with the memories `difference` and `coordinator`, which need fewer
updates without them. A rate multiplies the mean of the 12 gradients without memory, and the sum of all
payloads over 16 with memory `worker`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from descents import Tables, coded, compare, merged

from pdcode.problems import bundled

BASE: Tables = {
    "problem": {"kind": "mlp", "hidden": [256], "batch": 32, "axis": "output"},
    "workers": {"count": 16},
    "update": {"mode": "first", "count": 12},
    "stop": {"updates": 350, "loss": 0.1},
}
NET: Tables = {"family": "net", "blocks": [256, 1], "weight": 4, "rows_per_task": 32}
WASTED: Tables = {"update": {"late": "waste"}}


def matched(memory: str, r: int) -> Tables:
    """Return the tables for r matched codewords over the hidden units and one over the ten output units."""
    return coded(memory, family="matched", blocks=[256, 10], weight=[32, 10], rows_per_task=[r, 1])


SCHEMES = {
    "full gradients": {"scheme": {"name": "uncoded"}},
    "net w=4 r=32, int8, worker": coded("worker", **NET),
    "net w=4 r=32, float32, worker": coded("worker", "float32", **NET),
    "matched r=4 w=32, int8, worker": matched("worker", 4),
    "matched r=1 w=32, int8, worker": matched("worker", 1),
    "energy w=4 r=32, int8, worker": coded("worker", **NET | {"family": "energy"}),
    "net w=4 r=32, int8, difference": merged(coded("difference", **NET), WASTED),
    "net w=4 r=32, int8, coordinator": merged(coded("coordinator", **NET), WASTED),
    "net w=4 r=32, int8, none": coded("none", **NET),
    "net w=4 r=32, int8, worker, relayed": merged(
        coded("worker", **NET), {"downlink": {"kind": "codewords"}}
    ),
}


def main(quick: bool) -> None:
    """Print the tables."""
    base, tuning, seeds = BASE, (101, 102, 103), (1, 2, 3, 4, 5)
    rates = {
        name: (0.5, 0.7, 1.0, 1.4, 2.0) if "worker" in name else (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
        for name in SCHEMES
    }
    with tempfile.TemporaryDirectory() as folder:
        if quick:
            base = merged(BASE, {"problem": {"data": "digits"}, "stop": {"updates": 2}})
            tuning, seeds, rates = (101,), (1,), dict.fromkeys(SCHEMES, (1.0,))
        else:
            samples, path = bundled.mnist5k(None, True), Path(folder) / "mnist5k.npz"  # takes seconds to read
            np.savez(path, x=np.asarray(samples.x, np.float32), y=samples.y)
            base = merged(BASE, {"problem": {"data": str(path)}})
        schemes = {
            name: merged(base, tables) for name, tables in list(SCHEMES.items())[: 3 if quick else None]
        }
        compare(schemes, rates, tuning, seeds)


if __name__ == "__main__":
    main("--quick" in sys.argv)
