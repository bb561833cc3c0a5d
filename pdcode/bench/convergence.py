"""Every kind of memory under `async` with one worker 30 times slower, over 10⁵ arrivals: does the loss stay
down, and do memories stay bounded?

64-16-10 on 1,437 digits of 8 × 8, 16 workers, batch 8, int8. Each arrival steps θ; the slow worker's payloads
are then some 900 versions old.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..training.coordinator import Coordinator
from .descents import Descent, Tables, merged, spread
from .minibatches import coded

ARRIVALS, SAMPLES, WORKERS, SLOWDOWN = 100_000, 200, 16, 30.0
GROWTH = 1.5  # what counts as bounded: the largest norm of the second half, in that of the first
RATE = 0.1  # of an update by all workers

BASE: Tables = {
    "problem": {"kind": "mlp", "data": "digits", "hidden": [16], "batch": 8, "axis": "output"},
    "workers": {"count": WORKERS},
    "update": {"mode": "async"},
}


def tables(family: str, memory: str) -> Tables:
    """A configuration in which n arrivals are worth one step of the rate, whatever the memory."""
    rate = RATE if memory == "worker" else RATE / WORKERS
    weight = 4 if family == "net" else 8
    code = coded(memory, family=family, blocks="units", weight=weight, rows_per_task=2)
    return merged(BASE, code, {"optimizer": {"rate": rate}})


CASES = {
    f"{family}, {memory}": tables(family, memory)
    for family, memory in [
        ("net", "none"), ("net", "worker"), ("net", "difference"), ("net", "coordinator"),
        ("matched", "worker"), ("matched", "difference"),
    ]
}  # fmt: skip


@dataclass
class Course:
    """Samples of a run: loss, the slow worker's memory, the largest of the others', rank 0's estimate.

    Attributes
    ----------
    samples : ndarray, shape (samples, 4)
        The loss, and Euclidean norms.
    staleness : int
        The largest age of a payload, in versions.
    """

    samples: np.ndarray
    staleness: int

    def bounded(self) -> bool:
        """Whether everything is finite, the loss stays down and no norm grows from half to half."""
        half = len(self.samples) // 2
        early, late = self.samples[:half], self.samples[half:]
        if not np.isfinite(self.samples).all():
            return False
        norms = late[:, 1:].max(axis=0) <= GROWTH * early[:, 1:].max(axis=0)
        down: bool = late[:, 0].max() <= 0.5 * self.samples[0, 0]
        return bool(norms.all()) and down


def follow(case: tuple[Tables, int, int]) -> Course:
    """Run a configuration for so many arrivals and samples."""
    some, arrivals, count = case
    descent = Descent(merged(some, {"stop": {"updates": arrivals}}), {0: SLOWDOWN})
    problem, decoders, staff = descent.parts.problem, descent.parts.state.decoders, descent.crew.staff
    samples: list[list[float]] = []
    oldest = 0

    def observe(now_ns: int, coordinator: Coordinator) -> str:
        nonlocal oldest
        oldest = max(oldest, coordinator.version - coordinator.versions[0])
        if coordinator.stopping or coordinator.arrivals * count < len(samples) * arrivals:
            return ""
        norms = [float(np.linalg.norm(getattr(each.respond, "residual", 0.0))) for each in staff]
        kept = [d.scale * np.linalg.norm(d.accumulator) for d in decoders if not d.clears]
        samples.append([problem.loss(coordinator.theta), norms[0], max(norms[1:]), math.hypot(*kept)])
        if not np.isfinite(samples[-1]).all():
            return "diverged"
        return "enough" if coordinator.arrivals >= arrivals else ""

    descent.coordinator.run(observe)
    return Course(np.array(samples), oldest)


def run() -> bool:
    """Print losses and norms; return whether all is bounded."""
    print(
        f"async, {WORKERS} workers, one {SLOWDOWN:.0f} times slower, {ARRIVALS:,} arrivals; 64-16-10 on "
        "digits, batch 8, int8,\nr = 2 of 16. "
        "Norms: the largest of the first half, of the second half, at the end."
    )
    print(
        f"{'':22}{'loss':>28}{'slow worker':>24}{'largest of others':>24}{'estimate of rank 0':>24}"
        f"{'staleness':>11}"
    )
    print(f"{'':22}{'first':>9}{'half-way':>10}{'end':>9}")
    sound = True
    courses = spread(follow, [(some, ARRIVALS, SAMPLES) for some in CASES.values()])
    for name, course in zip(CASES, courses, strict=True):
        samples = course.samples
        half = len(samples) // 2
        cells = f"{samples[0, 0]:9.3f}{samples[half, 0]:10.3f}{samples[-1, 0]:9.3f}"
        for column in samples.T[1:]:
            ends = column[:half].max(), column[half:].max(), column[-1]
            text = " ".join(f"{end:.2f}" for end in ends) if column.any() else "-"
            cells += f"{text:>24}"
        bounded = course.bounded()
        sound &= bounded
        print(f"{name:22}{cells}{course.staleness:11d}{'' if bounded else '  NOT BOUNDED'}", flush=True)
    return sound
