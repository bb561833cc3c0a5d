"""A worker's loop: receive a task, compute its payload, reply."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..coding.memory import Respond
from ..coding.replica import Replica
from ..config.tables import Config
from ..stragglers import Delays
from ..transport.base import Link
from ..transport.layout import RETURNED, SAVE, UNDO
from ..transport.messages import Task
from ..util.output import print_line
from . import snapshot
from .memories import Memories


class InjectedFault(RuntimeError):
    """Exception raised on purpose by ``[faults]``."""


class Worker:
    """Worker: computes replies to tasks, on a rank or in a simulation.

    Parameters
    ----------
    worker : int
        Number of the worker, from 0.
    replica : Replica
        The worker's copy of θ.
    responds : sequence of Respond
        Computation of the payload, for each round of an update.
    config : Config
        The seed and ``[faults]`` are used.
    """

    def __init__(self, worker: int, replica: Replica, responds: Sequence[Respond], config: Config) -> None:
        self.worker, self.replica, self.responds = worker, replica, responds
        self.seed, self.faults = config.seed, config.faults
        self._last = responds[0]  # encoder of the last payload
        self.memories: Memories | None = None  # writes what the encoders keep to checkpoints
        self._next = 0  # number of the next task

    def recall(self, place: tuple[str, str, int] | None) -> None:
        """Take over what was kept before a task, and keep it from now on; see `mpi.ranks.memory_places`."""
        if place is None:
            return
        folder, run, task = place
        self.memories = Memories(folder, run, self.worker)
        if task >= 0 and not self.memories.read(self.responds, task):
            print_line(f"worker {self.worker}: its part of the checkpoint is damaged; it begins without")

    def keep(self, flags: int) -> None:
        """Write what the encoders keep to a checkpoint, if rank 0 asks for it."""
        if self.memories is None or not flags & SAVE:
            return
        if flags & (UNDO | RETURNED):
            now = snapshot.take(self.responds)
            self._last.rollback()
            self.memories.write(self.responds, self._next)
            snapshot.restore(self.responds, now)
        else:
            self.memories.write(self.responds, self._next)

    def perform(self, task: Task) -> float:
        """Write the whole reply to a task to its buffer; return the mini-batch loss."""
        *_, loss = self.parts(task)
        return loss

    def parts(self, task: Task) -> Iterator[float]:
        """Write the parts of the reply to a task to its buffer in turn; yield the mini-batch loss at each."""
        faults = self.faults
        if faults.raise_worker == self.worker and faults.raise_task == task.task:
            raise InjectedFault(f"worker {self.worker} raises at task {task.task}, as [faults] asks")
        self._next = task.task
        self.keep(task.flags)
        self._next += 1
        if task.flags & RETURNED:
            self._last.rollback()
        theta = self.replica.update(task)
        if faults.nan_worker == self.worker and task.task >= faults.nan_task:
            theta = np.full_like(theta, np.nan)  # simulates a numerical failure
        self._last = respond = self.responds[task.round]
        for part in range(task.replies):
            task.part = part
            loss = respond(theta, task)
            respond.quantise((self.seed, self.worker, task.task))
            yield loss


def work(link: Link, worker: Worker, delays: Delays) -> None:
    """Serve tasks until rank 0 ends the run.

    Parameters
    ----------
    link : Link
        Link to rank 0.
    worker : Worker
        Computes the replies.
    delays : Delays
        Injected delays.
    """
    while (task := link.next_task()) is not None:
        t_start_ns = link.now_ns()
        for part, loss in enumerate(worker.parts(task)):
            t_compute_ns = link.now_ns()
            compute_ns = t_compute_ns - t_start_ns
            delay_ns = delays.delay_ns(task.task, compute_ns, task.version, task.round, part)
            if delay_ns:
                delay_ns = link.wait(delay_ns, delays.spin)
            link.reply(part, t_start_ns, t_compute_ns, delay_ns, loss)
            t_start_ns = link.now_ns()
    worker.keep(link.flags)
    link.leave()
