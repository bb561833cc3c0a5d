"""Workers that send their payloads to each other (``[downlink] kind = "exchange"``).

A worker sends its reply to rank 0, and then to the other workers. Rank 0's task has references to the
payloads that it has used, in their order (`transport.log`); the worker puts the payloads there, its own ones,
too, and waits for those that are still on their way. Before the log, the task lists the *excluded* workers,
which get no payloads from workers, and whole ones from rank 0. So few messages wait for a worker that does
not answer.

Long messages need their sender's MPI calls while a receiver waits for them, so a thread makes some while the
worker computes. At the end the workers tell each other how many messages each has sent, and receive them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from threading import Event, Thread

import numpy as np
from mpi4py import MPI

from ..transport.base import Computed
from ..transport.layout import HEADER, SNAPSHOT, Layout, buffer, buffer_sizes
from ..transport.log import FORWARDED, LogFormat, read_excluded
from ..transport.messages import Reply, Task
from .deaths import all_tested, failed, forgive
from .link import MPILink
from .process import NEVER, PEER

POSTED = 2  # receives, per rank
PROGRESS_S = 2e-3  # between the thread's calls
BODY_BYTES = slice(4, 8)  # field of the header


class ExchangeLink(MPILink):
    """A worker's side of the transport, with links to all other workers."""

    def __init__(self, comm: MPI.Intracomm) -> None:
        super().__init__(comm)
        self._workers = comm.Create_group(comm.group.Excl([0]))

    def _allocate(self, layouts: Sequence[Layout]) -> list[Reply]:
        replies = super()._allocate(layouts)
        n, self._layouts, self._format = self._workers.size, layouts, LogFormat(layouts[0])
        self._task = Task(layouts, buffer(buffer_sizes(layouts)[0])[0])  # with the payloads of others
        self._to, self._excluded = self._others(()), b""  # those who get payloads; bytes of those who do not
        self._held: list[dict[int, np.ndarray]] = [{} for _ in range(n)]  # messages by worker and task
        self._newest = [-1] * n  # newest task of each worker of which there was a message at the last reply
        self._outgoing: list[list[MPI.Request]] = []  # sends of a reply that have not ended
        self._told, self._come = np.zeros(n, np.int64), np.zeros(n, np.int64)  # messages to and from each
        self._inboxes = [np.empty(0, np.uint8)] * (POSTED * (1 + n))
        self._incoming = [MPI.REQUEST_NULL] * len(self._inboxes)
        for place in range(len(self._inboxes)):
            if place // POSTED != self._comm.rank:
                self._post(place)
        self._pending, self._over = Event(), False
        self._thread = Thread(target=self._progress, daemon=True)
        self._thread.start()
        return replies

    def _others(self, excluded: Collection[int] | np.ndarray) -> list[int]:
        """Return the other workers, the next first, but for some."""
        n = self._workers.size
        return [each for step in range(1, n) if (each := (self.worker + step) % n) not in excluded]

    def _progress(self) -> None:
        """Call MPI while sends have not ended, so that it can go on with them while the worker computes."""
        concurrent = MPI.Query_thread() == MPI.THREAD_MULTIPLE
        while concurrent and not self._over:
            self._pending.wait()
            self._pending.clear()
            while not self._over and self._outgoing:
                with suppress(MPI.Exception):  # which the worker's own calls raise, too
                    self._comm.Iprobe(0, NEVER)
                time.sleep(PROGRESS_S)

    def _post(self, place: int) -> None:
        """Post a receive of another worker's reply, from there or from rank 0."""
        self._inboxes[place] = np.empty(self._format.message_bytes, np.uint8)
        self._incoming[place] = self._comm.Irecv(self._inboxes[place], place // POSTED, PEER)

    def _listen_to_peers(self) -> None:
        """Take over the replies that have come from other workers."""
        try:
            places = MPI.Request.Testsome(self._incoming) or ()
        except MPI.Exception as error:
            places = self._sort_out(error)
        for place in places:
            message = self._inboxes[place]
            worker, flags, _, task, *_ = HEADER.unpack_from(message.data)
            self._held[worker][task] = message
            self._come[worker] += flags != FORWARDED
            self._post(place)

    def _sort_out(self, error: MPI.Exception) -> list[int]:
        """Return the receives that have ended, when a test of all has failed; those from the dead stay so."""
        dead = failed(error, self._comm)
        return [
            place
            for place, (request, message) in enumerate(zip(self._incoming, self._inboxes, strict=True))
            if request == MPI.REQUEST_NULL and len(message) and place // POSTED not in dead
        ]

    def _wait_for(self, done: Callable[[], bool]) -> None:
        """Receive replies until something is done."""

        def poll() -> bool:
            self._listen_to_peers()
            return done()

        self._patience.wait(poll)

    def _heard(self) -> bool:
        self._listen_to_peers()
        return super()._heard()

    def _payload(self, worker: int, task: int) -> np.ndarray:
        """Return a worker's message of its reply to a task."""
        held = self._held[worker]
        if task not in held:
            self._wait_for(lambda: task in held)
        return held.pop(task)

    def _room(self, size: int) -> np.ndarray:
        """Return the place of a body in the task."""
        start = self._layouts[0].body_offset
        if start + size > len(self._task.message):
            self._task = Task(self._layouts, buffer(start + 2 * size)[0])
        return self._task.message[start:]

    def _take(self) -> None:
        self._outgoing = [each for each in self._outgoing if not all_tested(each)]
        inbox, start = self._inbox, self._layouts[0].body_offset
        excluded, log = read_excluded(inbox.body)
        if excluded.tobytes() != self._excluded:
            self._to, self._excluded = self._others(excluded), excluded.tobytes()
        if inbox.flags & SNAPSHOT:
            size = len(log)
            self._room(size)[:size] = log
        else:
            size = self._format.restore(log, self._payload, self._room)
        self._task.message[:start] = inbox.message[:start]
        self._task.message[BODY_BYTES].view(np.uint32)[0] = size
        self._task.read()
        self._forget()

    def _forget(self) -> None:
        """Forget messages to which no task will refer.

        A worker gets a task once rank 0 has used its last reply, or not. So no later task refers to a reply
        that is older than another one of the same worker, if that had come when this worker last replied.
        """
        for held, newest in zip(self._held, self._newest, strict=True):
            for task in [each for each in held if each < newest]:
                del held[task]

    def reply(self, computed: Computed) -> None:
        task, start = self._task, HEADER.size + self._format.codeword_bytes
        words, body = task.message[HEADER.size : start], self._replies[0].body
        message = self._format.message(self.worker, task.task, words, body)
        super().reply(computed)
        sends = []
        for to in self._to:
            try:
                sends.append(self._comm.Isend(message, 1 + to, PEER))
            except MPI.Exception as error:
                forgive(error)
        self._told[self._to] += 1
        self._held[self.worker][task.task] = message
        self._newest = [max(held, default=-1) for held in self._held]
        if not all_tested(sends):
            self._outgoing.append(sends)
            self._pending.set()

    def leave(self) -> None:
        super().leave()
        self._over = True
        self._pending.set()
        self._thread.join()
        if self.alone:
            return
        theirs = np.zeros_like(self._told)
        try:
            counting = self._workers.Ialltoall(self._told, theirs)
            self._wait_for(counting.Test)
        except MPI.Exception as error:
            forgive(error)
            return
        self._wait_for(lambda: bool((self._come >= theirs).all()))
        everything = [request for requests in self._outgoing for request in requests]
        self._wait_for(lambda: all_tested(everything))
        for request in self._incoming:
            if request != MPI.REQUEST_NULL:
                request.Cancel()
                request.Wait()
        self._workers.Free()
