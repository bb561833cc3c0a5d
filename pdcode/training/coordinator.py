"""Rank 0's loop: it handles events by calls on the fleet and rows of the trace.

The coordinator folds arrivals into the state, steps by the policy, and sends idle workers the newest θ. It
has neither MPI nor a clock of its own: fleets of MPI, of the virtual clock and of replays drive it.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..coding.clipping import Clip
from ..coding.state import State
from ..trace.recorder import Recorder
from ..trace.schema import ALONE, APPLIED, CLIPPED, DRAINED, ENOUGH, REFUSED, TIME, USED, WASTED
from ..transport.base import Arrival, Fleet
from ..transport.events import Died, Event, Interrupted, Joined, Left, Overdue, SaveDue, Stray, Timeout
from ..util.stateful import Stateful
from .incidents import Incidents
from .liveness import NEVER_NS, Liveness
from .plateau import Plateau
from .roster import DEAD, LEFT, MISSING, OVERDUE, STOPPED, Roster
from .saving import Saving
from .update import Update

TICK_NS = 20_000_000  # longest time between calls of the monitor
DRAIN_TASKS, SHORTEST_DRAIN_NS = 4, 1_000_000_000

Observe = Callable[[int, "Coordinator"], str]
"""``observe(now_ns, coordinator)``: called after events; returns why to stop, or an empty string."""


class Coordinator(Stateful):
    """Coordinator of a run, on rank 0.

    The fleet sends tasks and yields events; the state is rank 0's side of the scheme. A step is damped by the
    mean of `Optimizer.damping` over its payloads, and by `UpdateTable.step_factor`. `drain_ns` limits the
    wait for tasks in flight after the stop; default: `DRAIN_TASKS` times the median worker's mean task, and
    at least `SHORTEST_DRAIN_NS`. `lost_with` describes the state that is lost with a worker, for the trace;
    `clip` scales payloads down before the fold. With ``optimizer.average``, `average` is θ's average, shape
    (size,), and else None.
    """

    state_names = (
        "roster", "update", "liveness", "saving", "incidents", "clip", "stopping", "stuck", "t_stop_ns",
        "drain_until_ns", "average", "plateau",
    )  # fmt: skip

    def __init__(
        self,
        fleet: Fleet,
        state: State,
        trace: Recorder,
        drain_ns: int | None = None,
        lost_with: str = "",
        clip: Clip | None = None,
    ) -> None:
        self.fleet, self.state, self.theta, self.trace = fleet, state, state.theta, trace
        self.roster = Roster(fleet.workers)
        self.update = Update(self.roster, state.policy)
        self.liveness = Liveness(self.roster)
        self.saving = Saving(fleet, self.roster, self.update)
        self.incidents = Incidents(trace, self.roster, lost_with)
        self.clip, self.drain_ns = clip, drain_ns
        table = state.optimizer.table
        self.average = state.theta.copy() if table.average else None
        # Payloads that are steps by themselves change a part of θ; the average passes over all of θ.
        self.average_every = fleet.workers if state.policy.table.asynchronous else 1
        self.plateau = Plateau(fleet.workers) if table.plateau else None
        self._factor = table.factor if table.scheduled else None
        self.messages = [layout.messages for layout in state.layouts]
        self.stopping = ""  # reason to stop, once there is one
        self.stuck = False  # whether the run ends as no update is possible
        self.t_stop_ns = self.drain_until_ns = 0  # time of the stop, and end of the wait for tasks in flight
        self.interrupted = 0  # signal by which the user has asked for the end
        self.resumed = False  # whether tasks are in flight already when `run` is called
        self.abandoned = False  # whether the run ends without the replies of some workers
        self.held_until_ns = 0  # time until which no tasks are sent, so that a preset can change; 0: they are
        self.tasks_due = False  # whether a step has been made since the last tasks

    @property
    def version(self) -> int:
        """Version of θ: number of updates."""
        return self.update.version

    @property
    def points(self) -> list[np.ndarray]:
        """Parameters that the monitor measures: θ, and its average, if there is one."""
        return [self.theta] if self.average is None else [self.theta, self.average]

    def run(self, observe: Observe, save: Callable[[], None] | None = None) -> str:
        """Run until `observe` returns a reason to stop, and the tasks in flight are drained; return it.

        `observe` is called after events, and each 20 ms while there are none; `save` takes a checkpoint.
        """
        self.monitor, self.saving.save = observe, save
        if not self.resumed:
            now_ns = self.fleet.now_ns()
            self.stopping = observe(now_ns, self)
            if self.stopping:  # a run that was resumed, or goes on with another preset, may end at once
                self.t_stop_ns = now_ns
            self.dispatch_idle()
        roster, fleet = self.roster, self.fleet
        while (roster.outstanding or (fleet.joining and not self.stopping)) and not self.abandoned:
            for event in self.events():
                getattr(self, event.handler)(event)
        fleet.close()
        return self.stopping

    def events(self) -> Iterator[Event]:
        """Yield the next events: of the fleet, and of the observers."""
        fleet, roster = self.fleet, self.roster
        if fleet.interrupted:
            self.held_until_ns = 0
        if (self.saving.save or fleet.interrupted) and not (self.stopping or self.held_until_ns):
            yield from self.saving.post(self.interrupted, self.longest_drain_ns)
        arrivals, events = roster.arrivals, fleet.events(TICK_NS, self._wake_ns())
        yield from events
        now_ns = self.update.now_ns if roster.arrivals > arrivals else fleet.now_ns()
        if now_ns >= self.liveness.due_ns:
            yield from self.liveness.post(now_ns)
        elif not events:
            yield Timeout()

    # An arrival, from its receive to the row of the trace.

    def on_reply(self, reply: Arrival) -> None:
        """Handle a reply."""
        roster, update, worker = self.roster, self.update, reply.worker
        update.now_ns = reply.t_recv_ns
        if roster.states[worker] == OVERDUE:
            self.on_returned(reply)
        staleness = update.version - reply.version
        late = staleness > 0 or reply.round != self.state.round
        fate, released = self.judge(reply, staleness, late)
        if fate in APPLIED:
            update.add(reply, self.state.fold(reply), self.state.optimizer.damping(staleness), late)
            if self.plateau is not None:
                self.plateau.add(reply.loss)
        elif fate == DRAINED:
            self.state.drained(reply)
        roster.answered(reply, fate, fate in APPLIED)
        applied = update.version if fate in APPLIED else -1
        sent_ns, now_ns = roster.sent_ns[worker], self.fleet.now_ns()
        self.trace.arrived(reply, applied, staleness, sent_ns, now_ns, update.captured, fate)
        if reply.leaving and reply.last and not (self.stopping or self.fleet.interrupted):
            self.on_left(Left(worker))
            released = False
        released &= reply.last
        expected = roster.expected(self.state.policy.waits_for_overdue) + released
        stepped = self.step_if_ready(expected, ENOUGH if expected or not roster.outstanding else ALONE)
        self.proceed(stepped, released, self.fleet.now_ns() if stepped else reply.t_recv_ns)

    def judge(self, reply: Arrival, staleness: int, late: bool) -> tuple[int, bool]:
        """Return the fate of a payload, and whether its worker gets a task without waiting for a step."""
        if not reply.finite:
            self.incidents.refused(reply, self.update.version)
            return REFUSED, late
        if self.stopping:
            return DRAINED, late
        if late and not self.state.usable(staleness, reply.round):
            return WASTED, True
        released = late or not self.state.policy.workers_wait
        if self.clip is None:
            return USED, released
        factor = self.clip(reply, len(self.roster.living))
        if factor is None:
            return WASTED, True  # too few norms are known for a bound
        return (USED if factor == 1 else CLIPPED), released

    def step_if_ready(self, expected: int, why: int) -> bool:
        """Step if the state is ready, with `expected` payloads outstanding; `why` is for the trace."""
        state, update = self.state, self.update
        if self.stopping or not update.used or not state.ready(update, expected):
            return False
        if state.robust:
            flagged = sorted({update.senders[number] for number in state.flagged})
            self.incidents.flagged(self.fleet.now_ns(), flagged)
        waited = (-1, 0) if update.used == 1 and why == ENOUGH else update.waited(why != ENOUGH)
        update.stepped_ns = update.now_ns
        damping = update.damping / update.used
        damping *= state.policy.table.step_factor(update.used, self.fleet.workers)
        if self._factor is not None:
            damping *= self._factor(update.version)
        if self.plateau is not None:
            damping *= self.plateau.factor
        norm = state.step(damping)
        self.report_step()
        if norm is not None:  # None: the update continues with another round
            update.version += 1
            if self.average is not None and not update.version % self.average_every:
                state.optimizer.average(self.average, self.theta, update.version // self.average_every)
            now_ns = self.fleet.now_ns()
            if update.times_ns is not None:
                update.times_ns.append(now_ns)
            self.trace.update(
                update.version, now_ns, update.used, update.captured, norm, state.digest, *waited, why
            )
        update.begin()
        return True

    def report_step(self) -> None:
        """Tell the fleet of a step that has been made, and record what it left out."""
        state = self.state
        self.fleet.stepped()
        if state.omitted:
            self.incidents.omitted(self.fleet.now_ns(), state.omitted)
        if any(state.wrapped):
            self.incidents.wrapped(self.fleet.now_ns(), self.update.version + 1, state.wrapped)

    def proceed(self, stepped: bool, released: bool, now_ns: int) -> None:
        """Observe, and send tasks: to all idle workers after a step, else to the worker just released."""
        roster = self.roster
        if not (roster.outstanding or self.stopping or self.fleet.joining) and not (
            (stepped or released) and roster.living
        ):
            self.stuck = True
            self.stopping = self.incidents.stuck(self.update.version, self.state.stuck)
        self.observe(now_ns)
        self.tasks_due |= stepped
        if self.held_until_ns and not self.stopping:
            return
        if self.tasks_due or self.stopping or self.state.has_tasks(self.update.now_ns):
            self.dispatch_idle()
        elif released:
            self.dispatch(roster.idle.pop())

    def dispatch(self, worker: int) -> None:
        """Send a worker its next task."""
        roster, task = self.roster, self.roster.tasks[worker]
        order = self.state.order(worker, task)
        if order is None:
            roster.idle.append(worker)
            return
        sent_ns = self.fleet.dispatch(worker, task, self.update.version, order, roster.flags[worker])
        roster.sent(worker, self.messages[order.round], self.update.now_ns, sent_ns)

    def dispatch_idle(self) -> None:
        """Send the newest θ to every idle worker, or shut it down if the run is over."""
        self.tasks_due = False
        for worker in self.roster.release():
            if not self.stopping:
                self.dispatch(worker)
            elif self.fleet.shutdown(worker, self.drain_until_ns, self.roster.flags[worker]):
                self.give_up(worker)
            else:
                self.roster.become(worker, STOPPED)
        if not self.stopping:
            self.liveness.dispatched(self.update.now_ns)

    # Other events.

    def on_timeout(self, event: Timeout) -> None:
        """Step if the policy does at this time; after the stop, end too long a wait for replies."""
        self.update.now_ns, wake_ns = self.fleet.now_ns(), self._scheme_wake_ns()
        if wake_ns is not None and not self.stopping:
            self.update.now_ns = min(self.update.now_ns, wake_ns)
        self.step_without_arrival(TIME)
        if self.stopping and self.roster.outstanding:
            interrupted_now = self.fleet.interrupted and not self.interrupted
            if interrupted_now or self.fleet.now_ns() >= self.drain_until_ns:
                for worker in self.roster.in_flight:
                    self.give_up(worker)
                self.abandoned = True

    def on_died(self, event: Died) -> None:
        """Continue without workers that have died."""
        self.update.now_ns = self.fleet.now_ns()
        tasks = {worker: self.roster.remove(worker, DEAD) for worker in event.workers}
        for worker in event.workers:
            self.state.lost(worker)
            self.fleet.lost(worker)  # now, not when it is found: replays know this time
        self.incidents.died(self.update.now_ns, tasks)
        self._forward_lost(event.workers)
        self.step_without_arrival(ALONE)

    def on_left(self, event: Left) -> None:
        """Dismiss a worker that leaves with its reply; no task is lost."""
        worker = event.worker
        self.roster.remove(worker, LEFT)
        self.state.lost(worker)
        self.incidents.left(self.update.now_ns, worker)
        self.fleet.dismiss(worker, self.roster.flags[worker])
        self.roster.flags[worker] = 0  # it saves its part of a checkpoint before it goes
        self._forward_lost([worker])

    def _forward_lost(self, senders: Sequence[int]) -> None:
        """Send workers with a task the payloads that these senders have not delivered to them."""
        for worker in self.roster.in_flight:
            for sender in senders:
                self.fleet.forward(worker, self.state.undelivered_payloads(worker, sender))

    def on_joined(self, event: Joined) -> None:
        """Send tasks to workers that are back, without their earlier state."""
        roster = self.roster
        self.update.now_ns = self.fleet.now_ns()
        for worker in event.workers:
            self.state.joined(worker)
            roster.put_idle(worker)
            self.incidents.joined(self.update.now_ns, worker, self.fleet.members[worker])
            if not self.stopping:
                self.dispatch(roster.idle.pop())
        self.observe(self.update.now_ns)
        if self.stopping:
            self.dispatch_idle()

    def on_overdue(self, event: Overdue) -> None:
        """Continue without workers that are presumed lost, if the policy does not wait for them."""
        self.update.now_ns = now_ns = self.fleet.now_ns()
        limits_ns = self.roster.times.limits_ns()
        for worker in event.workers:
            self.roster.put_overdue(worker, now_ns)
            self.incidents.overdue(now_ns, worker, limits_ns.item(worker))
            # The worker may be waiting for them.
            self.fleet.forward(worker, self.state.undelivered_payloads(worker))
            self.fleet.overdue(worker)
        self.step_without_arrival(ALONE)

    def on_returned(self, reply: Arrival) -> None:
        """Record the reply of a worker that was presumed lost."""
        self.roster.put_back(reply.worker)
        self.incidents.returned(self.update.now_ns, reply)
        if not self.stopping:
            self.liveness.returned(self.update.now_ns)

    def on_stray(self, event: Stray) -> None:
        """Count a message that answers no task."""
        self.incidents.stray(self.fleet.now_ns(), event.worker, event.description)

    def on_interrupted(self, event: Interrupted) -> None:
        """Record the signal by which the user asks for the end; the monitor stops the run."""
        self.interrupted = event.signal

    def on_save_due(self, event: SaveDue) -> None:
        """Take a checkpoint."""
        self.saving.take()

    def step_without_arrival(self, why: int) -> None:
        """Step if the state is ready without another arrival; `why` is the cause, for the trace."""
        stepped = self.step_if_ready(self.roster.expected(self.state.policy.waits_for_overdue), why)
        self.proceed(stepped, False, self.fleet.now_ns())

    # The end.

    def observe(self, now_ns: int) -> None:
        """Call the monitor, which also flushes the trace during the drain; stop if it returns a reason."""
        reason = self.monitor(now_ns, self)
        if reason or self.stopping:
            self.stop(reason, now_ns)

    def stop(self, reason: str, now_ns: int) -> None:
        """Stop, for a reason if the run has not stopped before; notify workers with a task."""
        self.t_stop_ns = self.t_stop_ns or now_ns
        if reason and not self.stopping:
            self.stopping, self.liveness.due_ns = reason, NEVER_NS
            now_ns = self.fleet.now_ns()
            self.drain_until_ns = now_ns + self.longest_drain_ns(now_ns)
            if workers := self.roster.in_flight:
                self.fleet.cancel(workers, self.drain_until_ns)

    def longest_drain_ns(self, now_ns: int) -> int:
        """Return the longest wait for the tasks in flight."""
        from statistics import median  # not at workers

        if self.drain_ns is not None:
            return self.drain_ns
        return max(SHORTEST_DRAIN_NS, int(DRAIN_TASKS * median(self.roster.task_times_ns(now_ns))))

    def give_up(self, worker: int) -> None:
        """Stop waiting for a worker's reply."""
        self.incidents.missing(self.fleet.now_ns(), worker)
        self.roster.remove(worker, MISSING)

    # Times at which to proceed without an event of the fleet.

    def _scheme_wake_ns(self) -> int | None:
        """Return the time to ask state and policy again without an event; None: only after an event."""
        wake_ns, own_ns = self.state.policy.wake_ns, self.state.wake_ns
        if wake_ns is None or own_ns is None:
            return own_ns if wake_ns is None else wake_ns
        return min(wake_ns, own_ns)

    def _wake_ns(self) -> int | None:
        """Return the end of the wait for an event; None: unlimited."""
        if self.stopping:
            return None
        state, due_ns = self.state, min(self.liveness.due_ns, self.held_until_ns or NEVER_NS)
        if state.wake_ns is None and state.policy.wake_ns is None:
            return None if due_ns == NEVER_NS else due_ns
        wake_ns = self._scheme_wake_ns()
        return due_ns if wake_ns is None else min(wake_ns, due_ns)
