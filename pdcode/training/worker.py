"""A worker's loop: receive a task, compute its payload, reply."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from .. import faults
from ..coding.memory import PayloadEncoder
from ..coding.replica import Replica
from ..config import Config
from ..faults.injector import Injector
from ..stragglers import WorkerDelays
from ..transport.base import Link
from ..transport.layout import RETURNED, SAVE, UNDO
from ..transport.messages import Reply, Task
from ..util.stateful import Stateful, load_state, state_of
from .memories import Memories

AGAIN, MOST_AGAIN = (
    1 << 40,
    1 << 10,
)  # keys of mini-batches beside those of tasks: the first, and those of a θ


class Worker(Stateful):
    """Worker: computes replies to tasks, on a rank or in a simulation.

    Parameters
    ----------
    worker : int
        Number of the worker, from 0.
    replica : Replica
        The worker's copy of θ.
    encoders : sequence of PayloadEncoder
        Computation of the payload, for each round of an update.
    config : Config
        The seed and ``[faults]`` are used.
    replies : sequence of Reply
        Where the payloads are, for each round.

    Attributes
    ----------
    stateful : dict of str to object
        Objects whose state this worker's part of a checkpoint saves, over MPI.
    """

    state_names = ("replica", "encoders", "_messages", "_round", "_next")  # of a run without faults

    def __init__(
        self,
        worker: int,
        replica: Replica,
        encoders: Sequence[PayloadEncoder],
        config: Config,
        replies: Sequence[Reply],
    ) -> None:
        self.worker, self.replica, self.encoders, self.replies = worker, replica, encoders, replies
        self.seed = config.seed
        events = faults.of_worker(config, worker) if config.faults else ()
        self._spells = faults.Spells(event for event in events if event.numeric)
        self._messages = [part for reply in replies for part in reply.parts]
        self._round = 0  # of the last payload
        self.stateful: dict[str, object] = {"encoders": encoders}
        self.memories: Memories | None = None  # writes their state
        self._next = 0  # number of the next task
        self._sound: list[tuple[np.ndarray, np.ndarray]] = []  # what is garbled, and as it was

    def recall(self, place: tuple[str, str, int] | None) -> bool:
        """Take over what was kept before a task, and keep it from now on; see `mpi.ranks.memory_places`.

        Returns
        -------
        bool
            Whether there was nothing to take over, or all of it was.
        """
        if place is None:
            return True
        folder, run, task = place
        self.memories = Memories(folder, run, self.worker)
        state_of(self.stateful)  # where a plug-in's class does not declare its state, the run ends here
        return task < 0 or self.memories.read(self.stateful, task)

    def save(self, task: int) -> None:
        """Write this worker's part of a checkpoint, with which it goes on at a task."""
        assert self.memories is not None
        self.memories.write(self.stateful, task)

    def keep(self, flags: int) -> None:
        """Put right what faults have garbled; write a part of a checkpoint, if rank 0 asks for it."""
        for place, was in self._sound:
            place[:] = was
        self._sound.clear()
        if self.memories is None or not flags & SAVE:
            return
        if flags & (UNDO | RETURNED):
            now = state_of(self.stateful)
            self.encoders[self._round].rollback()
            self.save(self._next)
            load_state(self.stateful, now)
        else:
            self.save(self._next)

    def perform(self, task: Task) -> float:
        """Write the whole reply to a task to its buffer; return the mini-batch loss."""
        *_, loss = self.parts(task)
        return loss

    def parts(self, task: Task) -> Iterator[float]:
        """Write the parts of the reply to a task to its buffer in turn; yield the mini-batch loss at each."""
        spells = self._spells.begin(task.task, task.sent_ns[0]) if self._spells else ()
        for spell in spells:
            spell.begin(self.worker, task.task)
        self._next = task.task
        self.keep(task.flags)
        self._next += 1
        if task.flags & RETURNED:
            self.encoders[self._round].rollback()
        theta = self.replica.update(task)
        for spell in spells:
            theta = spell.blur(theta)
        self._round, encoder = task.round, self.encoders[task.round]
        for part in range(task.messages):
            task.part = part
            loss = encoder.encode(theta, task)
            keys = self.seed, self.worker, task.task
            encoder.quantise(keys)
            if spells:
                reply = self.replies[task.round].parts[part]
                self._sound += [(each, each.copy()) for each in (reply.body, reply.payload)]
                again = partial(self._again, encoder, reply, theta, task)
                for spell in spells:
                    spell.garble(reply, keys, again)
            yield loss

    def _again(
        self, encoder: PayloadEncoder, reply: Reply, theta: np.ndarray, task: Task, number: int
    ) -> np.ndarray:
        """Compute the payload of another mini-batch at θ, with the keys of a task that will not be.

        Encoders and reply are then as before.
        """
        changed, number_now = [self.encoders, reply], task.task
        now = state_of(changed)
        task.task = AGAIN + MOST_AGAIN * task.version + number
        encoder.encode(theta, task)
        encoder.quantise((self.seed, self.worker, task.task))
        payload = reply.payload.copy()
        task.task = number_now
        load_state(changed, now)
        return payload


def work(link: Link, worker: Worker, delays: WorkerDelays, injector: Injector) -> None:
    """Serve tasks until rank 0 ends the run.

    Parameters
    ----------
    link : Link
        Link to rank 0.
    worker : Worker
        Computes the replies.
    delays : WorkerDelays
        Injected delays.
    injector : Injector
        Injected faults, but for those of payloads.
    """
    while (task := link.next_task()) is not None:
        injector.begin(task, link)
        t_start_ns = link.now_ns()
        for part, loss in enumerate(worker.parts(task)):
            injector.computed(link.now_ns() - t_start_ns)
            t_compute_ns = link.now_ns()
            compute_ns = t_compute_ns - t_start_ns
            delay_ns = delays.delay_ns(task.task, compute_ns, task.version, task.round, part)
            if delay_ns:
                delay_ns = link.wait(delay_ns, delays.spin)
            injector.replying()
            link.reply(part, t_start_ns, t_compute_ns, delay_ns, loss)
            t_start_ns = link.now_ns()
    worker.keep(link.flags)
    link.leave()
