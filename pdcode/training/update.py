"""The update under way, as policies see it."""

from __future__ import annotations

from ..coding.policies import Policy
from ..kernels import roster
from ..transport.base import Arrival
from ..util.stateful import Stateful
from .roster import BUSY, Roster


class Update(Stateful, roster.UpdateCounters):
    """Progress of the update under way, and the number of updates so far.

    Parameters
    ----------
    workers : Roster
    policy : Policy
    """

    state_names = (
        "version", "now_ns", "stepped_ns", "latest_ns", "before_ns", "used", "fresh", "captured", "damping",
        "senders", "times_ns",
    )  # fmt: skip

    def __init__(self, workers: Roster, policy: Policy) -> None:
        self._roster, self._policy = workers, policy
        self.version = self.now_ns = self.stepped_ns = self.latest_ns = self.before_ns = 0
        self.senders: list[int] = []
        self.begin()

    def begin(self) -> None:
        """Begin without payloads."""
        self.used, self.fresh, self.captured, self.damping = 0, 0, 0.0, 0.0
        self.senders.clear()

    def add(self, reply: Arrival, captured: float, damping: float, late: bool) -> None:
        """Count a payload that is used; `captured` is the share of the gradient captured with it."""
        self.captured = captured
        self.used += 1
        self.fresh += not late
        self.damping += damping
        self.senders.append(reply.worker)
        self.before_ns, self.latest_ns = self.latest_ns, reply.t_recv_ns

    def expected_soon(self, within_ns: float) -> float:
        """Return how many payloads of use are to be expected within a time from now on."""
        roster, late = self._roster, self._policy.usable(1)
        workers = [
            worker for worker in roster.having((BUSY,)) if late or roster.begun_ns[worker] >= self.stepped_ns
        ]
        elapsed_ns = [self.now_ns - roster.begun_ns[worker] for worker in workers]
        return roster.times.expected_soon(workers, elapsed_ns, within_ns)

    def waited(self, alone: bool) -> tuple[int, int]:
        """Return for which worker rank 0 has waited alone before a step, -1 for none, and how long, in ns.

        That is the sender of the last payload, since the one before; or, if the step is made without another
        payload (`alone`), a worker that has not answered.
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
