"""The account of a run's time: who spent each part of it, and on what, along its critical path.

The time until the target, or until the stop, is divided without a gap: before the first task of the path
the run starts; then the path is followed; after its last step comes the end. What rank 0 did besides, such
as measuring the loss, is taken from the parts in which something waited for rank 0. Where each payload is a
step, no worker waits for another one, and every worker's tasks are a path: the account is their mean.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..trace.reader import TraceReader
from ..trace.steps import SEEN, steps_of_start
from ..util.formats import duration, percent
from . import critical_path, description, timing
from .critical_path import OWN, STAGES
from .summary import summarise
from .timing import PHASES

PARTS = (*STAGES, *OWN, *PHASES, "evaluation", "checkpoint", "rows", "start", "end", "gone")
"""What the time was spent on: `STAGES` of tasks, `OWN` parts of rank 0, `PHASES` of a script's computing, if
they are known, rank 0's pauses, and tasks on their way with rows of another epoch; the time before the first
task, and after the last step; and, of a worker that died or left, the time after that."""
OUTSIDE = (
    "start",
    "end",
    "gone",
)  # parts without a task; of a window of a trace, the start is what came before
PAUSED_BY = {"evaluation": "trace.progress_s", "checkpoint": "trace.checkpoint_s"}
"""Rank 0's pauses by pauses/what, and the key of the time between them."""
PAUSED = (*PAUSED_BY,)
AT_RANK_0 = "link up", "queue", *OWN, "end"
"""Parts in which something waits for rank 0, or may: a payload is received when rank 0 looks for it."""
BLOCKS = 32  # of the time, whose differences give the interval of a share
DEVIATIONS = 2.04  # 97.5 % quantile of Student's t with 31 degrees of freedom


@dataclass(frozen=True, repr=False)
class Account:
    """The account of a run's time.

    Attributes
    ----------
    goal : str
        The target until which the time is counted, such as "loss 0.1"; empty: until the stop.
    chains : int
        Number of chains of pieces, which all begin at 0 and end at the same time: 1, the critical path; or,
        if each payload is a step, the workers with tasks.
    begin_ns, end_ns : ndarray of int64, shape (pieces,)
        Pieces of the time, chain by chain; each begins where the one before ends.
    whose, part : ndarray of int, shape (pieces,)
        Worker of each piece, n for rank 0, and what it was spent on: a place in `PARTS`.
    worker_count : int
        Number of workers n.
    """

    goal: str
    chains: int
    begin_ns: np.ndarray
    end_ns: np.ndarray
    whose: np.ndarray
    part: np.ndarray
    worker_count: int

    @property
    def length_ns(self) -> int:
        """The time that is divided."""
        return int(self.end_ns[-1])

    @cached_property
    def spent_ns(self) -> np.ndarray:
        """Time by worker, at the end rank 0, and by `PARTS`, the mean of the chains: float64, (n + 1, 20)."""
        return self._sums(self.end_ns - self.begin_ns)

    @cached_property
    def deviation_ns(self) -> np.ndarray:
        """Half the 95 % interval of each worker's time, at the end rank 0's: float64, shape (n + 1,)."""
        return self._deviations(self.whose, self.worker_count + 1)

    @cached_property
    def part_deviation_ns(self) -> np.ndarray:
        """Half the 95 % interval of the time by `PARTS`: float64, shape (20,)."""
        return self._deviations(self.part, len(PARTS))

    def _deviations(self, group: np.ndarray, groups: int) -> np.ndarray:
        """Return half the 95 % interval of each group of pieces.

        It is by the differences of `BLOCKS` parts of the run, which may be correlated within themselves.
        """
        width, shape = self.length_ns / BLOCKS, (BLOCKS, groups)
        first = np.minimum(self.begin_ns / width, BLOCKS - 1).astype(np.int64)
        cells = first * groups + group
        inside = np.minimum(self.end_ns, (first + 1) * width) - self.begin_ns
        blocks = np.bincount(cells, inside, math.prod(shape)).reshape(shape).astype(np.float64)
        long = np.flatnonzero(self.end_ns > (first + 1) * width)  # in later blocks, too
        for block in range(1, BLOCKS):
            at = long[first[long] < block]
            inside = np.clip(self.end_ns[at] - block * width, 0, width)
            blocks[block] += np.bincount(group[at], inside, groups)
        blocks /= self.chains
        return DEVIATIONS * math.sqrt(BLOCKS) * blocks.std(axis=0, ddof=1)

    def _sums(self, times_ns: np.ndarray) -> np.ndarray:
        shape = self.worker_count + 1, len(PARTS)
        cells = np.ravel_multi_index((self.whose, self.part), shape)
        return np.bincount(cells, times_ns, math.prod(shape)).reshape(shape) / self.chains

    @property
    def by_part(self) -> dict[str, float]:
        """Time by part, in ns, of parts that took any; the longest first."""
        spent = zip(PARTS, self.spent_ns.sum(axis=0).tolist(), strict=True)
        return dict(sorted(((name, time) for name, time in spent if time), key=lambda each: -each[1]))

    @property
    def title(self) -> str:
        """What is divided, in words."""
        until = f"the time to {self.goal}" if self.goal else "the time"
        return f"Where {until} went, in % of {duration(self.length_ns)}"

    def __repr__(self) -> str:
        return f"{self.title}: {', '.join(self.intervals())}"

    def intervals(self) -> list[str]:
        """Return the parts that took any time in %, with half their 95 % intervals; the longest first."""
        half = dict(zip(PARTS, self.part_deviation_ns.tolist(), strict=True))
        shown = ((name, percent(time, self.length_ns)) for name, time in self.by_part.items())
        return [f"{name} {share} ± {percent(half[name], self.length_ns)}" for name, share in shown]

    @property
    def workers(self) -> list[int]:
        """Workers with a part of the time, the one with the most first."""
        total = self.spent_ns[:-1].sum(axis=1)
        return [int(worker) for worker in np.argsort(-total, kind="stable") if total[worker] > 0]


Chain = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # begin, end, whose and part of pieces in order


@timing.once
def account(trace: TraceReader) -> Account | None:
    """Return the account of a run's time; None without steps, or if not all arrivals were recorded."""
    run, n = summarise(trace), trace.worker_count
    reached = 0 < run.target_s < math.inf
    until_ns = round(1e9 * run.target_s) if reached else description.stop_ns(trace)
    if trace.sample > 1 or not trace.updates.rows or not trace.arrivals.rows or until_ns <= 0:
        return None
    policy = description.policy_table(trace)
    if policy is not None and policy.asynchronous and not trace.summed.any():
        chains = [*_of_workers(trace, until_ns)]
    else:
        path = critical_path.of_trace(trace, until_ns)
        chains = [] if path is None else [(path.begin_ns, path.end_ns, path.whose, path.part)]
    _, first_ns = first_tasks(trace)
    chains = [_since(min(first_ns, until_ns), *each) for each in chains if len(each[0])]
    if not chains:
        return None
    divided = []
    for each in chains:
        begin, end, whose, part = _phased(trace, *_paused(trace, *_whole(n, until_ns, *each)))
        _name_rows(trace, begin, whose, part)
        taken = end > begin
        divided.append((begin[taken], end[taken], whose[taken], part[taken]))
    begin, end, whose, part = (np.concatenate(each) for each in zip(*divided, strict=True))
    return Account(run.target if reached else "", len(chains), begin, end, whose, part, n)


@timing.once
def first_tasks(trace: TraceReader) -> tuple[int, int]:
    """Return how many first tasks of each worker took all of them long, and when these ended, in ns.

    That is the update after them, or where each payload is one, their mean end; 0 and 0 if there are none, as
    in a sample of the arrivals. The first steps of a script are not recorded, see `StepWriter`.
    """
    rows = trace.arrivals
    if trace.is_script or trace.sample > 1 or not rows.rows or not trace.updates.rows:
        return 0, 0
    times = np.full((SEEN, trace.worker_count, 3), -1, np.int64)
    seen = np.flatnonzero(rows["task"] < SEEN)
    for place, event in enumerate(("start", "send", "recv")):
        times[rows["task"][seen], rows["worker"][seen], place] = rows[f"t_{event}_ns"][seen]
    count = steps_of_start(times)
    ends = times[count - 1, times[count - 1, :, 2] >= 0, 2]
    if not count or not len(ends):
        return 0, 0
    updates, policy = trace.updates["t_ns"], description.policy_table(trace)
    if policy is not None and policy.asynchronous:
        return count, int(ends.mean())
    return count, int(updates[min(np.searchsorted(updates, np.median(ends)), len(updates) - 1)])


def _since(first_ns: int, begin: np.ndarray, end: np.ndarray, whose: np.ndarray, part: np.ndarray) -> Chain:
    """Return a chain from some time on."""
    kept = (end > first_ns) | (np.arange(len(end)) == len(end) - 1)
    return np.maximum(begin[kept], first_ns), np.maximum(end[kept], first_ns), whose[kept], part[kept]


def _of_workers(trace: TraceReader, until_ns: int) -> Iterator[Chain]:
    """Yield the tasks of each worker, one after another, with rank 0's time between them."""
    split, rows = critical_path.stages_of(trace), trace.arrivals
    faults, n = trace.faults, trace.worker_count
    for worker, own in enumerate(timing.by_worker(rows, n)):
        begun = rows["t_dispatch_ns"][own]
        own = own[begun < until_ns]
        if not len(own):
            continue
        begun = np.maximum.accumulate(rows["t_dispatch_ns"][own])
        left = np.isin(faults["kind"], ("dead", "left")) & (faults["worker"] == worker)
        left &= faults["t_ns"] >= begun[-1]  # else another rank has taken its place
        last = faults["t_ns"][left][-1:] if left.any() else np.array([max(until_ns, int(begun[-1]))])
        following = np.append(begun[1:], last)
        edges = np.cumsum(np.concatenate((begun[None], split[:, own])), axis=0)
        edges = np.concatenate((np.minimum(edges, following), following[None]))
        whose = np.tile(np.array([*[worker] * len(STAGES), n], np.int32), len(own))
        part = np.tile(np.array([*range(len(STAGES)), PARTS.index("dispatch")], np.int8), len(own))
        begin, end = edges[:-1].T.ravel(), edges[1:].T.ravel()
        if left.any():
            gone = last, [until_ns], [worker], [PARTS.index("gone")]
            begin, end, whose, part = map(np.append, (begin, end, whose, part), gone)
        yield begin, end, whose, part


def _whole(
    n: int, until_ns: int, begin: np.ndarray, end: np.ndarray, whose: np.ndarray, part: np.ndarray
) -> Chain:
    """Complete a chain, from 0 to `until_ns`: a start, no overlap, an end; a gap counts to what follows."""
    ends = np.minimum(np.maximum.accumulate(end), until_ns)
    begins = np.append(min(begin[0], until_ns), ends[:-1])
    first, last = [PARTS.index("start")], [PARTS.index("end")]
    return (
        np.concatenate(([0], begins, ends[-1:])), np.concatenate((begins[:1], ends, [until_ns])),
        np.concatenate(([n], whose, [n]), dtype=whose.dtype),
        np.concatenate((first, part, last), dtype=part.dtype),
    )  # fmt: skip


def _paused(
    trace: TraceReader, begin: np.ndarray, end: np.ndarray, whose: np.ndarray, part: np.ndarray
) -> Chain:
    """Return a chain in which rank 0's pauses take their time from the parts that wait for it."""
    pauses = trace.pauses
    if not pauses.rows:
        return begin, end, whose, part
    begin, end, at, pause = _divided(begin, end, pauses["t_ns"], pauses["t_ns"] + pauses["spent_ns"])
    whose, part = whose[at], part[at]
    moved = (pause >= 0) & np.isin(part, [PARTS.index(name) for name in AT_RANK_0])
    part[moved] = PARTS.index(PAUSED[0]) + pauses["what"][pause[moved]].astype(np.int64)
    whose[moved] = trace.worker_count
    return begin, end, whose, part


def _phased(
    trace: TraceReader, begin: np.ndarray, end: np.ndarray, whose: np.ndarray, part: np.ndarray
) -> Chain:
    """Return a chain in which a script's computing is divided into its phases, if they are known."""
    phases, rows = timing.phases_of(trace), trace.arrivals
    if phases is None:
        return begin, end, whose, part
    at = np.flatnonzero(part == PARTS.index("compute"))
    row = _tasks(trace, begin[at], whose[at])
    ends = np.maximum(rows["t_compute_ns"][row], end[at])  # of the task, which the chain may leave earlier
    after = np.cumsum(phases[:0:-1, row], axis=0)[::-1]
    edges = np.clip(np.stack((begin[at], *(ends - after), end[at])), begin[at], end[at])
    count = np.where(part == PARTS.index("compute"), len(PHASES), 1)
    begin, end, whose, part = (np.repeat(each, count) for each in (begin, end, whose, part))
    first = (np.cumsum(count) - count)[at]
    for phase in range(len(PHASES)):
        begin[first + phase], end[first + phase] = edges[phase], edges[phase + 1]
        part[first + phase] = PARTS.index(PHASES[phase])
    return begin, end, whose, part


def _name_rows(trace: TraceReader, begin: np.ndarray, whose: np.ndarray, part: np.ndarray) -> None:
    """Name the way down of tasks that the rows of another epoch accompanied."""
    if trace.shuffles.rows:
        down = np.flatnonzero(part == PARTS.index("link down"))
        shuffled = timing.with_rows(trace)[_tasks(trace, begin[down], whose[down])]
        part[down[shuffled]] = PARTS.index("rows")


def _tasks(trace: TraceReader, begin: np.ndarray, whose: np.ndarray) -> np.ndarray:
    """Return the arrival of each worker's piece: of its last task that was dispatched before."""
    rows = trace.arrivals
    span = 1 + max(int(rows["t_dispatch_ns"].max()), int(begin.max(initial=0)))
    keys = rows["worker"].astype(np.int64) * span + rows["t_dispatch_ns"]
    order = np.argsort(keys, kind="stable")
    place = np.searchsorted(keys[order], whose.astype(np.int64) * span + begin, side="right") - 1
    return order[np.maximum(place, 0)]


def _divided(
    begin: np.ndarray, end: np.ndarray, pause_begin: np.ndarray, pause_end: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Divide pieces that follow each other where pauses begin and end.

    Return the begins and ends of the parts, the place of each one's piece, and of its pause; -1: none.
    """
    edges = np.unique(
        np.concatenate((begin, end, np.clip(np.append(pause_begin, pause_end), begin[0], end[-1])))
    )
    first, last = edges[:-1], edges[1:]
    at = np.minimum(np.searchsorted(end, first, side="right"), len(end) - 1)
    order = np.argsort(pause_begin, kind="stable")
    place = np.searchsorted(pause_begin[order], first, side="right") - 1
    pause = np.where(place >= 0, order[place], -1)
    pause[pause_end[pause] <= first] = -1
    return first, last, at, pause
