"""Wrappers of a worker's link: injected delays, and its part of checkpoints."""

from ..stragglers import WorkerDelays
from ..training.worker import Worker
from ..transport.base import Computed, Link, WrappedLink
from ..transport.layout import RETURNED, SAVE, UNDO
from ..transport.messages import Task
from ..util.stateful import load_state, state_of
from .worker_checkpoint import WorkerCheckpoint


class DelayedLink(WrappedLink):
    """Link whose replies wait for the injected delays of ``[stragglers]``."""

    def __init__(self, link: Link, delays: WorkerDelays) -> None:
        super().__init__(link)
        self._delays = delays

    def next_task(self) -> Task | None:
        self._task = self.link.next_task()
        return self._task

    def reply(self, computed: Computed) -> None:
        task, delays = self._task, self._delays
        assert task is not None
        compute_ns = computed.t_compute_ns - computed.t_start_ns
        delay_ns = delays.delay_ns(task.task, compute_ns, task.version, task.round, computed.part)
        if delay_ns:
            delay_ns = self.link.wait(delay_ns, delays.spin)
        self.link.reply(computed._replace(delay_ns=delay_ns))


class SavingLink(WrappedLink):
    """Link of a worker that writes its part of a checkpoint when rank 0 asks for it."""

    def __init__(self, link: Link, worker: Worker, files: WorkerCheckpoint) -> None:
        super().__init__(link)
        self._worker, self._files = worker, files
        # Objects whose state is saved; a model has seen the rows of a payload, even if that is dropped.
        self.stateful: dict[str, object] = {"encoders": worker.encoders}
        if worker.model_state:
            self.stateful["model"] = worker.model_state
        state_of(self.stateful)  # fails early if a plug-in's class does not declare its state

    def restore(self, task: int) -> None:
        """Restore the state before a task; -1: none."""
        if task >= 0:
            self._files.read(self.stateful, task)

    def save(self, task: int) -> None:
        """Write the worker's state before a task."""
        self._files.write(self.stateful, task)

    def next_task(self) -> Task | None:
        task = self.link.next_task()
        flags = self.link.flags if task is None else task.flags
        if flags & SAVE:
            number = self._worker.next_task if task is None else task.task
            if flags & (UNDO | RETURNED):  # as if the last payload had been dropped; it may still be used
                before = state_of(self.stateful)
                self._worker.rollback()
                self.save(number)
                load_state(self.stateful, before)
            else:
                self.save(number)
        return task
