"""Job time and training loss of every scheme in the set-up of Tandon et al.

Tandon, Lei, Dimakis and Karampatziakis, "Gradient coding: avoiding stragglers in distributed learning", ICML
2017, trained logistic regression with stragglers that are slowed down by a fixed time. Here: 4 workers, 3,000
rows of 2,000 features, l2 = 0.001, full batches, 100 updates of all workers or as many payloads, and a delay
of 50 ms of worker 3, or of each worker in turn. Rates and knobs are tuned by nine runs each, for the least
loss in the end. Two gradient codes come again as in the paper, with two of four shards at each worker and in
float32. Four candidates have all rows at each worker, and draw 750 of them a task.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

import pdcode

WORKERS, DELAY_S, ROWS = 4, 0.05, 3000
EVERYWHERE = f"/problem.shards=replicated/problem.batch={ROWS // WORKERS}"
SCHEMES = [
    "all",
    *(f"{name}{EVERYWHERE}" for name in ("lwpd", "lwpd:default", "uncoded:all", "uncoded:k-async")),
    *(f"{name}/scheme.options.stragglers=1/wire.dtype=float32" for name in ("frc", "cyclic")),
]
DELAYS = {
    "worker 3 is always slow": [[0.0]] * (WORKERS - 1) + [[DELAY_S]],
    "each worker in turn is slow": DELAY_S * np.eye(WORKERS),
}


def main(quick: bool) -> None:
    """Print the tables."""
    config = {
        "problem": {
            "kind": "logistic", "data": "synthetic", "samples": ROWS * 5 // 4, "batch": 0, "l2": 1e-3,
            "features": 20 if quick else 2000,
        },
        "workers": {"count": WORKERS},
        "update": {"mode": "all"},
        "stop": {"updates": 5 if quick else 100},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for title, delays in DELAYS.items():
            path = Path(folder) / "delays.csv"
            np.savetxt(path, delays, delimiter=",")
            made = pdcode.compare(
                config,
                SCHEMES[1:] if quick else SCHEMES,
                seeds=1 if quick else 3,
                tune=3 if quick else 9,
                set={"stragglers": {"kind": "trace", "path": str(path), "draw": "replay"}},
                output=Path(folder) / "tandon.h5",
                processes=1 if quick else None,
                progress=False,
            )
            print(f"{title}:\n")
            made.show()


if __name__ == "__main__":
    main("--quick" in sys.argv)
