"""Targets of the jobs of `pdcode bench heldout`: what Adam reaches on standardised inputs, without workers.

Each job's model descends by mini-batches of 256 rows, by Adam at three learning rates and from three seeds;
the rate with the best accuracy on held-out rows, or R², counts. A loss to reach is the training loss at which
that accuracy is first within 0.01 of its best, an accuracy to reach the best less 0.01: the median of the
seeds. Modules of PyTorch have one rate and one seed. For linear regressions the targets are 1.1 of the least
loss, and the accuracy there less 0.01. `--quick` shows one job; names on the command line show these.
"""

import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from pdcode.config import NetworkTable
from pdcode.config import load as configfile
from pdcode.problems import Problem, load_source
from pdcode.studies import cells, heldout
from pdcode.studies.heldout_jobs import JOBS

RATES, SEEDS, ROWS = (1e-3, 3e-3, 1e-2), (1, 2, 3), 256
UPDATES, EACH, WITHIN, ABOVE = 800, 10, 0.01, 1.1


def curve(problem: Problem, rows: int, rate: float, seed: int, updates: int) -> np.ndarray:
    """Return loss and accuracy after each ten updates, shape (updates/10, 2)."""
    random, theta = np.random.default_rng(seed), problem.initial(seed)
    mean, square, found = np.zeros_like(theta), np.zeros_like(theta), []
    for update in range(1, updates + 1):
        gradient = problem.gradient(theta, random.integers(0, rows, min(ROWS, rows)))
        mean += 0.1 * (gradient - mean)
        square += 0.001 * (gradient**2 - square)
        corrected = np.sqrt(square / (1 - 0.999**update)) + 1e-8
        theta -= (rate / (1 - 0.9**update) * mean / corrected).astype(theta.dtype)
        if update % EACH == 0:
            found.append((problem.loss(theta), problem.accuracy(theta)))
    return np.array(found)


def target(name: str, folder: Path, updates: int) -> tuple[float, float]:
    """Return the loss and the accuracy to reach."""
    tables = {"problem": heldout.write_data(name, folder) | {"evaluate": cells.EVALUATION_ROWS}}
    table = configfile.resolve(tables).problem
    if isinstance(table, NetworkTable):
        table = msgspec.structs.replace(table, standardise=True)
    source = load_source(table)
    problem = Problem.from_dataset(table, source.whole)
    if table.kind == "least-squares":
        x, y = source.whole.train
        theta = np.linalg.lstsq(x, y, rcond=None)[0].T  # the last column of x is ones
        theta = theta.ravel().astype(problem.dtype)
        return float(f"{ABOVE * problem.loss(theta):.2g}"), float(f"{problem.accuracy(theta) - WITHIN:.3f}")
    ends, slow = [], table.kind == "torch"
    for seed in SEEDS[: 1 if slow else None]:
        rates = RATES[1:2] if slow else RATES
        curves = [curve(problem, source.rows, rate, seed, updates) for rate in rates]
        best = max(curves, key=lambda each: each[:, 1].max())
        highest = best[:, 1].max()
        first = np.argmax(best[:, 1] >= highest - WITHIN)
        ends.append((best[first, 0], highest - WITHIN))
    loss, accuracy = np.median(ends, axis=0)
    return float(f"{loss:.2g}"), float(f"{accuracy:.3f}")


def main(names: list[str], updates: int) -> None:
    """Print the targets of jobs."""
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            loss, accuracy = target(name, Path(folder), updates)
            now = "{} {:g}".format(*JOBS[name].target)
            print(f"{name}: loss {loss:g}, accuracy {accuracy:g} (now {now})", flush=True)


if __name__ == "__main__":
    quick = "--quick" in sys.argv
    chosen = [each for each in sys.argv[1:] if each != "--quick"]
    main(chosen or (["few-linear"] if quick else [*JOBS]), 20 if quick else UPDATES)
