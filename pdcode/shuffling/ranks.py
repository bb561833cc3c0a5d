"""Rows that do not come with tasks: broadcasts along a chain of workers, and rows between workers.

A broadcast leaves rank 0 once, in segments, which every worker passes on to the next one. In each epoch the
chain begins with the workers that have done the most tasks. A thread passes segments on, and sends rows to
other workers, while the worker computes; without MPI_THREAD_MULTIPLE this waits for the end of the task.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import RLock, Thread
from typing import NamedTuple

import numpy as np

from ..mpi.companions import Carrier, Channel
from ..mpi.deaths import all_complete, failed_ranks, is_proc_failure, reraise_unless_proc_failed
from ..mpi.initialise import MPI
from ..mpi.process import SPREAD, Poller
from ..transport.companions import Freight
from .rows import Kind, Missing, Opening, read
from .rows import message as encode
from .senders import Shard, Shuffler

SEGMENT, NOTICE, PART = range(3)  # what a message is: of a broadcast, of an epoch's members, a worker's rows
HEADS_BYTES = (
    512  # of a segment that are left to heads: Open MPI sends 64 KiB with its head without a handshake
)
NAP_S, BUSY_NAP_S = 2e-3, 2e-4  # between two calls of the thread: usually, and with messages on their way


class Message(NamedTuple):
    """A message: five numbers, a list of numbers, and bytes."""

    what: int
    epoch: int
    first: int  # of a segment: its offset; of a notice: the epoch before; of rows: the worker that had them
    total: int  # bytes of a whole broadcast
    numbers: list[int]  # ranks after the receiver; or members, then their ranks
    content: np.ndarray  # uint8

    def encode(self) -> np.ndarray:
        head = np.array([*self[:4], len(self.numbers), *self.numbers], np.int64)
        return np.concatenate([head.view(np.uint8), self.content])

    @classmethod
    def decode(cls, buffer: np.ndarray) -> "Message":
        what, epoch, first, total, count = buffer[:40].view(np.int64).tolist()
        end = 40 + 8 * count
        return cls(what, epoch, first, total, buffer[40:end].view(np.int64).tolist(), buffer[end:])


class Sends:
    """Messages on their way to other ranks; `bytes` counts all of them."""

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._comm, self._requests, self.bytes = comm, deque[MPI.Request](), 0

    def send(self, content: Message, rank: int) -> None:
        """Send a message; one to a failed rank is lost."""
        encoded = content.encode()
        self.bytes += len(encoded)
        try:
            self._requests.append(self._comm.Isend((encoded, MPI.BYTE), rank, SPREAD))
        except MPI.Exception as error:
            reraise_unless_proc_failed(error)

    def complete(self) -> bool:
        """Return whether all messages have left."""
        while self._requests and all_complete([self._requests[0]]):
            self._requests.popleft()
        return not self._requests

    def free(self) -> None:
        """Free all messages that have left, even after one that a stopped rank does not receive."""
        self._requests = deque(each for each in self._requests if not all_complete([each]))


class RowCarrier(Sends, Carrier):
    """Rank 0's side, of a sender's rows; broadcasts are cut into segments."""

    def __init__(self, comm: MPI.Intracomm, sender: Shuffler, segment: int) -> None:
        super().__init__(comm)
        self._sender, self._segment = sender, segment

    def open(self, freight: Freight, ranks: Sequence[int]) -> None:
        if freight.opening is not None:
            self.begin(freight.opening, ranks)

    def begin(self, opening: Opening, ranks: Sequence[int]) -> None:
        """Begin an epoch."""
        self.free()
        members = [ranks[worker] for worker in opening.members]
        if opening.content is None:
            for rank in members:
                named = [*opening.members, *members]
                self.send(Message(NOTICE, opening.epoch, opening.base, 0, named, np.empty(0, np.uint8)), rank)
            return
        total = len(opening.content)
        size = max(
            1024, self._segment - HEADS_BYTES - 8 * len(ranks)
        )  # the same when it is sent again, to fewer
        for start in range(0, max(1, total), size):
            part = opening.content[start : start + size]
            self.send(Message(SEGMENT, opening.epoch, start, total, members[1:], part), members[0])

    def lost(self, worker: int, ranks: Sequence[int]) -> None:
        self.replace(self._sender.missing(worker), ranks)

    def overdue(self, worker: int, ranks: Sequence[int]) -> None:
        self.replace(self._sender.awaited(worker), ranks)

    def openings(self, worker: int) -> int:
        return self._sender.openings(worker)

    def replace(self, missing: Missing, ranks: Sequence[int]) -> None:
        """Send what others wait for in vain."""
        for opening in missing.broadcasts:
            self.begin(opening, ranks)
        for receiver, epoch, owner, rows in missing.rows:
            self.send(Message(PART, epoch, owner, 0, [], rows), ranks[receiver])


class Broadcast:
    """A broadcast that is being received."""

    def __init__(self, total: int) -> None:
        self.content = np.empty(total, np.uint8)
        self._left, self._seen = total, set[int]()

    def put(self, start: int, part: np.ndarray) -> bool:
        """Store a segment; return whether it is the last that was missing."""
        if start in self._seen:
            return False
        self._seen.add(start)
        self.content[start : start + len(part)] = part
        self._left -= len(part)
        return not self._left


class RowChannel(Channel):
    """A worker's side: it receives rows of `shard`, and passes on those for others."""

    def __init__(self, comm: MPI.Intracomm, poller: Poller, shard: Shard) -> None:
        self._comm, self._poller, self._shard, self._sends = comm, poller, shard, Sends(comm)
        self._broadcasts: dict[int, Broadcast] = {}  # by epoch
        self._members: dict[int, list[int]] = {}
        self._parts: dict[int, dict[int, np.ndarray]] = {}  # by epoch and the worker that had the rows
        self._incoming = deque[tuple[MPI.Request, np.ndarray]]()  # receives of messages that have come
        self._notices: list[Message] = []  # whose rows are still to be sent
        self._awaited: dict[int, set[int]] = {}  # workers whose rows have not come, by epoch
        self._taken = self._past = 0  # last epoch, and the openings up to it
        self._done = set[int]()  # later epochs whose broadcast is complete, or whose notice is answered
        self._lock, self._ended, self._failed = RLock(), False, False
        self._thread = Thread(target=self._progress, daemon=True)
        if MPI.Query_thread() == MPI.THREAD_MULTIPLE:
            self._thread.start()

    def _progress(self) -> None:
        try:
            while not self._ended:
                time.sleep(BUSY_NAP_S if self._poll() else NAP_S)
        except MPI.Exception as error:
            if not is_proc_failure(error, self._comm):
                raise  # else the worker itself says so

    def _poll(self) -> bool:
        """Handle the messages that have arrived; return whether some are on their way."""
        status = MPI.Status()
        with self._lock:
            try:
                while (arrived := self._comm.Improbe(MPI.ANY_SOURCE, SPREAD, status)) is not None:
                    buffer = np.empty(status.Get_count(MPI.BYTE), np.uint8)
                    self._incoming.append((arrived.Irecv((buffer, MPI.BYTE)), buffer))
            except MPI.Exception as error:
                failed_ranks(error, self._comm)
                self._failed = True
            while self._incoming and (whole := self._received(self._incoming[0][0])) is not None:
                buffer = self._incoming.popleft()[1]
                if whole:
                    self._take(Message.decode(buffer))
            if self._notices and self._shard.lock.acquire(blocking=False):
                try:
                    self._answer()
                finally:
                    self._shard.lock.release()
            return not self._sends.complete() or bool(self._incoming)

    def _received(self, request: MPI.Request) -> bool | None:
        """Return whether a message is complete; None: not yet; False: its sender has failed."""
        try:
            return True if request.Test() else None
        except MPI.Exception as error:
            reraise_unless_proc_failed(error)
            return False

    def _take(self, got: Message) -> None:
        """Handle a message."""
        if got.what == SEGMENT:
            if got.numbers:
                self._sends.send(got._replace(numbers=got.numbers[1:]), got.numbers[0])
            if got.epoch > self._taken:  # else it is a copy
                broadcast = self._broadcasts.setdefault(got.epoch, Broadcast(got.total))
                if broadcast.put(got.first, got.content):
                    self._done.add(got.epoch)
        elif got.what == NOTICE:
            self._notices.append(got)
            members = self._members[got.epoch] = got.numbers[: len(got.numbers) // 2]
            wanted = self._owners(got.first, got.epoch)
            had = {*members} & {*wanted.tolist()} - {*self._parts.get(got.epoch, ())}
            self._awaited[got.epoch] = had
        else:
            if got.epoch > self._taken:
                self._parts.setdefault(got.epoch, {}).setdefault(got.first, got.content)
            self._awaited.get(got.epoch, set()).discard(got.first)

    def _owners(self, base: int, epoch: int) -> np.ndarray:
        """Return the workers of the rows that this one wants, in their order."""
        deal = self._shard.deal
        owners: np.ndarray = deal.owners(base)[deal.exchanged(base, epoch, self._shard.worker)]
        return owners

    def _answer(self) -> None:
        """Send rows to the other members of epochs."""
        shard, deal = self._shard, self._shard.deal
        for notice in [each for each in self._notices if each.first == shard.epoch]:
            self._notices.remove(notice)
            count = len(notice.numbers) // 2
            for worker, rank in zip(notice.numbers[:count], notice.numbers[count:], strict=True):
                units = deal.exchanged(notice.first, notice.epoch, worker)
                mine = units[deal.owners(notice.first)[units] == shard.worker]
                if len(mine) and worker != shard.worker:
                    rows = shard.fetch(mine).reshape(-1)
                    self._sends.send(Message(PART, notice.epoch, shard.worker, 0, [], rows), rank)
            self._done.add(notice.epoch)

    def _handled(self, openings: int, last: float = math.inf) -> bool:
        """Return whether so many openings, all up to an epoch, are done; a later one may be done before."""
        return self._past + sum(each <= last for each in tuple(self._done)) >= openings

    def _wait(self, done: Callable[[], bool]) -> None:
        def poll() -> bool:
            with self._lock:  # as the thread looks at the same tables and sends
                self._poll()
                return done()

        self._poller.wait(poll)

    def complete(self, message: np.ndarray) -> np.ndarray:
        kind, base, epoch, openings, content = read(message)
        self._wait(lambda: self._handled(openings, epoch))
        if kind == Kind.BROADCAST:
            content = self._broadcasts[epoch].content
        elif kind == Kind.EXCHANGED:
            self._wait(lambda: not self._awaited[epoch])
            size, at, pieces = self._shard.row_bytes, 0, []
            owners, counts = np.unique(self._owners(base, epoch), return_counts=True)
            for owner, count in zip(owners.tolist(), counts.tolist(), strict=True):
                if owner in self._members[epoch]:
                    pieces.append(self._parts[epoch][owner])
                else:
                    pieces.append(content[at : at + count * size])
                    at += count * size
            content = np.concatenate([content[:0], *pieces])
        with self._lock:
            self._sends.free()
            self._taken, self._past = epoch, openings
            self._done = {each for each in self._done if each > epoch}
            for table in (self._broadcasts, self._parts, self._members):
                for each in [each for each in table if each <= epoch]:
                    del table[each]
        return encode(kind, base, epoch, openings, content)

    def leave(self, openings: int, detached: bool) -> None:
        if not detached:
            self._wait(
                lambda: (
                    self._failed
                    or (
                        not any(self._awaited.values()) and self._handled(openings) and self._sends.complete()
                    )
                )
            )

    def close(self) -> None:
        self._ended = True
        if self._thread.ident is not None:
            self._thread.join()
