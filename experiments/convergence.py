"""Boundedness of loss and residuals in `async` mode over 10⁵ arrivals, with one worker 30 times slower.

64-16-10 on 1,437 digits of 8 × 8, 16 workers, batch 8, int8, r = 2 of 16. Each arrival steps θ, so the slow
worker's payloads are some 900 versions old. With every memory n arrivals amount to one full step.
"""

from __future__ import annotations

import math
import sys

import numpy as np
from descents import CLOCK, Tables, coded, merged, parallel_map

from pdcode.config import load
from pdcode.session.setup import prepare
from pdcode.trace.recorder import Recorder
from pdcode.virtual.simulation import Simulation

SAMPLES, WORKERS, RATE = 200, 16, 0.1
GROWTH = 1.5  # a norm counts as bounded if its maximum grows by less than this from first to second half
CASES = [
    ("net", "none"), ("net", "worker"), ("net", "difference"), ("net", "coordinator"),
    ("matched", "worker"), ("matched", "difference"),
]  # fmt: skip
BASE: Tables = {
    "problem": {"kind": "mlp", "data": "digits", "hidden": [16], "batch": 8, "axis": "output"},
    "workers": {"count": WORKERS},
    "update": {"mode": "async"},
    "stragglers": {"slow": [0], "slowdown": 30.0},
}


class NormRecorder(Recorder):
    """Recorder of the loss and of norms: slow worker's memory, largest other memory, rank 0's estimate."""

    def __init__(self, simulation: Simulation, every: int) -> None:
        self._simulation, self._every = simulation, every
        self.rows: list[list[float]] = []

    def update(self, *values: float) -> None:
        """Take a sample at every `every`-th update."""
        if values[0] % self._every:
            return
        parts, staff = self._simulation.components, self._simulation.fleet.executor.local_workers
        norms = [float(np.linalg.norm(getattr(worker.encoders[0], "residual", 0.0))) for worker in staff]
        kept = [d.scale * np.linalg.norm(d.accumulator) for d in parts.state.decoders if not d.clears]
        self.rows.append([parts.problem.loss(parts.state.theta), norms[0], max(norms[1:]), math.hypot(*kept)])


def run_case(case: tuple[str, str, int]) -> np.ndarray:
    """Run a case and return its samples, shape (samples, 4)."""
    family, memory, arrivals = case
    code = coded(memory, family=family, blocks="units", weight=4 if family == "net" else 8, rows_per_task=2)
    rest: Tables = {
        "optimizer": {"rate": RATE if memory == "worker" else RATE / WORKERS},
        "stop": {"updates": arrivals},
        "trace": {"progress_s": 1e6},
    }
    simulation = Simulation(prepare(load.resolve(merged(CLOCK, BASE, code, rest))))
    samples = NormRecorder(simulation, max(1, arrivals // SAMPLES))
    simulation.run(samples)
    return np.array(samples.rows)


def main(quick: bool) -> None:
    """Print losses and norms: the largest of the first half, of the second half, at the end."""
    arrivals = 100 if quick else 100_000
    print(f"{'':22}{'loss':^27}{'slow worker':>24}{'largest of others':>24}{'estimate of rank 0':>24}")
    cases = [(*case, arrivals) for case in CASES[: 3 if quick else None]]
    for case, samples in zip(cases, parallel_map(run_case, cases), strict=True):
        half = len(samples) // 2
        early, late = samples[:half], samples[half:]
        line = f"{f'{case[0]}, {case[1]}':22}" + "".join(f"{samples[i, 0]:9.3f}" for i in (0, half, -1))
        for one, other in zip(early.T[1:], late.T[1:], strict=True):
            ends = f"{one.max():.2f} {other.max():.2f} {other[-1]:.2f}" if other.any() else "-"
            line += f"{ends:>24}"
        bounded = np.isfinite(samples).all() and (late.max(axis=0) <= GROWTH * early.max(axis=0)).all()
        print(line + ("" if bounded else "  NOT BOUNDED"), flush=True)


if __name__ == "__main__":
    main("--quick" in sys.argv)
