"""Rank 0's loop: fold arrivals into the state, step by the policy, and send idle workers the newest θ.

Its inputs are method calls, for an arrival and for silence; its outputs are calls on the fleet and rows of
the trace. It uses neither MPI nor a clock of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..coding.clipping import Clip
from ..coding.optimizers import Optimizer
from ..coding.state import State
from ..kernels import ledger
from ..trace import Recorder
from ..trace.schema import (
    ALONE,
    APPLIED,
    CLIPPED,
    DRAINED,
    ENOUGH,
    FATES,
    LOST,
    LOST_AT_RANK_0,
    REFUSED,
    TIME,
    USED,
    WASTED,
)  # fmt: skip
from ..transport.base import Arrival, Fleet
from ..transport.layout import RETURNED, SAVE, UNDO
from ..util.formats import workers_named
from .overdue import TaskTimes

TICK_NS = 20_000_000  # longest time between calls of the monitor
DRAIN_TASKS, DRAIN_LEAST_NS = 4, 1_000_000_000
LOOK_NS, LOOK_MOST_NS = 250_000_000, 1_000_000_000  # time between looks for overdue workers …
LOOKS = 4  # … which is longer where a task is overdue only after more than so many times the most
NEVER_NS = 1 << 62


def missing_message(worker: int, task: int, sent_ns: int) -> str:
    """Describe a task that was still out when a run ended."""
    return f"worker {worker} had not answered task {task}, sent at {1e-9 * sent_ns:.3f} s, when the run ended"


def dead_message(worker: int, task: int, sent_ns: int, alone: str = "") -> str:
    """Describe the death of a worker; `alone` is what no other had."""
    lost = f"its task {task}, sent at {1e-9 * sent_ns:.3f} s" if task >= 0 else "no task"
    return f"worker {worker} has died; lost with it: {lost}{alone and ', '}{alone}"


def overdue_message(worker: int, task: int, sent_ns: int, usual_ns: float) -> str:
    """Describe a worker that is presumed lost; `usual_ns` is the time after which it is."""
    return (
        f"worker {worker} has not answered task {task}, sent at {1e-9 * sent_ns:.3f} s, which by earlier "
        f"tasks takes less than {1e-9 * usual_ns:.3g} s: presumed lost until it answers"
    )


class Coordinator(ledger.Ledger):
    """Coordinator of a run, on rank 0.

    Parameters
    ----------
    fleet : Fleet
        Sends tasks and receives replies.
    state : State
        Rank 0's side of the scheme. A step is damped by the mean of `Optimizer.damping` over its payloads.
    trace : Recorder
        Records a row for each arrival and update.
    drain_ns : int, optional
        Longest wait for the tasks in flight after the stop, ns; default: `DRAIN_TASKS` times the median
        worker's mean task, and at least `DRAIN_LEAST_NS`.
    alone : str
        What only a worker has, for the trace, where one dies.
    clip : Clip, optional
        Scales payloads down before they are folded in.
    save_ns : int
        Time between checkpoints, ns.

    Attributes
    ----------
    looks : bool
        Whether rank 0 looks for overdue workers itself; the fleet of a replay tells of them.
    """

    looks = True  # to be set before the run
    transient = (  # in snapshots
        "fleet", "state", "theta", "trace", "looks", "resumed", "interrupted", "_watch", "_save", "_every_ns",
        "_drain_ns", "_wish_ns", "t_update_ns",
    )  # fmt: skip

    def __init__(
        self,
        fleet: Fleet,
        state: State,
        trace: Recorder,
        drain_ns: int | None = None,
        alone: str = "",
        clip: Clip | None = None,
        save_ns: int = NEVER_NS,
    ) -> None:
        self.fleet, self.state, self.theta, self.trace = fleet, state, state.theta, trace
        self._robust, self._drain_ns, self._alone = state.robust, drain_ns, alone
        self._clip = clip

        workers = fleet.workers
        self.waiting = list(range(workers))  # workers without a task, in order of arrival
        self.tasks = [0] * workers  # tasks sent to each worker
        self.replies = [0] * workers  # tasks that each worker has answered, to the last part
        self.t_dispatch_ns = [0] * workers  # dispatch of the last task, rank 0's clock
        self.busy_ns = [0] * workers  # total time from dispatch to arrival
        self.returned = [0] * workers  # flag of the next task: the last payload was dropped
        # Fates of replies, of which each part is one, by `arrivals/status` of the trace: they and those that
        # are outstanding are all that were asked for.
        self.outcomes = [0] * len(FATES)
        self.refused = [0] * workers  # payloads that are not finite, or no answers to their tasks
        self.strays = [0] * workers  # messages besides that answer no task
        self.flagged = [0] * workers  # payloads rejected as outliers
        self._senders: list[int] = []  # workers of the payloads since the last step
        self._refused = -1, 0  # the last update of which payloads were refused, and how many
        self.awaited = [0] * workers  # replies that each worker's task will bring …
        self.outstanding = 0  # … and their sum
        self.version = 0  # of θ: number of updates
        self.now_ns = 0  # time of the last arrival, or time-out
        self.used = 0  # payloads folded in since the last step …
        self.fresh = 0  # … and those among them that were not late
        self.captured = 0.0  # share of the gradient captured since the last step
        self.arrivals = 0
        self._damping = 0.0  # sum of damping over the payloads since the last step
        self.stopping = ""  # reason to stop …
        self.t_stop_ns = 0  # … and when it arose
        self.drain_until_ns = 0  # longest wait for the tasks in flight then
        self.interrupted = 0  # the signal by which the user has asked for the stop; a later one ends the wait
        self.missing: list[int] = []  # workers for which the wait was too long
        self.dead: list[int] = []  # workers that have died …
        self.left: list[int] = []  # … and those that have said good-bye
        self.overdue: list[int] = []  # workers presumed lost: their tasks take longer than they should
        self.notes: list[str] = []  # what became of workers, for the monitor to tell
        self.times = TaskTimes(workers)
        self.look_ns = LOOK_MOST_NS  # when to look for overdue workers
        # Times of events, not of the clock, so that a replay, which has those, decides alike.
        self._begun_ns = [0] * workers  # dispatch of the last task
        self.stepped_ns = 0  # last end of a round
        self._latest_ns = self._before_ns = 0  # last payload that was used, and the one before
        self.waited_ns = [0] * workers  # what rank 0 waited for each worker's payload alone
        self.resumed = False  # whether tasks are in flight already
        self._every_ns = self._save_ns = save_ns  # until the next checkpoint, and its time
        self._marks = [0] * workers  # flags of each worker's next task that ask for its part of a checkpoint
        self._unsaved: set[int] = set()  # workers that have not answered these tasks
        self._wish_ns = 0  # since when the user's wish for an end waits for a checkpoint
        self.stuck = False  # whether the run ends for want of a usable payload
        constant = state.optimizer.table.staleness == "constant"
        self.plan(
            [layout.replies for layout in state.layouts],
            state.eager and clip is None,
            state.policy.usable(1),
            constant and type(state.optimizer).damping is Optimizer.damping,
            type(fleet).stepped is not Fleet.stepped,
            state.single if state.eager else None,
            *trace.batches,
        )

    def run(
        self,
        observe: Callable[[int, Coordinator], str],
        save: Callable[[], None] | None = None,
    ) -> str:
        """Run until the monitor gives a reason to stop, then drain the tasks in flight.

        Parameters
        ----------
        observe : callable
            ``observe(now_ns, coordinator)``, called after each arrival and at least every 20 ms, to the end;
            returns why the run ends or an empty string.
        save : callable, optional
            Takes a checkpoint: when it is time, and when the user wishes an end.

        Returns
        -------
        str
            The reason.
        """
        self._watch, self._save = observe, save
        if not self.looks:
            self.look_ns = NEVER_NS
        if not self.resumed:
            self.stopping = observe(self.fleet.now_ns(), self)
            self.dispatch_waiting()
        fleet, saves = self.fleet, save is not None
        while (self.outstanding or (fleet.joining and not self.stopping)) and not self.missing:
            if (saves or fleet.interrupted) and not self.stopping:
                self._save_if_due()
            arrivals = fleet.arrivals(TICK_NS, self._wake_ns())
            for arrival in arrivals:
                self.on_arrival(arrival)
            heard = fleet.news and self._hear()
            now_ns = self.now_ns if arrivals else fleet.now_ns()
            if now_ns >= self.look_ns:
                self._look(now_ns)
            elif not (arrivals or heard):
                self.on_silence()
        fleet.close()
        return self.stopping

    def _hear(self) -> bool:
        """Ask the fleet for news of workers; return whether there are any."""
        if dead := self.fleet.deaths():
            self.on_deaths(dead)
        if joined := self.fleet.joined():
            self.on_joined(joined)
        for worker, what in (strays := self.fleet.strays()):
            self._note_stray(worker, what)
        return bool(dead or joined or strays)

    def on_arrival(self, arrival: Arrival) -> None:
        """Handle a reply."""
        now_ns = self.turn(arrival, USED, ENOUGH)
        if now_ns >= 0:
            if reason := self._watch(now_ns, self):
                self._stop(reason, now_ns)
            if self.stopping or self.look_ns == NEVER_NS or len(self.waiting) > 1:
                self.dispatch_waiting()
            else:
                self.dispatch(self.waiting.pop())
            return
        self.now_ns = arrival.t_recv_ns
        if arrival.worker in self.overdue:
            self._welcome(arrival)
        goes_on = self._fold(arrival)
        if arrival.leaving and arrival.last and not self.stopping:
            goes_on = False
            self._part(arrival.worker)
        expected = self._expected() + goes_on
        stepped = self._step_if_ready(expected, ENOUGH if expected or not self.outstanding else ALONE)
        alone = bool(self.left) and not self.living()
        ends = not (self.outstanding or self.stopping or self.fleet.joining)
        if ends and (alone or not (stepped or goes_on)):
            self._stick()
        self._observe(self.fleet.now_ns() if stepped else arrival.t_recv_ns)
        if stepped or self.stopping:
            self.dispatch_waiting()
        elif goes_on:
            self.dispatch(self.waiting.pop())

    def on_silence(self) -> None:
        """Handle a timeout without arrivals."""
        if overdue := self.fleet.overdue():
            self.on_overdue(overdue)
            return
        self.now_ns, wake_ns = self.fleet.now_ns(), self._asked_ns()
        if wake_ns is not None and not self.stopping:
            self.now_ns = min(self.now_ns, wake_ns)
        self._go_on(TIME)
        if self.stopping and self.outstanding:
            hurried = self.fleet.interrupted and not self.interrupted
            if hurried or self.fleet.now_ns() >= self.drain_until_ns:
                self._give_up()

    def on_deaths(self, workers: Sequence[int]) -> None:
        """Handle the death of workers: the others go on without them."""
        self.now_ns = self.fleet.now_ns()
        self.dead += workers
        self.overdue = [worker for worker in self.overdue if worker not in workers]
        self.waiting = [worker for worker in self.waiting if worker not in workers]
        for worker in workers:
            task = self.tasks[worker] - 1 if self.awaited[worker] else -1
            self._lose(worker)
            self.state.lost(worker)
            message = dead_message(worker, task, self.t_dispatch_ns[worker], self._alone)
            self.trace.fault(self.now_ns, worker, task, "dead", message)
        have = "has" if len(workers) == 1 else "have"
        self.notes.append(f"{workers_named(sorted(workers))} {have} died; {len(self.living())} go on")
        for other in self.in_flight():
            for worker in workers:
                self.fleet.forward(other, self.state.owed(other, worker))
        self._go_on(ALONE)

    def _part(self, worker: int) -> None:
        """Let a worker go that has said good-bye with its reply: nothing of its task is lost."""
        self.waiting.remove(worker)
        self.left.append(worker)
        self.state.lost(worker)
        task = self.tasks[worker] - 1
        message = (
            f"worker {worker} has left after task {task}{self._alone and '; with it went '}{self._alone}"
        )
        self.trace.fault(self.now_ns, worker, task, "left", message)
        self.notes.append(f"worker {worker} has left; {len(self.living())} go on")
        self.fleet.dismiss(worker, self.flags(worker))
        for other in self.in_flight():
            self.fleet.forward(other, self.state.owed(other, worker))

    def on_overdue(self, workers: Sequence[int]) -> None:
        """Handle workers that are presumed lost: who need not wait for them goes on."""
        self.now_ns = self.fleet.now_ns()
        limits_ns = self.times.limits_ns()
        for worker in workers:
            self.overdue.append(worker)
            task, sent_ns = self.tasks[worker] - 1, self.t_dispatch_ns[worker]
            message = overdue_message(worker, task, sent_ns, limits_ns.item(worker))
            self.trace.fault(self.now_ns, worker, task, "overdue", message)
            self.notes.append(
                f"worker {worker} is overdue: no answer for {1e-9 * (self.now_ns - sent_ns):.1f} s"
            )
            self.fleet.forward(worker, self.state.owed(worker))  # it may be waiting for payloads of others
        self._go_on(ALONE)

    def _welcome(self, arrival: Arrival) -> None:
        """Note that a worker that was presumed lost has answered."""
        worker = arrival.worker
        self.overdue.remove(worker)
        took_s = 1e-9 * (self.now_ns - self.t_dispatch_ns[worker])
        message = f"worker {worker} has answered task {arrival.task} after {took_s:.3f} s: lost no longer"
        self.trace.fault(self.now_ns, worker, arrival.task, "returned", message)
        self.notes.append(f"worker {worker} is back after {took_s:.1f} s")
        if self.looks and not self.stopping:
            self.look_ns = min(self.look_ns, self.now_ns + LOOK_NS)

    def _go_on(self, why: int) -> None:
        """Step if the state is ready without another arrival, which is `why`, and send tasks."""
        stepped = self._step_if_ready(self._expected(), why)
        if not (stepped or self.outstanding or self.stopping or self.fleet.joining):
            self._stick()
        self._observe(self.fleet.now_ns())
        if stepped or self.stopping:
            self.dispatch_waiting()

    def _save_if_due(self) -> None:
        """Take a checkpoint, if it is time, or the user wishes an end."""
        asked = self.fleet.interrupted and not self.interrupted
        due = self._save is not None and (bool(asked) or self.now_ns >= self._save_ns)
        soon = self.now_ns < self._save_ns + self._every_ns
        if due and not asked and soon and self._unsaved - {*self.dead, *self.left, *self.overdue}:
            return  # some have not written the last one
        if due and not self.fleet.savable():
            now_ns = self.fleet.now_ns()
            self._wish_ns = self._wish_ns or now_ns
            if not asked or now_ns < self._wish_ns + self._longest_drain_ns(now_ns):
                return
            due = False  # workers do not answer
        self.interrupted, self._wish_ns = self.fleet.interrupted, 0
        if not due or self._save is None:
            return
        self._save_ns = (self.now_ns // self._every_ns + 1) * self._every_ns
        if not self.fleet.local:
            self._unsaved = {*self.living()}
            for worker in self._unsaved:
                self._marks[worker] = SAVE | (UNDO if self.awaited[worker] else 0)
        self._save()

    def rejoin(self, workers: int) -> None:
        """Begin where a snapshot was taken, with workers that have no task: what was on its way is lost."""
        self.outcomes[LOST_AT_RANK_0] += self.outstanding
        for counts in (
            self.tasks, self.replies, self.t_dispatch_ns, self.busy_ns, self.refused, self.strays,
            self.flagged, self.waited_ns, self._begun_ns,
        ):  # fmt: skip
            del counts[workers:]
            counts += [0] * (workers - len(counts))
        if workers != len(self.awaited):
            self.times = TaskTimes(workers)
        self.waiting, self.awaited, self.outstanding = [*range(workers)], [0] * workers, 0
        self.returned, self._marks = [0] * workers, [0] * workers
        self.dead, self.left, self.overdue, self._unsaved = [], [], [], set()

    def forget_payloads(self) -> None:
        """Begin the update under way anew."""
        self.used, self.fresh, self.captured, self._damping = 0, 0, 0.0, 0.0
        self._senders.clear()

    def _expected(self) -> int:
        """Return how many payloads the policy may wait for."""
        if not self.overdue or self.state.policy.patient:
            return self.outstanding
        return self.outstanding - sum(self.awaited[worker] for worker in self.overdue)

    def _asked_ns(self) -> int | None:
        """Return when state or policy are to be asked again, if nothing arrives; None: not before."""
        wake_ns, own_ns = self.state.policy.wake_ns, self.state.wake_ns
        if wake_ns is None or own_ns is None:
            return own_ns if wake_ns is None else wake_ns
        return min(wake_ns, own_ns)

    def _wake_ns(self) -> int | None:
        """Return how long to wait for an arrival at most."""
        if self.stopping:
            return None
        state, look_ns = self.state, self.look_ns
        if state.wake_ns is None and state.policy.wake_ns is None:
            return None if look_ns == NEVER_NS else look_ns
        asked_ns = self._asked_ns()
        return asked_ns if asked_ns is None else min(asked_ns, look_ns)

    def near(self, within_ns: float) -> float:
        """Return how many payloads that the state can use are to be expected within a time from now on."""
        fresh = self.state.policy.usable(1)
        workers = [
            worker
            for worker in self.in_flight()
            if worker not in self.overdue and (fresh or self._begun_ns[worker] >= self.stepped_ns)
        ]
        elapsed_ns = [self.now_ns - self._begun_ns[worker] for worker in workers]
        return self.times.near(workers, elapsed_ns, within_ns)

    def on_joined(self, workers: Sequence[int]) -> None:
        """Handle workers that had died and are back, with nothing of theirs: they get tasks."""
        self.now_ns = self.fleet.now_ns()
        for worker in workers:
            (self.left if worker in self.left else self.dead).remove(worker)
            self.state.joined(worker)
            self.returned[worker] = 0
            member = self.fleet.members[worker]
            where = f"rank {member.rank} of {member.host}"
            message = f"worker {worker} is {where} from now on, with nothing of its own"
            self.trace.fault(self.now_ns, worker, self.tasks[worker], "joined", message)
            self.notes.append(f"worker {worker} is {where} from now on; {len(self.living())} go on")
            if self.stopping:
                self.waiting.append(worker)
            else:
                self.dispatch(worker)
        self._observe(self.now_ns)
        if self.stopping:
            self.dispatch_waiting()

    def _stick(self) -> None:
        """Stop for want of a usable payload."""
        self.stuck = True
        self.stopping = f"diverged: every payload of update {self.version} was refused"
        if self.state.stuck:
            version, count = self._refused
            refused = f"; {count} were refused" if version == self.version else ""
            self.stopping = self.state.stuck + refused
        if not self.living():
            self.stopping = "every worker has died" if not self.left else "no worker is left"

    @property
    def waits(self) -> bool:
        """Whether rank 0 waits for the workers that are presumed lost."""
        return bool(self.overdue) and self.used > 0 and self.state.policy.patient

    def in_flight(self) -> list[int]:
        """Return the workers that have a task."""
        return [worker for worker, replies in enumerate(self.awaited) if replies]

    def living(self) -> list[int]:
        """Return the workers that have neither died nor left."""
        gone = {*self.dead, *self.left}
        return [worker for worker in range(self.fleet.workers) if worker not in gone]

    def _look(self, now_ns: int) -> None:
        """Look for workers that are overdue from now on."""
        if now_ns > self.look_ns + LOOK_NS:  # rank 0 was away, and answers may have come
            self.look_ns = now_ns + LOOK_NS
            return
        limits_ns = self.times.limits_ns()
        ends = {
            worker: self.t_dispatch_ns[worker] + limits_ns.item(worker)
            for worker in self.in_flight()
            if worker not in self.overdue
        }
        overdue = [worker for worker, end_ns in ends.items() if end_ns <= now_ns]
        least_ns = min(float(limits_ns.min()), now_ns) / LOOKS
        next_ns = min((end_ns for end_ns in ends.values() if end_ns > now_ns), default=math.inf)
        next_ns = min(next_ns, now_ns + max(LOOK_MOST_NS, least_ns))
        self.look_ns = max(math.ceil(next_ns), now_ns + LOOK_NS)
        if len(ends) == len(overdue):
            self.look_ns = NEVER_NS  # until one of them answers, or another gets a task
        if overdue:
            self.on_overdue(overdue)

    def task_times_ns(self, now_ns: int) -> list[float]:
        """Return each worker's mean time from dispatch to arrival; of its first task so far without any."""
        return [
            busy / replies if replies else now_ns - sent
            for busy, replies, sent in zip(self.busy_ns, self.replies, self.t_dispatch_ns, strict=True)
        ]

    def _observe(self, now_ns: int) -> None:
        reason = self._watch(now_ns, self)  # while draining, too: it flushes the trace
        if reason or self.stopping:
            self._stop(reason, now_ns)

    def _stop(self, reason: str, now_ns: int) -> None:
        """Note that the run ends, for a reason if it has not ended yet, and tell the workers."""
        self.t_stop_ns = self.t_stop_ns or now_ns
        if reason and not self.stopping:
            self.stopping, self.look_ns = reason, NEVER_NS
            now_ns = self.fleet.now_ns()
            self.drain_until_ns = now_ns + self._longest_drain_ns(now_ns)
            if workers := self.in_flight():
                self.fleet.cancel(workers, self.drain_until_ns)

    def _longest_drain_ns(self, now_ns: int) -> int:
        """Return how long the tasks in flight are waited for at most."""
        from statistics import median  # not at workers

        if self._drain_ns is not None:
            return self._drain_ns
        return max(DRAIN_LEAST_NS, int(DRAIN_TASKS * median(self.task_times_ns(now_ns))))

    def _give_up(self) -> None:
        """Stop waiting for the tasks in flight; record each as a fault."""
        for worker in self.in_flight():
            self._miss(worker)

    def _miss(self, worker: int) -> None:
        """Record that a worker is not waited for any longer."""
        task, sent_ns = self.tasks[worker] - 1, self.t_dispatch_ns[worker]
        message = missing_message(worker, task, sent_ns)
        self.trace.fault(self.fleet.now_ns(), worker, task, "missing", message)
        self.missing.append(worker)
        self._lose(worker)

    def _lose(self, worker: int) -> None:
        """Note that what is left of a worker's answer never comes."""
        self.outcomes[LOST] += self.awaited[worker]
        self.outstanding -= self.awaited[worker]
        self.awaited[worker] = 0

    def _fold(self, arrival: Arrival) -> bool:
        """Fold a reply in; return whether its worker gets a task without a step, as a straggler does."""
        worker, state = arrival.worker, self.state
        self.arrivals += 1
        self.outstanding -= 1
        self.awaited[worker] -= 1
        if arrival.last:
            if not self._marks[worker]:
                self._unsaved.discard(worker)
            self.waiting.append(worker)
            self.replies[worker] += 1
            self.busy_ns[worker] += arrival.t_recv_ns - self.t_dispatch_ns[worker]
            self.times.add(worker, arrival.t_recv_ns - self._begun_ns[worker])
        staleness = self.version - arrival.version
        late = staleness > 0 or arrival.round != state.round
        if not arrival.finite:
            status, applied = REFUSED, -1
            self._refuse(arrival)
        elif self.stopping:
            status, applied = DRAINED, -1
        elif late and not state.usable(staleness, arrival.round):
            status, applied = WASTED, -1
        elif self._clip is not None and not (factor := self._clip(arrival, len(self.living()))):
            status, applied, late = WASTED, -1, True  # nothing to judge it by: its worker goes on
        else:
            status, applied = USED if self._clip is None or factor == 1 else CLIPPED, self.version
            self.captured = self.state.fold(arrival)
            self.used += 1
            self.fresh += not late
            self._senders.append(worker)
            self._before_ns, self._latest_ns = self._latest_ns, arrival.t_recv_ns
            self._damping += state.optimizer.damping(staleness)
        self.outcomes[status] += 1
        self.returned[worker] = 0 if status in APPLIED else RETURNED
        sent_ns, now_ns = self.t_dispatch_ns[worker], self.fleet.now_ns()
        self.trace.arrived(arrival, applied, staleness, sent_ns, now_ns, self.captured, status)
        return arrival.last and (late or (status in APPLIED and not state.policy.waits))

    def _step_if_ready(self, expected: int, why: int) -> bool:
        """Step if the state is ready, with `expected` payloads outstanding, because of `why`."""
        if self.stopping or not self.used or not self.state.ready(self, expected):
            return False
        if self._robust:
            self._note_flagged()
        awaited, waited_ns = (-1, 0) if self.used == 1 and why == ENOUGH else self._waited(why)
        self.stepped_ns = self.now_ns
        norm = self.state.step(self._damping / self.used)
        self.fleet.stepped()
        if norm is not None:  # None: the update continues with another round
            self.version += 1
            now_ns, digest = self.fleet.now_ns(), self.state.digest
            if self.t_update_ns is not None:
                self.t_update_ns.append(now_ns)
            self.trace.update(
                self.version, now_ns, self.used, self.captured, norm, digest, awaited, waited_ns, why
            )
        self.forget_payloads()
        return True

    def _waited(self, why: int) -> tuple[int, int]:
        """Return for whom rank 0 has waited alone before this step, -1 for nobody, and for how long."""
        if why == ENOUGH:
            worker, waited_ns = self._senders[-1], self._latest_ns - self._before_ns
        else:
            worker = next(iter(self.overdue or self.in_flight()), -1)
            waited_ns = max(0, self.now_ns - self._latest_ns)
        if worker >= 0:
            self.waited_ns[worker] += waited_ns
        return worker, waited_ns

    def _refuse(self, arrival: Arrival) -> None:
        """Count a payload that must not be used; record the first of each worker as a fault."""
        worker = arrival.worker
        if not self.refused[worker]:
            what = f"worker {worker} sent a payload that {arrival.fault}; it was refused"
            self.trace.fault(arrival.t_recv_ns, worker, arrival.task, "refused", what)
        self.refused[worker] += 1
        self._refused = self.version, 1 + (self._refused[1] if self._refused[0] == self.version else 0)

    def _note_stray(self, worker: int, what: str) -> None:
        """Count a message that answers no task; record the first of each worker as a fault."""
        if not self.strays[worker]:
            message = f"worker {worker} sent a reply {what} than it has; it was dropped"
            self.trace.fault(self.fleet.now_ns(), worker, self.tasks[worker] - 1, "stray", message)
        self.strays[worker] += 1

    def _note_flagged(self) -> None:
        """Count payloads rejected as outliers; record the first of each worker as a fault."""
        for worker in sorted({self._senders[number] for number in self.state.flagged}):
            if not self.flagged[worker]:
                what = f"worker {worker} sent a payload that contradicts the others; it was left out"
                self.trace.fault(self.fleet.now_ns(), worker, self.tasks[worker] - 1, "flagged", what)
            self.flagged[worker] += 1

    def dispatch_waiting(self) -> None:
        """Send the newest θ to every idle worker, or shut it down if the run is over."""
        waiting, self.waiting = self.waiting, []
        waiting.sort()  # rows of a synchronous run are independent of arrival order
        for worker in waiting:
            if not self.stopping:
                self.dispatch(worker)
            elif self.fleet.shutdown(worker, self.drain_until_ns, self.flags(worker)):
                self._miss(worker)
        if self.look_ns == NEVER_NS and self.looks and not self.stopping:
            self.look_ns = self.now_ns + LOOK_MOST_NS
