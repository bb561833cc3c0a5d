"""Rank 0's loop: fold each arrival into the decoders, step when the policy says so, and keep idle workers
busy with the newest θ."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .assignments import Assignment
from .decoders import Decoder
from .fleet.base import Arrival, Fleet
from .messages import Layout
from .optimizers import Optimizer
from .policies import Ready
from .trace import Writer
from .trace.schema import DRAINED, USED, WASTED

TICK_NS = 20_000_000  # how often, at the least, the observer is asked when nothing arrives

Words = list[tuple[np.ndarray, np.ndarray]]  # (indices, values) a layer


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
    decoders : list of Decoder
        One a layer.
    ready : callable
        The policy.
    optimizer : Optimizer
        Steps θ.
    theta : ndarray
        Initial θ; changed in place.
    trace : Writer
        Takes a row for each arrival and update.
    late : {"use", "waste"}
        What becomes of a payload of an older θ.
    staleness : {"constant", "inverse"}
        Steps are damped by the mean of 1 / (1 + staleness) of their payloads, or not at all.
    """

    def __init__(
        self,
        fleet: Fleet,
        assignment: Assignment,
        layout: Layout,
        decoders: list[Decoder],
        ready: Ready,
        optimizer: Optimizer,
        theta: np.ndarray,
        trace: Writer,
        late: str = "use",
        staleness: str = "constant",
    ) -> None:
        self.fleet, self.assignment, self.decoders, self.ready = fleet, assignment, decoders, ready
        self.optimizer, self.theta, self.trace = optimizer, theta, trace
        self._waste, self._damped = late == "waste", staleness == "inverse"
        self._bytes_up, self._bytes_down = layout.reply_bytes, layout.task_bytes
        self._layers = layout.layers
        self._counts = [layer.count for layer in layout.layers]
        self._shares = [layer.length / layout.parameters for layer in layout.layers]
        self._whole = np.zeros((1, 1), np.int32), np.ones((1, 1), theta.dtype)

        workers = fleet.workers
        self.waiting = list(range(workers))  # workers without a task, in order of arrival
        self.versions = [-1] * workers  # version of θ of its last task
        self.tasks = [0] * workers  # tasks that it was given
        self.words: list[Words] = [[]] * workers  # codewords of its task
        self.t_dispatch_ns = [0] * workers  # when it got its task
        self.busy_ns = [0] * workers  # time from dispatch to arrival, in all
        self.outstanding = 0  # tasks that are out
        self.version = 0  # of θ: number of updates
        self.used = 0  # payloads folded in since the last update
        self.arrivals = 0
        self._damping = 0.0  # sum over those payloads
        self.stopping = ""  # why the run ends

    def run(self, observe: Callable[[int, Coordinator], str]) -> str:
        """Descend until the observer gives a reason to stop, then take in what is still out.

        Parameters
        ----------
        observe : callable
            ``observe(now_ns, coordinator)``, called after each arrival and at least every 20 ms, returns why
            the run ends or an empty string.

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
                self._fold(arrival)
                self.stopping = self.stopping or observe(arrival.t_recv_ns, self)
                self._dispatch_waiting()
            if not arrivals:
                self.stopping = self.stopping or observe(fleet.now_ns(), self)
        fleet.stop()
        return self.stopping

    def _fold(self, arrival: Arrival) -> None:
        worker = arrival.worker
        self.waiting.append(worker)
        self.outstanding -= 1
        self.arrivals += 1
        self.busy_ns[worker] += arrival.t_recv_ns - self.t_dispatch_ns[worker]
        staleness = self.version - arrival.version
        if self.stopping:
            status, applied = DRAINED, -1
        elif staleness and self._waste:
            status, applied = WASTED, -1
        else:
            status, applied = USED, self.version
            for decoder, words, payload in zip(
                self.decoders, self.words[worker], arrival.payloads, strict=True
            ):
                decoder.add_sparse(words[0], words[1], payload)
            self.used += 1
            self._damping += 1.0 / (1 + staleness) if self._damped else 1.0
        captured = self.captured()
        self.trace.arrival(
            worker, arrival.task, arrival.version, applied, arrival.row, staleness,
            self.t_dispatch_ns[worker], arrival.t_start_ns, arrival.t_compute_ns, arrival.t_send_ns,
            arrival.t_recv_ns, self.fleet.now_ns(), arrival.injected_delay_ns,
            self._bytes_up, self._bytes_down, captured, status, arrival.loss,
        )  # fmt: skip
        if self.stopping:
            return
        if self.used and self.ready(self.used, captured, self.outstanding):
            self._step(captured)

    def captured(self) -> float:
        """Share of the gradient that the payloads since the last update capture, over all layers."""
        captured = 0.0
        for share, decoder in zip(self._shares, self.decoders, strict=True):
            captured += share * decoder.captured
        return captured

    def _step(self, captured: float) -> None:
        norm = self.optimizer.step(self.theta, self._layers, self.decoders, self._damping / self.used)
        self.version += 1
        self.trace.update(self.version, self.fleet.now_ns(), self.used, captured, norm)
        for decoder in self.decoders:
            decoder.reset()
        self.used, self._damping = 0, 0.0

    def _dispatch_waiting(self) -> None:
        """Send the newest θ to every waiting worker that has not seen it: all of them after a step, a late
        one at once."""
        if self.stopping or self.versions[self.waiting[-1]] == self.version:
            return
        waiting, self.waiting = self.waiting, []
        for worker in waiting:
            if self.versions[worker] < self.version:
                self._dispatch(worker)
            else:
                self.waiting.append(worker)

    def _dispatch(self, worker: int) -> None:
        row = self.assignment.row(worker)
        codewords = {k: self.assignment.codewords(k, row) for k in self.assignment.designs}
        self.words[worker] = [codewords[k] if k > 1 else self._whole for k in self._counts]
        self.versions[worker] = self.version
        self.outstanding += 1
        self.t_dispatch_ns[worker] = self.fleet.dispatch(
            worker, self.tasks[worker], self.version, row, codewords, self.theta
        )
        self.tasks[worker] += 1
