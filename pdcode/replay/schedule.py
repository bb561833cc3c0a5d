"""The schedule of replies recorded in a trace."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from .. import stragglers
from ..config import Config
from ..trace.reader import TraceReader
from ..trace.schema import DRAINED, REFUSED, WORKER_CLOCK
from ..transport.events import Died, Joined, Overdue
from ..virtual.schedule import NEVER_NS, Schedule, Sent
from .comparison import ABSENT, Difference

RECORDED = {"dead": Died, "joined": Joined, "overdue": Overdue}
"""Kind of a recorded fault -> event."""


class RecordedPreset(NamedTuple):
    """Part of a run that has one preset: usually all of it."""

    config: Config
    attributes: Mapping[str, Any]  # of `config_attributes`, and others
    rows: range  # of arrivals
    versions: range  # of θ
    begin_ns: int | None = None  # when it began, after another preset
    change_ns: int = NEVER_NS  # when rank 0 decided to change the preset
    changes: bool = False  # whether another preset follows


def rows_of(table: Mapping[str, np.ndarray], where: Any, *keys: str) -> Iterator[tuple[Any, ...]]:
    """Yield rows of some columns of a table of the trace; `where` is an index or a mask of rows."""
    return zip(*(table[key][where].tolist() for key in keys), strict=True)


def drawn_delays_ns(
    trace: TraceReader,
    workers: int,
    model: stragglers.DelayModel,
    delay_fractions: Sequence[Sequence[float]],
) -> np.ndarray:
    """Return the injected delays of arrivals, drawn again; those that the end of the run cut, as recorded."""
    arrivals, most = trace.arrivals, trace.arrivals.rows + trace.faults.rows  # tasks: some are lost
    recorded_ns, compute_ns = arrivals["injected_delay_ns"], arrivals["t_compute_ns"] - arrivals["t_start_ns"]
    first = np.cumsum([0, *map(len, delay_fractions)])  # of each round, in the flat list of fractions
    place = first[np.clip(arrivals["round"], 0, len(delay_fractions) - 1)] + arrivals["part"]
    fractions = np.take(list(chain.from_iterable(delay_fractions)), place, mode="clip")
    drawn = arrivals["task" if len(delay_fractions) == 1 else "version"]
    own = np.clip(arrivals["worker"], 0, workers - 1), np.clip(drawn, 0, most)
    drawn_ns = stragglers.delays_ns(model, *own, 1, compute_ns, fractions)[:, 0]
    cut = np.isin(arrivals["status"], (DRAINED, REFUSED)) & (recorded_ns >= 0) & (recorded_ns < drawn_ns)
    return np.where(cut, recorded_ns, drawn_ns)


class RecordedSchedule(Schedule):
    """Schedule in which replies arrive in the order and at the times of a trace.

    A state that requests to be woken is woken where the run stepped θ between two arrivals, or sent a task.

    Parameters
    ----------
    part : RecordedPreset
        Part of the trace.
    model : DelayModel or None
        Injected delays; None: the delays of the trace.
    has_ended : callable
        Returns whether the recorded run was stopped at this point.
    resume : callable
        Drops the tasks in flight and sends all workers new ones, where the run was resumed from a checkpoint
        of the time that it gets; returns whether the state asks to be woken then.
    delay_fractions : sequence of sequence of float
        Fraction of a task's delay before each of its messages, for each round of an update.
    """

    def __init__(
        self,
        trace: TraceReader,
        part: RecordedPreset,
        workers: int,
        model: stragglers.DelayModel | None,
        has_ended: Callable[[], bool],
        resume: Callable[[int], bool],
        delay_fractions: Sequence[Sequence[float]] = ((1.0,),),
    ) -> None:
        arrivals, self._has_ended, self._resume = trace.arrivals, has_ended, resume
        self._part, self.steps, self.now_ns = part, part.versions.start, part.begin_ns or 0
        resumed = 1 + np.flatnonzero(trace.segments["preset"][1:] == 0)
        within = range(part.rows.start, part.rows.stop + 1)
        resumes = rows_of(trace.segments, resumed, "arrivals", "t_ns")
        self._segments = deque(each for each in resumes if each[0] in within)
        delays_ns = arrivals["injected_delay_ns"]
        if model is not None and arrivals.rows:
            delays_ns = drawn_delays_ns(trace, workers, model, delay_fractions)
        self._worker, self._recv_ns, self._row = arrivals["worker"], arrivals["t_recv_ns"], part.rows.start
        self._status, self._steps_ns = arrivals["status"], trace.updates["t_ns"]
        self._version = arrivals["version"] + arrivals["staleness"]  # of θ when the reply was handled
        self._busy = set[int]()  # workers with a task
        faults = trace.faults
        self._missing = set(faults["worker"][faults["kind"] == "missing"].tolist())
        of_fleet = np.isin(faults["kind"], list(RECORDED))
        of_fleet &= (faults["t_ns"] >= self.now_ns) & (faults["t_ns"] <= part.change_ns)
        self._events = deque(rows_of(faults, of_fleet, "t_ns", "kind", "worker"))
        self._stop_ns = -1 if part.changes else trace.counters.get("t_stop_ns", -1)
        self._leaving = set(rows_of(faults, faults["kind"] == "left", "worker", "task"))
        self.pending = []
        self._cancelled = False
        self.t_recv_ns = 0
        places = [[0] * workers for _ in range(4)]
        self.t_start_ns, self.t_compute_ns, self.t_send_ns, self.injected_delay_ns = places
        columns = *(arrivals[key] for key in WORKER_CLOCK), delays_ns
        self._columns = list(zip(places, columns, strict=True))
        tasks = rows_of(arrivals, slice(None), "worker", "task")
        self._sent_ns = dict(zip(tasks, arrivals["t_dispatch_ns"].tolist(), strict=True))
        lost = rows_of(faults, faults["kind"] == "lost", "worker", "task", "t_ns")
        self._lost_ns = {(worker, task): sent_ns for worker, task, sent_ns in lost}
        self._sent_ns |= self._lost_ns
        self._next = [0] * workers  # number of each worker's next task

    def start(self) -> None:
        return

    @property
    def posts_before_stop(self) -> bool:
        """Whether an event besides replies is left that the run handled before it stopped."""
        return bool(self._events) and self._events[0][0] <= self._stop_ns

    def loses(self) -> bool:
        """Return whether the tasks that are sent now were lost, because the run then resumed."""
        return bool(self._segments) and self._segments[0][0] == self._row

    def dispatch_stamp_ns(self, worker: int, task: int) -> int:
        return self._sent_ns.get((worker, task), self.now_ns)

    def send(self, sent: Sequence[Sent], body_bytes: int, own_bytes: int, number: int = 0) -> None:
        for worker, task in sent:
            self._busy.add(worker)
            self._next[worker] = task + 1

    def follow(self, worker: int, number: int, part: int) -> None:
        self._busy.add(worker)

    def leaving(self, worker: int, task: int) -> bool:
        return (worker, task) in self._leaving

    def cancel(self) -> None:
        self._cancelled = True

    def next(self, limit_ns: int, wakes: bool = False) -> int:
        row = self._row
        while self._segments and self._segments[0][0] == row:
            if self._events and self._events[0][0] <= self._segments[0][1]:  # before the checkpoint
                return self._post()
            # A checkpoint after a wake has the time of the wake.
            if wakes and limit_ns <= self._segments[0][1] and self._lost_next():
                self.now_ns = limit_ns
                return -1
            _, resumed_ns = self._segments.popleft()
            self._busy.clear()
            if self._resume(resumed_ns):
                return -1  # to be called again, with the time of the state's wake
        if self._has_ended():
            return -1  # without an arrival the coordinator checks whether to stop
        last = row == self._part.rows.stop
        posts = bool(self._events) and (last or self._events[0][0] <= self._recv_ns[row])
        if wakes and (posts or last) and self._acted_before(self._events[0][0] if posts else NEVER_NS):
            self.now_ns = limit_ns
            return -1
        if posts:
            return self._post()
        if last:
            if self._cancelled and self._busy <= self._missing:
                self.now_ns = max(self.now_ns, limit_ns)
                return -1  # the run ended without the missing replies
            raise Difference("arrivals", row, {"worker": (ABSENT, f"one of {sorted(self._busy)}")})
        worker = int(self._worker[row])
        if wakes and (self._version[row] > self.steps or self._sent_before(int(self._recv_ns[row]))):
            self.now_ns = limit_ns
            return -1
        if worker not in self._busy:
            raise Difference("arrivals", row, {"worker": (worker, f"one of {sorted(self._busy)}")})
        self._busy.remove(worker)
        for times_ns, column in self._columns:
            times_ns[worker] = int(column[row])
        self.now_ns = self.t_recv_ns = int(self._recv_ns[row])
        self.accepted = bool(self._status[row] != REFUSED)
        self._row += 1
        return worker

    def _acted_before(self, t_ns: int) -> bool:
        """Return whether the run made its next step, or sent an idle worker a task, before this time."""
        steps_ns = self._steps_ns[self.steps : self.steps + 1]
        return bool((steps_ns < t_ns).any()) or self._sent_before(t_ns)

    def _sent_before(self, t_ns: int) -> bool:
        """Return whether the run sent an idle worker a task before this time."""
        return any(
            worker not in self._busy and self._sent_ns.get((worker, task), t_ns) < t_ns
            for worker, task in enumerate(self._next)
        )

    def _lost_next(self) -> bool:
        """Return whether the next task of an idle worker was sent, and then lost, as the run was resumed."""
        return any(
            worker not in self._busy and (worker, task) in self._lost_ns
            for worker, task in enumerate(self._next)
        )

    def _post(self) -> int:
        """Have the fleet handle the next recorded event besides replies."""
        self.now_ns, kind, _ = self._events[0]
        workers = []
        while self._events and self._events[0][:2] == (self.now_ns, kind):  # one event of several workers
            workers.append(self._events.popleft()[2])
        if kind == "dead":
            self._busy.difference_update(workers)
        self.pending.append(RECORDED[kind](workers))
        return -1
