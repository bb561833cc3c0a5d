"""Calibration of 30 parameters by 200 residuals without a gradient: a queue, copies, and combinations.

Prints the time to convergence on the virtual clock, as a multiple of that of `copies`, in the mean over
seeds, with a 95 % interval; and which searches end when 4 % of the points fail, whenever they are evaluated.
"""

from __future__ import annotations

import argparse
import tempfile
import zlib
from pathlib import Path

import numpy as np

import pdcode
from pdcode.util.errors import Failure

K, M = 30, 200
DESIGNS = "queue", "copies", "combinations"
EVEN = {"kind": "lognormal", "median_s": 1.0, "sigma": 0.025}
LAWS = {
    "within 5 %": EVEN,
    "1 + Exp(1)": {"kind": "shifted-exponential", "shift_s": 1.0, "mean_s": 1.0},
    "Pareto 1.5": {"kind": "pareto", "shift_s": 1.0, "shape": 1.5},
    "one worker 10×": {**EVEN, "slow": [3], "slowdown": 10.0},
}


class Misfit:
    """Residuals of a smooth nonlinear model at 200 points; a share of all points fails for ever."""

    def __init__(self, seed: int, failing: float) -> None:
        rng = np.random.default_rng([seed, 1])
        self.weights, self.truth = rng.normal(size=(M, K)), rng.normal(size=K)
        self.start, self.failing = self.truth + 0.5 * rng.normal(size=K), failing
        self.data = self.model(self.truth) + 0.01 * rng.normal(size=M)

    def model(self, x: np.ndarray) -> np.ndarray:
        inner = self.weights @ x
        return 3 * np.tanh(inner / 6) + 0.1 * inner

    def __call__(self, x: np.ndarray) -> np.ndarray:
        if zlib.crc32(x.tobytes()) / 2**32 < self.failing and not np.array_equal(x, self.start):
            raise ArithmeticError("no convergence")
        return self.model(x) - self.data


def search(seed: int, workers: int, law: str, design: str, folder: Path, failing: float = 0.0) -> float:
    """Return the virtual time in s of a search; nan if it is given up."""
    misfit = Misfit(seed, failing)
    tables = {
        "seed": seed, "stragglers": LAWS[law], "trace": {"path": str(folder / "a.h5")},
        "scheme": {"options": {"design": design}},
    }  # fmt: skip
    try:
        found = pdcode.calibrate(
            misfit, misfit.start, residuals=M, config=tables, workers=workers,
            output=folder / "a.h5", progress=False,
        )  # fmt: skip
    except Failure:
        return float("nan")
    assert found.success
    return float(found.trace.summary()["seconds"])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--quick", action="store_true", help="two seeds, and 16 workers only")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.workers = 2, [16]
    seeds = range(arguments.seeds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for law in LAWS:
            for workers in arguments.workers:
                times = {
                    design: np.array([search(seed, workers, law, design, folder) for seed in seeds])
                    for design in DESIGNS
                }
                cells = []
                for design in ("queue", "combinations"):
                    ratios = np.log(times[design] / times["copies"])
                    spread = 2 * ratios.std(ddof=1) / len(ratios) ** 0.5
                    low, mid, high = np.exp(ratios.mean() + spread * np.array([-1, 0, 1]))
                    cells.append(f"{design} {mid:.2f} ({low:.2f}–{high:.2f})")
                mean_s = times["copies"].mean()
                print(f"{law:15} {workers:3} workers: {', '.join(cells)}; copies {mean_s:.1f} s", flush=True)
        for design in DESIGNS:
            times = np.array([search(seed, 32, "one worker 10×", design, folder, 0.04) for seed in seeds])
            ended = np.isfinite(times)
            mean = f", in {times[ended].mean():.1f} s" if ended.any() else ""
            print(
                f"4 % of points fail, 32 workers, {design}: {ended.sum()} of {len(seeds)} end{mean}",
                flush=True,
            )


if __name__ == "__main__":
    main()
