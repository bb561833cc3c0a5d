"""`python -m benchmarks detectors`: which detector of slow workers finds causes that are known.

Each case is a run on the virtual clock with a cause that was put in, or with none, under delays that are
drawn for it. `Trace.diagnose` and two plain rules say what costs time; of pdcode the cost is compared, with
the time of the same run without the cause. The rules are usual ones of monitors: a worker is slow if the
median, or the mean, of its times from start to sending exceeds `FACTOR` times the median of the others'.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import pdcode
from pdcode.analysis import printing
from pdcode.cli import arguments
from pdcode.util.errors import InputError, expected
from pdcode.util.formats import percent
from pdcode.util.progress import track

if TYPE_CHECKING:
    from rich.table import Table

WORKERS, TASKS = 8, 120
TASK_S, DELAY_S = 0.008, 0.004  # computing, and the usual delay
FACTOR = 1.5
POLICIES: dict[str, dict[str, Any]] = {
    "all": {"update.mode": "all"},
    "first": {"update.mode": "first", "update.count": 6},
    "async": {"update.mode": "async"},
}
NOISES = "quiet", "lognormal", "exponential", "pareto", "common", "periodic"
PERSISTENCE = 0.5, 0.8, 0.9, 0.95  # correlation of equal workers' times from task to task


class Case(NamedTuple):
    """A run and what is to be found in it: workers, or "rank 0" or "the link"; nothing of equal workers."""

    kind: str
    delays_s: np.ndarray  # (workers, tasks)
    truth: tuple[int | str, ...] = ()
    settings: Mapping[str, Any] = {}
    clean_s: np.ndarray | None = None  # the delays without the cause
    clean: Mapping[str, Any] = {}  # settings without the cause


Drawn = Callable[[np.random.Generator, Mapping[str, Any]], Case]


def noise(kind: str, random: np.random.Generator, rho: float = 0.8) -> np.ndarray:
    """Draw delays of equal workers in s, (workers, tasks)."""
    size = WORKERS, TASKS
    if kind == "quiet":
        return 0.05 * DELAY_S * random.random(size)
    if kind == "lognormal":
        return DELAY_S * random.lognormal(0, 0.5, size)
    if kind == "exponential":
        return DELAY_S * random.exponential(1.0, size)
    if kind == "pareto":
        return DELAY_S * random.pareto(1.8, size)
    if kind == "common":  # slow phases of all workers
        phase = (random.random(TASKS // 10) < 0.3).repeat(10)
        return DELAY_S * (1 + 3 * phase) * random.lognormal(0, 0.3, size)
    if kind == "periodic":  # of each worker at another time
        at = np.arange(TASKS) + random.integers(0, 20, WORKERS)[:, None]
        return DELAY_S * (1 + 3 * (at % 20 < 3)) * random.lognormal(0, 0.2, size)
    steps = random.standard_normal(size)
    steps[:, 1:] *= np.sqrt(1 - rho**2)
    for task in range(1, TASKS):
        steps[:, task] += rho * steps[:, task - 1]
    return DELAY_S * np.exp(0.5 * steps)


def slow(worker: int, factor: float, first: int = 0, end: int = TASKS) -> list[dict[str, Any]]:
    """Return faults by which a worker computes more slowly in some of its tasks."""
    return [
        {"kind": "slow", "worker": worker, "task": task, "factor": factor, "for_s": 0.0}
        for task in range(first, end)
    ]


def cases(random: np.random.Generator) -> Iterator[Case]:
    """Draw one case of each kind and strength, for one policy."""
    for kind in NOISES:
        yield Case("equal", noise(kind, random))
    for rho in PERSISTENCE:
        yield Case("equal, persistent", noise("persistent", random, rho))
    worker, other = random.choice(WORKERS, 2, replace=False).tolist()

    def faulty(kind: str, events: list[dict[str, Any]], *truth: int, law: str = "lognormal") -> Case:
        return Case(kind, noise(law, random), truth, {"faults.events": events})

    for factor in (1.5, 2.0, 4.0):
        yield faulty("always", slow(worker, factor), worker, law="exponential")
        yield faulty("a spell", slow(worker, factor, 40, 70), worker)
    yield faulty("two", slow(worker, 2.0) + slow(other, 3.0), worker, other)
    majority = [each for one in range(6) for each in slow(one, 2.0)]
    yield faulty("most are slow", majority, 6, 7)  # the others are a class of faster ones
    for delay_s in (0.006, 0.03):
        held = {"kind": "delay", "worker": worker, "task": 0, "delay_s": delay_s, "for_s": 1e5}
        yield faulty("replies held back", [held], worker)
    for share in (0.1, 0.2, 0.3, 0.45):
        yield late("sometimes", random, worker, random.random(TASKS) < share)
    yield late("regularly", random, worker, np.arange(TASKS) % 8 == 5)
    begins = np.sort(random.choice(TASKS // 8, 6, replace=False)) * 8
    yield late("in bursts", random, worker, np.isin(np.arange(TASKS), begins + np.arange(3)[:, None]))
    grown = noise("lognormal", random)
    clean = grown.copy()
    grown[worker] += 0.012 * np.linspace(0, 1.5, TASKS)
    yield Case("drift", grown, (worker,), clean_s=clean)
    free = {"machine.arrival_s": 0.0}
    for arrival_s in (0.003, 0.01):
        yield Case(
            "rank 0", noise("lognormal", random), ("rank 0",), {"machine.arrival_s": arrival_s}, clean=free
        )
    free = {"link.bandwidth": 1e15, "link.latency_s": 0.0}
    for bandwidth in (1e6, 2e5):
        yield Case(
            "the link", noise("lognormal", random), ("the link",), {"link.bandwidth": bandwidth}, clean=free
        )
    masked = {"machine.arrival_s": 0.01, "faults.events": slow(worker, 1.5)}
    yield Case(
        "rank 0 and a slow worker", noise("lognormal", random), ("rank 0",), masked,
        clean={"machine.arrival_s": 0.0, "faults.events": masked["faults.events"]},
    )  # fmt: skip
    spread = [each for one in range(WORKERS) for each in slow(one, 1 + 0.16 * one / (WORKERS - 1))]
    yield Case("spread of 16 %", noise("lognormal", random), (), {"faults.events": spread})


def late(kind: str, random: np.random.Generator, worker: int, when: np.ndarray) -> Case:
    """Return a case in which some tasks of a worker take 100 ms more."""
    delays = noise("lognormal", random)
    clean = delays.copy()
    delays[worker] += 0.1 * when
    return Case(kind, delays, (worker,), clean_s=clean)


def simulate(folder: Path, delays_s: np.ndarray, policy: str, settings: Mapping[str, Any]) -> pdcode.Trace:
    """Run a case."""
    path = folder / "delays.csv"
    np.savetxt(path, delays_s, delimiter=",", fmt="%.9f")
    job = {
        "problem": {"kind": "softmax", "data": "digits", "batch": 16},
        "code": {"blocks": [1], "weight": 1},
        "machine": {"task_s": TASK_S},
        "stragglers": {"kind": "trace", "path": str(path), "draw": "replay"},
        "stop": {"updates": TASKS * (WORKERS if policy == "async" else 1)},
        "trace": {"progress_s": 0.25},
    }
    return pdcode.simulate(
        job, workers=WORKERS, set={**POLICIES[policy], **settings}, output=folder / "run.h5", progress=False
    )


def by_rule(trace: pdcode.Trace, level: Callable[[np.ndarray], float]) -> set[int | str]:
    """Return the workers whose times exceed the median of the others', by some level of each worker's."""
    rows = trace.arrivals
    times = rows["t_send_ns"] - rows["t_start_ns"]
    levels = np.array([level(times[rows["worker"] == worker]) for worker in range(trace.worker_count)])
    return {
        worker
        for worker, own in enumerate(levels.tolist())
        if own > FACTOR * np.median(np.delete(levels, worker))
    }


RULES: dict[str, Callable[[np.ndarray], float]] = {
    f"median over {FACTOR}×": lambda times: float(np.median(times)),
    f"mean over {FACTOR}×": lambda times: float(np.mean(times)),
}


def named(trace: pdcode.Trace) -> tuple[set[int | str], float]:
    """Return what pdcode's diagnosis begins with, and the fraction of the time that this costs."""
    found = trace.diagnose()
    workers = [part.worker for part in found.slow] or found.fast
    return {*([found.bottleneck] if found.bottleneck else workers)}, found.share


def perform(
    chosen: Sequence[str], seeds: int
) -> tuple[dict[str, dict[str, list[bool]]], dict[str, list[float]]]:
    """Run all cases; return whether each detector was right, by kind, and the errors of costs, by kind."""
    right: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    errors: dict[str, list[float]] = defaultdict(list)
    drawn = [
        (policy, case)
        for seed in range(seeds)
        for number, policy in enumerate(POLICIES)
        for case in cases(np.random.default_rng([seed, number]))
        if not chosen or case.kind in chosen
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for policy, case in track(drawn, len(drawn), "cases"):
            trace = simulate(folder, case.delays_s, policy, case.settings)
            said, share = named(trace)
            right[case.kind]["pdcode"].append(said == {*case.truth})
            for rule, level in RULES.items():
                right[case.kind][rule].append(by_rule(trace, level) == {*case.truth})
            if said == {*case.truth} and np.isfinite(share):  # not of equal workers, or of classes
                took_s = trace.summary()["seconds"]
                clean_s = case.delays_s if case.clean_s is None else case.clean_s
                free = simulate(folder, clean_s, policy, case.clean)
                errors[case.kind].append(share - max(0.0, 1 - free.summary()["seconds"] / took_s))
    return right, errors


def table(right: Mapping[str, Mapping[str, list[bool]]], errors: Mapping[str, list[float]]) -> Table:
    """Return how often each detector was right, and the mean error of the costs."""
    names = ["pdcode", *RULES]
    made = printing.make_table("cases", "number", *names, "cost off by", left=("cases",))
    for kind, by_name in right.items():
        found = [f"{percent(sum(by_name[name]), len(by_name[name]))} %" for name in names]
        off = f"{100 * np.mean(np.abs(errors[kind])):.1f} points" if errors[kind] else ""
        made.add_row(kind, str(len(by_name["pdcode"])), *found, off)
    return made


def parser() -> arguments.Parser:
    """Return the parser of the program's options."""
    made = arguments.Parser(
        prog="python -m benchmarks detectors",
        description="Runs on the virtual clock whose causes are known, and which detector of slow workers "
        "finds them. Exit codes: 0 done, 2 bad input.",
    )
    made.add_argument("--seeds", type=int, default=3, help="draws of each case (default: %(default)s)")
    made.add_argument("--kinds", default="", help="kinds of cases, separated by commas (default: all)")
    made.set_defaults(function=run, alone="benchmarks detectors")
    return made


def run(options: argparse.Namespace) -> int:
    """Run the cases that the options choose, and print the table."""
    chosen = [each for each in options.kinds.split(",") if each]
    known = {case.kind for case in cases(np.random.default_rng(0))}
    if unknown := [each for each in chosen if each not in known]:
        raise InputError(f"--kinds: {expected(unknown[0], sorted(known))}")
    if options.seeds < 1:
        raise InputError(f"--seeds: expected an integer >= 1 (got {options.seeds})")
    right, errors = perform(chosen, options.seeds)
    printing.show([("Right, by detector", [table(right, errors)])])
    return 0
