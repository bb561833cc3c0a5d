"""Incidents of workers, as rows of the trace's faults and as lines for the user.

All texts about workers are in this module.
"""

from collections.abc import Collection, Sequence

from ..trace.recorder import Recorder
from ..transport.base import Arrival, RankInfo
from ..util.formats import workers_named
from ..util.stateful import Stateful
from .roster import Roster


def missing_message(worker: int, task: int, sent_ns: int) -> str:
    """Describe a task that was in flight when a run ended."""
    return f"worker {worker} had not answered task {task}, sent at {1e-9 * sent_ns:.3f} s, when the run ended"


class Incidents(Stateful):
    """Recorder of incidents.

    Its counters are the roster's. Refused, stray and flagged messages are recorded only for the first
    one of each worker. `lost_with` describes the state that is lost with a worker; empty: none.
    """

    state_names = ("notes", "_refused", "wraps")
    state_types = (("notes", list[str]),)

    def __init__(self, trace: Recorder, roster: Roster, lost_with: str = "") -> None:
        self._trace, self._roster, self._lost_with = trace, roster, lost_with
        self.notes: list[str] = []  # lines for the user, which the monitor prints and clears
        self.wraps = [0, 0]  # groups of elements that `reduce.bits` did not suffice for: mended, and lost
        self._refused = -1, 0  # last update with refused payloads, and their number

    def _record(self, now_ns: int, worker: int, task: int, kind: str, text: str) -> None:
        self._trace.fault(now_ns, worker, task, kind, f"worker {worker} {text}")

    def _living(self) -> str:
        return f"{len(self._roster.living)} continue"

    def died(self, now_ns: int, tasks: dict[int, int]) -> None:
        """Record the death of workers, with the number of each worker's task; -1: none."""
        for worker, task in tasks.items():
            sent_s = 1e-9 * self._roster.sent_ns[worker]
            lost = f"its task {task}, sent at {sent_s:.3f} s" if task >= 0 else "no task"
            also = self._lost_with and f", {self._lost_with}"
            self._record(now_ns, worker, task, "dead", f"has died; lost with it: {lost}{also}")
        have = "has" if len(tasks) == 1 else "have"
        self.notes.append(f"{workers_named(sorted(tasks))} {have} died; {self._living()}")

    def left(self, now_ns: int, worker: int) -> None:
        """Record that a worker has left."""
        task = self._roster.tasks[worker] - 1
        also = self._lost_with and f"; with it went {self._lost_with}"
        self._record(now_ns, worker, task, "left", f"has left after task {task}{also}")
        self.notes.append(f"worker {worker} has left; {self._living()}")

    def joined(self, now_ns: int, worker: int, member: RankInfo) -> None:
        """Record the rank that replaces a worker."""
        where = f"is rank {member.rank} of {member.host} from now on"
        self._record(
            now_ns, worker, self._roster.tasks[worker], "joined", f"{where}, with nothing of its own"
        )
        self.notes.append(f"worker {worker} {where}; {self._living()}")

    def reset(self, now_ns: int, worker: int) -> None:
        """Record that a worker resumes without its part of the checkpoint."""
        task = self._roster.tasks[worker]
        text = f"resumes at task {task} with nothing of its own: the checkpoint has no part of it"
        self._record(now_ns, worker, task, "reset", text)

    def lost(self) -> None:
        """Record the tasks in flight at a checkpoint, from which the run is resumed without them."""
        roster = self._roster
        for worker in roster.in_flight:
            task, sent_ns = roster.tasks[worker] - 1, roster.sent_ns[worker]
            text = f"had not answered task {task} at the checkpoint from which the run was resumed"
            self._record(sent_ns, worker, task, "lost", text)

    def overdue(self, now_ns: int, worker: int, limit_ns: float) -> None:
        """Record that a worker is presumed lost: its reply exceeds the limit of its task."""
        task, sent_ns = self._roster.tasks[worker] - 1, self._roster.sent_ns[worker]
        text = (
            f"has not answered task {task}, sent at {1e-9 * sent_ns:.3f} s, which by earlier tasks takes "
            f"less than {1e-9 * limit_ns:.3g} s: presumed lost until it answers"
        )
        self._record(now_ns, worker, task, "overdue", text)
        self.notes.append(f"worker {worker} is overdue: no answer for {1e-9 * (now_ns - sent_ns):.1f} s")

    def returned(self, now_ns: int, reply: Arrival) -> None:
        """Record the reply of a worker that was presumed lost."""
        worker, task = reply.worker, reply.task
        took_s = 1e-9 * (now_ns - self._roster.sent_ns[worker])
        text = f"has answered task {task} after {took_s:.3f} s: lost no longer"
        self._record(now_ns, worker, task, "returned", text)
        self.notes.append(f"worker {worker} is back after {took_s:.1f} s")

    def missing(self, now_ns: int, worker: int) -> None:
        """Record that the run ends without a worker's reply."""
        task, sent_ns = self._roster.tasks[worker] - 1, self._roster.sent_ns[worker]
        message = missing_message(worker, task, sent_ns)
        if not self._roster.awaited[worker]:
            message = f"worker {worker} answered its last task, and then nothing, when the run ended"
        self._trace.fault(now_ns, worker, task, "missing", message)

    def refused(self, reply: Arrival, version: int) -> None:
        """Count a refused payload of the update after this version."""
        worker, before = reply.worker, self._refused
        self._refused = version, 1 + (before[1] if before[0] == version else 0)
        if not self._roster.refused[worker]:
            text = f"sent a payload that {reply.fault}; it was refused"
            self._record(reply.t_recv_ns, worker, reply.task, "refused", text)
        self._roster.refused[worker] += 1

    def stray(self, now_ns: int, worker: int, description: str) -> None:
        """Count a message that answers no task."""
        if not self._roster.strays[worker]:
            text = f"sent a reply {description} than it has; it was dropped"
            self._record(now_ns, worker, self._roster.tasks[worker] - 1, "stray", text)
        self._roster.strays[worker] += 1

    def flagged(self, now_ns: int, workers: Sequence[int]) -> None:
        """Count payloads rejected as outliers."""
        for worker in workers:
            if not self._roster.flagged[worker]:
                text = "sent a payload that contradicts the others; it was left out"
                self._record(now_ns, worker, self._roster.tasks[worker] - 1, "flagged", text)
            self._roster.flagged[worker] += 1

    def audited(self, now_ns: int, worker: int, task: int, member: RankInfo, found: str) -> None:
        """Record what the audit of a task has `found`, of a worker's rank or (-1) of rank 0."""
        who = f"worker {worker}" if worker >= 0 else "rank 0"
        self._trace.fault(now_ns, worker, task, "wrong", f"{who} {found}")
        self.notes.append(f"{who} (rank {member.rank} of {member.host}) {found}")

    def wrapped(self, now_ns: int, version: int, groups: tuple[int, int]) -> None:
        """Count groups whose sum was beyond `reduce.bits`: mended, and lost; record each doubling."""
        before, self.wraps = sum(self.wraps), [old + new for old, new in zip(self.wraps, groups, strict=True)]
        mended, lost = self.wraps
        if before.bit_length() < (mended + lost).bit_length():
            text = f"sums of {mended + lost} groups of elements were beyond reduce.bits, {lost} of them lost"
            self._trace.fault(now_ns, -1, -1, "wrapped", f"up to update {version} {text}")
            self.notes.append(f"{text}: a larger number of bits would keep them")

    def omitted(self, now_ns: int, payloads: Collection[tuple[int, int]]) -> None:
        """Record payloads that an update has left out, by worker and task."""
        for worker, task in sorted(payloads):
            text = f"did not respond in an exchange; the update was made without its payload of task {task}"
            self._record(now_ns, worker, task, "omitted", text)

    def stuck(self, version: int, why: str) -> str:
        """Return why the run ends after this version; `why` is the scheme's own explanation, if any."""
        if not self._roster.living:
            return "no worker is left" if self._roster.left else "every worker has died"
        if why:
            refused = self._refused[1] if self._refused[0] == version else 0
            return f"{why}; {refused} were refused" if refused else why
        return f"diverged: every payload of update {version} was refused"
