"""Diagnosis of a run: what costs time, which workers are slow, and why."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from ..trace.reader import TraceReader
from ..util import html
from ..util.formats import counted, duration, percent, ratio, workers_named
from . import description, timing, verdict
from .account import OUTSIDE, account
from .groups import grouped, host_of, hosts_of
from .slowness import JUDGED, LEAST, SlowPart, Tasks, find_fast, find_slow, relative, tasks_of

TASKS = 20  # tasks of a worker before long ones are noise
MOST = 0.5  # fraction of the tasks' time that a bottleneck takes
FAINT = 1e-9  # smaller probabilities are not told apart
SHOWN = 3  # workers that are described


@dataclass(frozen=True)
class Cause:
    """What costs time in a run, and how much.

    Attributes
    ----------
    name : str
        ``"workers"`` (the slow ones, or a slower class), ``"stalls"`` (of a worker), ``"rank 0"``,
        ``"the link"``, ``"the reduction"``, ``"the policy"`` (updates wait for uneven tasks),
        ``"loading"``, ``"between steps"`` (of scripts), ``"the start"``, ``"evaluation"`` or
        ``"checkpoint"``.
    statement : str
        What is seen of it.
    share, low, high : float
        Fraction of the time to the target, or of the run's, that it costs, with a 90 % interval: of a run
        without it, under other draws of the recorded delays.
    workers : tuple of int
        The workers whose it is; empty: all share it.
    """

    name: str
    statement: str
    share: float
    low: float
    high: float
    workers: tuple[int, ...] = ()


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """Who is slow in a run, why, what that costs, and what to try.

    Attributes
    ----------
    verdict, why, cost, next : str
        A line each; empty where there is nothing to say.
    slow : list of SlowPart
        The slow workers, each in the part of the run that costs the most time, the worst first.
    ratios : ndarray of float64, shape (n,)
        Task time of each worker over the others' task time, by all of its tasks; nan if it is not known.
    missing : str
        What is missing for a verdict; empty if nothing is.
    bottleneck : str
        ``"rank 0"``, ``"the link"`` or ``"the reduction"``, if that costs more than slow workers; or empty.
    share : float
        Fraction of the time to the target, or of the run's, that the slow workers or the bottleneck cost; nan
        if it is not known. By it the verdict is critical, a warning, or neither; neither, too, where no
        worker is slow and updates wait for tasks that vary.
    statements : tuple of str
        What the verdict says, the first of the slow workers or the bottleneck.
    fast : list of int
        If no worker is slow, a class of workers that are faster than most.
    causes : tuple of Cause
        What was priced, the most costly cause first.
    stalled : sequence of int
        If no worker is slow, the one with the longest outage.
    """

    verdict: str
    why: str
    cost: str = ""
    next: str = ""
    slow: Sequence[SlowPart] = ()
    ratios: np.ndarray = field(default_factory=lambda: np.empty(0))
    missing: str = ""
    bottleneck: str = ""
    share: float = math.nan
    statements: tuple[str, ...] = ()
    fast: Sequence[int] = ()
    causes: tuple[Cause, ...] = ()
    stalled: Sequence[int] = ()

    def costing(self, cause: Cause, of: str, cost: str, instead: str = "") -> Self:
        """Return the diagnosis with what its cause costs of some time, and what another policy would do."""
        _, *rest = self.statements
        statements, share = (verdict.priced(cause, of), instead, *rest), cause.share
        if cause.name == "the policy" and rest[0].startswith("no worker is slow"):  # nothing is wrong
            statements, share = (*rest, statements[0]), 0.0
        worded = verdict.worded(*statements, share=share)
        return replace(self, verdict=worded, cost=cost, share=cause.share, statements=statements)

    def lines(self) -> list[tuple[str, str]]:
        """Return the lines with their names."""
        named = (("verdict", self.verdict), ("why", self.why), ("cost", self.cost), ("next", self.next))
        return [(name, text) for name, text in named if text]

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {text}" for name, text in self.lines())

    def _repr_html_(self) -> str:
        """Return the lines as a list, for notebooks."""
        return html.named("", dict(self.lines()))


def diagnose(trace: TraceReader) -> Diagnosis:
    """Diagnose a run by its measured loss and its recorded times; the costs need simulations."""
    return after_descent(trace, diagnose_times(trace))


def after_descent(trace: TraceReader, found: Diagnosis) -> Diagnosis:
    """Return a diagnosis of the workers after what is wrong with the measured loss, if anything is.

    Of a run that has diverged nothing else is said: its times lead nowhere.
    """
    wrong = trace.descent
    if not wrong:
        return found
    if wrong.diverged:
        cause, _, cure = wrong.cause.partition("; try ")
        return replace(found, verdict=wrong.what, why=cause, cost="", next=cure)
    why = "; ".join(filter(None, (wrong.cause, found.why)))
    return replace(found, verdict=f"warning: {wrong.what}; {found.verdict}", why=why)


def diagnose_times(trace: TraceReader) -> Diagnosis:
    """Diagnose the workers of a run by its recorded times."""
    if not trace.arrivals.rows:
        return _insufficient("no arrival is recorded", np.full(trace.worker_count, np.nan))
    tasks = tasks_of(trace)
    slow, ratios = find_slow(tasks, hosts_of(trace))
    gone = np.unique(trace.faults["worker"][trace.faults["kind"] == "dead"])
    lost = f"{workers_named(gone)} died" if len(gone) else ""
    noun = "task" if trace.sample == 1 else "recorded task"
    told = [*gone, *(each.worker for each in slow)]
    if trace.is_script:  # a manager has no tasks
        told += [worker for worker, each in enumerate(tasks) if not len(each.number)]
    early = _too_early(tasks, ratios, told, noun, description.stop_ns(trace))
    if slow:
        everyone, waits = verdict.waiting(trace, len(slow) > 1)
        listed = _listed([*map(str, grouped(trace, slow))])
        statements = "; ".join(filter(None, (listed, waits))), lost, early
        # Where all wait, no more than the excess can be saved; else nothing is known without a simulation.
        most = slow[0].excess_ns / max(description.stop_ns(trace), 1) if everyone else math.nan
        return Diagnosis(
            verdict.worded(*statements, share=most), _why(trace, slow, noun),
            slow=slow, ratios=ratios, statements=statements,
        )  # fmt: skip
    pace = timing.pace_of(trace)
    outages = timing.outages(trace, pace, description.stop_ns(trace))
    if outages:
        worst = outages[0]
        same = [each for each in outages if each.worker == worst.worker]
        statement = _stalled(same, pace)
        why = f"it or its link was stalled after {duration(worst.begin_ns)}; no delay was injected that long"
        return Diagnosis(
            verdict.worded(statement, lost, early), why,
            ratios=ratios, statements=(statement, lost, early), stalled=(worst.worker,),
        )  # fmt: skip
    if lost:
        return Diagnosis(verdict.worded(lost, early), "see the faults", ratios=ratios)
    known = np.flatnonzero(np.isfinite(ratios))
    counts = [len(each.number) for each in tasks]
    if len(known) < 2:
        few = f"{counted(max(counts), noun)} of a worker at most, of the {JUDGED} that a verdict needs"
        if max(counts) >= JUDGED:
            few = "there is no other worker to compare with"
        return _insufficient(few, ratios)
    for narrow in bottlenecks(trace, MOST, early or "no worker is slow"):
        return replace(narrow, ratios=ratios)
    if early:
        return Diagnosis(f"{early}; no other worker is slow", "", ratios=ratios)
    unjudged = [number for number, count in enumerate(counts) if count < JUDGED]
    worst_worker, text = int(known[np.argmax(ratios[known])]), "none takes longer than the others"
    if (longest := ratios[worst_worker]) > 1:
        text = f"the slowest, {worst_worker}, takes {ratio(longest)} the others' time"
    why = f"not judged: {workers_named(unjudged)}, with fewer than {JUDGED} {noun}s" if unjudged else ""
    if fast := find_fast(tasks, ratios):
        text = _classes(trace, ratios, fast)
        statement = "; ".join(filter(None, (text, verdict.waiting(trace, True)[1])))
        return Diagnosis(f"no worker is slow: {text}", why, ratios=ratios, fast=fast, statements=(statement,))
    return Diagnosis(
        f"no worker is slow{' beyond noise' if longest >= 1 + LEAST else ''}: {text}", why, ratios=ratios
    )


def _classes(trace: TraceReader, ratios: np.ndarray, fast: Sequence[int]) -> str:
    """Describe two classes of workers, whose faster one is given."""
    slower = np.delete(np.arange(len(ratios)), fast)
    rest = ratios[slower]
    factor = verdict.times(math.exp(float(np.nanmedian(np.log(rest)) - np.log(ratios[fast]).mean())))
    who, than = (
        f"all workers of {host}" if (host := host_of(trace, each)) else workers_named(each)
        for each in (slower.tolist(), fast)
    )
    return f"two classes of workers: {who} are {factor} as slow as {than}"


def _stalled(outages: Sequence[timing.Outage], pace: timing.Pace) -> str:
    """Describe the outages of one worker, the longest first."""
    worst, times_ns = outages[0], np.array([each.length_ns for each in outages])
    usual = ratio(float(np.median(times_ns)) / max(pace.usual(worst.worker), 1.0))
    if outages[1:]:
        return (
            f"worker {worst.worker} is slow again and again: {len(outages)} of its tasks took "
            f"{duration(times_ns.min())} to {duration(times_ns.max())}, {usual} the usual time"
        )
    took = "took" if worst.ended else "has taken"
    long = f"its task {worst.task:,} {took} {duration(worst.length_ns)}"
    return f"worker {worst.worker} is slow once: {long}, {usual} the usual time"


def _too_early(
    tasks: Sequence[Tasks], ratios: np.ndarray, told: Sequence[int], noun: str, stop_ns: float
) -> str:
    """Describe the workers whose few tasks are long, or have not come yet, but not the workers in `told`.

    The factor so far is the larger one of two: by the times of their tasks, and by the number of tasks until
    the stop, in which the task under way does not count.
    """
    counts, texts = np.array([len(each.number) for each in tasks]), []
    each_ns = np.array(
        [(stop_ns - each.begin[0]) / len(each.number) if len(each.number) else np.nan for each in tasks]
    )
    for worker, own in enumerate(counts.tolist()):
        usual = int(np.median(np.delete(counts, worker))) if len(counts) > 1 else 0
        if worker in told or usual < JUDGED:
            continue
        so_far = float(ratios[worker])
        if 0 < own < JUDGED:
            values = relative(tasks, worker, np.arange(own + 1))
            so_far = math.exp(float(np.median(values))) if len(values) else math.nan
            so_far = float(np.fmax(so_far, each_ns[worker] / np.nanmedian(np.delete(each_ns, worker))))
        if own == 0 or (own < TASKS and so_far >= timing.SLOW):
            done = f"{counted(own, noun)} where others did {usual:,}"
            pace = f"; so far {verdict.times(so_far)} as slow" if own else ""
            texts.append(f"too early to judge worker {worker}: {done}{pace}")
    return _listed(texts)


def _listed(texts: Sequence[str]) -> str:
    """Join statements on single workers, of many the first ones."""
    more = len(texts) - SHOWN
    return "; ".join(
        [*texts[:SHOWN], *([f"{more} more {'are' if more > 1 else 'is'} so, too"] if more > 0 else [])]
    )


PLACES = {
    "rank 0": {
        "while it is busy with others": "queue", "while it decodes their own": "decode",
        "while it steps": "step", "while it sends others": "dispatch",
    },
    "the link": {"on the way to the workers": "link down", "on the way back": "link up"},
    "the reduction": {"from the last payload that is ready to the sum": "link up"},
}  # fmt: skip
"""Parts of the account, of each bottleneck that all workers share, and what happens there."""


def bottlenecks(trace: TraceReader, least: float, others: str) -> Iterator[Diagnosis]:
    """Yield the diagnosis that rank 0, its link or the reduction is the bottleneck, for each that may be.

    Tasks are there for the fraction `least` of the time or more; `others` is a statement on workers.
    """
    spent = account(trace)
    if spent is None:
        return
    of_tasks = {name: time for name, time in spent.by_part.items() if name not in OUTSIDE}
    parts = {name: time / sum(of_tasks.values()) for name, time in of_tasks.items()}
    by_workers = (trace.is_script and not trace.is_unordered) or trace.summed.any()
    for where in ("the reduction",) if by_workers else ("rank 0", "the link"):
        own = {what: parts.get(name, 0.0) for what, name in PLACES[where].items()}
        share = sum(own.values())
        if share < least:
            continue
        statements = (
            f"{where} is the bottleneck, where tasks are for {percent(share, 1)} % of the time",
            others,
        )
        yield Diagnosis(
            verdict.worded(*statements, share=share),
            ", ".join(f"{percent(each, 1)} % {what}" for what, each in own.items() if each >= 0.001),
            bottleneck=where,
            statements=statements,
        )


def _insufficient(missing: str, ratios: np.ndarray) -> Diagnosis:
    return Diagnosis("insufficient evidence", missing, ratios=ratios, missing=missing)


def _why(trace: TraceReader, slow: Sequence[SlowPart], noun: str) -> str:
    """Describe the evidence about the slowest worker, the first, of tasks that are called `noun`."""
    worst, several = slow[0], grouped(trace, slow)[0].parts[1:]
    shares = [f"{percent(share, 1)} % {name}" for name, share in worst.causes.items() if share >= 0.01]
    whose = f"the tasks of worker {worst.worker}" if several else "its tasks"
    text = ", ".join((f"{whose} took {duration(worst.excess_ns)} longer than the others'", *shares))
    text += "" if worst.cause else "; insufficient evidence of one cause"
    needed = counted(worst.needed, noun)
    if worst.chance < FAINT:
        text += f"; certain after {needed}"
    else:
        text += f"; found after {needed}, by chance in {percent(worst.chance, 1)} % of runs without any"
    hosts = hosts_of(trace)
    return f"{text}; it runs on {hosts[worst.worker]}" if hosts and not several else text
