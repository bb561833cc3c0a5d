"""Liveness: an observer that finds workers whose tasks take longer than their earlier ones let expect."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..transport.events import Overdue
from ..util.stateful import Stateful
from .roster import BUSY, Roster

NEVER_NS = 1 << 62
CHECK_NS, LONGEST_CHECK_NS = 250_000_000, 1_000_000_000
"""Shortest time between checks for overdue workers, and the usual longest one."""
CHECKS = 4
"""Checks are rarer where the shortest limit is more than so many times the longest time between them."""


class Liveness(Stateful):
    """Observer of the workers' task times, which posts those that are overdue.

    Parameters
    ----------
    roster : Roster

    Attributes
    ----------
    due_ns : int
        When to check next.
    """

    state_names = ("due_ns",)

    def __init__(self, roster: Roster) -> None:
        self._roster, self.due_ns, self._enabled = roster, LONGEST_CHECK_NS, True

    def disable(self) -> None:
        """Never check, as the fleet of a replay posts what the run had found."""
        self._enabled, self.due_ns = False, NEVER_NS

    def dispatched(self, now_ns: int) -> None:
        """Check from now on: there are tasks in flight again."""
        if self.due_ns == NEVER_NS and self._enabled:
            self.due_ns = now_ns + LONGEST_CHECK_NS

    def returned(self, now_ns: int) -> None:
        """Check soon, as an overdue worker has answered."""
        if self._enabled:
            self.due_ns = min(self.due_ns, now_ns + CHECK_NS)

    def post(self, now_ns: int) -> Iterator[Overdue]:
        """Check; yield the workers that are overdue from now on."""
        if now_ns > self.due_ns + CHECK_NS:  # rank 0 was away, and answers may have come
            self.due_ns = now_ns + CHECK_NS
            return
        roster = self._roster
        limits_ns = roster.times.limits_ns()
        ends_ns = {
            worker: roster.sent_ns[worker] + limits_ns.item(worker) for worker in roster.having((BUSY,))
        }
        overdue = [worker for worker, end_ns in ends_ns.items() if end_ns <= now_ns]
        next_ns = min((end_ns for end_ns in ends_ns.values() if end_ns > now_ns), default=math.inf)
        shortest_ns = min(float(limits_ns.min()), now_ns) / CHECKS
        next_ns = min(next_ns, now_ns + max(LONGEST_CHECK_NS, shortest_ns))
        self.due_ns = max(math.ceil(next_ns), now_ns + CHECK_NS)
        if len(ends_ns) == len(overdue):
            self.due_ns = NEVER_NS  # until one of them answers, or another gets a task
        if overdue:
            yield Overdue(overdue)
