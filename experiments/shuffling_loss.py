"""Worth of reshuffling where late workers are dropped: digits, one of 8 workers ten times slower.

Shards of rows sorted by class, and shuffled ones; rank 0 steps at the first 6 payloads, or at all.
"""

import contextlib
import io
import sys

import numpy as np
from sklearn.datasets import load_digits

import pdcode


def loss(
    shards: str, update: dict[str, object], shuffle: dict[str, object], seed: int
) -> tuple[float, float]:
    """Training loss and test accuracy after 6 virtual seconds."""
    data = load_digits()
    order = np.argsort(data.target, kind="stable")
    config = {
        "seed": seed,
        "problem": {"kind": "mlp", "hidden": [64], "batch": 32, "shards": shards},
        "scheme": {"name": "uncoded"},
        "optimizer": {"rate": 0.3},
        "update": update,
        "workers": {"count": 8},
        "stragglers": {"kind": "slow-set", "shift_s": 0.01, "slow": [0], "slowdown": 10.0},
        "machine": {"task_s": 1e-3},
        "stop": {"seconds": 6.0},
        "shuffle": shuffle,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        trace = pdcode.simulate(config, data=(data.data[order] / 16, data.target[order]))
    return float(trace.progress["loss"][-1]), float(trace.progress["accuracy"][-1])


def main() -> None:
    """Print a line for each setting, the median of the seeds."""
    first = {"mode": "first", "count": 6, "late": "waste"}
    seeds = range(1, 2 if "--quick" in sys.argv else 6)
    for shards in ("contiguous", "shuffled"):
        for name, update, shuffle in (
            ("all", {"mode": "all"}, {}),
            ("first 6", first, {}),
            ("first 6, every 60", first, {"kind": "coded", "every": 60}),
            ("first 6, every 20", first, {"kind": "coded", "every": 20}),
        ):
            results = np.array([loss(shards, update, shuffle, seed) for seed in seeds])
            low, high = results[:, 0].min(), results[:, 0].max()
            middle = np.median(results, axis=0)
            print(f"{shards:10s} {name:18s} loss {middle[0]:.3f} ({low:.3f} to {high:.3f}), {middle[1]:.3f}")


if __name__ == "__main__":
    main()
