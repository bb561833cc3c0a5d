"""The current update, as policies see it."""

import numpy as np

from ..coding.policies import Policy
from ..kernels import roster
from ..transport.base import Arrival
from ..util.stateful import Stateful
from .roster import BUSY, IDLE, Roster


class Update(Stateful, roster.UpdateCounters):
    """Progress of the current update, and the number of updates so far."""

    state_names = (
        "version", "now_ns", "stepped_ns", "latest_ns", "before_ns", "used", "fresh", "captured", "damping",
        "senders", "times_ns",
    )  # fmt: skip
    state_types = (("senders", list[int]), ("times_ns", list[int] | None))

    def __init__(self, workers: Roster, policy: Policy) -> None:
        self._roster, self._policy = workers, policy
        self.version = self.now_ns = self.stepped_ns = self.latest_ns = self.before_ns = 0
        self.senders: list[int] = []
        self.begin()

    def begin(self) -> None:
        """Start an update without payloads."""
        self.used, self.fresh, self.captured, self.damping = 0, 0, 0.0, 0.0
        self.senders.clear()

    def add(self, reply: Arrival, captured: float, damping: float, late: bool) -> None:
        """Count a payload that is used; `captured` is the fraction of the gradient captured with it."""
        self.captured = captured
        self.used += 1
        self.fresh += not late
        self.damping += damping
        self.senders.append(reply.worker)
        self.before_ns, self.latest_ns = self.latest_ns, reply.t_recv_ns

    def expected_soon(self, within_ns: float) -> float:
        """Return the expected number of usable payloads within a time from now."""
        roster, since_ns = self._roster, 0 if self._policy.usable(1) else self.stepped_ns
        workers = [worker for worker in roster.in_states((BUSY,)) if roster.begun_ns[worker] >= since_ns]
        elapsed_ns = [self.now_ns - roster.begun_ns[worker] for worker in workers]
        return roster.times.expected_soon(workers, elapsed_ns, within_ns)

    def recent_ns(self, most: int) -> np.ndarray:
        """Return the times of the last tasks of each living worker that is not overdue, shape (m, most).

        For a task in flight that takes longer than these on average, the time so far is one of them.
        """
        roster = self._roster
        workers = np.array(roster.in_states((IDLE, BUSY)), np.int64)
        times = roster.times.last(workers, most)
        with np.errstate(invalid="ignore"):
            means = np.nanmean(np.where(np.isnan(times).all(axis=1, keepdims=True), 0.0, times), axis=1)
        for place, worker in enumerate(workers.tolist()):
            elapsed_ns = self.now_ns - roster.begun_ns[worker]
            if roster.states[worker] == BUSY and elapsed_ns > means[place]:
                times[place, 1:] = times[place, :-1]
                times[place, 0] = means[place] = elapsed_ns
        return np.where(np.isnan(times), means[:, None], times)

    def waited(self, alone: bool) -> tuple[int, int]:
        """Return the worker that alone delayed a step, -1 for none, and the time of the delay, in ns.

        That is the sender of the last payload, since the previous payload; or, if the step is made without
        another payload (`alone`), a worker that has not replied.
        """
        if not alone:
            worker, waited_ns = self.senders[-1], self.latest_ns - self.before_ns
        else:
            roster = self._roster
            worker = next(iter(roster.overdue or roster.in_flight), -1)
            waited_ns = max(0, self.now_ns - self.latest_ns)
        if worker >= 0:
            self._roster.waited_ns[worker] += waited_ns
        return worker, waited_ns
