"""Rank 0's loop: fold each arrival into the decoders, step when the policy says so, and keep idle workers
busy with the newest θ."""

from __future__ import annotations

from collections.abc import Callable

from ..coding.assignments import Assignment
from ..coding.replica import Downlink, Full, State
from ..trace import Recorder
from ..trace.schema import DRAINED, REFUSED, USED, WASTED
from ..transport.base import Arrival, Fleet
from ..transport.layout import RETURNED, Layout
from .policies import Ready

TICK_NS = 20_000_000  # how often, at the least, the observer is asked when nothing arrives


class Coordinator:
    """The state of a run on rank 0, and its loop.

    Parameters
    ----------
    fleet : Fleet
        Where tasks go and replies come from.
    assignment : Assignment
        Rows of each task.
    layout : Layout
        Of the messages, for the layers and the bytes.
    state : State
        θ, a decoder a layer, and the optimizer. A step is damped by the mean of `Optimizer.damping` over its
        payloads.
    ready : callable
        The policy.
    trace : Recorder
        Takes a row for each arrival and update.
    late : {"use", "waste"}
        What becomes of a payload of an older θ.
    downlink : Downlink, optional
        How workers come by θ; by default it goes with each task.
    """

    def __init__(
        self,
        fleet: Fleet,
        assignment: Assignment,
        layout: Layout,
        state: State,
        ready: Ready,
        trace: Recorder,
        late: str = "use",
        downlink: Downlink | None = None,
    ) -> None:
        self.fleet, self.assignment, self.layout, self.ready = fleet, assignment, layout, ready
        self.state, self.theta, self.trace = state, state.theta, trace
        self.downlink = downlink or Full(state.theta)
        self._waste = late == "waste"
        self._robust = [decoder for decoder in state.decoders if decoder.robust]
        self._shares = [layer.length / layout.parameters for layer in layout.layers]

        workers = fleet.workers
        self.waiting = list(range(workers))  # workers without a task, in order of arrival
        self.versions = [-1] * workers  # version of θ of its last task
        self.tasks = [0] * workers  # tasks that it was given
        self.replies = [0] * workers  # replies that it gave
        self.t_dispatch_ns = [0] * workers  # when it got its task, on rank 0's clock
        self.busy_ns = [0] * workers  # time from dispatch to arrival, in all
        self.returned = [0] * workers  # flag of the next task: whether its last payload was not used
        self.outcomes = [0] * 4  # replies by what became of them, as `arrivals/status` of the trace
        self.refused = [0] * workers  # payloads that were not finite
        self.flagged = [0] * workers  # payloads that contradicted the others and were left out of a step
        self._senders: list[int] = []  # of the payloads since the last update
        self.outstanding = 0  # tasks that are out
        self.version = 0  # of θ: number of updates
        self.used = 0  # payloads folded in since the last update
        self.captured = 0.0  # share of the gradient that they capture, over all layers
        self.arrivals = 0
        self._damping = 0.0  # sum over the payloads since the last update
        self.stopping = ""  # why the run ends …
        self.t_stop_ns = 0  # … and when that was found
        self.stuck = False  # whether it ends because no payload was fit for use

    def run(self, observe: Callable[[int, Coordinator], str]) -> str:
        """Descend until the observer gives a reason to stop, then take in what is still out.

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
        fleet = self.fleet
        self.stopping = observe(fleet.now_ns(), self)
        self._dispatch_waiting()
        while self.outstanding:
            arrivals = fleet.arrivals(TICK_NS)
            for arrival in arrivals:
                late = self._fold(arrival)
                stepped = self._step_if_ready(self.outstanding + late)
                if not (stepped or late or self.outstanding or self.stopping):
                    self.stuck = True
                    self.stopping = f"diverged: every payload of update {self.version} was refused"
                self._observe(observe, fleet.now_ns() if stepped else arrival.t_recv_ns)
                if stepped or self.stopping:
                    self._dispatch_waiting()
                elif late:
                    self._dispatch(self.waiting.pop())
            if not arrivals:
                stepped = self._step_if_ready(self.outstanding)
                self._observe(observe, fleet.now_ns())
                if stepped or self.stopping:
                    self._dispatch_waiting()
        fleet.close()
        return self.stopping

    def _observe(self, observe: Callable[[int, Coordinator], str], now_ns: int) -> None:
        reason = observe(now_ns, self)  # while draining, too: it flushes the trace
        if (reason or self.stopping) and not self.t_stop_ns:
            self.t_stop_ns = now_ns
        if reason and not self.stopping:
            self.stopping = reason
            idle = set(self.waiting)
            for worker in range(self.fleet.workers):
                if worker not in idle:
                    self.fleet.recall(worker)

    def _fold(self, arrival: Arrival) -> bool:
        """Take a reply in; return whether its θ is not the newest."""
        worker = arrival.worker
        self.waiting.append(worker)
        self.outstanding -= 1
        self.arrivals += 1
        self.replies[worker] += 1
        self.busy_ns[worker] += arrival.t_recv_ns - self.t_dispatch_ns[worker]
        staleness = self.version - arrival.version
        if not arrival.finite:
            status, applied = REFUSED, -1
            self._refuse(arrival)
        elif self.stopping:
            status, applied = DRAINED, -1
        elif staleness and self._waste:
            status, applied = WASTED, -1
        else:
            status, applied = USED, self.version
            self.captured = 0.0
            for decoder, (indices, values), payload, share in zip(
                self.state.decoders, arrival.codewords, arrival.payloads, self._shares, strict=True
            ):
                decoder.add_sparse(indices, values, payload)
                self.captured += share * decoder.captured
            self.used += 1
            self._senders.append(worker)
            self._damping += self.state.optimizer.damping(staleness)
            self.downlink.arrived(arrival)
            self.assignment.arrived(arrival)
        self.outcomes[status] += 1
        self.returned[worker] = 0 if status == USED else RETURNED
        self.trace.arrival(
            worker, arrival.task, arrival.version, applied, arrival.row, staleness,
            self.t_dispatch_ns[worker], arrival.t_start_ns, arrival.t_compute_ns, arrival.t_send_ns,
            arrival.t_recv_ns, self.fleet.now_ns(), arrival.injected_delay_ns,
            arrival.bytes_up, arrival.bytes_down, self.captured, status, arrival.loss, 0,
        )  # fmt: skip
        return staleness > 0

    def _step_if_ready(self, expected: int) -> bool:
        """Step if the policy says so; `expected` payloads are still to come if it does not."""
        if self.stopping or not self.used or not self.ready(self, expected):
            return False
        if self._robust:
            self._note_flagged()
        self._senders.clear()
        damping = self._damping / self.used
        self.assignment.stepping(self.state.decoders)
        norm = self.state.step(self.layout, damping)
        self.fleet.stepped()
        self.downlink.stepped(damping)
        self.version += 1
        self.trace.update(self.version, self.fleet.now_ns(), self.used, self.captured, norm)
        self.assignment.stepped()
        self.used, self.captured, self._damping = 0, 0.0, 0.0
        return True

    def _refuse(self, arrival: Arrival) -> None:
        """Count a payload that is not finite; the first of each worker is noted as a fault."""
        worker = arrival.worker
        if not self.refused[worker]:
            what = f"worker {worker} sent a payload that is not finite; it was refused"
            self.trace.fault(arrival.t_recv_ns, worker, arrival.task, "refused", what)
        self.refused[worker] += 1

    def _note_flagged(self) -> None:
        """Count payloads that a decoder leaves out; the first of each worker is noted as a fault."""
        found = {self._senders[number] for decoder in self._robust for number in decoder.flagged}
        for worker in sorted(found):
            if not self.flagged[worker]:
                what = f"worker {worker} sent a payload that contradicts the others; it was left out"
                self.trace.fault(self.fleet.now_ns(), worker, self.tasks[worker] - 1, "flagged", what)
            self.flagged[worker] += 1

    def _dispatch_waiting(self) -> None:
        """Send the newest θ to every worker that has no task, or word that the run is over."""
        waiting, self.waiting = self.waiting, []
        for worker in sorted(waiting):  # where all wait, rows then do not depend on the order of arrival
            if self.stopping:
                self.fleet.dismiss(worker)
            else:
                self._dispatch(worker)

    def _dispatch(self, worker: int) -> None:
        row = self.assignment.row(worker)
        parts, flags, digest = self.downlink.body(worker, self.tasks[worker])
        self.versions[worker] = self.version
        self.outstanding += 1
        self.t_dispatch_ns[worker] = self.fleet.dispatch(
            worker, self.tasks[worker], self.version, row, self.assignment.codewords(row), parts,
            flags | self.returned[worker], digest,
        )  # fmt: skip
        self.tasks[worker] += 1
