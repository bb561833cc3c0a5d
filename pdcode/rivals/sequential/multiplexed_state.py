"""State of multiplexed sequential gradient coding at rank 0, and its model of stragglers; see `sgc`."""

from collections import deque
from collections.abc import Collection, Sequence

import numpy as np

from ...coding.optimizers import Optimizer
from ...coding.policies import Progress
from ...coding.state import State
from ...decoders.target import TargetDecoder
from ...schemes.common.assignments import DataRows
from ...transport.base import Arrival
from ...transport.messages import Order
from ...util.stateful import Stateful


class MiniTasks(Stateful):
    """Mini-tasks of a worker, tracked by the worker and by rank 0.

    A job has W - 1 mini-tasks on own chunks (`own`), and B that repeat them or are coded (`coded`).
    """

    state_names = ("_pending",)

    def __init__(self, own: int, coded: int) -> None:
        self._own, self._count = own, own + coded
        self._pending: dict[int, list[int]] = {}  # own chunks without a result, by job

    def of(self, number: int) -> list[tuple[int, int]]:
        """Return the mini-tasks (job, chunk) of a round; a chunk from W - 1 on is a gradient code."""
        self._pending = {job: left for job, left in self._pending.items() if job > number - self._count}
        found = []
        for slot in range(min(self._count, number + 1)):
            left = self._pending.setdefault(number - slot, list(range(self._own)))
            found.append((number - slot, left[0] if slot >= self._own and left else slot))
        return found

    def done(self, tasks: Sequence[tuple[int, int]]) -> None:
        """Record that rank 0 has the results of a round's mini-tasks."""
        for job, chunk in tasks:
            if chunk < self._own:
                self._pending[job].remove(chunk)


class BurstModel(Stateful):
    """Model of bursty stragglers, with parameters B, W and λ, and the stragglers of the last rounds."""

    state_names = ("_past",)

    def __init__(self, burst: int, window: int, most: int) -> None:
        self._burst, self._most = burst, most
        self._past = deque[Collection[int]](maxlen=window - 1)  # newest last

    def allows(self, stragglers: frozenset[int]) -> bool:
        """Return whether these may be the stragglers of this round."""
        before = list(self._past)[: max(0, len(self._past) - self._burst + 1)]
        long_ago = frozenset[int]().union(*before)
        return len(stragglers.union(*self._past)) <= self._most and not stragglers & long_ago

    def add(self, stragglers: frozenset[int]) -> None:
        """Add the stragglers of a round."""
        self._past.append(stragglers)


class SequentialState(State):
    """State of rank 0: the sums of the current jobs, and the decoders of this round's coded results.

    `shares` are the fractions of the data in an own chunk, and in the chunks of a gradient code. Other
    parameters are as for `MiniTasks`; `margin` is μ.
    """

    state_names = (
        *State.state_names, "_model", "_thetas", "_sums", "_known", "_targets", "_tasks", "_sent", "_late",
        "_number", "_until_ns",
    )  # fmt: skip

    def __init__(
        self,
        theta: np.ndarray,
        optimizer: Optimizer,
        rows: DataRows | None,
        own: int,
        coded: int,
        shares: tuple[float, float],
        model: BurstModel,
        workers: int,
        margin: float,
    ) -> None:
        self.theta, self.optimizer = theta, optimizer
        self._rows, self._own, self._fractions, self._model, self._margin = rows, own, shares, model, margin
        jobs, size, dtype = own + coded, len(theta), theta.dtype
        self._thetas, self._sums = np.tile(theta, (jobs, 1)), np.zeros((jobs, size), dtype)
        self._known = np.zeros(jobs)  # fraction of the data in the sums
        self._targets = [TargetDecoder(1, (size,), dtype, target=np.ones(workers)) for _ in range(coded)]
        self._tasks = [MiniTasks(own, coded) for _ in range(workers)]
        self._sent = [-1] * workers  # last job whose θ was sent to each worker
        self._late = frozenset(range(workers))  # workers that have not replied in this round
        self._workers = self._late
        self._number = 0  # number of the round
        self._until_ns = 0  # time from which workers without a reply are stragglers of this round

    def order(self, worker: int, task: int) -> Order:
        first = max(self._sent[worker], self._number - len(self._sums)) + 1
        self._sent[worker] = self._number
        jobs = range(max(0, first), self._number + 1)
        return Order(0, (), [self._thetas[job % len(self._sums)].view(np.uint8) for job in jobs])

    def fold(self, arrival: Arrival) -> float:
        if self._late == self._workers:  # the fastest worker; its own times, because a replay has them
            took_ns = max(0, arrival.t_recv_ns - arrival.t_start_ns)
            self.wake_ns = self._until_ns = arrival.t_recv_ns + round(self._margin * took_ns)
        worker = arrival.worker
        self._late -= {worker}
        tasks = self._tasks[worker].of(self._number)
        self._tasks[worker].done(tasks)
        for slot, ((job, chunk), payload) in enumerate(zip(tasks, arrival.payloads, strict=False)):
            if chunk < self._own:
                self._sums[job % len(self._sums)] += payload[0]
                self._known[job % len(self._sums)] += self._fractions[0]
            elif self._rows is not None:
                ((indices, values),) = self._rows.codewords(worker)
                self._targets[slot - self._own].add_sparse(indices, values, payload)
        oldest = self._known[(self._number + 1) % len(self._sums)]
        return float(oldest + self._fractions[1] * self._targets[-1].captured)

    def ready(self, progress: Progress, expected: int) -> bool:
        if expected and progress.now_ns < self._until_ns:
            return False
        self.wake_ns = None  # a further step needs another arrival
        return not expected or self._model.allows(self._late)

    def step(self, damping: float) -> float | None:
        for slot, target in enumerate(self._targets, self._own):
            if target.count:
                job = (self._number - slot) % len(self._sums)
                self._sums[job] += target.gradient()[0]
                self._known[job] += self._fractions[1] * target.captured
                target.reset()
        self._model.add(self._late)
        self._late, self.wake_ns = self._workers, None
        self._number += 1
        new, norm = self._number % len(self._sums), 0.0  # the next job takes the place of the oldest
        if self._number >= len(self._sums):
            self.optimizer.whole_gradient[:] = self._sums[new]
            norm = self.optimizer.step_whole(self.theta, damping)
        self._sums[new], self._known[new], self._thetas[new] = 0, 0, self.theta
        return norm
