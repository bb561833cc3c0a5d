"""The fleet of MPI ranks: rank 0 is the coordinator, rank i + 1 is worker i.

Rank 0 has two receive buffers for each worker, with a persistent receive for each part of a reply, and one
send buffer. Sends are plain Isends: tasks may differ in length, and Open MPI's monitoring, against which byte
counts are tested, does not see persistent sends. A worker has one task in flight; after its reply it gets the
next one, with the newest θ. The receives of all parts are posted with the task, and MPI keeps their order.
The two receive buffers alternate: a payload stays valid until the reply to the worker's next but one task,
and decoders may refer to it.

A worker that dies makes calls of MPI fail, if MPI goes on then (ULFM: ``mpirun --with-ft ulfm``). The fleet
notes who it was, and sorts out which of the other receives have ended.

Rank 0 waits by Testsome and sleeps, not Waitsome: waits can then time out (to flush the trace or stop the
run), and if ranks outnumber cores an idle rank leaves its core to those that compute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import chain, pairwise
from typing import Any

import msgspec
import numpy as np
from mpi4py import MPI

from ..kernels import roster
from ..transport.base import INVALID_PAYLOAD, Arrival, Fleet, RankInfo
from ..transport.events import Died, Event, Joined, Stray
from ..transport.layout import CANCEL, DETACHED, SAVE, STOP, Layout, buffer, buffer_sizes
from ..transport.messages import Order, Reply, Task, control_message
from ..transport.speeds import Speeds
from . import clocks, pace
from .deaths import all_tested, failed, forgive
from .process import CHUNK, CLOCK, HELLO, PEER, REPLY, SAVED, SETUP, TASK, Patience, library

SAVING_NS = 60_000_000_000  # longest wait for a worker that writes its part of a checkpoint

BYTE, REQUEST_NULL = MPI.BYTE, MPI.REQUEST_NULL
STRAYS = "worker", "task"
"""Header fields by which a message is no answer to a worker's task."""
WRONG = {
    "size": "has not the size of its message",
    "bytes": "has not the size of its message",
    "flags": "is of another round or part",
    "version": "is of another version of theta",
    "row": "has codewords that were not handed out",
    "times": "has times that no clock shows",
}
"""Header field -> what is wrong with an answer in which it is not as expected."""


class Incoming(Arrival):
    """A part of a reply, with its receive.

    Attributes
    ----------
    receive : MPI.Prequest
    after : Incoming or None
        The next part.
    """

    receive: MPI.Prequest
    after: Incoming | None = None

    def __init__(self, reply: Reply, number: int) -> None:
        super().__init__(reply, number)
        self.place = reply.message


class MPIFleet(Fleet):
    """Rank 0's side.

    Parameters
    ----------
    layouts : sequence of Layout
        Message layout of each round.
    comm : MPI.Intracomm
        Rank 0, the workers and the spare ranks.
    spares : int
        Number of spare ranks, the last ones.

    Attributes
    ----------
    relieve : callable or None
        Returns facts and arrays for the rank that takes the place of a worker.
    joins_ns : dict
        When ranks take the places of workers that have gone, one after another, by worker; those of others
        at once.
    """

    relieve: Callable[[int], tuple[dict[str, Any], dict[str, np.ndarray]]] | None = None
    joins_ns: dict[int, list[int]]

    def __init__(self, layouts: Sequence[Layout], comm: MPI.Intracomm, spares: int = 0) -> None:
        self._comm = comm
        self.workers = self._comm.size - 1 - spares
        self.bytes_up = self.bytes_down = 0
        self._ranks = list(range(1, comm.size))  # of the workers, and those that wait
        self._failed: set[int] = set()  # ranks that have died …
        self._left: set[int] = set()  # … and those that have said good-bye
        self._arriving: list[tuple[MPI.Request, np.ndarray]] = []  # what is being sent to ranks that relieve
        self.alone = True  # whether every worker that was shut down knew that others had died
        self._vacant: dict[int, int] = {}  # workers whose places nobody has taken, and when somebody may, ns
        self.joins_ns = {}  # set before a run is started
        self._happened: list[Event] = []  # events besides replies that `events` has not returned yet
        self._forwarded: list[MPI.Request] = []  # payloads of other workers that are being sent
        self.library = library()
        self._patience = Patience(50e-6, comm)
        self.coordinator = RankInfo(0, clocks.host())
        known = [self._meet(worker) for worker in range(self.workers + spares)]
        self.members, self._waiting = known[: self.workers], known[self.workers :]
        self.initial_members = self.members.copy()
        del self._ranks[self.workers :]
        self._allocate(layouts)
        self.start()

    def _allocate(self, layouts: Sequence[Layout]) -> None:
        """Allocate the buffers of messages."""
        workers = self.workers
        task_bytes, reply_bytes = buffer_sizes(layouts)
        self._tasks = [Task(layouts, row) for row in buffer(task_bytes, workers)]
        # Of each receive buffer, which are two for each worker, the parts of the reply in each round.
        self._slots = [
            [linked(Reply(layout, row), number) for number, layout in enumerate(layouts)]
            for row in buffer(reply_bytes, 2 * workers)
        ]
        for slot in range(2 * workers):
            self._prepare(slot)
        self._places = [2 * worker for worker in range(workers)]  # receive buffer of each worker's task …
        self._due = [self._slots[2 * worker][0][0] for worker in range(workers)]  # … the part that comes next
        self._active = [MPI.REQUEST_NULL] * workers  # … and its receive
        self._statuses = [MPI.Status() for _ in range(workers)]  # of receives that have ended
        self._sends = [MPI.REQUEST_NULL] * workers

    def _prepare(self, slot: int) -> None:
        """Prepare to receive replies in a buffer."""
        for part in chain.from_iterable(self._slots[slot]):
            part.receive = self._comm.Recv_init(part.place, source=self._ranks[slot // 2], tag=REPLY)

    def _meet(self, worker: int) -> RankInfo:
        hello = bytearray(256)
        status = MPI.Status()
        request = self._comm.Irecv(hello, source=self._ranks[worker], tag=HELLO)
        self._patience.wait(lambda: request.Test(status))
        self.bytes_up += status.Get_count(MPI.BYTE)
        host, _, identity = bytes(hello[: status.Get_count(MPI.BYTE)]).decode().partition("\n")
        rounds = 0 if identity == clocks.identity() else clocks.ROUNDS
        self._send(worker, CLOCK, np.array([rounds]))
        member = RankInfo(self._ranks[worker], host, rounds)
        if rounds:
            member.offset_ns, member.error_ns = self.clock_offset(worker, rounds)
        return member

    def clock_offset(self, worker: int, rounds: int) -> tuple[int, int]:
        """Measure the offset of a worker's clock and its error bound, in ns, while the worker is in
        `MPILink.serve_clock`."""
        stamp = np.zeros(1, np.int64)

        def exchange() -> int:
            self._send(worker, CLOCK, stamp)
            self._comm.Recv(stamp, source=self._ranks[worker], tag=CLOCK)
            self.bytes_up += stamp.nbytes
            return int(stamp[0])

        return clocks.offset(exchange, rounds)

    def _send(self, worker: int, tag: int, array: np.ndarray) -> None:
        self._comm.Send(array, dest=self._ranks[worker], tag=tag)
        self.bytes_down += array.nbytes

    def set_up(self, worker: int, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        for message in set_up_messages(worker, facts, arrays):
            self._send(worker, SETUP, message)

    def measure(self, planned: list[int]) -> Speeds:
        """Measure the link and the workers' speed, see `pace.measure`."""
        measured, up, down = pace.measure(self._comm, planned, self.workers)
        self.bytes_up, self.bytes_down = self.bytes_up + up, self.bytes_down + down
        return measured

    def resize(self, layouts: Sequence[Layout]) -> None:
        """Allocate the buffers anew for other layouts, before the first task."""
        self._release_all()
        self._allocate(layouts)

    def start(self, at_ns: int = 0) -> None:
        self._start_ns = clocks.now_ns() - at_ns
        for worker, times_ns in self.joins_ns.items():  # of a run that goes on
            self.joins_ns[worker] = [time_ns for time_ns in times_ns if time_ns >= at_ns]
        self.now_ns = roster.Clock(clocks.now_ns, self._start_ns).now_ns  # type: ignore[method-assign]  # in one call
        self._offsets_ns = [self._start_ns + member.offset_ns for member in self.members]

    def now_ns(self) -> int:
        return clocks.now_ns() - self._start_ns

    def dispatch(self, worker: int, task: int, version: int, order: Order, flags: int = 0) -> int:
        if self._ranks[worker] in self._failed:  # an event that the coordinator is to handle next
            return self.now_ns()
        place = self._places[worker] = self._places[worker] ^ 1
        parts, message = self._slots[place][order.round], self._tasks[worker]
        self._due[worker], self._active[worker] = parts[0], parts[0].receive
        try:
            for part in parts:
                part.receive.Start()
            self._sends[worker].Wait()  # complete, as the worker has replied; this frees the request
            size = message.write(worker, task, version, order, flags)
            for part in parts:
                part.answers(worker, task, version, order.row, order.codewords, size)
            message.sent_ns[0] = now_ns = clocks.now_ns() - self._start_ns
            self._sends[worker] = self._comm.Isend((message.message, size, BYTE), self._ranks[worker], TASK)
        except MPI.Exception as error:
            self._record_failures(error)
            return self.now_ns()
        self.bytes_down += size
        return now_ns

    def events(self, timeout_ns: int, wake_ns: int | None = None) -> Sequence[Event]:
        sizes: dict[int, int] | None = None
        if self._vacant and self.joining:
            due_ns = min(self._vacant.values())
            wake_ns = due_ns if wake_ns is None else min(wake_ns, due_ns)
        try:
            done = MPI.Prequest.Testsome(self._active, self._statuses)
            if not (done or self._happened):
                if wake_ns is not None:
                    timeout_ns = min(timeout_ns, max(0, wake_ns - self.now_ns()))
                test = partial(MPI.Prequest.Testsome, self._active, self._statuses)
                done = self._patience.wait(test, timeout_ns)
        except MPI.Exception as error:
            done, sizes = self._sort_out(error)
        now_ns = clocks.now_ns() - self._start_ns
        events: list[Event] = []
        for place, worker in enumerate(done or ()):
            size = self._statuses[place].count if sizes is None else sizes.get(worker)
            if (arrival := self._read(worker, size, now_ns)) is not None:
                events.append(arrival)
        if self._happened:
            events += self._happened
            self._happened.clear()
        elif self._vacant and (joined := self._fill_vacancies(now_ns)):
            events.append(Joined(joined))
        return events

    def _read(self, worker: int, size: int | None, now_ns: int) -> Arrival | None:
        """Read a reply, of a size if that is known; None if it answers no task: another one may do so."""
        arrival = self._due[worker]
        size = len(arrival.place) if size is None else size
        wrong = arrival.take(self._offsets_ns[worker], size, now_ns)
        if wrong in STRAYS:
            self._happened.append(Stray(worker, f"of another {wrong}"))
            self.bytes_up += size
            arrival.receive.Start()
            return None
        after = arrival.after
        if after is None:
            self._active[worker] = REQUEST_NULL
        else:
            self._due[worker], self._active[worker] = after, after.receive
        self.bytes_up += arrival.bytes_up
        if wrong:
            arrival.t_start_ns = arrival.t_compute_ns = arrival.t_send_ns = arrival.t_recv_ns = now_ns
            arrival.injected_delay_ns, arrival.loss, arrival.finite = 0, math.nan, False
            arrival.leaving = False
        if not arrival.finite:
            arrival.fault = WRONG.get(wrong, INVALID_PAYLOAD)
        return arrival

    def _sort_out(self, error: MPI.Exception) -> tuple[list[int], dict[int, int]]:
        """Return whose replies are here, and their sizes, when a test of all receives has failed.

        The error hides which of them have ended: these are inactive now, and end at once when tested. A
        reply that is longer than it may be is one, too.
        """
        told = [status for status in self._statuses if status.error != MPI.SUCCESS]
        kinds, sizes = {status.error for status in told} - {MPI.ERR_PENDING}, dict[int, int]()
        for status in reversed(self._statuses):  # those of this test come first
            sizes[status.source - 1] = status.Get_count(MPI.BYTE)
            status.error = MPI.SUCCESS
        if error.Get_error_class() != MPI.ERR_IN_STATUS or kinds != {MPI.ERR_TRUNCATE}:
            self._record_failures(error)
            sizes = {}  # of one that had a death to tell of, MPI says nothing of the others
        done, status = [], MPI.Status()
        for worker, receive in enumerate(self._active):
            if receive != MPI.REQUEST_NULL and receive.Test(status):
                done.append(worker)
                if status.source == self._ranks[worker]:  # it has ended just now
                    sizes[worker] = status.Get_count(MPI.BYTE)
        return done, sizes

    def _record_failures(self, error: MPI.Exception) -> None:
        """Record ranks that have failed.

        A reply that completed in the failing call cannot be told from a pending one, and is dropped.
        """
        died = []
        for rank in sorted(failed(error, self._comm) - self._failed):
            self._failed.add(rank)
            self._waiting = [member for member in self._waiting if member.rank != rank]
            if rank in self._ranks and rank not in self._left:
                worker = self._ranks.index(rank)
                died.append(worker)
                self._active[worker] = MPI.REQUEST_NULL
                self._vacate(worker)
        if died:
            self._happened.append(Died(died))

    def _vacate(self, worker: int) -> None:
        """Note that another rank may take a worker's place: at its next time, or at once."""
        times_ns = self.joins_ns.get(worker)
        if self.relieve is not None and times_ns != []:
            self._vacant[worker] = 0 if times_ns is None else times_ns.pop(0)

    @property
    def joining(self) -> bool:
        return bool(self._vacant and self._waiting)

    def _fill_vacancies(self, now_ns: int) -> list[int]:
        """Have ranks that wait take the places of workers where it is time; return these."""
        joined = []
        for worker, due_ns in list(self._vacant.items()):
            if due_ns <= now_ns and self._waiting:
                joined.append(worker)
                del self._vacant[worker]
                self._replace(worker, self._waiting.pop(0))
        return joined

    def _replace(self, worker: int, member: RankInfo) -> None:
        """Have a rank that waits take the place of a worker; what it needs is sent meanwhile."""
        assert self.relieve is not None
        self._ranks[worker], self.members[worker] = member.rank, member
        self._offsets_ns[worker] = self._start_ns + member.offset_ns
        self._sends[worker] = MPI.REQUEST_NULL
        for slot in (2 * worker, 2 * worker + 1):
            self._release(slot)
            self._prepare(slot)
        self._arriving = [each for each in self._arriving if not all_tested([each[0]])]
        for message in set_up_messages(worker, *self.relieve(worker)):
            self._arriving.append((self._comm.Isend(message, member.rank, SETUP), message))
            self.bytes_down += message.nbytes

    def forward(self, worker: int, messages: Sequence[np.ndarray]) -> None:
        for message in messages:
            self._forwarded.append(self._comm.Isend(message, self._ranks[worker], PEER))
            self.bytes_down += len(message)
        self._forwarded = [each for each in self._forwarded if not all_tested([each])]

    def _tell(self, worker: int, flag: int, *more: int) -> None:
        """Send a header without a body, see `control_message`."""
        try:
            self._send(worker, TASK, control_message(worker, flag, *more))
        except MPI.Exception as error:
            self._record_failures(error)

    def cancel(self, workers: Collection[int], until_ns: int) -> None:
        for worker in workers:
            self._tell(worker, CANCEL)

    def shutdown(self, worker: int, until_ns: int = 0, flags: int = 0) -> bool:
        member = self.members[worker]
        try:
            self._sends[worker].Wait()
            self.alone &= self.bereaved
            self._tell(worker, STOP | flags | (DETACHED if self.bereaved else 0))
            if flags & SAVE and self._ranks[worker] not in self._failed:
                saved = self._comm.Irecv(bytearray(1), source=self._ranks[worker], tag=SAVED)
                self._patience.wait(saved.Test, SAVING_NS)
            if member.rounds and self._ranks[worker] not in self._failed:
                member.offset_ns, member.error_ns = self.clock_offset(worker, member.rounds)
        except MPI.Exception as error:
            self._record_failures(error)
        member.measured_ns = self.now_ns()
        return False

    def dismiss(self, worker: int, flags: int = 0) -> None:
        self._left.add(self._ranks[worker])
        self._tell(worker, STOP | DETACHED | flags)
        self._vacate(worker)

    @property
    def bereaved(self) -> bool:
        """Whether ranks have died or left, so that the others end without a collective call."""
        return bool(self._failed or self._left)

    def _release(self, slot: int) -> None:
        """Free the receives of a buffer."""
        for part in chain.from_iterable(self._slots[slot]):
            release(part.receive)

    def _release_all(self) -> None:
        for slot in range(len(self._slots)):
            self._release(slot)

    def close(self) -> None:
        self._release_all()
        for member in self._waiting:  # they are not needed any more
            try:
                self._comm.Send(np.array([0, self.bereaved]), dest=member.rank, tag=SETUP)
            except MPI.Exception as error:
                self._record_failures(error)


def linked(reply: Reply, number: int) -> list[Incoming]:
    """Return the parts of a reply of round `number`, each of which knows the next."""
    parts = [Incoming(part, number) for part in reply.parts]
    for part, after in pairwise(parts):
        part.after = after
    return parts


def set_up_messages(worker: int, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return the messages by which a rank learns facts and arrays, and which worker it is."""
    shapes = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
    text = np.frombuffer(msgspec.msgpack.encode((worker, facts, shapes)), np.uint8)
    messages = [np.array([len(text), 0]), text]
    for array in arrays.values():
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        messages += [flat[start : start + CHUNK] for start in range(0, len(flat), CHUNK)]
    return messages


def release(request: MPI.Request) -> None:
    """Free a receive, even one from a rank that has died."""
    try:
        request.Free()
    except MPI.Exception as error:
        forgive(error)
