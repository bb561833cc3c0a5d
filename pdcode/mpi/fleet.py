"""The fleet of MPI ranks: rank 0 is the coordinator, rank i + 1 is worker i.

Rank 0 has two receive buffers (*slots*) for each worker, with a persistent receive for each part of a reply,
and one send buffer. Sends are plain Isends: tasks differ in length, and Open MPI's monitoring, against which
byte counts are tested, does not see persistent sends. A worker has one task in flight; after its reply it
gets the next one, with the newest θ. The receives of all parts are posted with the task, and MPI preserves
their order. The slots alternate: a payload stays valid until the reply to the worker's next but one task, so
decoders may refer to it.

After the failure of a worker MPI calls raise errors, if MPI survives it (ULFM: ``mpirun --with-ft ulfm``).
The fleet records the failed ranks, and finds out which of the other receives have completed.

Rank 0 waits by Testsome and sleeps, not by Waitsome: waits can then time out (to flush the trace or stop the
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

from ..kernels import roster
from ..launch import supervised
from ..transport.base import INVALID_PAYLOAD, Arrival, Fleet, RankInfo
from ..transport.events import Died, Event, Joined, Stray
from ..transport.layout import CANCEL, CONTINUE, DETACHED, SAVE, STOP, Layout, buffer, buffer_sizes
from ..transport.messages import Order, Reply, Task, control_message
from ..transport.speeds import Speeds
from ..util import clocks
from . import pace
from .companions import Carrier
from .deaths import (
    all_complete,
    dead_ranks,
    describe_deaths,
    failed_ranks,
    is_proc_failure,
    reraise_unless_proc_failed,
)
from .initialise import MPI
from .process import BESIDE, CHUNK, CLOCK, HELLO, PEER, REPLY, SAVED, SETUP, TASK, Group, Poller, library

ANSWER_NS = 1_000_000_000  # least time for another host's answer to one of the last clock requests
SAVING_NS = 60_000_000_000  # longest wait for a worker that writes its part of a checkpoint

BYTE, REQUEST_NULL = MPI.BYTE, MPI.REQUEST_NULL
STRAY_FIELDS = "worker", "task"  # with another value, a message does not answer the worker's task
MISMATCHES = {
    "size": "does not have the size of its message",
    "bytes": "does not have the size of its message",
    "flags": "is of another round or part",
    "version": "is of another version of theta",
    "row": "has codewords that were not assigned",
    "times": "has impossible times",
}
"""Header field with an unexpected value -> fault of the reply, for /faults."""


class Incoming(Arrival):
    """A part of a reply, with its receive."""

    receive: MPI.Prequest
    next_part: Incoming | None = None

    def __init__(self, reply: Reply, number: int) -> None:
        super().__init__(reply, number)
        self.buffer = reply.message


class Ranks:
    """The other ranks as rank 0 knows them before the run; the last `spares` ranks of `comm` are spare."""

    interrupted = 0

    def __init__(self, comm: Group, spares: int = 0) -> None:
        self._comm = comm
        self.workers = self._comm.size - 1 - spares
        self.bytes_up = self.bytes_down = 0
        self._ranks = list(range(1, comm.size))  # of the workers, and at first the spare ranks
        self.library = library()
        self._poller = Poller(50e-6, comm)
        self.coordinator = RankInfo(0, clocks.host())
        members = [self._handshake(worker) for worker in range(self.workers + spares)]
        self.members, self._spares = members[: self.workers], members[self.workers :]
        self.initial_members = self.members.copy()
        del self._ranks[self.workers :]

    def _handshake(self, worker: int) -> RankInfo:
        hello = bytearray(256)
        status = MPI.Status()
        request = self._comm.Irecv(hello, source=self._ranks[worker], tag=HELLO)
        self._poller.wait(lambda: request.Test(status))
        self.bytes_up += status.Get_count(MPI.BYTE)
        host, _, identity = bytes(hello[: status.Get_count(MPI.BYTE)]).decode().partition("\n")
        rounds = 0 if identity == clocks.identity() else clocks.ROUNDS
        self._send(worker, CLOCK, np.array([rounds]))
        member = RankInfo(self._ranks[worker], host, rounds)
        if rounds:
            member.offset_ns, member.error_ns = self.clock_offset(worker, rounds)
        return member

    def clock_offset(self, worker: int, rounds: int, limit_ns: int | None = None) -> tuple[int, int]:
        """Measure the offset of a worker's clock and its error bound, in ns; TimeoutError if it is late."""
        stamp = np.zeros(1, np.int64)

        def exchange() -> int:
            self._send(worker, CLOCK, stamp)
            answer = self._comm.Irecv(stamp, source=self._ranks[worker], tag=CLOCK)
            if limit_ns is None:
                answer.Wait()
            elif not self._poller.wait(answer.Test, limit_ns):
                answer.Cancel()  # a late one must not be written to `stamp`
                answer.Wait()
                raise TimeoutError
            self.bytes_up += stamp.nbytes
            return int(stamp[0])

        return clocks.offset(exchange, rounds)

    def _send(self, worker: int, tag: int, array: np.ndarray) -> None:
        self._comm.Send(array, dest=self._ranks[worker], tag=tag)
        self.bytes_down += array.nbytes

    def set_up(self, worker: int, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        for message in set_up_messages(worker, facts, arrays):
            self._send(worker, SETUP, message)

    def has_part(self, worker: int) -> bool:
        """Return whether a worker's part of a checkpoint is whole, as it has found after its set-up."""
        whole = np.zeros(1, bool)
        self._poller.wait(self._comm.Irecv(whole, source=self._ranks[worker], tag=SAVED).Test)
        self.bytes_up += whole.nbytes
        return bool(whole[0])

    def measure(self, planned: list[int]) -> Speeds:
        """Measure the link and the workers' speeds, see `pace.measure`."""
        measured, up, down = pace.measure(self._comm, planned, self.workers)
        self.bytes_up, self.bytes_down = self.bytes_up + up, self.bytes_down + down
        return measured


class MPIFleet(Ranks, Fleet):
    """Rank 0's side of a run, for the message layouts of all rounds."""

    interrupted = 0
    ending_s = 1e-9 * ANSWER_NS + supervised.END_S
    # Returns facts and arrays for the rank that replaces a worker. None: workers are not replaced.
    spare_setup: Callable[[int], tuple[dict[str, Any], dict[str, np.ndarray]]] | None = None
    carrier = Carrier()  # of what accompanies tasks in other ways; to be set
    joins_ns: dict[int, list[int]]  # times at which a worker is replaced; of workers not here: at once

    def __init__(self, ranks: Ranks, layouts: Sequence[Layout]) -> None:
        vars(self).update(vars(ranks))  # with what has been measured and counted so far
        self._failed: set[int] = set()  # ranks
        self._silent: set[str] = set()  # hosts whose workers do not answer at the end
        self._left: set[int] = set()  # ranks of workers that have left
        self._shut_down: set[int] = set()  # ranks of workers that take part in the end
        self._setup_sends: list[tuple[MPI.Request, np.ndarray]] = []  # to spare ranks that join, in flight
        self.detached = True  # whether every worker that was shut down had DETACHED in its last message
        self._vacancies: dict[int, int] = {}  # worker to be replaced -> earliest time, ns
        self.joins_ns = {}  # set before a run is started
        self._pending: list[Event] = []  # events besides replies that `events` has not returned yet
        self._forwarded: list[MPI.Request] = []  # sends of others' payloads and of companions, in flight
        self._allocate(layouts)
        self.start()

    def _allocate(self, layouts: Sequence[Layout]) -> None:
        """Allocate the message buffers and receives."""
        workers = self.workers
        replies = self._reply_layouts(layouts)
        task_bytes, reply_bytes = buffer_sizes(layouts)[0], buffer_sizes(replies)[1]
        self._tasks = [Task(layouts, row) for row in buffer(task_bytes, workers)]
        self._slots = [  # the parts of a reply, by slot and round
            [incoming_parts(Reply(layout, row), number) for number, layout in enumerate(replies)]
            for row in buffer(reply_bytes, 2 * workers)
        ]
        for slot in range(2 * workers):
            self._init_receives(slot)
        self._slot_of = [2 * worker for worker in range(workers)]  # slot of each worker's current task
        self._expected = [self._slots[2 * worker][0][0] for worker in range(workers)]  # next part
        self._active = [MPI.REQUEST_NULL] * workers  # receive of the next part
        self._statuses = [MPI.Status() for _ in range(workers)]  # of completed receives
        self._sends = [MPI.REQUEST_NULL] * workers

    def _reply_layouts(self, layouts: Sequence[Layout]) -> Sequence[Layout]:
        """Return the layouts of the messages from workers."""
        return layouts

    def _init_receives(self, slot: int) -> None:
        """Create the persistent receives of a slot."""
        for part in chain.from_iterable(self._slots[slot]):
            part.receive = self._comm.Recv_init(part.buffer, source=self._ranks[slot // 2], tag=REPLY)

    def start(self, at_ns: int = 0) -> None:
        self._start_ns = clocks.now_ns() - at_ns
        for worker, times_ns in self.joins_ns.items():  # those still to come in a resumed run
            self.joins_ns[worker] = [time_ns for time_ns in times_ns if time_ns >= at_ns]
        self.now_ns = roster.Clock(clocks.now_ns, self._start_ns).now_ns  # type: ignore[method-assign]  # in one call
        self._offsets_ns = [self._start_ns + member.offset_ns for member in self.members]

    def cause(self, error: BaseException) -> str:
        if not (isinstance(error, MPI.Exception) and is_proc_failure(error, self._comm)):
            return super().cause(error)
        ranks = set[int]() if self._comm.Is_revoked() else dead_ranks(self._comm)
        return describe_deaths(ranks) if ranks else "another rank has ended the job, and has printed why"

    def now_ns(self) -> int:
        return clocks.now_ns() - self._start_ns

    def dispatch(self, worker: int, task: int, version: int, order: Order, flags: int = 0) -> int:
        # Also for a worker that has failed, if its event is not handled yet: replays know no more.
        freight = self.companion.freight(worker, version)
        if freight is not None:
            self.carrier.open(freight, self._ranks)
        if self._ranks[worker] in self._failed:
            return self.now_ns()
        slot = self._slot_of[worker] = self._slot_of[worker] ^ 1
        parts, message = self._slots[slot][order.round], self._tasks[worker]
        self._expected[worker], self._active[worker] = parts[0], parts[0].receive
        try:
            for part in parts:
                part.receive.Start()
            self._sends[worker].Wait()  # complete, as the worker has replied; this frees the request
            size = message.write(worker, task, version, order, flags)
            own = size
            if freight is not None:
                message.companion_bytes[0], own = len(freight.sent), size + freight.size
            for part in parts:
                part.answers(worker, task, version, order.row, order.codewords, own)
            message.sent_ns[0] = now_ns = clocks.now_ns() - self._start_ns
            self._sends[worker] = self._comm.Isend((message.message, size, BYTE), self._ranks[worker], TASK)
            if freight is not None:
                self._send_beside(worker, freight.sent)
        except MPI.Exception as error:
            self._record_failures(error)
            return self.now_ns()
        self.bytes_down += size
        return now_ns

    def _send_beside(self, worker: int, message: np.ndarray) -> None:
        """Send the message that accompanies a worker's task."""
        self._forwarded = [send for send in self._forwarded if not all_complete([send])]
        for start in range(0, len(message), CHUNK):
            chunk = message[start : start + CHUNK]
            self._forwarded.append(self._comm.Isend(chunk, self._ranks[worker], BESIDE))
        self.bytes_down += len(message)

    def lost(self, worker: int) -> None:
        """Note that a worker gets no further task; send what others wait for."""
        super().lost(worker)
        self.carrier.lost(worker, self._ranks)

    def overdue(self, worker: int) -> None:
        self.carrier.overdue(worker, self._ranks)

    def events(self, timeout_ns: int, wake_ns: int | None = None) -> Sequence[Event]:
        sizes: dict[int, int] | None = None
        self._comm.turns += 1
        if self._vacancies and self.joining:
            due_ns = min(self._vacancies.values())
            wake_ns = due_ns if wake_ns is None else min(wake_ns, due_ns)
        try:
            done = MPI.Prequest.Testsome(self._active, self._statuses)
            if not (done or self._pending):
                if wake_ns is not None:
                    timeout_ns = min(timeout_ns, max(0, wake_ns - self.now_ns()))
                test = partial(MPI.Prequest.Testsome, self._active, self._statuses)
                done = self._poller.wait(test, timeout_ns)
        except MPI.Exception as error:
            done, sizes = self._sort_out(error)
        now_ns = clocks.now_ns() - self._start_ns
        events: list[Event] = []
        for index, worker in enumerate(done or ()):
            size = self._statuses[index].count if sizes is None else sizes.get(worker)
            if (arrival := self._read(worker, size, now_ns)) is not None:
                events.append(arrival)
        if self._pending:
            events += self._pending
            self._pending.clear()
        elif self._vacancies and (joined := self._fill_vacancies(now_ns)):
            events.append(Joined(joined))
        return events

    def _read(self, worker: int, size: int | None, now_ns: int) -> Arrival | None:
        """Read a reply of `size` bytes, if known; None for a stray one, whose receive is restarted."""
        arrival = self._expected[worker]
        size = len(arrival.buffer) if size is None else size
        wrong = arrival.take(self._offsets_ns[worker], size, now_ns)
        if wrong in STRAY_FIELDS:
            self._pending.append(Stray(worker, f"of another {wrong}"))
            self.bytes_up += size
            arrival.receive.Start()
            return None
        next_part = arrival.next_part
        if next_part is None:
            self._active[worker] = REQUEST_NULL
        else:
            self._expected[worker], self._active[worker] = next_part, next_part.receive
        self.bytes_up += arrival.bytes_up
        if wrong:
            arrival.t_start_ns = arrival.t_compute_ns = arrival.t_send_ns = arrival.t_recv_ns = now_ns
            arrival.injected_delay_ns, arrival.loss, arrival.finite = 0, math.nan, False
            arrival.leaving = False
        if not arrival.finite:
            arrival.fault = MISMATCHES.get(wrong, INVALID_PAYLOAD)
        return arrival

    def _sort_out(self, error: MPI.Exception) -> tuple[list[int], dict[int, int]]:
        """Return the workers whose receives have completed, and sizes, after an error of a test of all.

        The error does not show which receives have completed: these are inactive now, and a test of each
        succeeds at once. A reply that is too long is an error, too.
        """
        kinds = {status.error for status in self._statuses} - {MPI.SUCCESS, MPI.ERR_PENDING}
        by_rank = dict[int, int]()
        for status in reversed(self._statuses):  # statuses of this test come first
            by_rank[status.source] = status.Get_count(MPI.BYTE)
            status.error = MPI.SUCCESS
        sizes = {worker: by_rank[rank] for worker, rank in enumerate(self._ranks) if rank in by_rank}
        if error.Get_error_class() != MPI.ERR_IN_STATUS or kinds != {MPI.ERR_TRUNCATE}:
            self._record_failures(error)
            sizes = {}  # after a process failure MPI does not set the other statuses
        done, status = [], MPI.Status()
        for worker, receive in enumerate(self._active):
            if receive != MPI.REQUEST_NULL and receive.Test(status):
                done.append(worker)
                if status.source == self._ranks[worker]:  # it has completed just now
                    sizes[worker] = status.Get_count(MPI.BYTE)
        return done, sizes

    def _record_failures(self, error: MPI.Exception) -> None:
        """Record ranks that have failed.

        A reply that completed in the failing call cannot be told from a pending one, and is dropped.
        """
        self._record_dead(failed_ranks(error, self._comm))

    def _record_dead(self, ranks: Collection[int]) -> None:
        """Record ranks that have failed."""
        died = []
        for rank in sorted(set(ranks) - self._failed):
            self._failed.add(rank)
            self._spares = [member for member in self._spares if member.rank != rank]
            if rank in self._ranks and rank not in self._left:
                worker = self._ranks.index(rank)
                died.append(worker)
                self._active[worker] = MPI.REQUEST_NULL
                self._add_vacancy(worker)
        if died:
            self._pending.append(Died(died))

    def _add_vacancy(self, worker: int) -> None:
        """Allow a spare rank to replace a worker, at the next of the worker's `joins_ns` or at once."""
        times_ns = self.joins_ns.get(worker)
        if self.spare_setup is not None and times_ns != []:
            self._vacancies[worker] = 0 if times_ns is None else times_ns.pop(0)

    @property
    def joining(self) -> bool:
        return bool(self._vacancies and self._spares)

    def _fill_vacancies(self, now_ns: int) -> list[int]:
        """Replace workers by spare ranks where it is time; return these workers."""
        joined = []
        for worker, due_ns in list(self._vacancies.items()):
            if due_ns <= now_ns and self._spares:
                joined.append(worker)
                del self._vacancies[worker]
                self._replace(worker, self._spares.pop(0))
        return joined

    def _replace(self, worker: int, member: RankInfo) -> None:
        """Replace a worker by a spare rank; its facts and arrays are sent in the background."""
        assert self.spare_setup is not None
        self._ranks[worker], self.members[worker] = member.rank, member
        self._offsets_ns[worker] = self._start_ns + member.offset_ns
        self._sends[worker] = MPI.REQUEST_NULL
        self.companion.joined(worker)
        for slot in (2 * worker, 2 * worker + 1):
            self._free_slot(slot)
            self._init_receives(slot)
        self._setup_sends = [send for send in self._setup_sends if not all_complete([send[0]])]
        for message in set_up_messages(worker, *self.spare_setup(worker)):
            self._setup_sends.append((self._comm.Isend(message, member.rank, SETUP), message))
            self.bytes_down += message.nbytes

    def forward(self, worker: int, messages: Sequence[np.ndarray]) -> None:
        for message in messages:
            self._forwarded.append(self._comm.Isend(message, self._ranks[worker], PEER))
            self.bytes_down += len(message)
        self._forwarded = [send for send in self._forwarded if not all_complete([send])]

    def _send_control(self, worker: int, flags: int, *more: int) -> None:
        """Send a header without a body, see `control_message`."""
        try:
            self._send(worker, TASK, control_message(worker, flags, *more))
        except MPI.Exception as error:
            self._record_failures(error)

    def cancel(self, workers: Collection[int], until_ns: int) -> None:
        for worker in workers:
            self._send_control(worker, CANCEL)

    def shutdown(self, worker: int, until_ns: int = 0, flags: int = 0) -> bool:
        member = self.members[worker]
        try:
            self._sends[worker].Wait()
            self.detached &= self.has_failures
            # Its task is the number of clock requests, its version the number of openings for which it waits.
            openings = self.carrier.openings(worker)
            flags |= (DETACHED if self.has_failures else 0) | (CONTINUE if self.continues else 0)
            self._send_control(worker, STOP | flags, member.rounds, openings)
            if flags & SAVE and self._ranks[worker] not in self._failed:
                saved = self._comm.Irecv(bytearray(1), source=self._ranks[worker], tag=SAVED)
                self._poller.wait(saved.Test, SAVING_NS)
            if member.host in self._silent:
                return True
            if member.rounds and self._ranks[worker] not in self._failed:
                limit_ns = max(ANSWER_NS, until_ns - self.now_ns())
                member.offset_ns, member.error_ns = self.clock_offset(worker, member.rounds, limit_ns)
        except TimeoutError:
            self._silent.add(member.host)
            return True
        except MPI.Exception as error:
            self._record_failures(error)
        member.measured_ns = self.now_ns()
        self._shut_down.add(member.rank)
        return False

    def dismiss(self, worker: int, flags: int = 0) -> None:
        self._left.add(self._ranks[worker])
        self.lost(worker)
        self._send_control(worker, STOP | DETACHED | flags)
        self._add_vacancy(worker)

    @property
    def has_failures(self) -> bool:
        """Whether ranks have failed or left, so that the others end without a collective call."""
        return bool(self._failed or self._left)

    def _free_slot(self, slot: int) -> None:
        """Free the receives of a slot."""
        for part in chain.from_iterable(self._slots[slot]):
            free_receive(part.receive)

    def _free_slots(self) -> None:
        for slot in range(len(self._slots)):
            self._free_slot(slot)

    def close(self) -> None:
        self._free_slots()
        if self._shut_down.issuperset(self._ranks):  # a stopped worker receives nothing
            self._poller.wait(lambda: self.has_failures or self.carrier.complete())
        self.bytes_down += self.carrier.bytes
        for member in self._spares:  # not needed any more
            try:
                self._comm.Send(np.array([0, self.has_failures]), dest=member.rank, tag=SETUP)
            except MPI.Exception as error:
                self._record_failures(error)


def incoming_parts(reply: Reply, number: int) -> list[Incoming]:
    """Return the parts of a reply of round `number`, linked by `next_part`."""
    parts = [Incoming(part, number) for part in reply.parts]
    for part, next_part in pairwise(parts):
        part.next_part = next_part
    return parts


def set_up_messages(worker: int, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return the messages that assign a rank a worker's number, and send it facts and arrays."""
    shapes = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
    text = np.frombuffer(msgspec.msgpack.encode((worker, facts, shapes)), np.uint8)
    messages = [np.array([len(text), 0]), text]
    for array in arrays.values():
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        messages += [flat[start : start + CHUNK] for start in range(0, len(flat), CHUNK)]
    return messages


def free_receive(request: MPI.Request) -> None:
    """Free a receive, even one from a failed rank."""
    try:
        request.Free()
    except MPI.Exception as error:
        reraise_unless_proc_failed(error)
