"""Rank 0's loop: fold arrivals into the state, step by the policy, and send idle workers the newest θ.

Its inputs are method calls, for an arrival and for silence; its outputs are calls on the fleet and rows of
the trace. It uses neither MPI nor a clock of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from ..coding.state import State
from ..trace import Recorder
from ..trace.schema import DRAINED, REFUSED, USED, WASTED
from ..transport.base import Arrival, Fleet
from ..transport.layout import RETURNED

TICK_NS = 20_000_000  # longest time between calls of the monitor
DRAIN_TASKS, DRAIN_LEAST_NS = 4, 1_000_000_000
HUNG, HUNG_LEAST_NS = 10, 100_000_000
LOOK_NS = 250_000_000  # time between looks for workers that do not answer


def missing_message(worker: int, task: int, sent_ns: int) -> str:
    """Describe a task that was still out when a run ended."""
    return f"worker {worker} had not answered task {task}, sent at {1e-9 * sent_ns:.3f} s, when the run ended"


def dead_message(worker: int, task: int, sent_ns: int, alone: str = "") -> str:
    """Describe the death of a worker; `alone` is what no other had."""
    lost = f"its task {task}, sent at {1e-9 * sent_ns:.3f} s" if task >= 0 else "no task"
    return f"worker {worker} has died; lost with it: {lost}{alone and ', '}{alone}"


class Coordinator:
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
    """

    def __init__(
        self,
        fleet: Fleet,
        state: State,
        trace: Recorder,
        drain_ns: int | None = None,
        alone: str = "",
    ) -> None:
        self.fleet, self.state, self.theta, self.trace = fleet, state, state.theta, trace
        self._robust, self._drain_ns, self._alone = state.robust, drain_ns, alone

        workers = fleet.workers
        self.waiting = list(range(workers))  # workers without a task, in order of arrival
        self.tasks = [0] * workers  # tasks sent to each worker
        self.replies = [0] * workers  # tasks that each worker has answered, to the last part
        self.t_dispatch_ns = [0] * workers  # dispatch of the last task, rank 0's clock
        self.busy_ns = [0] * workers  # total time from dispatch to arrival
        self.returned = [0] * workers  # flag of the next task: the last payload was dropped
        self.outcomes = [0] * 4  # replies, of which each part is one, by `arrivals/status` of the trace
        self.refused = [0] * workers  # payloads that are not finite
        self.flagged = [0] * workers  # payloads rejected as outliers
        self.stale = [0] * workers  # replies to another task than the worker's
        self._senders: list[int] = []  # workers of the payloads since the last step
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
        self._interrupted = False  # whether the user had asked for the stop; a wish later ends the wait
        self.missing: list[int] = []  # workers for which the wait was too long
        self.dead: list[int] = []  # workers that have died
        self._look_ns, self._helped = LOOK_NS, [-1] * workers  # tasks whose workers have been sent payloads
        self.stuck = False  # whether the run ends for want of a usable payload

    def run(self, observe: Callable[[int, Coordinator], str]) -> str:
        """Run until the monitor gives a reason to stop, then drain the tasks in flight.

        Parameters
        ----------
        observe : callable
            ``observe(now_ns, coordinator)``, called after each arrival and at least every 20 ms, to the end;
            returns why the run ends or an empty string.

        Returns
        -------
        str
            The reason.
        """
        self._watch = observe
        self.stopping = observe(self.fleet.now_ns(), self)
        self._dispatch_waiting()
        while (self.outstanding or (self.fleet.joining and not self.stopping)) and not self.missing:
            arrivals = self.fleet.arrivals(TICK_NS, None if self.stopping else self.state.wake_ns)
            for arrival in arrivals:
                self.on_arrival(arrival)
            if dead := self.fleet.deaths():
                self.on_deaths(dead)
            if joined := self.fleet.joined():
                self.on_joined(joined)
            if not (arrivals or dead):
                self.on_silence()
            if self.now_ns >= self._look_ns:
                self._help()
        self.fleet.close()
        return self.stopping

    def on_arrival(self, arrival: Arrival) -> None:
        """Handle a reply."""
        self.now_ns = arrival.t_recv_ns
        if arrival.task != self.tasks[arrival.worker] - 1:
            self._refuse_stale(arrival)
            return
        goes_on = self._fold(arrival)
        stepped = self._step_if_ready(self.outstanding + goes_on)
        if not (stepped or goes_on or self.outstanding or self.stopping):
            self._stick()
        self._observe(self.fleet.now_ns() if stepped else arrival.t_recv_ns)
        if stepped or self.stopping:
            self._dispatch_waiting()
        elif goes_on:
            self._dispatch(self.waiting.pop())

    def on_silence(self) -> None:
        """Handle a timeout without arrivals."""
        self.now_ns = self.fleet.now_ns()
        stepped = self._step_if_ready(self.outstanding)
        self._observe(self.fleet.now_ns())
        if stepped or self.stopping:
            self._dispatch_waiting()
        if self.stopping and self.outstanding:
            hurried = self.fleet.interrupted and not self._interrupted
            if hurried or self.fleet.now_ns() >= self.drain_until_ns:
                self._give_up()

    def on_deaths(self, workers: Sequence[int]) -> None:
        """Handle the death of workers: the others go on without them."""
        self.now_ns = self.fleet.now_ns()
        self.dead += workers
        self.waiting = [worker for worker in self.waiting if worker not in workers]
        for worker in workers:
            task = self.tasks[worker] - 1 if self.awaited[worker] else -1
            self.outstanding -= self.awaited[worker]
            self.awaited[worker] = 0
            self.state.lost(worker)
            message = dead_message(worker, task, self.t_dispatch_ns[worker], self._alone)
            self.trace.fault(self.now_ns, worker, task, "dead", message)
        for other in self.in_flight():
            for worker in workers:
                self.fleet.forward(other, self.state.owed(other, worker))
        stepped = self._step_if_ready(self.outstanding)
        if not (stepped or self.outstanding or self.stopping or self.fleet.joining):
            self._stick()
        self._observe(self.fleet.now_ns())
        if stepped or self.stopping:
            self._dispatch_waiting()

    def on_joined(self, workers: Sequence[int]) -> None:
        """Handle workers that had died and are back, with nothing of theirs: they get tasks."""
        self.now_ns = self.fleet.now_ns()
        for worker in workers:
            self.dead.remove(worker)
            self.state.joined(worker)
            self.returned[worker] = 0
            message = f"worker {worker} is back, with nothing of its own"
            self.trace.fault(self.now_ns, worker, self.tasks[worker], "joined", message)
            if self.stopping:
                self.waiting.append(worker)
            else:
                self._dispatch(worker)
        self._observe(self.now_ns)

    def _stick(self) -> None:
        """Stop for want of a usable payload."""
        self.stuck = True
        self.stopping = f"diverged: every payload of update {self.version} was refused"
        if not self.living():
            self.stopping = "every worker has died"

    def in_flight(self) -> list[int]:
        """Return the workers that have a task."""
        return [worker for worker, replies in enumerate(self.awaited) if replies]

    def living(self) -> list[int]:
        """Return the workers that have not died."""
        return [worker for worker in range(self.fleet.workers) if worker not in self.dead]

    def hung(self, now_ns: int) -> list[int]:
        """Return the workers that do not answer.

        Their tasks have been out for over a second, and for `HUNG` times their own mean task and that of the
        median worker.
        """
        times = self.task_times_ns(now_ns)
        usual = max(HUNG_LEAST_NS, median(times))
        return [
            worker
            for worker in self.in_flight()
            if now_ns - self.t_dispatch_ns[worker]
            > HUNG * max(usual, times[worker] if self.replies[worker] else 0)
        ]

    def _help(self) -> None:
        """Send workers that do not answer, once for each task, what they may be waiting for."""
        self._look_ns = self.now_ns + LOOK_NS
        for worker in self.hung(self.now_ns):
            if self._helped[worker] < self.tasks[worker]:
                self._helped[worker] = self.tasks[worker]
                self.fleet.forward(worker, self.state.owed(worker))

    def task_times_ns(self, now_ns: int) -> list[float]:
        """Return each worker's mean time from dispatch to arrival; of its first task so far without any."""
        return [
            busy / replies if replies else now_ns - sent
            for busy, replies, sent in zip(self.busy_ns, self.replies, self.t_dispatch_ns, strict=True)
        ]

    def _observe(self, now_ns: int) -> None:
        reason = self._watch(now_ns, self)  # while draining, too: it flushes the trace
        if (reason or self.stopping) and not self.t_stop_ns:
            self.t_stop_ns = now_ns
        if reason and not self.stopping:
            self.stopping = reason
            self._interrupted = self.fleet.interrupted
            now_ns, drain_ns = self.fleet.now_ns(), self._drain_ns
            if drain_ns is None:
                drain_ns = max(DRAIN_LEAST_NS, int(DRAIN_TASKS * median(self.task_times_ns(now_ns))))
            self.drain_until_ns = now_ns + drain_ns
            if workers := self.in_flight():
                self.fleet.cancel(workers, self.drain_until_ns)

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

    def _fold(self, arrival: Arrival) -> bool:
        """Fold a reply in; return whether its worker gets a task without a step, as a straggler does."""
        worker, state = arrival.worker, self.state
        self.arrivals += 1
        self.outstanding -= 1
        self.awaited[worker] -= 1
        if arrival.last:
            self.waiting.append(worker)
            self.replies[worker] += 1
            self.busy_ns[worker] += arrival.t_recv_ns - self.t_dispatch_ns[worker]
        staleness = self.version - arrival.version
        late = staleness > 0 or arrival.round != state.round
        if not arrival.finite:
            status, applied = REFUSED, -1
            self._refuse(arrival)
        elif self.stopping:
            status, applied = DRAINED, -1
        elif late and not state.usable(staleness, arrival.round):
            status, applied = WASTED, -1
        else:
            status, applied = USED, self.version
            self.captured = self.state.fold(arrival)
            self.used += 1
            self.fresh += not late
            self._senders.append(worker)
            self._damping += state.optimizer.damping(staleness)
        self.outcomes[status] += 1
        self.returned[worker] = 0 if status == USED else RETURNED
        sent_ns, now_ns = self.t_dispatch_ns[worker], self.fleet.now_ns()
        self.trace.arrived(arrival, applied, staleness, sent_ns, now_ns, self.captured, status)
        return arrival.last and (late or (status == USED and not state.policy.waits))

    def _step_if_ready(self, expected: int) -> bool:
        """Step if the state is ready, with `expected` payloads outstanding."""
        if self.stopping or not self.used or not self.state.ready(self, expected):
            return False
        if self._robust:
            self._note_flagged()
        self._senders.clear()
        norm = self.state.step(self._damping / self.used)
        self.fleet.stepped()
        if norm is not None:  # None: the update continues with another round
            self.version += 1
            now_ns, digest = self.fleet.now_ns(), self.state.digest
            self.trace.update(self.version, now_ns, self.used, self.captured, norm, digest)
        self.used, self.fresh, self.captured, self._damping = 0, 0, 0.0, 0.0
        return True

    def _refuse_stale(self, arrival: Arrival) -> None:
        """Refuse a reply to another task than the worker's; record the first of each worker as a fault."""
        worker = arrival.worker
        if not self.stale[worker]:
            what = f"worker {worker} sent a reply that does not answer its task; it was refused"
            self.trace.fault(arrival.t_recv_ns, worker, arrival.task, "stale", what)
        self.stale[worker] += 1

    def _refuse(self, arrival: Arrival) -> None:
        """Count a payload that is not finite; record the first of each worker as a fault."""
        worker = arrival.worker
        if not self.refused[worker]:
            what = f"worker {worker} sent a payload that is not finite; it was refused"
            self.trace.fault(arrival.t_recv_ns, worker, arrival.task, "refused", what)
        self.refused[worker] += 1

    def _note_flagged(self) -> None:
        """Count payloads rejected as outliers; record the first of each worker as a fault."""
        for worker in sorted({self._senders[number] for number in self.state.flagged}):
            if not self.flagged[worker]:
                what = f"worker {worker} sent a payload that contradicts the others; it was left out"
                self.trace.fault(self.fleet.now_ns(), worker, self.tasks[worker] - 1, "flagged", what)
            self.flagged[worker] += 1

    def _dispatch_waiting(self) -> None:
        """Send the newest θ to every idle worker, or shut it down if the run is over."""
        waiting, self.waiting = self.waiting, []
        waiting.sort()  # rows of a synchronous run are independent of arrival order
        for worker in waiting:
            if not self.stopping:
                self._dispatch(worker)
            elif self.fleet.shutdown(worker, self.drain_until_ns):
                self._miss(worker)

    def _dispatch(self, worker: int) -> None:
        task = self.tasks[worker]
        order = self.state.order(worker, task)
        self.awaited[worker] = self.state.layouts[order.round].replies
        self.outstanding += self.awaited[worker]
        self.t_dispatch_ns[worker] = self.fleet.dispatch(
            worker, task, self.version, order, self.returned[worker]
        )
        self.tasks[worker] += 1
