"""Slow workers by their task times: which are slow, since when, by how much, and by which part of a task.

A worker's task time is relative to the others' time at the same time: the median over them of the mean
logarithm of the times of tasks that begin then. A worker is slow in a part of the run in which its
relative time is at least `LEAST` above 1, and more than noise explains.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist

import numpy as np

from ..trace.reader import TraceReader
from ..trace.schema import DRAINED
from ..util.formats import duration, number, percent, span
from . import changes, lateness, timing, verdict
from .account import first_tasks
from .timing import PHASES

LEAST = 0.1  # excess of a slow worker over the others' time, as a fraction of it
JUDGED = 8  # tasks of a worker, at least, before it is judged
COVERAGE = 0.8  # fraction of the excess that a cause must explain
CHANCE = 1e-3  # probability of a wrong verdict in a run, by noise alone
GROUPS = 256  # groups of consecutive tasks, at most, in which changes are sought
AVERAGED = 8  # tasks of another worker, at least, whose mean time is taken
QUIETER = 0.5  # noise by others' single tasks, over the noise by means, with which they are taken
REFERENCES = 64  # workers, at most, with which one is compared
CHRONIC = 0.8  # fraction of its tasks in which a chronically slow worker is slow
CLASS = 0.3  # excess of the other workers' time, as a fraction, of a class of faster ones
FEW = 6  # workers, at most, each of whom is judged by the noise of the others among themselves
APART = 3.0  # deviations within a class of workers by which two classes are apart, at least
FAR = 2.0  # multiple of the others' largest relative time from which on no rank is needed
SHARED = 0.4  # part of a slow host's excess that each of its workers has, at least
CAUSES = "computing", "injected delay", "sending", "link"
"""Parts of a task that may be longer than the others'; computing is `PHASES` where these are known."""


_Series = dict[int, tuple[np.ndarray, np.ndarray]]  # by worker: edges of groups of tasks, relative times


@dataclass(frozen=True)
class Tasks:
    """Tasks of a worker in the order of their start: arrays of shape (m,), times in ns."""

    number: np.ndarray
    begin: np.ndarray  # when rank 0 began to wait for it
    end: np.ndarray
    compute: np.ndarray  # shape (4, m) if its phases are known
    delay: np.ndarray  # injected
    send: np.ndarray  # from then until the payload is sent
    link: np.ndarray  # between rank 0 and the worker, both ways, without the time for which rank 0 is busy

    @property
    def parts(self) -> np.ndarray:
        """Times by `causes`, shape (4, m), or (7, m) with phases."""
        return np.concatenate((np.atleast_2d(self.compute), [self.delay, self.send, self.link]))

    @property
    def causes(self) -> Sequence[str]:
        """Names of the parts."""
        return CAUSES if self.compute.ndim == 1 else (*PHASES, *CAUSES[1:])

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
        "chronic", "onset" (until the end), "drift" (ever slower until the end), "spell", or "sometimes".
    chance : float
        Probability that noise alone looks like this.
    needed : int
        Tasks after which the evidence sufficed.
    causes : dict of str to float
        Fraction of the excess by `Tasks.causes`.
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
        """The cause that explains at least `COVERAGE` of the excess; empty if none does.

        It is "computing" if several phases do together.
        """
        together = sum(self.causes.get(phase, 0.0) for phase in PHASES)
        shares = {**self.causes, CAUSES[0]: self.causes.get(CAUSES[0], together)}
        return next((name for name, share in shares.items() if share >= COVERAGE), "")

    def when(self, whose: str = "its") -> str:
        """Describe the part of the run."""
        if self.pattern == "chronic":
            return "from the start"
        since = f"since {whose} task {self.first:,} (after {duration(self.begin_ns)})"
        if self.pattern == "onset":
            return since
        if self.pattern == "drift":
            return f"{since}, and ever slower"
        until = f"{duration(self.begin_ns)} to {duration(self.end_ns)}"
        return f"for a spell of tasks {self.first:,} to {self.last:,} ({until})"

    def __str__(self) -> str:
        return self.said(f"worker {self.worker}")

    def said(self, who: str, many: bool = False) -> str:
        """Describe how slow a worker is, or `many` that are as slow as this one."""
        interval = span(number(self.low, 3), number(self.high, 3))
        are, whose = ("are", "their") if many else ("is", "its")
        if self.pattern == "sometimes":
            often = f"{percent(self.share, 1)} % of {whose} tasks take"
            if self.period:
                often = f"regularly one task of {self.period} takes"
            takes = f"{verdict.times(self.ratio)} the usual time ({interval})"
            return f"{who} {are} slow sometimes: {often} {takes}"
        slow = f"{verdict.times(self.ratio)} as slow as the others ({interval})"
        within = f", in {self.cause}" if self.cause in PHASES else ""
        return f"{who} {are} {slow} {self.when(whose)}{within}"


@timing.once
def tasks_of(trace: TraceReader) -> list[Tasks]:
    """Return the tasks of each worker whose payloads arrived before the stop, without `first_tasks`."""
    arrivals = trace.arrivals
    chosen = (arrivals["status"] != DRAINED) & (arrivals["task"] >= first_tasks(trace)[0])
    table = {
        key: arrivals[key][chosen] for key in arrivals if key == "worker" or key == "task" or "ns" in key
    }
    if (phases := timing.phases_of(trace)) is not None:
        table["phases"] = phases.T[chosen]
    rows = list(timing.by_worker(table, trace.worker_count))
    flights_ns = sorted(float(np.median(_flight_ns(table, each))) for each in rows if len(each))
    if trace.sample > 1:  # others' tasks, on which waiting at rank 0 depends, are unknown: at most the usual
        table["queued_ns"] = np.full(int(chosen.sum()), flights_ns[-2] if len(flights_ns) > 1 else 0.0)
    else:
        table["queued_ns"] = timing.queued_of(trace)[chosen] + in_turn_ns(table)
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
    own = table["phases"][rows].T if "phases" in table else np.maximum(compute - start, 0)
    parts = own, delay, gap - delay, link
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


def relative(tasks: Sequence[Tasks], worker: int, edges: np.ndarray, averaged: int = AVERAGED) -> np.ndarray:
    """Return the logarithm of a worker's time over the others', of groups of its tasks between `edges`.

    Others' times are means of `averaged` tasks at least. Tasks after the others' last one are left out.
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
        first = np.minimum(np.searchsorted(each.begin, begins), max(0, count - averaged))
        end = np.minimum(np.maximum(np.searchsorted(each.begin, ends), first + averaged), count)
        there = begins < each.end[-1]  # not after its last task, or its death
        row[there] = ((each.logs[end] - each.logs[first]) / (end - first))[there]
    until = np.isfinite(means).any(axis=0)
    last = int(until.argmin()) if not until.all() else len(mine)
    return mine[:last] - np.nanmedian(means[:, :last], axis=0)


def find_slow(tasks: Sequence[Tasks], hosts: Sequence[str] = ()) -> tuple[list[SlowPart], np.ndarray]:
    """Find the slow workers, the worst first; return them with the ratios of all.

    With the `hosts` of the workers, all workers of a host are also judged together, by their mean: each of
    them may be slow by less than its own noise.
    """
    ratios, slow = np.full(len(tasks), np.nan), []
    if len([each for each in tasks if len(each.number)]) < 2:
        return [], ratios
    series, averaged = _series(tasks, AVERAGED), AVERAGED
    if not series:
        return [], ratios
    all_usual, sums = _usual_noise([*series.values()])
    if len(tasks) <= REFERENCES:  # what all tasks of a step have in common cancels with single ones of others
        single = _series(tasks, 1)
        noise = _usual_noise([*single.values()])
        if noise[0] < QUIETER * all_usual:
            series, averaged, (all_usual, sums) = single, 1, noise
    chance, usual_values = CHANCE / len(series), {worker: values for worker, (_, values) in series.items()}
    for worker in sorted(series, key=lambda each: -float(np.median(series[each][1]))):
        (edges, values), usual = series[worker], all_usual
        if 2 < len(series) <= FEW:  # a slow worker is among those with whom the others are compared
            others = [*_series([*tasks[:worker], *tasks[worker + 1 :]], averaged).values()]
            usual, sums = map(min, (usual, sums), _usual_noise(others))
        ratios[worker] = math.exp(float(np.median(values)))
        sigma = max(usual, changes.noise(values))
        among = [each for other, each in usual_values.items() if other != worker]
        if found := _slow_segments(values, among, sigma, sums, chance):
            if among[1:]:
                del usual_values[worker]
            slow.append(_slow_part(tasks, worker, edges, values, found, sigma, chance))
    told = {each.worker for each in slow}
    edges_of = {worker: edges for worker, (edges, _) in series.items()}
    slow += [each for each in _slow_hosts(tasks, hosts, edges_of, averaged) if each.worker not in told]
    group = max(float(np.diff(edges).mean()) for edges, _ in series.values())
    apart = 1 + round((sums - 1) * group)
    told |= {each.worker for each in slow}
    told |= {worker for worker, each in enumerate(tasks) if len(each.number) < JUDGED}
    slow += [_slow_sometimes(tasks, each) for each in lateness.find(tasks, told, apart, CHANCE)]
    return sorted(slow, key=lambda each: -each.excess_ns), ratios


def _slow_segments(
    values: np.ndarray, others: Sequence[np.ndarray], sigma: float, sums: float, chance: float
) -> list[tuple[changes.Segment, float]]:
    """Return the segments of a series in which it is slow, each with its probability under noise.

    `sigma` and `sums` are its noise and persistence; its values are ranked among those of usual `others`.
    """
    found = []
    for part in changes.segments(values, chance, sigma):
        by_chance = changes.two_sided(max(0.0, part.mean) / part.error)
        if part.level < math.log1p(LEAST) or by_chance > chance:
            continue
        pooled = np.concatenate([*others, np.zeros(1)])
        if part.level < FAR * pooled.max():
            scores = changes.normal_scores(values, pooled)
            by_chance = max(by_chance, changes.by_rank(scores, part.first, part.end, sums))
        if by_chance <= chance:
            found.append((part, by_chance))
    return found


def _slow_hosts(
    tasks: Sequence[Tasks], hosts: Sequence[str], edges: Mapping[int, np.ndarray], averaged: int
) -> Iterator[SlowPart]:
    """Yield the workers of hosts that are slow as a whole, by the mean of their workers.

    Each is compared with the workers of other hosts; `edges` are of the groups of its tasks.
    """
    own = {host: [worker for worker, each in enumerate(hosts) if each == host] for host in hosts}
    own = {host: each for host, each in own.items() if len(each) > 1 and all(one in edges for one in each)}
    if len(own) < 2:
        return
    means, single = [], list[list[np.ndarray]]()
    for host, workers in own.items():
        others = [each for each, where in zip(tasks, hosts, strict=True) if where != host]
        found = [relative([tasks[each], *others], 0, edges[each], averaged) for each in workers]
        length = min(map(len, found))
        single.append([values[:length] for values in found])
        means.append(np.mean(single[-1], axis=0))
    if min(map(len, means)) < JUDGED:
        return
    usual, sums = _usual_noise([(values, values) for values in means])
    chance = CHANCE / len(own)
    for place, workers in enumerate(own.values()):
        sigma = max(usual, changes.noise(means[place]))
        slow = _slow_segments(means[place], means[:place] + means[place + 1 :], sigma, sums, chance)
        levels = [
            min(float(np.median(values[part.first : part.end])) for values in single[place]) / part.level
            for part, _ in slow
        ]
        if slow and min(levels) >= SHARED:  # else it is some of them
            for worker, values in zip(workers, single[place], strict=True):
                yield _slow_part(tasks, worker, edges[worker], values, slow, sigma, chance)


def _series(tasks: Sequence[Tasks], averaged: int) -> _Series:
    """Return the groups of tasks, by their edges, and `relative`, of each worker with enough tasks."""
    series: _Series = {}
    if len([each for each in tasks if len(each.number)]) < 2:
        return series
    for worker, each in enumerate(tasks):
        if (count := len(each.number)) >= JUDGED:
            edges = np.linspace(0, count, min(GROUPS, count) + 1).astype(np.int64)
            if len(values := relative(tasks, worker, edges, averaged)) >= JUDGED:
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


def find_fast(tasks: Sequence[Tasks], ratios: np.ndarray) -> list[int]:
    """Find workers that are faster than most, as far as noise does not explain it: a class of their own."""
    found = np.flatnonzero(ratios <= 1 / (1 + CLASS))
    rest = np.setdiff1d(np.flatnonzero(np.isfinite(ratios)), found)
    if not 0 < len(found) < len(rest):
        return []
    logs = np.log(ratios)
    spread = max(float(logs[each].std()) for each in (rest, found))
    if float(logs[rest].min() - logs[found].max()) <= max(math.log1p(LEAST), APART * spread):
        return []
    values = {worker: values for worker, (_, values) in _series(tasks, AVERAGED).items()}
    _, sums = _usual_noise([(each, each) for each in values.values()])
    fast, slower = (np.concatenate([values[worker] for worker in each]) for each in (found, rest))
    error = math.sqrt(min(1.0, sums * (1 / len(fast) + 1 / len(slower))))
    score = -float(changes.normal_scores(fast, slower).mean()) / error
    by_chance = math.comb(len(values), len(found)) * changes.two_sided(max(0.0, score))  # any of such classes
    return [*found.tolist()] if by_chance <= CHANCE else []


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
    levels = [part.level for part, _ in best]
    pattern = "onset" if len(values) - end <= changes.LEAST else "spell"
    if pattern == "onset" and levels[1:] and levels == sorted(levels):
        pattern = "drift"
    elif all_slow >= CHRONIC * len(own.number) and found[0][0].first <= changes.LEAST:
        pattern = "chronic"
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
        dict(zip(own.causes, (excess / (excess.sum() or 1.0)).tolist(), strict=True)), late.excess_ns,
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
    shares = dict(zip(own.causes, (excess / (excess.sum() or 1.0)).tolist(), strict=True))
    first, last = own.number[inside][[0, -1]].tolist()
    return shares, float(beyond_ns) * max(len(total), last - first + 1)  # of a sample, of all tasks
