"""The fleet of MPI ranks: rank 0 is the coordinator, rank i + 1 is worker i.

Rank 0 has two receive buffers for each worker, with a persistent receive each, and one send buffer. Sends are
plain Isends: Open MPI's monitoring, by which our count of bytes is checked, does not see persistent ones. A
worker has one task at a time: it gets the next one, always of the newest θ, when its reply is here, so there
is never a backlog to skip. Its two buffers are used in turn, so a payload stays whole where it was received
until the worker's next but one reply; decoders may refer to it.

Waiting is by Testsome and naps, not Waitsome: a wait can then time out (a trace must be flushed, a clock must
stop the run), and where ranks outnumber cores an idle rank leaves its core to those that compute.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn

import msgspec
import numpy as np
from mpi4py import MPI

from ..errors import InputError
from ..messages import HEADER, STOP, Layout, buffer
from . import clocks
from .base import Arrival, Codewords, Fleet, Link, Member, Task

HELLO, SETUP, TASK, REPLY, CLOCK = range(1, 6)  # tags
CHUNK = 1 << 30  # bytes of a message at the most: counts are C ints


class Patience:
    """Polls at once for a while, then naps of growing length.

    Parameters
    ----------
    longest_s : float
        Longest nap.
    """

    def __init__(self, longest_s: float) -> None:
        node = MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED)
        crowded = node.size > (os.cpu_count() or 1)
        node.Free()
        self.polls = 20 if crowded else 200_000
        self.longest_s = longest_s

    def wait(self, poll: Callable[[], Any], timeout_ns: int | None = None) -> Any:
        """Poll until the result is true or the timeout has passed; return the last result."""
        for _ in range(self.polls):
            if result := poll():
                return result
        until = None if timeout_ns is None else clocks.now_ns() + timeout_ns
        pause_s = 20e-6
        while not (result := poll()) and (until is None or clocks.now_ns() < until):
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, self.longest_s)
        return result


def abort(error: BaseException) -> NoReturn:
    """End the whole job: exit code 2 and one line for bad input, else 1 and the traceback."""
    if isinstance(error, InputError):
        print(f"pdcode: {error}", file=sys.stderr, flush=True)
        MPI.COMM_WORLD.Abort(2)
    if not isinstance(error, SystemExit):
        rank = MPI.COMM_WORLD.rank
        print(f"pdcode: rank {rank}{f', worker {rank - 1},' if rank else ''} failed:", file=sys.stderr)
        traceback.print_exception(error)
        sys.stderr.flush()
    MPI.COMM_WORLD.Abort(1)
    raise error  # not reached


@contextmanager
def job() -> Iterator[None]:
    """What a rank does once MPI has started: an exception of any rank, or SIGTERM, ends the whole job."""
    signal.signal(signal.SIGTERM, _terminate)
    with ExitStack() as stack:
        stack.push(lambda kind, error, trace: None if error is None else abort(error))
        yield


def _terminate(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


class MPIFleet(Fleet):
    """Rank 0's side.

    Parameters
    ----------
    layout : Layout
        Of the messages.
    """

    def __init__(self, layout: Layout) -> None:
        self._comm = MPI.COMM_WORLD
        self.workers = workers = self._comm.size - 1
        self.bytes_up = self.bytes_down = 0
        self.library = MPI.Get_library_version().partition("\0")[0].partition(",")[0].strip()
        self._patience = Patience(200e-6)
        self._layout = layout
        self.members = [self._meet(worker) for worker in range(workers)]

        replies = buffer(layout.reply_bytes, 2 * workers)
        tasks = buffer(layout.task_bytes, workers)
        self._headers = [row[: HEADER.size].data for row in replies]
        self._views = [(row[: HEADER.size].data, layout.theta(row), layout.codewords(row)) for row in tasks]
        self._arrivals = [Arrival() for _ in replies]
        for arrival, row in zip(self._arrivals, replies, strict=True):
            arrival.payloads = layout.payload_views(row)
        self._receives = [
            self._comm.Recv_init(row[: layout.reply_bytes], source=1 + slot // 2, tag=REPLY)
            for slot, row in enumerate(replies)
        ]
        self._tasks = [(row[: layout.task_bytes].data, MPI.BYTE) for row in tasks]
        self._sends = [MPI.REQUEST_NULL] * workers
        self._slots = [2 * worker for worker in range(workers)]  # receive buffer of each worker's task
        self._active = [self._receives[slot] for slot in self._slots]
        self.start()

    def _meet(self, worker: int) -> Member:
        hello = bytearray(256)
        status = MPI.Status()
        request = self._comm.Irecv(hello, source=1 + worker, tag=HELLO)
        self._patience.wait(lambda: request.Test(status))
        self.bytes_up += status.Get_count(MPI.BYTE)
        host, _, identity = bytes(hello[: status.Get_count(MPI.BYTE)]).decode().partition("\n")
        rounds = 0 if identity == clocks.identity() else clocks.ROUNDS
        self._send(worker, CLOCK, np.array([rounds]))
        member = Member(1 + worker, host)
        if rounds:
            member.offset_ns, member.error_ns = self.clock_offset(worker, rounds)
        return member

    def clock_offset(self, worker: int, rounds: int) -> tuple[int, int]:
        """Offset of a worker's clock and its error bound, in ns; the worker must be in
        `MPILink.serve_clock`."""
        stamp = np.zeros(1, np.int64)

        def exchange() -> int:
            self._send(worker, CLOCK, stamp)
            self._comm.Recv(stamp, source=1 + worker, tag=CLOCK)
            self.bytes_up += stamp.nbytes
            return int(stamp[0])

        return clocks.offset(exchange, rounds)

    def _send(self, worker: int, tag: int, array: np.ndarray) -> None:
        self._comm.Send(array, dest=1 + worker, tag=tag)
        self.bytes_down += array.nbytes

    def set_up(self, worker: int, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Send a worker what it needs before its first task: plain facts, and arrays."""
        shapes = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
        text = np.frombuffer(msgspec.msgpack.encode((facts, shapes)), np.uint8)
        self._send(worker, SETUP, np.array([len(text)]))
        self._send(worker, SETUP, text)
        for array in arrays.values():
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            for start in range(0, len(flat), CHUNK):
                self._send(worker, SETUP, flat[start : start + CHUNK])

    def start(self) -> None:
        """Set the clock to 0."""
        self._start_ns = clocks.now_ns()
        self._offsets = [self._start_ns + member.offset_ns for member in self.members]

    def now_ns(self) -> int:
        return clocks.now_ns() - self._start_ns

    def dispatch(
        self, worker: int, task: int, version: int, row: int, codewords: Codewords, theta: np.ndarray
    ) -> int:
        slot = self._slots[worker] = self._slots[worker] ^ 1
        receive = self._active[worker] = self._receives[slot]
        receive.Start()
        self._sends[worker].Wait()  # done long ago, for the worker has replied to it; this frees the request
        header, theta_view, codeword_views = self._views[worker]
        theta_view[:] = theta
        for k, (indices, values) in codewords.items():
            views = codeword_views[k]
            views[0][:] = indices
            views[1][:] = values
        HEADER.pack_into(header, 0, worker, 0, 0, task, version, row, 0, 0, 0, 0, 0.0)
        now_ns = clocks.now_ns() - self._start_ns
        self._sends[worker] = self._comm.Isend(self._tasks[worker], 1 + worker, TASK)
        self.bytes_down += self._layout.task_bytes
        return now_ns

    def arrivals(self, timeout_ns: int) -> Sequence[Arrival]:
        done = MPI.Prequest.Testsome(self._active) or self._patience.wait(
            lambda: MPI.Prequest.Testsome(self._active), timeout_ns
        )
        if not done:
            return ()
        now_ns = clocks.now_ns() - self._start_ns
        self.bytes_up += len(done) * self._layout.reply_bytes
        return [self._read(worker, now_ns) for worker in done]

    def _read(self, worker: int, now_ns: int) -> Arrival:
        slot = self._slots[worker]
        arrival, offset = self._arrivals[slot], self._offsets[worker]
        (
            arrival.worker,
            _,
            _,
            arrival.task,
            arrival.version,
            arrival.row,
            start,
            compute,
            send,
            delay,
            loss,
        ) = HEADER.unpack_from(self._headers[slot])
        arrival.t_start_ns, arrival.t_compute_ns, arrival.t_send_ns = (
            start - offset,
            compute - offset,
            send - offset,
        )
        arrival.t_recv_ns, arrival.injected_delay_ns, arrival.loss = now_ns, delay, loss
        return arrival

    def stop(self) -> None:
        MPI.Request.Waitall(self._sends)
        last = np.frombuffer(HEADER.pack(0, STOP, 0, 0, 0, 0, 0, 0, 0, 0, 0.0), np.uint8)
        for worker in range(self.workers):
            self._send(worker, TASK, last)
        for worker, member in enumerate(self.members):
            if member.error_ns:
                member.offset_ns, member.error_ns = self.clock_offset(worker, clocks.ROUNDS)
            member.measured_ns = self.now_ns()
        for request in self._receives:
            request.Free()


class MPILink(Link):
    """A worker's side."""

    def __init__(self) -> None:
        self._comm = MPI.COMM_WORLD
        self.worker = self._comm.rank - 1
        self._patience = Patience(1e-3)
        self._comm.Send(f"{clocks.host()}\n{clocks.identity()}".encode(), dest=0, tag=HELLO)
        self._rounds = int(self._receive(CLOCK, np.zeros(1, np.int64))[0])
        self.serve_clock(self._rounds)

    def serve_clock(self, rounds: int) -> None:
        """Answer rank 0's questions for the time."""
        stamp = np.zeros(1, np.int64)
        for _ in range(rounds):
            self._comm.Recv(stamp, source=0, tag=CLOCK)
            stamp[0] = clocks.now_ns()
            self._comm.Send(stamp, dest=0, tag=CLOCK)

    def _receive(self, tag: int, array: np.ndarray) -> np.ndarray:
        self._patience.wait(self._comm.Irecv(array, source=0, tag=tag).Test)
        return array

    def set_up(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Receive what `MPIFleet.set_up` sent."""
        size = int(self._receive(SETUP, np.zeros(1, np.int64))[0])
        facts, shapes = msgspec.msgpack.decode(self._receive(SETUP, np.zeros(size, np.uint8)).tobytes())
        arrays = {}
        for name, (dtype, shape) in shapes.items():
            array = np.empty(shape, dtype)
            flat = array.reshape(-1).view(np.uint8)
            for start in range(0, len(flat), CHUNK):
                self._receive(SETUP, flat[start : start + CHUNK])
            arrays[name] = array
        return facts, arrays

    def connect(self, layout: Layout) -> np.ndarray:
        """Make buffers and requests; return the payload, shape (payload_size,), that `reply` sends."""
        inbox, outbox = buffer(layout.task_bytes)[0], buffer(layout.reply_bytes)[0]
        self._inbox, self._outbox = inbox[: HEADER.size].data, outbox[: HEADER.size].data
        self._payload_bytes = layout.payload_bytes
        self._receive_task = self._comm.Recv_init(inbox[: layout.task_bytes], source=0, tag=TASK)
        self._reply = (outbox[: layout.reply_bytes].data, MPI.BYTE)
        self._sent = MPI.REQUEST_NULL
        self._task = Task()
        self._task.theta = layout.theta(inbox)
        codewords = layout.codewords(inbox)
        none = np.empty((0, 0), np.int32), np.empty((0, 0), layout.dtype)
        self._task.codewords = [codewords.get(layer.count, none) for layer in layout.layers]
        self._receive_task.Start()
        return layout.payload(outbox)

    def next_task(self) -> Task | None:
        self._patience.wait(self._receive_task.Test)
        task = self._task
        _, flags, _, task.task, task.version, task.row, *_ = HEADER.unpack_from(self._inbox)
        if flags & STOP:
            self._sent.Wait()
            self.serve_clock(self._rounds)
            self._receive_task.Free()
            return None
        return task

    def reply(self, t_start_ns: int, t_compute_ns: int, delay_ns: int, loss: float) -> None:
        task = self._task
        self._sent.Wait()  # the task that this answers was sent after the last reply had arrived
        HEADER.pack_into(
            self._outbox, 0, self.worker, 0, self._payload_bytes, task.task, task.version, task.row,
            t_start_ns, t_compute_ns, clocks.now_ns(), delay_ns, loss,
        )  # fmt: skip
        self._receive_task.Start()
        self._sent = self._comm.Isend(self._reply, 0, REPLY)
