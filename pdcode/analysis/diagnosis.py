"""Diagnosis of a run: which workers are slow, since when, by how much, and whether by computing or by links.

A worker's task time is relative to the others' time at the same time: the median over them of the mean
logarithm of the times of tasks that begin then. A worker is slow in a part of the run in which its
relative time is at least `LEAST` above 1, and more than noise explains.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import NormalDist
from typing import Self

import numpy as np

from ..trace.reader import TraceReader
from ..trace.schema import DRAINED
from ..util import html
from ..util.formats import counted, duration, number, percent, ratio, span, workers_named
from . import changes, description, lateness, timing, verdict
from .account import OUTSIDE, account

LEAST = 0.1  # excess of a slow worker over the others' time, as a fraction of it
JUDGED, TASKS = 8, 20  # tasks of a worker, at least, before it is judged, and before long ones are noise
MOST = 0.5  # fraction of the tasks' time that a bottleneck takes
COVERAGE = 0.8  # fraction of the excess that a cause must explain
CHANCE = 1e-3  # probability of a wrong verdict in a run, by noise alone
GROUPS = 256  # groups of consecutive tasks, at most, in which changes are sought
AVERAGED = 8  # tasks of another worker, at least, whose mean time is taken
REFERENCES = 64  # workers, at most, with which one is compared
CHRONIC = 0.8  # fraction of its tasks in which a chronically slow worker is slow
CLASS = 0.3  # excess of the other workers' time, as a fraction, of a class of faster ones
FEW = 6  # workers, at most, each of whom is judged by the noise of the others among themselves
APART = 3.0  # deviations within a class of workers by which two classes are apart, at least
FAINT = 1e-9  # smaller probabilities are not told apart
SHOWN = 3  # workers that are described
CAUSES = "computing", "injected delay", "sending", "link"


@dataclass(frozen=True)
class Tasks:
    """Tasks of a worker in the order of their start: arrays of shape (m,), times in ns."""

    number: np.ndarray
    begin: np.ndarray  # when rank 0 began to wait for it
    end: np.ndarray
    compute: np.ndarray
    delay: np.ndarray  # injected
    send: np.ndarray  # from then until the payload is sent
    link: np.ndarray  # between rank 0 and the worker, both ways, without the time for which rank 0 is busy

    @property
    def parts(self) -> np.ndarray:
        """Times by `CAUSES`, shape (4, m)."""
        return np.stack((self.compute, self.delay, self.send, self.link))

    @property
    def total(self) -> np.ndarray:
        """Duration without waiting for other workers."""
        return np.maximum(self.parts.sum(axis=0), 1.0)

    @cached_property
    def logs(self) -> np.ndarray:
        """Sums of the logarithms of `total` up to each task, shape (m + 1,)."""
        return np.concatenate(([0.0], np.cumsum(np.log(self.total))))


@dataclass(frozen=True)
class SlowPart:
    """A part of the run in which a worker is slow.

    Attributes
    ----------
    worker : int
    ratio, low, high : float
        Task time over the others' task time, with a 95 % interval.
    first, last : int
        Numbers of its first and last task.
    begin_ns, end_ns : int
    pattern : str
        "chronic", "onset" (until the end), "spell", or "sometimes".
    chance : float
        Probability that noise alone looks like this.
    needed : int
        Tasks after which the evidence sufficed.
    causes : dict of str to float
        Fraction of the excess by `CAUSES`.
    excess_ns : float
        Time beyond the others' in all of its tasks.
    share : float
        Of pattern "sometimes", the fraction of its tasks that are late, whose mean `ratio` is.
    period : int
        Tasks from one time to the next if they come regularly; else 0.
    """

    worker: int
    ratio: float
    low: float
    high: float
    first: int
    last: int
    begin_ns: int
    end_ns: int
    pattern: str
    chance: float
    needed: int
    causes: Mapping[str, float]
    excess_ns: float
    share: float = 1.0
    period: int = 0

    @property
    def cause(self) -> str:
        """The cause that explains at least `COVERAGE` of the excess; empty if none does."""
        best = max(self.causes, key=self.causes.__getitem__)
        return best if self.causes[best] >= COVERAGE else ""

    def when(self) -> str:
        """Describe the part of the run."""
        if self.pattern == "chronic":
            return "from the start"
        since = f"since its task {self.first:,} (after {duration(self.begin_ns)})"
        if self.pattern == "onset":
            return since
        until = f"{duration(self.begin_ns)} to {duration(self.end_ns)}"
        return f"for a spell of tasks {self.first:,} to {self.last:,} ({until})"

    def __str__(self) -> str:
        interval = span(number(self.low, 3), number(self.high, 3))
        if self.pattern == "sometimes":
            often = f"{percent(self.share, 1)} % of its tasks take"
            if self.period:
                often = f"regularly one task of {self.period} takes"
            takes = f"{verdict.times(self.ratio)} the usual time ({interval})"
            return f"worker {self.worker} is slow sometimes: {often} {takes}"
        slow = f"{verdict.times(self.ratio)} as slow as the others ({interval})"
        return f"worker {self.worker} is {slow} {self.when()}"


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
        if it is not known. By it the verdict is critical, a warning, or neither.
    statements : tuple of str
        What the verdict says, the first of the slow workers or the bottleneck.
    fast : list of int
        If no worker is slow, a class of workers that are faster than most.
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

    def costing(self, share: float, of: str, cost: str, after: str, instead: str = "") -> Self:
        """Return the diagnosis with a cost, as a fraction of some time, and what another policy would do."""
        first, *rest = self.statements
        many = len(self.slow) > 1 and not self.bottleneck
        statements = verdict.priced(first, share, of, many), instead, *rest
        priced = verdict.worded(*statements, share=share)
        return replace(self, verdict=priced, cost=cost, next=after, share=share, statements=statements)

    def lines(self) -> list[tuple[str, str]]:
        """Return the lines with their names."""
        named = (("verdict", self.verdict), ("why", self.why), ("cost", self.cost), ("next", self.next))
        return [(name, text) for name, text in named if text]

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {text}" for name, text in self.lines())

    def _repr_html_(self) -> str:
        """Return the lines as a list, for notebooks."""
        return html.named("", dict(self.lines()))


def tasks_of(trace: TraceReader) -> list[Tasks]:
    """Return the tasks of each worker whose payloads arrived before the stop."""
    arrivals = trace.arrivals
    chosen = arrivals["status"] != DRAINED
    table = {
        key: arrivals[key][chosen] for key in arrivals if key == "worker" or key == "task" or "ns" in key
    }
    rows = list(timing.by_worker(table, trace.worker_count))
    flights_ns = sorted(float(np.median(_flight_ns(table, each))) for each in rows if len(each))
    if trace.sample > 1:  # others' tasks, on which waiting at rank 0 depends, are unknown: at most the usual
        table["queued_ns"] = np.full(int(chosen.sum()), flights_ns[-2] if len(flights_ns) > 1 else 0.0)
    else:
        table["queued_ns"] = timing.queued_ns(table, trace.updates["t_ns"]) + in_turn_ns(table)
    found = [_tasks(table, each, min(flights_ns, default=0.0)) for each in rows]
    summed = trace.summed[chosen]
    return _without_waiting(found, [summed[each] for each in rows], trace.sample) if summed.any() else found


def in_turn_ns(arrivals: timing.Columns) -> np.ndarray:
    """Return the time for which each task waited while rank 0 sent earlier ones to other workers.

    It is the number of earlier tasks that have not begun at its dispatch times the usual time of one: the
    median slope between numbers of them, so that a slow link of single workers has no influence.
    """
    dispatched, started = arrivals["t_dispatch_ns"], arrivals["t_start_ns"]
    earlier = np.empty(len(dispatched), np.int64)
    earlier[np.argsort(dispatched, kind="stable")] = np.arange(len(dispatched))
    earlier = np.maximum(0, earlier - np.searchsorted(np.sort(started), dispatched))
    numbers = np.unique(earlier)
    numbers = numbers[:: math.ceil(len(numbers) / REFERENCES) or 1]
    if len(numbers) < 2:
        return np.zeros(len(dispatched))
    usual = np.array([np.median((started - dispatched)[earlier == number]) for number in numbers])
    first, second = np.triu_indices(len(numbers), 1)
    slopes = (usual[second] - usual[first]) / (numbers[second] - numbers[first])
    return earlier * max(0.0, float(np.median(slopes)))


def _flight_ns(table: timing.Columns, rows: np.ndarray) -> np.ndarray:
    """Return the time of one worker's tasks and payloads between rank 0 and it; offsets of clocks cancel."""
    start, send, recv = (table[f"t_{name}_ns"][rows] for name in ("start", "send", "recv"))
    return np.maximum(start - timing.task_begins(table, rows) + recv - send, 0)


def _tasks(table: timing.Columns, rows: np.ndarray, least_ns: float) -> Tasks:
    """Return the tasks with these rows; waiting at rank 0 makes no flight shorter than `least_ns`."""
    begin = timing.task_begins(table, rows) if len(rows) else np.empty(0, np.int64)
    start, compute, send, recv = (
        table[f"t_{name}_ns"][rows] for name in ("start", "compute", "send", "recv")
    )
    gap = np.maximum(send - compute, 0)
    delay = timing.injected_ns(gap, table["injected_delay_ns"][rows])
    flight = _flight_ns(table, rows) if len(rows) else np.empty(0)
    link = np.maximum(flight - table["queued_ns"][rows], np.minimum(flight, least_ns))
    parts = np.maximum(compute - start, 0), delay, gap - delay, link
    return Tasks(table["task"][rows], begin, recv, *(each.astype(float) for each in parts))


def _without_waiting(found: Sequence[Tasks], summed: Sequence[np.ndarray], sample: int) -> list[Tasks]:
    """Replace the link time of summed payloads by the least of all workers: the others' includes waiting.

    It is the least of a task, or of all tasks if each task of a sample is another worker's.
    """
    steps = [tasks.number if sample == 1 else np.zeros_like(tasks.number) for tasks in found]
    least = np.full(1 + max(int(step.max(initial=0)) for step in steps), math.inf)
    for tasks, step, own in zip(found, steps, summed, strict=True):
        np.minimum.at(least, step[own], tasks.link[own])
    links = [
        np.where(own, least[step], each.link) for each, step, own in zip(found, steps, summed, strict=True)
    ]
    return [replace(each, link=link) for each, link in zip(found, links, strict=True)]


def relative(tasks: Sequence[Tasks], worker: int, edges: np.ndarray) -> np.ndarray:
    """Return the logarithm of a worker's time over the others', of groups of its tasks between `edges`.

    Tasks after the last task of all others are left out.
    """
    own = tasks[worker]
    mine = np.diff(own.logs[edges]) / np.diff(edges)
    begins, ends = own.begin[edges[:-1]], own.end[edges[1:] - 1]
    others = [each for number, each in enumerate(tasks) if number != worker and len(each.end)]
    step = math.ceil(len(others) / REFERENCES)
    means = np.full((len(others[::step]), len(mine)), np.nan)
    for row, each in zip(means, others[::step], strict=True):
        # Tasks that begin in this time: a task that is under way at some time is longer than usual.
        count = len(each.end)
        first = np.minimum(np.searchsorted(each.begin, begins), max(0, count - AVERAGED))
        end = np.minimum(np.maximum(np.searchsorted(each.begin, ends), first + AVERAGED), count)
        there = begins < each.end[-1]  # not after its last task, or its death
        row[there] = ((each.logs[end] - each.logs[first]) / (end - first))[there]
    until = np.isfinite(means).any(axis=0)
    last = int(until.argmin()) if not until.all() else len(mine)
    return mine[:last] - np.nanmedian(means[:, :last], axis=0)


def find_slow(tasks: Sequence[Tasks]) -> tuple[list[SlowPart], np.ndarray]:
    """Find the slow workers, the worst first; return them with the ratios of all."""
    ratios, slow = np.full(len(tasks), np.nan), []
    if len([each for each in tasks if len(each.number)]) < 2:
        return [], ratios
    series = _series(tasks)
    chance, (all_usual, sums) = CHANCE / max(1, len(series)), _usual_noise([*series.values()])
    for worker, (edges, values) in series.items():
        usual = all_usual
        if 2 < len(series) <= FEW:  # a slow worker is among those with whom the others are compared
            others = [*_series([*tasks[:worker], *tasks[worker + 1 :]]).values()]
            usual, sums = map(min, (usual, sums), _usual_noise(others))
        ratios[worker] = math.exp(float(np.median(values)))
        sigma, found = max(usual, changes.noise(values)), []
        for part in changes.segments(values, chance, sigma):
            by_chance = changes.two_sided(max(0.0, part.mean) / part.error)
            if part.level >= math.log1p(LEAST) and by_chance <= chance:
                found.append((part, by_chance))
        if found:
            slow.append(_slow_part(tasks, worker, edges, values, found, sigma, chance))
    if series:
        group = max(float(np.diff(edges).mean()) for edges, _ in series.values())
        apart = 1 + round((sums - 1) * group)
        told = [each.worker for each in slow]
        slow += [_slow_sometimes(tasks, each) for each in lateness.find(tasks, told, apart, CHANCE)]
    return sorted(slow, key=lambda each: -each.excess_ns), ratios


def _series(tasks: Sequence[Tasks]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Return the groups of tasks, by their edges, and `relative`, of each worker with enough tasks."""
    series = dict[int, tuple[np.ndarray, np.ndarray]]()
    if len([each for each in tasks if len(each.number)]) < 2:
        return series
    for worker, each in enumerate(tasks):
        if (count := len(each.number)) >= JUDGED:
            edges = np.linspace(0, count, min(GROUPS, count) + 1).astype(np.int64)
            if len(values := relative(tasks, worker, edges)) >= JUDGED:
                series[worker] = edges, values
    return series


def _usual_noise(series: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Return √m times the deviation of m values' mean, of a usual worker, and `changes.persistence`.

    Of few tasks the noise of a worker is uncertain: it is at least that of a usual one.
    """
    found = [values for _, values in series]
    sums = changes.persistence(found)
    each = [(changes.noise(values), changes.deviation(values, sums)) for values in found]
    return (float(np.median(each, axis=0).max()) if each else 0.0), sums


def find_fast(ratios: np.ndarray) -> list[int]:
    """Find workers that are faster than most, as far as noise does not explain it: a class of their own."""
    found = np.flatnonzero(ratios <= 1 / (1 + CLASS))
    rest = np.delete(ratios, found)
    if not 0 < len(found) < np.isfinite(rest).sum():
        return []
    apart = math.log(float(np.nanmin(rest))) - np.log(ratios[found]).max()
    spread = max((float(np.nanstd(np.log(each))) for each in (rest, ratios[found])), default=0.0)
    return [*found.tolist()] if apart > max(math.log1p(LEAST), APART * spread) else []


def _slow_part(
    tasks: Sequence[Tasks],
    worker: int,
    edges: np.ndarray,
    values: np.ndarray,
    found: Sequence[tuple[changes.Segment, float]],
    sigma: float,
    chance: float,
) -> SlowPart:
    """Describe the part of the run in which a worker loses the most time; adjacent segments are one."""
    own, runs = tasks[worker], [[found[0]]]
    for each in found[1:]:
        if each[0].first == runs[-1][-1][0].end:
            runs[-1].append(each)
        else:
            runs.append([each])
    best = max(runs, key=lambda run: sum((part.end - part.first) * part.level for part, _ in run))
    begin, end = best[0][0].first, best[-1][0].end
    first, last = int(edges[begin]), int(edges[end]) - 1
    level = float(np.median(values[begin:end]))
    error = 1.96 * sigma / math.sqrt(end - begin)
    all_slow = sum(int(edges[part.end] - edges[part.first]) for part, _ in found)
    if all_slow >= CHRONIC * len(own.number) and found[0][0].first <= changes.LEAST:
        pattern = "chronic"
    else:
        pattern = "onset" if len(values) - end <= changes.LEAST else "spell"
    inside = slice(first, last + 1)
    causes, excess = _causes(tasks, worker, inside, level)
    return SlowPart(
        worker, math.exp(level), math.exp(level - error), math.exp(level + error),
        int(own.number[first]), int(own.number[last]), int(own.begin[first]), int(own.end[last]),
        pattern, min(by_chance for _, by_chance in best), _needed(values, begin, end, edges, sigma, chance),
        causes, excess,
    )  # fmt: skip


def _slow_sometimes(tasks: Sequence[Tasks], late: lateness.Late) -> SlowPart:
    """Describe a worker that is late in a part of its tasks."""
    own, places = tasks[late.worker], late.tasks
    others = np.concatenate([each.parts for each in tasks if each is not own], axis=1)
    usual = np.median(others, axis=1)
    excess = np.maximum((own.parts[:, places] - usual[:, None]).sum(axis=1), 0.0)
    mean, error = late.ratios.mean(), 1.96 * late.ratios.std() / math.sqrt(len(places))
    certain = math.ceil(
        math.log(CHANCE) / math.log(len(own.number) / sum(len(each.number) for each in tasks))
    )
    first, last = int(places[0]), int(places[-1])
    return SlowPart(
        late.worker, float(mean), float(mean - error), float(mean + error),
        int(own.number[first]), int(own.number[last]), int(own.begin[first]), int(own.end[last]),
        "sometimes", late.chance, int(places[min(certain, len(places)) - 1]) + 1,
        dict(zip(CAUSES, (excess / (excess.sum() or 1.0)).tolist(), strict=True)), late.excess_ns,
        len(places) / len(own.number), late.period,
    )  # fmt: skip


def _needed(values: np.ndarray, begin: int, end: int, edges: np.ndarray, sigma: float, chance: float) -> int:
    """Return the number of slow tasks after which a test of the tasks so far would have raised the alarm."""
    count = np.arange(1, end - begin + 1)
    level = np.cumsum(values[begin:end]) / count
    scores = level * np.sqrt(count) / sigma
    enough = np.flatnonzero(
        (level >= math.log1p(LEAST))
        & (scores >= -NormalDist().inv_cdf(chance / 2))
        & (count >= min(changes.LEAST, len(count)))
    )
    groups = int(enough[0]) + 1 if len(enough) else end - begin
    return int(edges[begin + groups] - edges[begin])


def _causes(
    tasks: Sequence[Tasks], worker: int, inside: slice, level: float
) -> tuple[dict[str, float], float]:
    """Return the fractions of a worker's excess by cause, and the excess in ns, in a part of its tasks.

    The logarithm by which workers are compared is split: the mean time is mostly due to the longest tasks,
    and may be less for the slow worker, whose excess is then by `level`. Each task's logarithm is divided in
    proportion to its time by cause beyond a usual task's: log T/U = Σ (T_c - U_c) log(T/U) / (T - U).
    """
    own = tasks[worker]
    begin, end = own.begin[inside][0], own.end[inside][-1]
    others, means = [], []
    for each in (each for each in tasks if each is not own and len(each.number)):
        window = (each.end >= begin) & (each.begin <= end)
        chosen = window if window.any() else np.ones_like(window)
        total, parts = each.total[chosen], each.parts[:, chosen]
        others.append(np.exp(np.log(total).mean()) * (parts / total).mean(axis=1))
        means.append(total.mean())
    usual = np.median(others, axis=0)
    total = own.total[inside]
    times = total / max(usual.sum(), 1.0)
    weights = np.divide(np.log(times), times - 1, out=np.ones_like(times), where=times != 1)
    excess = np.maximum(((own.parts[:, inside] - usual[:, None]) * weights).sum(axis=1), 0.0)
    beyond_ns = max(0.0, total.mean() - float(np.median(means))) or total.mean() * -math.expm1(-level)
    shares = dict(zip(CAUSES, (excess / (excess.sum() or 1.0)).tolist(), strict=True))
    first, last = own.number[inside][[0, -1]].tolist()
    return shares, float(beyond_ns) * max(len(total), last - first + 1)  # of a sample, of all tasks


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
    slow, ratios = find_slow(tasks)
    gone = np.unique(trace.faults["worker"][trace.faults["kind"] == "dead"])
    lost = f"{workers_named(gone)} died" if len(gone) else ""
    noun = "task" if trace.sample == 1 else "recorded task"
    told = [*gone, *(each.worker for each in slow)]
    early = _too_early(tasks, ratios, told, noun, description.stop_ns(trace))
    if slow:
        everyone, waits = verdict.waiting(trace, len(slow) > 1)
        statements = "; ".join(filter(None, (_listed([*map(str, slow)]), waits))), lost, early
        # Where all wait, no more than the excess can be saved; else nothing is known without a simulation.
        most = slow[0].excess_ns / max(description.stop_ns(trace), 1) if everyone else math.nan
        return Diagnosis(
            verdict.worded(*statements, share=most), _why(trace, slow[0], noun),
            slow=slow, ratios=ratios, statements=statements,
        )  # fmt: skip
    pace = timing.pace(timing.own_tasks(trace), trace.worker_count)
    outages = timing.outages(trace, pace, description.stop_ns(trace))
    if outages:
        worst = outages[0]
        once = (
            f"worker {worst.worker} is slow once: its task {worst.task:,} "
            f"{'took' if worst.ended else 'has taken'} {duration(worst.length_ns)}, "
            f"{ratio(worst.length_ns / max(pace.usual(worst.worker), 1.0))} the usual time"
        )
        return Diagnosis(
            verdict.worded(once, lost, early),
            f"it or its link was stalled after {duration(worst.begin_ns)}; no delay was injected that long",
            ratios=ratios,
        )
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
    if fast := find_fast(ratios):
        rest = np.delete(ratios, fast)
        factor = verdict.times(math.exp(float(np.nanmedian(np.log(rest)) - np.log(ratios[fast]).mean())))
        text = f"two classes of workers: {workers_named(fast)} {'are' if fast[1:] else 'is'} {factor} as fast"
        text += " as the others"
    return Diagnosis(
        f"no worker is slow{' beyond noise' if longest >= 1 + LEAST else ''}: {text}",
        f"not judged: {workers_named(unjudged)}, with fewer than {JUDGED} {noun}s" if unjudged else "",
        ratios=ratios, fast=fast,
    )  # fmt: skip


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
    by_workers = trace.is_script or trace.summed.any()
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


def _why(trace: TraceReader, worst: SlowPart, noun: str) -> str:
    """Describe the evidence about the slowest worker, of tasks that are called `noun`."""
    shares = [f"{percent(share, 1)} % {name}" for name, share in worst.causes.items() if share >= 0.01]
    text = ", ".join((f"its tasks took {duration(worst.excess_ns)} longer than the others'", *shares))
    text += "" if worst.cause else "; insufficient evidence of one cause"
    needed = counted(worst.needed, noun)
    if worst.chance < FAINT:
        text += f"; certain after {needed}"
    else:
        text += f"; found after {needed}, by chance in {percent(worst.chance, 1)} % of runs without any"
    hosts = [str(host) for host in trace.workers["host"]] if trace.workers.rows else []
    if len(set(hosts)) > 1 and len(hosts) >= trace.worker_count:
        text += f"; it runs on {hosts[worst.worker - trace.worker_count]}"
    return text
