"""Liveness: an observer that finds workers whose tasks take much longer than their earlier ones."""

import math
from collections.abc import Iterator

from ..transport.events import Overdue
from ..util.stateful import Stateful
from .roster import BUSY, Roster

NEVER_NS = 1 << 62
CHECK_NS, LONGEST_CHECK_NS = 250_000_000, 1_000_000_000  # between checks for overdue workers
CHECKS = 4  # checks are rarer if the shortest limit exceeds this many times `LONGEST_CHECK_NS`


class Liveness(Stateful):
    """Observer of the workers' task times, which posts overdue workers."""

    state_names = ("due_ns",)

    def __init__(self, roster: Roster) -> None:
        self._roster, self._enabled = roster, True
        self.due_ns = LONGEST_CHECK_NS  # time of the next check

    def disable(self) -> None:
        """Never check: in a replay, the fleet posts the overdue workers of the recorded run."""
        self._enabled, self.due_ns = False, NEVER_NS

    def dispatched(self, now_ns: int) -> None:
        """Check from now on: tasks are in flight again."""
        if self.due_ns == NEVER_NS and self._enabled:
            self.due_ns = now_ns + LONGEST_CHECK_NS

    def returned(self, now_ns: int) -> None:
        """Check soon, as an overdue worker has replied."""
        if self._enabled:
            self.due_ns = min(self.due_ns, now_ns + CHECK_NS)

    def post(self, now_ns: int) -> Iterator[Overdue]:
        """Check; yield the workers that have become overdue."""
        if now_ns > self.due_ns + CHECK_NS:  # rank 0 was suspended, and replies may have arrived
            self.due_ns = now_ns + CHECK_NS
            return
        roster = self._roster
        limits_ns = roster.times.limits_ns()
        ends_ns = {
            worker: roster.sent_ns[worker] + limits_ns.item(worker) for worker in roster.in_states((BUSY,))
        }
        overdue = [worker for worker, end_ns in ends_ns.items() if end_ns <= now_ns]
        next_ns = min((end_ns for end_ns in ends_ns.values() if end_ns > now_ns), default=math.inf)
        shortest_ns = min(float(limits_ns.min()), now_ns) / CHECKS
        next_ns = min(next_ns, now_ns + max(LONGEST_CHECK_NS, shortest_ns))
        self.due_ns = max(math.ceil(next_ns), now_ns + CHECK_NS)
        if len(ends_ns) == len(overdue):
            self.due_ns = NEVER_NS  # until one of them replies, or another worker gets a task
        if overdue:
            yield Overdue(overdue)
