"""The roster: state and counters of each worker, as rank 0 knows them.

======== ==================================== =======================================
state    meaning                              next states
======== ==================================== =======================================
IDLE     has replied, and has no task         BUSY, STOPPED, MISSING, DEAD, LEFT
BUSY     has a task                           IDLE, OVERDUE, MISSING, DEAD
OVERDUE  its task takes too long              BUSY (it has replied), MISSING, DEAD
MISSING  the run ended without its reply
STOPPED  has been notified of the end         DEAD
DEAD     its process has died                 IDLE (replaced by another rank)
LEFT     has left after its last reply        IDLE (replaced by another rank)
======== ==================================== =======================================

`TRANSITIONS` is the table, and the tests hold every run to it.
"""

from collections.abc import Collection, Mapping

from ..kernels import roster
from ..trace.schema import APPLIED, FATES, LOST, LOST_AT_RANK_0
from ..transport.layout import SAVE
from ..util.stateful import Stateful
from .task_times import TaskTimes

IDLE, BUSY, OVERDUE, MISSING, DEAD, LEFT, STOPPED = roster.STATES
TRANSITIONS: Mapping[int, Collection[int]] = {
    IDLE: (BUSY, STOPPED, MISSING, DEAD, LEFT),
    BUSY: (IDLE, OVERDUE, MISSING, DEAD),
    OVERDUE: (BUSY, MISSING, DEAD),
    MISSING: (),
    STOPPED: (DEAD,),
    DEAD: (IDLE,),
    LEFT: (IDLE,),
}
IN_FLIGHT = BUSY, OVERDUE
GONE = DEAD, LEFT
COUNTERS = (
    "tasks", "replies", "awaited", "flags", "sent_ns", "begun_ns", "busy_ns", "overdue_ns", "waited_ns",
    "refused", "strays", "flagged", "audited", "wrong",
)  # fmt: skip


class Roster(Stateful, roster.WorkerCounters):
    """State and counters of each worker.

    `overdue_ns` is when a worker became overdue, `waited_ns` the time that rank 0 has waited for its payload
    alone. `refused` counts payloads that are not finite or do not fit their task, `strays` messages that
    answer no task, `flagged` payloads rejected as outliers, `audited` tasks that rank 0 has recomputed,
    `wrong` those of them whose payload was another.
    """

    state_names = (
        *COUNTERS, "states", "idle", "arrivals", "outstanding", "overdue_count", "fates", "times",
        "own_times", "unsaved",
    )  # fmt: skip
    state_types = (("idle", list[int]), ("unsaved", list[int]))

    def __init__(self, workers: int) -> None:
        self.states, self.idle = [IDLE] * workers, list(range(workers))
        self.arrivals = self.outstanding = self.overdue_count = 0
        self.fates, self.times, self.own_times = [0] * len(FATES), TaskTimes(workers), TaskTimes(workers)
        self.unsaved: set[int] = set()
        for name in COUNTERS:
            setattr(self, name, [0] * workers)

    def __len__(self) -> int:
        return len(self.states)

    def restart(self, workers: int) -> None:
        """Start with idle workers, after a checkpoint: tasks in flight are lost, counters continue."""
        self.fates[LOST_AT_RANK_0] += self.outstanding
        before = len(self)
        for name in COUNTERS:
            counts = getattr(self, name)
            del counts[workers:]
            counts += [0] * (workers - len(counts))
        if workers != before:
            self.times, self.own_times = TaskTimes(workers), TaskTimes(workers)
        self.states, self.idle = [IDLE] * workers, list(range(workers))
        self.awaited, self.flags = [0] * workers, [0] * workers
        self.outstanding = self.overdue_count = 0
        self.unsaved = set()

    def in_states(self, states: Collection[int]) -> list[int]:
        """Return the workers in one of several states."""
        return [worker for worker, state in enumerate(self.states) if state in states]

    @property
    def used(self) -> int:
        """Number of messages whose payloads were used."""
        return sum(self.fates[fate] for fate in APPLIED)

    @property
    def in_flight(self) -> list[int]:
        """Workers that have a task."""
        return self.in_states(IN_FLIGHT)

    @property
    def living(self) -> list[int]:
        """Workers that have neither died nor left."""
        return [worker for worker, state in enumerate(self.states) if state not in GONE]

    @property
    def overdue(self) -> list[int]:
        """Workers that are overdue, the longest first."""
        if not self.overdue_count:
            return []
        return sorted(self.in_states((OVERDUE,)), key=self.overdue_ns.__getitem__)

    @property
    def dead(self) -> list[int]:
        """Workers that have died."""
        return self.in_states((DEAD,))

    @property
    def left(self) -> list[int]:
        """Workers that have left."""
        return self.in_states((LEFT,))

    @property
    def missing(self) -> list[int]:
        """Workers without whose replies the run has ended."""
        return self.in_states((MISSING,))

    def expected(self, waits_for_overdue: bool) -> int:
        """Return how many messages a policy may wait for, messages of overdue workers on request."""
        if waits_for_overdue or not self.overdue_count:
            return self.outstanding
        return self.outstanding - sum(self.awaited[worker] for worker in self.in_states((OVERDUE,)))

    def release(self) -> list[int]:
        """Return the idle workers in order; all of them get a message now."""
        idle, self.idle = self.idle, []
        return sorted(idle)  # rows of a synchronous run are independent of arrival order

    def become(self, worker: int, state: int) -> None:
        """Change the state of a worker; `answered` and `sent` do the same at each reply and task."""
        self.states[worker] = state

    def put_idle(self, worker: int) -> None:
        """Record that a worker that had died or left is back."""
        self.become(worker, IDLE)
        self.flags[worker] &= SAVE  # a checkpoint may still lack the part of the worker before
        self.idle.append(worker)

    def put_overdue(self, worker: int, now_ns: int) -> None:
        """Record that a worker is overdue."""
        self.become(worker, OVERDUE)
        self.overdue_ns[worker] = now_ns
        self.overdue_count += 1

    def put_back(self, worker: int) -> None:
        """Record that an overdue worker has replied."""
        self.become(worker, BUSY)
        self.overdue_count -= 1

    def remove(self, worker: int, state: int) -> int:
        """Record that a worker is DEAD, LEFT or MISSING; return the number of the lost task, -1 if idle."""
        task = self.tasks[worker] - 1 if self.awaited[worker] else -1
        self.overdue_count -= self.states[worker] == OVERDUE
        self.become(worker, state)
        self.fates[LOST] += self.awaited[worker]
        self.outstanding -= self.awaited[worker]
        self.awaited[worker] = 0
        if worker in self.idle:
            self.idle.remove(worker)
        return task

    def task_times_ns(self, now_ns: int) -> list[float]:
        """Return each worker's mean time from dispatch to arrival; before any reply, the time so far."""
        columns = zip(self.busy_ns, self.replies, self.sent_ns, strict=True)
        return [busy / replies if replies else now_ns - sent for busy, replies, sent in columns]
