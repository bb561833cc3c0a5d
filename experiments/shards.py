"""Updates and bytes with which memories reach the optimum on heterogeneous shards.

Least squares over 64 blocks (63 inputs and the bias) of 32 numbers, float64, full batch. 16 workers have 200
rows each; each worker's inputs have their own mean and covariance, and its targets their own teacher. The
Hessian of all rows has condition number 30 and largest eigenvalue L = 1, so rates are in units of 1/L. A
descent ends when the excess of the loss over its minimum has fallen to 1e-12 of the excess at θ = 0.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from descents import Tables, coded, compare, merged

from pdcode import problems

WORKERS, ROWS, INPUTS, OUTPUTS, CONDITION = 16, 200, 63, 32, 30.0
FIRST: Tables = {"update": {"mode": "first", "count": 12, "late": "waste"}}
LATE: Tables = {"update": {"mode": "first", "count": 12, "late": "use"}}
FULL: Tables = {"scheme": {"name": "uncoded"}}
DSAG = merged(FULL, {"memory": {"kind": "difference"}})


def matched(memory: str) -> Tables:
    """Return the tables for four matched codewords per task."""
    return coded(memory, "float64", family="matched", blocks=64, weight=64, rows_per_task=4)


def net(memory: str, r: int) -> Tables:
    """Return the tables for r codewords of a net per task, redrawn at each update."""
    return coded(memory, "float64", family="net", blocks=64, weight=4, rows_per_task=r)


SCHEMES: dict[str, Tables] = {
    "full gradients, wait for all 16": merged(FULL, {"update": {"mode": "all"}}),
    "matched r=4, difference": merged(matched("difference"), FIRST),
    "the same, late ones used": merged(matched("difference"), LATE),
    "full gradients, difference (DSAG)": merged(DSAG, FIRST),
    "the same, late ones used (DSAG)": merged(DSAG, LATE),
    "net r=16, difference": merged(net("difference", 16), FIRST),
    "matched r=4, worker": merged(matched("worker"), LATE),
    "net r=4, coordinator": merged(net("coordinator", 4), LATE, {"decoder": {"step": 0.3}}),
    "full gradients, stragglers dropped": merged(FULL, FIRST),
    "matched r=4, none": merged(matched("none"), LATE),
}


def write_data(path: Path, seed: int) -> None:
    """Write inputs and targets, ordered by worker, to an npz file."""
    random = np.random.default_rng(seed)
    normal = random.standard_normal

    def rotation() -> np.ndarray:
        return np.linalg.qr(normal((INPUTS, INPUTS)))[0]

    x = np.concatenate(
        [
            normal((ROWS, INPUTS)) @ (rotation() * np.exp(0.3 * normal(INPUTS))) + 0.5 * normal(INPUTS)
            for _ in range(WORKERS)
        ]
    )
    # One linear map for all workers keeps their differences; singular values become √rows (1 … condition^-½).
    x = np.linalg.qr(x - x.mean(axis=0))[0] * CONDITION ** np.linspace(0, -0.5, INPUTS)
    x = np.sqrt(len(x)) * x @ rotation()
    teacher, offset = normal((INPUTS, OUTPUTS)), normal(OUTPUTS)
    y = [part @ (teacher + 0.3 * normal(teacher.shape)) for part in np.split(x, WORKERS)]
    np.savez(path, x=x, y=np.concatenate(y) + offset + 0.1 * normal((len(x), OUTPUTS)))


def main(quick: bool) -> None:
    """Print the tables."""
    most, rates = (2, (1.0,)) if quick else (800, (0.03, 0.1, 0.3, 0.6, 1.0, 1.2, 1.4, 1.6, 1.75, 1.9))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shards.npz"
        write_data(path, 1)
        problem: Tables = {
            "kind": "least-squares", "data": str(path), "batch": 0, "dtype": "float64", "test_fraction": 0.0,
            "shards": "contiguous", "axis": "input",
        }  # fmt: skip
        instance = problems.create(problem, blocks=64)
        least = instance.loss(instance.optimum)
        target = float(least + 1e-12 * (instance.loss(np.zeros_like(instance.optimum)) - least))
        base = {"problem": problem, "workers": {"count": WORKERS}, "stop": {"updates": most, "loss": target}}
        schemes = {
            name: merged(base, tables) for name, tables in list(SCHEMES.items())[: 3 if quick else None]
        }
        compare(schemes, dict.fromkeys(schemes, rates), (101,), (1,) if quick else (1, 2, 3))


if __name__ == "__main__":
    main("--quick" in sys.argv)
