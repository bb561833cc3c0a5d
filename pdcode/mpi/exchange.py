"""Workers that send their payloads to each other (``[downlink] kind = "exchange"``).

A worker sends its reply to rank 0, and then to the other workers. Rank 0's task refers to the payloads that
it has used, in their order (`transport.log`); the worker inserts the payloads, its own included, and waits
for those still in flight. Before the log, the task lists the *excluded* workers, which get no payloads from
workers, and whole payloads from rank 0. So few messages wait for a worker that does not respond.

Long messages progress only inside MPI calls of their sender, so a thread makes such calls while the worker
computes. At the end the workers exchange the counts of their messages, and receive the outstanding ones.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from itertools import chain
from threading import Event, Thread

import numpy as np

from ..transport.base import Computed
from ..transport.layout import HEADER, SNAPSHOT, Layout, buffer, buffer_sizes
from ..transport.log import FORWARDED, LogFormat, read_excluded
from ..transport.messages import Reply, Task
from .deaths import all_complete, dead_ranks, failed_ranks, reraise_unless_proc_failed
from .initialise import MPI
from .link import Entry, MPILink
from .process import NEVER, PEER

POSTED = 2  # receives posted per rank
PROGRESS_S = 2e-3  # between the thread's calls
BODY_BYTES = slice(4, 8)  # field of the header


class LogLink(MPILink, ABC):
    """Link of a worker whose tasks refer to payloads that other workers send it."""

    def _allocate(self, layouts: Sequence[Layout]) -> list[Reply]:
        replies = super()._allocate(layouts)
        self._layouts, self._format = layouts, LogFormat(layouts[0])
        self._task = Task(layouts, buffer(buffer_sizes(layouts)[0])[0])  # with the payloads themselves
        return replies

    @abstractmethod
    def _payload(self, worker: int, task: int) -> np.ndarray:
        """Return the message of a worker's payload of a task; wait for it."""

    def _body_buffer(self, size: int) -> np.ndarray:
        """Return the buffer of the task's body, enlarged to `size` bytes if necessary."""
        start = self._layouts[0].body_offset
        if start + size > len(self._task.message):
            self._task = Task(self._layouts, buffer(start + 2 * size)[0])
        return self._task.message[start:]

    def _take_excluded(self, excluded: np.ndarray) -> None:
        """Note the excluded workers."""

    def _assemble_task(self) -> None:
        inbox, start = self._inbox, self._layouts[0].body_offset
        excluded, log = read_excluded(inbox.body)
        self._take_excluded(excluded)
        if inbox.flags & SNAPSHOT:
            size = len(log)
            self._body_buffer(size)[:size] = log
        else:
            size = self._format.restore(log, self._payload, self._body_buffer)
        self._task.message[:start] = inbox.message[:start]
        self._task.message[BODY_BYTES].view(np.uint32)[0] = size
        self._task.read()


class ExchangeLink(LogLink):
    """A worker's side of the transport, with links to all other workers."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry)
        self._workers = self._comm.workers

    def _allocate(self, layouts: Sequence[Layout]) -> list[Reply]:
        replies = super()._allocate(layouts)
        n = self._workers.size
        self._recipients, self._excluded = self._others(()), b""  # workers; bytes of rank 0's list
        self._messages: list[dict[int, np.ndarray]] = [{} for _ in range(n)]  # by worker and task
        self._newest = [-1] * n  # each worker's newest task with a message here at the last reply
        self._outgoing: list[list[MPI.Request]] = []  # incomplete sends, by reply
        self._sent_counts, self._received_counts = np.zeros((2, n), np.int64)  # messages, by worker
        self._inboxes = [np.empty(0, np.uint8)] * (POSTED * (1 + n))
        self._incoming = [MPI.REQUEST_NULL] * len(self._inboxes)
        for place in range(len(self._inboxes)):
            if place // POSTED != self._comm.rank:
                self._post_peer_receive(place)
        self._sends_pending, self._ended = Event(), False
        self._thread = Thread(target=self._progress, daemon=True)
        self._thread.start()
        return replies

    def _others(self, excluded: Collection[int] | np.ndarray) -> list[int]:
        """Return the other workers that are not excluded, in cyclic order from this one."""
        n = self._workers.size
        return [other for step in range(1, n) if (other := (self.worker + step) % n) not in excluded]

    def _progress(self) -> None:
        """Call MPI while sends are incomplete, so that they progress while the worker computes."""
        concurrent = MPI.Query_thread() == MPI.THREAD_MULTIPLE
        while concurrent and not self._ended:
            self._sends_pending.wait()
            self._sends_pending.clear()
            while not self._ended and self._outgoing:
                with suppress(MPI.Exception):  # the worker's own calls raise it, too
                    self._comm.Iprobe(0, NEVER)
                time.sleep(PROGRESS_S)

    def _post_peer_receive(self, place: int) -> None:
        """Post a receive of another worker's reply, sent by that worker or forwarded by rank 0."""
        self._inboxes[place] = np.empty(self._format.message_bytes, np.uint8)
        self._incoming[place] = self._comm.Irecv(self._inboxes[place], place // POSTED, PEER)

    def _receive_from_peers(self) -> None:
        """Store the replies that have arrived from other workers."""
        try:
            places = MPI.Request.Testsome(self._incoming) or ()
        except MPI.Exception as error:
            places = self._sort_out(error)
        for place in places:
            message = self._inboxes[place]
            worker, flags, _, task, *_ = HEADER.unpack_from(message.data)
            self._messages[worker][task] = message
            self._received_counts[worker] += flags != FORWARDED
            self._post_peer_receive(place)

    def _sort_out(self, error: MPI.Exception) -> list[int]:
        """Return the completed receives after an error of a test of all; receives from failed ranks stay."""
        dead_ranks = failed_ranks(error, self._comm)
        return [
            place
            for place, (request, message) in enumerate(zip(self._incoming, self._inboxes, strict=True))
            if request == MPI.REQUEST_NULL and len(message) and place // POSTED not in dead_ranks
        ]

    def _wait_for(self, done: Callable[[], bool]) -> None:
        """Receive replies until `done` returns true."""

        def poll() -> bool:
            self._receive_from_peers()
            return done()

        self._poller.wait(poll)

    def _message_arrived(self) -> bool:
        self._receive_from_peers()
        return super()._message_arrived()

    def _payload(self, worker: int, task: int) -> np.ndarray:
        messages = self._messages[worker]
        if task not in messages:
            self._wait_for(lambda: task in messages)
        return messages.pop(task)

    def _take_excluded(self, excluded: np.ndarray) -> None:
        if excluded.tobytes() != self._excluded:
            self._recipients, self._excluded = self._others(excluded), excluded.tobytes()

    def _assemble_task(self) -> None:
        self._outgoing = [sends for sends in self._outgoing if not all_complete(sends)]
        super()._assemble_task()
        self._drop_unneeded()

    def _drop_unneeded(self) -> None:
        """Drop messages to which no task will refer.

        Rank 0 sends a worker a task only after it has handled the worker's last reply. So no later task
        refers to a reply that is older than another reply of the same worker that was here when this worker
        last replied.
        """
        for messages, newest in zip(self._messages, self._newest, strict=True):
            for task in [task for task in messages if task < newest]:
                del messages[task]

    def reply(self, computed: Computed) -> None:
        task, start = self._task, HEADER.size + self._format.codeword_bytes
        codewords, body = task.message[HEADER.size : start], self._replies[0].body
        message = self._format.message(self.worker, task.task, codewords, body)
        super().reply(computed)
        sends = []
        for recipient in self._recipients:
            try:
                sends.append(self._comm.Isend(message, 1 + recipient, PEER))
            except MPI.Exception as error:
                reraise_unless_proc_failed(error)
        self._sent_counts[self._recipients] += 1
        self._messages[self.worker][task.task] = message
        self._newest = [max(messages, default=-1) for messages in self._messages]
        if not all_complete(sends):
            self._outgoing.append(sends)
            self._sends_pending.set()

    def close(self) -> None:
        super().close()
        self._ended = True
        self._sends_pending.set()
        self._thread.join()

    def leave(self) -> None:
        super().leave()
        self.close()
        if self.detached:
            return
        expected_counts, outgoing = np.zeros_like(self._sent_counts), list(chain(*self._outgoing))

        def all_arrived() -> bool:
            """Return whether all messages to this worker have arrived, except from dead workers."""
            missing = 1 + np.flatnonzero(self._received_counts < expected_counts)
            return not missing.size or dead_ranks(self._comm).issuperset(missing.tolist())

        try:
            self._wait_for(self._workers.Ialltoall(self._sent_counts, expected_counts).Test)
            self._wait_for(all_arrived)
            self._wait_for(lambda: all_complete(outgoing))
            for request in self._incoming:
                if request != MPI.REQUEST_NULL:
                    request.Cancel()
                    request.Wait()
            if not self.continues:
                self._workers.Free()
        except MPI.Exception as error:
            reraise_unless_proc_failed(error)
