"""`python -m benchmarks detectors`: which detector of slow workers finds causes that are known.

Each case is a run on the virtual clock with a cause that was put in, or with none, under delays that are
drawn for it. `Trace.diagnose` and the rules of other tools (`rules`) say what costs time. The cost by
pdcode is compared with the time of the same run without the cause, and its interval with the times of such
runs under other draws of all delays.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import ndtr

import pdcode
from pdcode.analysis import printing
from pdcode.analysis.diagnosis import Cause
from pdcode.analysis.verdict import WARNING
from pdcode.cli import arguments
from pdcode.util.errors import InputError, expected
from pdcode.util.formats import percent
from pdcode.util.progress import track

from .rules import RULES, Rule

if TYPE_CHECKING:
    from rich.table import Table

WORKERS, TASKS = 8, 120
TASK_S, DELAY_S = 0.008, 0.004  # computing, and the usual delay
POLICIES: dict[str, dict[str, Any]] = {
    "all": {"update.mode": "all"},
    "first": {"update.mode": "first", "update.count": 6},
    "async": {"update.mode": "async"},
}
NOISES = "quiet", "lognormal", "exponential", "pareto", "common", "periodic"
OTHERS = 3  # draws of the delays of a run without the cause, for the intervals of costs
PERSISTENCE = 0.5, 0.8, 0.9, 0.95  # correlation of equal workers' times from task to task
HEAVY = "equal, persistent and heavy-tailed"
BLAMED = "workers", "rank 0", "the link", "the reduction"  # the policy and pauses are nobody's fault


class Case(NamedTuple):
    """A run and what is to be found in it: workers, or "rank 0" or "the link"; nothing of equal workers."""

    kind: str
    delays_s: np.ndarray  # (workers, tasks)
    truth: tuple[int | str, ...] = ()
    settings: Mapping[str, Any] = {}
    clean_s: np.ndarray | None = None  # the delays without the cause
    clean: Mapping[str, Any] = {}  # settings without the cause


Drawn = Callable[[np.random.Generator, Mapping[str, Any]], Case]


def noise(kind: str, random: np.random.Generator, rho: float = 0.0) -> np.ndarray:
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
    if kind == "pareto, persistent":
        return DELAY_S * (ndtr(-steps) ** (-1 / 1.8) - 1)
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
        yield Case("equal, persistent", noise("lognormal, persistent", random, rho))
        yield Case(HEAVY, noise("pareto, persistent", random, rho))
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


def by_rule(trace: pdcode.Trace, rule: Rule) -> set[int | str]:
    """Return the workers that a rule names."""
    rows = trace.arrivals
    order = np.argsort(rows["task"], kind="stable")
    worker, times = rows["worker"][order], (rows["t_send_ns"] - rows["t_start_ns"])[order]
    return {*rule([times[worker == each].astype(float) for each in range(trace.worker_count)])}


def named(trace: pdcode.Trace) -> tuple[set[int | str], Cause | None]:
    """Return the workers or the bottleneck that pdcode names first, and what they cost, if that is known."""
    found = trace.diagnose()
    causes = {each.name: each for each in found.causes if each.name in BLAMED}
    worth = [name for name, each in causes.items() if each.share >= WARNING]
    first = worth[0] if worth else "workers" if found.slow else found.bottleneck
    workers = [part.worker for part in found.slow] or found.fast
    return {first} if first and first != "workers" else {*workers}, causes.get(first)


@dataclass
class Tally:
    """What was found in the cases of a kind.

    Attributes
    ----------
    right : dict
        Whether each detector named the cause exactly, by case.
    errors : list of float
        Errors of the costs, in fractions of the time.
    covered : list of bool
        Whether the costs' intervals cover the cost under another draw, of `OTHERS` for each cost.
    """

    right: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    errors: list[float] = field(default_factory=list)
    covered: list[bool] = field(default_factory=list)


def perform(chosen: Sequence[str], seeds: Sequence[int]) -> dict[str, Tally]:
    """Run all cases; return what was found, by kind."""
    found: dict[str, Tally] = defaultdict(Tally)
    drawn = [
        (policy, *alike)
        for seed in seeds
        for number, policy in enumerate(POLICIES)
        for alike in zip(
            *(cases(np.random.default_rng([seed, number, draw])) for draw in range(1 + OTHERS)), strict=True
        )
        if not chosen or alike[0].kind in chosen
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for policy, case, *others in track(drawn, len(drawn), "cases"):
            trace, tally = simulate(folder, case.delays_s, policy, case.settings), found[case.kind]
            said, cause = named(trace)
            tally.right["pdcode"].append(said == {*case.truth})
            for rule, function in RULES.items():
                tally.right[rule].append(by_rule(trace, function) == {*case.truth})
            if cause and tally.right["pdcode"][-1]:  # no cause of equal workers
                took_s = trace.summary()["seconds"]
                own, *under = (
                    max(0.0, 1 - simulate_clean(folder, each, policy) / took_s) for each in (case, *others)
                )
                tally.errors.append(cause.share - own)
                tally.covered += [cause.low <= each <= cause.high for each in under]
    return found


def simulate_clean(folder: Path, case: Case, policy: str) -> float:
    """Return the time in s of a case without its cause."""
    delays_s = case.delays_s if case.clean_s is None else case.clean_s
    seconds: float = simulate(folder, delays_s, policy, case.clean).summary()["seconds"]
    return seconds


def table(found: Mapping[str, Tally]) -> Table:
    """Return how often each detector was right, in percent, and how good the costs were."""
    names = ["pdcode", *RULES]
    columns = "cases", "number", *names, "cost off by, points", "covered, %"
    made = printing.make_table(*columns, left=("cases",), fold=False)
    for kind, tally in found.items():
        number = len(tally.right["pdcode"])
        right = [percent(sum(tally.right[name]), number) for name in names]
        off = f"{100 * np.mean(np.abs(tally.errors)):.1f}" if tally.errors else ""
        covered = percent(sum(tally.covered), len(tally.covered)) if tally.covered else ""
        made.add_row(kind, str(number), *right, off, covered)
    return made


def parser() -> arguments.Parser:
    """Return the parser of the program's options."""
    made = arguments.Parser(
        prog="python -m benchmarks detectors",
        description="Runs on the virtual clock whose causes are known, and which detector of slow workers "
        "finds them. Exit codes: 0 done, 2 bad input.",
    )
    made.add_argument("--seeds", type=int, default=3, help="draws of each case (default: %(default)s)")
    made.add_argument("--first-seed", type=int, default=0, help="seed of the first draw (default: 0)")
    made.add_argument("--kinds", default="", help="kinds of cases, separated by semicolons (default: all)")
    made.set_defaults(function=run, alone="benchmarks detectors")
    return made


def run(options: argparse.Namespace) -> int:
    """Run the cases that the options choose, and print the table."""
    chosen = [each.strip() for each in options.kinds.split(";") if each.strip()]
    known = {case.kind for case in cases(np.random.default_rng(0))}
    if unknown := [each for each in chosen if each not in known]:
        raise InputError(f"--kinds: {expected(unknown[0], sorted(known))}")
    for name, least in (("seeds", 1), ("first_seed", 0)):
        if (value := getattr(options, name)) < least:
            raise InputError(f"--{name.replace('_', '-')}: expected an integer >= {least} (got {value})")
    found = perform(chosen, range(options.first_seed, options.first_seed + options.seeds))
    printing.show([("Right, % of the cases, by detector", [table(found)])])
    return 0
