"""A worker's side of the MPI transport."""

import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import msgspec
import numpy as np

from ..kernels import headers
from ..transport.base import Computed, Link
from ..transport.layout import CANCEL, CONTINUE, DETACHED, SAVE, STOP, Layout, buffer, buffer_sizes
from ..transport.messages import Reply, Task
from ..util import clocks
from .companions import Channel
from .initialise import MPI
from .process import BESIDE, CHUNK, CLOCK, HELLO, REPLY, SAVED, SETUP, TASK, Group, Poller

LONGEST_NAP_NS = 10_000_000  # within a delay, which the end of the run interrupts


class Entry:
    """A worker's side of `fleet.Ranks`: clocks, and what rank 0 sends before the run."""

    def __init__(self, comm: Group) -> None:
        self.comm, self.worker, self.has_failures = comm, comm.rank - 1, False
        self.poller = Poller(1e-3, comm)
        self._receiving: np.ndarray | None = None
        comm.buffers.append(self)
        comm.Send(f"{clocks.host()}\n{clocks.identity()}".encode(), dest=0, tag=HELLO)
        self.serve_clock(int(self.receive(CLOCK, np.zeros(1, np.int64))[0]))

    def serve_clock(self, rounds: int) -> None:
        """Answer rank 0's clock requests."""
        stamp = np.zeros(1, np.int64)
        for _ in range(rounds):
            self.comm.Recv(stamp, source=0, tag=CLOCK)
            stamp[0] = clocks.now_ns()
            self.comm.Send(stamp, dest=0, tag=CLOCK)

    def receive(self, tag: int, array: np.ndarray) -> np.ndarray:
        """Receive a message of rank 0 in an array."""
        self._receiving = array  # MPI may still write to it after the end of a run
        self.poller.wait(self.comm.Irecv(array, source=0, tag=tag).Test)
        self._receiving = None
        return array

    def set_up(self) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
        """Receive facts and arrays of `Ranks.set_up`, and set `worker`; None at an unused spare rank."""
        size, has_failures = self.receive(SETUP, np.zeros(2, np.int64)).tolist()
        if not size:
            self.has_failures = bool(has_failures)
            return None
        text = self.receive(SETUP, np.zeros(size, np.uint8)).tobytes()
        self.worker, facts, shapes = msgspec.msgpack.decode(text)
        arrays = {}
        for name, (dtype, shape) in shapes.items():
            array = np.empty(shape, dtype)
            flat = array.reshape(-1).view(np.uint8)
            for start in range(0, len(flat), CHUNK):
                self.receive(SETUP, flat[start : start + CHUNK])
            arrays[name] = array
        return facts, arrays

    def set_up_again(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Receive facts for other keys, and arrays besides the first ones."""
        sent = self.set_up()
        assert sent is not None
        return sent


class MPILink(Link):
    """Link of a worker to rank 0 over MPI."""

    can_leave: ClassVar[bool] = True  # whether the run goes on without this worker
    leaving = False  # whether to leave after this task; to be set
    save: Callable[[int], None]  # writes this worker's part of a checkpoint, with its next task; to be set
    channel = Channel()  # of what accompanies tasks in other ways; to be set

    def __init__(self, entry: Entry) -> None:
        self._entry, self._comm, self.worker = entry, entry.comm, entry.worker
        self._poller = entry.poller

    def connect(self, layouts: Sequence[Layout]) -> list[Reply]:
        replies = self._allocate(layouts)
        self._receive_task = self._comm.Recv_init(self._inbox.message, source=0, tag=TASK)
        self._posted = False  # whether its receive is posted
        self._cancelled = False  # whether rank 0 has sent CANCEL
        self._post_receive()
        return replies

    def _allocate(self, layouts: Sequence[Layout]) -> list[Reply]:
        """Allocate the message buffers; return the reply of each round."""
        inbox, outbox = (buffer(size)[0, :size] for size in buffer_sizes(layouts))
        self._task = self._inbox = Task(layouts, inbox)  # the task, and rank 0's last message
        self._sent: list[MPI.Request] = []  # the parts of the last reply
        self._replies = [Reply(layout, outbox) for layout in layouts]
        return self._replies

    def _post_receive(self) -> None:
        """Post the receive of rank 0's next message, if it is not posted."""
        if not self._posted:
            self._receive_task.Start()
            self._posted = True

    def _message_arrived(self) -> bool:
        """Return whether rank 0's message has arrived since `_post_receive`."""
        self._posted = self._posted and not self._receive_task.Test()
        return not self._posted

    def _next_message(self) -> None:
        """Wait for rank 0's next message, and read it."""
        self._post_receive()
        self._poller.wait(self._message_arrived)
        self._inbox.read()

    def now_ns(self) -> int:
        return clocks.now_ns()

    def wait(self, delay_ns: int, spin: bool) -> int:
        if self._cancelled:
            return min(delay_ns, 0)
        self._post_receive()
        start_ns = time.perf_counter_ns()
        while (waited_ns := time.perf_counter_ns() - start_ns) < delay_ns or delay_ns < 0:
            if self._message_arrived():  # CANCEL: the only message while a task is in flight
                self._cancelled = True
                return min(delay_ns, waited_ns)
            if not spin or delay_ns < 0:
                left_ns = LONGEST_NAP_NS if delay_ns < 0 else delay_ns - waited_ns
                time.sleep(1e-9 * min(left_ns, LONGEST_NAP_NS))
        return delay_ns

    @property
    def detached(self) -> bool:
        """Whether the run has ended with failed ranks, so that this rank ends without a collective call."""
        return bool(self._inbox.flags & DETACHED)

    @property
    def continues(self) -> bool:
        """Whether another set-up follows the end."""
        return bool(self._inbox.flags & CONTINUE)

    def next_task(self) -> Task | None:
        self._next_message()
        while self._inbox.flags & CANCEL:  # crossed with the reply; ignore
            self._next_message()
        MPI.Request.Waitall(self._sent)  # complete, as rank 0 has the last reply; frees its buffer
        self._sent.clear()
        self._cancelled = False
        if self._inbox.flags & STOP:
            return None
        self._assemble_task()
        self._receive_companion(self._task)
        return self._task

    @property
    def stateful(self) -> dict[str, object]:
        """Objects whose state this worker saves in checkpoints, beside its memories."""
        return {}

    def continue_with(self, theta: np.ndarray) -> None:
        """Continue with the θ of another preset."""
        return

    def _receive_companion(self, task: Task) -> None:
        """Receive what accompanies a task."""
        size, task.companion = task.companion_bytes[0], None
        if size:
            message = np.empty(size, np.uint8)
            for start in range(0, size, CHUNK):
                self._entry.receive(BESIDE, message[start : start + CHUNK])
            task.companion = self.channel.complete(message)

    def _assemble_task(self) -> None:
        """Assemble the task from rank 0's message; here they are the same."""

    @property
    def flags(self) -> int:
        return self._inbox.flags

    def leave(self) -> None:
        """Confirm a checkpoint, answer the last clock requests, pass the rest on, free the receive."""
        if self.flags & SAVE:
            self._comm.Send(np.empty(0, np.uint8), dest=0, tag=SAVED)
        self._entry.serve_clock(self._inbox.task)
        self.channel.leave(self._inbox.version, self.detached)  # a stopped worker may keep it from this
        self._receive_task.Free()

    def close(self) -> None:
        """Stop the transfers that run beside the worker's loop; also after an error."""
        self.channel.close()

    def reply(self, computed: Computed) -> None:
        part, loss, t_start_ns, t_compute_ns, delay_ns = computed
        task = self._task
        parts = self._replies[task.round].parts
        reply = parts[part]
        last = reply is parts[-1]
        flags = headers.LEAVING if self.leaving and last else 0
        now_ns = clocks.now_ns()
        reply.write_header(self.worker, task, t_start_ns, t_compute_ns, now_ns, delay_ns, loss, flags)
        if last:
            self._post_receive()
        self._sent.append(self._comm.Isend((reply.message, MPI.BYTE), 0, REPLY))

    def repeat(self) -> None:
        self._comm.Send((self._replies[0].message, MPI.BYTE), 0, REPLY)
