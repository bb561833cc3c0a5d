"""Replies in the order of a trace, and the workers that make them again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import stragglers
from ..coding.replica import ReplicaError
from ..trace.schema import DRAINED, REFUSED
from ..training.worker import InjectedFault
from ..transport.layout import Layout
from ..transport.messages import Task
from ..virtual.executor import Employ, LocalCrew
from ..virtual.schedule import Schedule, Sent
from .columns import BLOCK
from .recorded import Recorded


class Ledger:
    """Which tasks are out, beside what a trace knows of them.

    Parameters
    ----------
    recorded : Recorded
    workers : int
    """

    def __init__(self, recorded: Recorded, workers: int) -> None:
        self._recorded, rows = recorded, recorded.trace.arrivals
        self._worker, self._task, self._status = rows["worker"], rows["task"], rows["status"]
        self._tasks = distinct(self._worker, self._task)
        self._sent = 0
        self._out = [-1] * workers  # the task that each worker has; -1: none
        self._given = 0, -1  # worker and task of the last arrival

    def sent(self, orders: Sequence[Sent]) -> None:
        """Tasks have been sent."""
        for worker, task in orders:
            self._out[worker] = task
        self._sent += len(orders)

    def came(self, worker: int) -> int:
        """A worker's reply has come: to this task; -1: to none."""
        task, self._out[worker] = self._out[worker], -1
        self._given = worker, task
        return task

    def over(self) -> bool:
        """Whether the run was stopped here.

        All tasks that the trace knows are out, all updates are done, and the next payload that was fit for
        use was not used because the run was over, or there is none.
        """
        recorded = self._recorded
        if self._sent < self._tasks or recorded.version < recorded.updates.rows:
            return False
        for status in self._status[recorded.row :]:
            if status != REFUSED:
                return bool(status == DRAINED)
        return recorded.trace.finished

    def lost(self) -> str:
        """What the trace has twice, or does not have, where it differs: a sentence, or an empty string."""
        recorded, row = self._recorded, self._recorded.row
        if row < recorded.arrivals.rows:
            worker, task = self._worker[row], self._task[row]
            before = np.flatnonzero((self._worker[:row] == worker) & (self._task[:row] == task))
            if len(before):
                return f"Task {task} of worker {worker} is there before, as arrival {before[0]}."
        if not recorded.trace.finished:
            return ""
        known = set(zip(self._worker.tolist(), self._task.tolist(), strict=True))
        out = [pair for pair in (self._given, *enumerate(self._out)) if pair[1] >= 0]
        lost = [f"task {task} of worker {worker}" for worker, task in out if (worker, task) not in known]
        more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
        return f"The trace has no arrival of {', '.join(lost[:5])}{more}, sent before this." if lost else ""


class Scripted(Schedule):
    """Replies arrive in the order of a trace.

    Times are those of the trace. Injected delays are made again, from the compute times of the trace where
    they depend on them.

    Parameters
    ----------
    recorded : Recorded
    workers : int
    model : Model, optional
        Of injected delays; if there is none, they are those of the trace.

    Attributes
    ----------
    ledger : Ledger
    stopped : bool
        Whether the run is over and takes in what is still out.
    """

    def __init__(self, recorded: Recorded, workers: int, model: stragglers.Model | None) -> None:
        self._n, self._model = workers, model
        self._recorded, self._rows = recorded, recorded.trace.arrivals
        self._worker = self._rows["worker"]
        self.ledger = Ledger(recorded, workers)
        self._block, self._delays_ns = -1, list[int]()
        self.stopped = False
        self.now_ns = self.t_recv_ns = 0
        self._times = [[0] * workers for _ in range(4)]
        self.t_start_ns, self.t_compute_ns, self.t_send_ns, self.injected_delay_ns = self._times

    def start(self) -> None:
        return

    def send(self, orders: Sequence[Sent], body_bytes: int, own_bytes: int, number: int = 0) -> None:
        self.ledger.sent(orders)

    def next(self, limit_ns: int) -> int:
        if not self.stopped and self.ledger.over():
            return -1  # rank 0 sees to the rest when nothing has arrived for a while
        recorded, row = self._recorded, self._recorded.row
        if row == recorded.arrivals.rows:
            raise recorded.differs([])
        worker = int(self._worker[row])
        if not 0 <= worker < self._n:
            raise recorded.differs([("worker", worker, f"0 to {self._n - 1}")])
        if self.ledger.came(worker) < 0:
            raise recorded.differs([], f"Worker {worker} has no task then.")
        start, compute, send = (
            int(self._rows[key][row]) for key in ("t_start_ns", "t_compute_ns", "t_send_ns")
        )
        delay_ns = self._delay_ns(row)
        for times, time_ns in zip(self._times, (start, compute, send, delay_ns), strict=True):
            times[worker] = time_ns
        self.now_ns = self.t_recv_ns = int(self._rows["t_recv_ns"][row])
        return worker

    def _delay_ns(self, row: int) -> int:
        """The delay that an arrival's task was given."""
        if self._model is None:
            return int(self._rows["injected_delay_ns"][row])
        block, place = divmod(row, BLOCK)
        if block != self._block:
            part = slice(block * BLOCK, (block + 1) * BLOCK)
            workers, tasks = (
                np.clip(self._worker[part], 0, self._n - 1),
                np.maximum(self._rows["task"][part], 0),
            )
            compute_ns = self._rows["t_compute_ns"][part] - self._rows["t_start_ns"][part]
            delays_ns = stragglers.delays_ns(self._model, workers, tasks, 1, compute_ns)
            self._block, self._delays_ns = block, delays_ns[:, 0].tolist()
        return self._delays_ns[place]


class Watched(LocalCrew):
    """Workers that may fail: that matters only if the trace has a reply.

    Parameters
    ----------
    layout : Layout
    workers : int
    employ : callable
        As for `LocalCrew`.
    recorded : Recorded
    """

    def __init__(self, layouts: Sequence[Layout], workers: int, employ: Employ, recorded: Recorded) -> None:
        super().__init__(layouts, workers, employ)
        self._recorded, self._failed = recorded, dict[int, str]()

    def perform(self, worker: int, task: Task, number: int) -> None:
        try:
            super().perform(worker, task, number)
        except (InjectedFault, ReplicaError) as error:
            self._failed[worker] = str(error)

    def finish(self, worker: int, number: int) -> tuple[float, np.ndarray]:
        if worker in self._failed:
            raise self._recorded.differs([], f"No payload is to be had: {self._failed[worker]}.")
        return super().finish(worker, number)


def distinct(worker: np.ndarray, task: np.ndarray) -> int:
    """Number of different pairs."""
    order = np.lexsort((task, worker))
    changes = (np.diff(worker[order]) != 0) | (np.diff(task[order]) != 0)
    return int(np.count_nonzero(changes)) + min(len(worker), 1)
