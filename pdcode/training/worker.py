"""A worker's loop: receive a task, compute its payload, reply."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from ..coding.memory import PayloadEncoder
from ..coding.replica import Replica
from ..transport.base import Computed, Link
from ..transport.companions import Recipient
from ..transport.layout import RETURNED
from ..transport.messages import Reply, Task
from ..util.stateful import Stateful


class Computes(Protocol):
    """Computation of the messages of a reply: a `Worker`, or a wrapper of one."""

    def parts(self, task: Task) -> Iterator[float]:
        """Compute the messages of the reply to a task in turn; yield the mini-batch loss at each."""
        ...


class Worker(Stateful):
    """Worker: computes replies to tasks, on a rank or in a simulation.

    `replica` is its copy of θ; `encoders` compute the payload of each round into the buffers of `replies`,
    with random numbers keyed by `seed`, worker and task. `model_state` has the arrays of `Model.state`.
    `recipient` gets what accompanies tasks.
    """

    state_names = ("replica", "encoders", "model_state", "_messages", "_round", "next_task", "recipient")

    def __init__(
        self,
        worker: int,
        replica: Replica,
        encoders: Sequence[PayloadEncoder],
        seed: int,
        replies: Sequence[Reply],
        model_state: dict[str, np.ndarray] | None = None,
        recipient: Recipient | None = None,
    ) -> None:
        self.worker, self.replica, self.encoders, self.replies = worker, replica, encoders, replies
        self.seed, self.model_state, self.recipient = seed, model_state or {}, recipient or Recipient()
        self._messages = [part for reply in replies for part in reply.parts]
        self._round = self.next_task = 0  # round of the last payload; number of the next task

    def perform(self, task: Task) -> float:
        """Compute all messages of the reply to a task; return the mini-batch loss."""
        *_, loss = self.parts(task)
        return loss

    def parts(self, task: Task) -> Iterator[float]:
        """Compute the messages of the reply to a task in turn; yield the mini-batch loss at each."""
        self.next_task = task.task + 1
        if task.flags & RETURNED:
            self.rollback()
        if task.companion is not None:
            self.recipient.take(task.companion)
        theta = self.replica.update(task)
        self._round, encoder = task.round, self.encoders[task.round]
        for part in range(task.messages):
            task.part = part
            loss = encoder.encode(theta, task)
            encoder.quantise((self.seed, self.worker, task.task))
            yield loss

    def rollback(self) -> None:
        """Return the last payload, which rank 0 has dropped, to the memory."""
        self.encoders[self._round].rollback()


def compute(worker: Computes, task: Task, now_ns: Callable[[], int]) -> Iterator[Computed]:
    """Compute the messages of a reply, with the times of the computation on a clock."""
    start_ns = now_ns()
    for part, loss in enumerate(worker.parts(task)):
        yield Computed(part, loss, start_ns, now_ns())
        start_ns = now_ns()


def work(link: Link, worker: Computes) -> None:
    """Serve tasks until rank 0 ends the run. Faults, delays and checkpoints wrap link and worker."""
    while (task := link.next_task()) is not None:
        for computed in compute(worker, task, link.now_ns):
            link.reply(computed)
    link.leave()
