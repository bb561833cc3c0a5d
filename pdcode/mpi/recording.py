"""A recorder of other programs of mpi4py: when each rank enters and leaves the calls in which it may wait.

Communicators and requests are subclasses of mpi4py's, which take the time before and after a call. The time
between calls is a rank's own work. A blocking collective operation of all ranks, or the end of a nonblocking
one, may end a step; see `CallRecording`.
"""

import atexit
import functools
import math
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ..trace.steps import CLOSE_S, Mail, StepRecording
from ..util import clocks
from ..util.errors import InputError
from . import process
from .initialise import MPI

EXCHANGE_NS, EXCHANGE_ROWS = 1_000_000_000, 1024  # from one exchange to the next, at most
FORGET = 0.98  # weight of what came one operation earlier, when the operation is sought that ends a step
CLOCK, ROWS = 1, 2  # tags

COLLECTIVE = (
    "Barrier", "Bcast", "Gather", "Gatherv", "Scatter", "Scatterv", "Allgather", "Allgatherv", "Alltoall",
    "Alltoallv", "Alltoallw", "Reduce", "Allreduce", "Reduce_scatter", "Reduce_scatter_block", "Scan",
    "Exscan",
)  # fmt: skip
POINT_TO_POINT = "Send", "Ssend", "Bsend", "Rsend", "Recv", "Sendrecv", "Sendrecv_replace", "Probe", "Mprobe"
MAKERS = (
    "Clone", "Create", "Create_cart", "Create_dist_graph", "Create_dist_graph_adjacent", "Create_graph",
    "Create_group", "Dup", "Dup_with_info", "Split", "Split_type", "Sub",
)  # fmt: skip
"""Methods that return communicators."""

REQUEST, PREQUEST = MPI.Request, MPI.Prequest
module: Any = MPI  # whose names are replaced
COMMUNICATORS = MPI.Intracomm, MPI.Cartcomm, MPI.Graphcomm, MPI.Distgraphcomm
WAITS = "Wait", "wait", "Test", "test"
WAITS_OF_SEVERAL = (
    "Waitall", "waitall", "Testall", "testall", "Waitany", "waitany", "Testany", "testany", "Waitsome",
    "waitsome", "Testsome", "testsome",
)  # fmt: skip


class MPIMail(Mail):
    """Messages on a communicator of the recorder's own."""

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._comm = MPI.Intracomm(comm).Dup()
        self._comm.Set_errhandler(MPI.ERRORS_RETURN)  # as exceptions
        self.rank, self.ranks = self._comm.rank, self._comm.size
        self._sends = list[tuple[MPI.Request, bytes]]()
        self._rounds = [0] * self.ranks  # of a comparison of clocks; 0: rank 0's clock

    def meet(self) -> list[dict[str, Any]]:
        hosts = self._comm.allgather((clocks.host(), clocks.identity()))
        self._rounds = [clocks.ROUNDS * (identity != hosts[0][1]) for _, identity in hosts]
        if self.rank:
            return [self.clock(self.rank)]
        return [{"host": host, **self.clock(rank)} for rank, (host, _) in enumerate(hosts)]

    def agree(self, text: str) -> str:
        return str(self._comm.bcast(text))

    def clock(self, rank: int) -> dict[str, int]:
        stamp, other = np.zeros(1, np.int64), 0 if self.rank else rank

        def receive() -> int:
            self._wait([self._comm.Irecv(stamp, other, CLOCK)])
            return int(stamp[0])

        def exchange() -> int:
            self._comm.Send(stamp, other, CLOCK)
            return receive()

        if self.rank == 0:
            offset = clocks.offset(exchange, self._rounds[rank]) if self._rounds[rank] else (0, 0)
            return dict(zip(("clock_offset_ns", "clock_error_ns"), offset, strict=True))
        for _ in range(self._rounds[rank]):
            receive()
            self._comm.Send(np.array([clocks.now_ns()]), 0, CLOCK)
        self._wait([send for send, _ in self._sends])
        return {}

    @staticmethod
    def _wait(requests: Sequence[MPI.Request]) -> None:
        """Wait for requests; TimeoutError after a time."""
        until_s = time.monotonic() + CLOSE_S
        while not MPI.Request.Testall(requests):
            if time.monotonic() > until_s:
                for request in requests:
                    request.Cancel()
                raise TimeoutError
            time.sleep(0)

    def post(self, message: bytes) -> None:
        self._sends = [send for send in self._sends if not send[0].Test()]
        self._sends.append((self._comm.Isend(message, 0, ROWS), message))

    def take(self, rank: int) -> bytes | None:
        status = MPI.Status()
        if not self._comm.Iprobe(rank, ROWS, status):
            return None
        message = bytearray(status.Get_count(MPI.BYTE))
        self._comm.Recv(message, rank, ROWS)
        return bytes(message)


class CallRecording(StepRecording):
    """Recording of calls: rows are the own work before a collective operation of all, its end, and its line.

    A step ends with the operation, by its line in the program, before which the ranks work the longest; it
    is found as the program goes on. Operations between belong to the step.
    """

    def __init__(self, comm: MPI.Intracomm, path: str, recorder: str) -> None:
        self._weights = defaultdict[int, float](float)  # √work before an operation, by its line
        self._last_ns = defaultdict[int, float](float)  # work before the last one of each line
        self._begun: np.ndarray | None = None
        self._work = np.zeros(comm.size, np.int64)
        super().__init__(MPIMail(comm), path, recorder, {"mpi_library": process.library()})
        self.size, self._thread = comm.size, threading.get_ident()
        self._rows, self._waited_ns, self._left_ns = list[tuple[int, int, int]](), 0, clocks.now_ns()
        self._rows.append((0, self._left_ns, 0))
        self._exchanged_ns, self.closed = self._left_ns, False
        self.aborts = False  # whether mpi4py ends the job at the end of this process, by its exit code

    def enter(self) -> int:
        """Return the time at which a call begins; 0 if it is not recorded, as in other threads."""
        return 0 if self.closed or threading.get_ident() != self._thread else clocks.now_ns()

    def leave(self, entered_ns: int, line: int) -> None:
        """Note that a call is over; `line` is not 0 if it may end a step."""
        if not entered_ns:
            return
        now_ns = clocks.now_ns()
        if not line:
            self._waited_ns += now_ns - entered_ns
            return
        self._rows.append((max(0, entered_ns - self._left_ns - self._waited_ns), now_ns, line))
        self._waited_ns, self._left_ns = 0, now_ns
        if now_ns - self._exchanged_ns >= EXCHANGE_NS or len(self._rows) >= EXCHANGE_ROWS:
            with suppress(MPI.Exception):  # the program meets the error, too
                self.exchange(self._take())
            self._exchanged_ns = clocks.now_ns()
            self._waited_ns = self._exchanged_ns - now_ns  # not the program's work

    def _take(self) -> np.ndarray:
        rows, self._rows = self._rows, []
        return np.array(rows, np.int64).reshape(-1, 3)

    def steps_of(self, rows: np.ndarray) -> np.ndarray:
        steps = []
        for row in rows:
            work, left, line = row.T
            there = left != -1
            if self._begun is None:
                self._begun = left
                continue
            self._work += np.where(there, work, 0)
            for each in self._weights:
                self._weights[each] *= FORGET
            own, mean_ns = int(line[there][0]), float(work[there].mean())
            # A long time that comes once, as before the first step, or seldom has little weight.
            self._weights[own] += math.sqrt(min(mean_ns, self._last_ns[own]))
            self._last_ns[own] = mean_ns
            if self._weights[own] >= max(self._weights.values()):
                times = np.stack((self._begun, self._begun + self._work, left), axis=1)
                steps.append(np.where(there[:, None], times, -1))
                self._begun, self._work = np.where(there, left, self._begun), np.zeros_like(self._work)
        return np.array(steps, np.int64).reshape(-1, self._work.size, 3)

    def end_with_process(self) -> None:
        """End; rank 0 waits for the others without limit if it goes on to MPI_Finalize, which waits, too."""
        self.end(CLOSE_S if self.aborts or hasattr(sys, "last_value") else math.inf)

    def end(self, wait_s: float = CLOSE_S) -> None:
        """Write the last steps and complete the trace; rank 0 waits up to `wait_s` for the others' ends."""
        atexit.unregister(self.end_with_process)
        if not self.closed:
            self.closed = True
            error = getattr(sys, "last_value", None)  # by which the program ends
            with suppress(MPI.Exception, TimeoutError):
                self.close(self._take(), repr(error) if error else "", wait_s)


def line_of(name: str) -> int:
    """Return a number for a call of this name at the line of the caller's caller; not 0."""
    frame = sys._getframe(2)
    return hash((name, frame.f_code.co_filename, frame.f_lineno)) >> 2 | 1


def timed(recording: CallRecording, original: Any, collective: bool) -> Callable[..., Any]:
    """Return a blocking method of a communicator that notes its time."""

    @functools.wraps(original)
    def method(self: Any, *args: Any, **keys: Any) -> Any:
        entered_ns = recording.enter()
        try:
            return original(self, *args, **keys)
        finally:
            whole = collective and entered_ns and self.size == recording.size
            recording.leave(entered_ns, line_of(original.__name__) if whole else 0)

    return method


def requesting(original: Any, collective: bool, recording: CallRecording) -> Callable[..., Any]:
    """Return a nonblocking method of a communicator, with a request that notes the time of its waits."""

    @functools.wraps(original)
    def method(self: Any, *args: Any, **keys: Any) -> Any:
        request = original(self, *args, **keys)
        if recording.closed:
            return request
        noted: Any = (MPI.Prequest if isinstance(request, PREQUEST) else MPI.Request)(request)
        noted.whole = collective and self.size == recording.size
        return noted

    return method


def making(original: Any, classes: dict[type, type]) -> Callable[..., Any]:
    """Return a method whose communicator is recorded, too."""

    @functools.wraps(original)
    def method(self: Any, *args: Any, **keys: Any) -> Any:
        made = original(self, *args, **keys)
        return classes[type(made)](made) if type(made) in classes and made != MPI.COMM_NULL else made

    return method


def recorded_communicators(recording: CallRecording) -> dict[type, type]:
    """Return recorded subclasses of mpi4py's communicators."""
    classes = dict[type, type]()
    for base in COMMUNICATORS:
        methods: dict[str, Any] = {"recording": recording}
        for name in COLLECTIVE + POINT_TO_POINT:
            for each in (name, name.lower()):
                if original := getattr(base, each, None):
                    methods[each] = timed(recording, original, name in COLLECTIVE)
            for each in (f"I{name.lower()}", f"i{name.lower()}", f"{name}_init"):
                if (original := getattr(base, each, None)) and "probe" not in each:
                    methods[each] = requesting(original, name in COLLECTIVE, recording)
        for name in dir(base):
            if name.lower().startswith("neighbor_"):
                methods[name] = timed(recording, getattr(base, name), False)
        for name in MAKERS:
            if original := getattr(base, name, None):
                methods[name] = making(timed(recording, original, False), classes)
        classes[base] = type(f"Recorded{base.__name__}", (base,), methods)
    return classes


def recorded_request(recording: CallRecording, base: Any) -> type:
    """Return a recorded subclass of mpi4py's requests."""

    def waiting(name: str) -> Callable[..., Any]:
        original = getattr(base, name)

        @functools.wraps(original)
        def method(self: Any, *args: Any, **keys: Any) -> Any:
            entered_ns = recording.enter()
            result = original(self, *args, **keys)
            done = name in ("Wait", "wait") or (result if name == "Test" else result[0])
            ends = done and getattr(self, "whole", False)  # a request may be of another communicator
            recording.leave(entered_ns, line_of(name) if ends and entered_ns else 0)
            if ends:
                self.whole = isinstance(self, PREQUEST)
            return result

        return method

    def waiting_for_several(name: str) -> Any:
        original = getattr(base, name)

        def method(cls: type, requests: Any, *args: Any, **keys: Any) -> Any:
            entered_ns = recording.enter()
            result = original(requests, *args, **keys)
            whole = [each for each in requests if getattr(each, "whole", False)] if "all" in name else []
            done = name in ("Waitall", "waitall") or (result if name == "Testall" else whole and result[0])
            ends = done and whole and entered_ns
            recording.leave(entered_ns, line_of(name) if ends else 0)
            for each in whole if ends else ():
                each.whole = isinstance(each, PREQUEST)
            return result

        return classmethod(functools.wraps(original)(method))

    methods = {name: waiting(name) for name in WAITS}
    methods |= {name: waiting_for_several(name) for name in WAITS_OF_SEVERAL}
    return type(base.__name__, (base,), {"whole": False, **methods})


def start(comm: MPI.Intracomm, path: str, recorder: str) -> MPI.Intracomm:
    """Begin a recording, and return the recorded communicator. Collective."""
    if not isinstance(comm, MPI.Intracomm) or comm == MPI.COMM_NULL or comm.size < 2:
        raise InputError(f"{recorder}: a communicator of two or more ranks is needed: only they wait")
    recording = CallRecording(comm, path, recorder)
    classes = recorded_communicators(recording)
    end_mpi, set_abort_status = MPI.Finalize, module._set_abort_status

    def finalize() -> None:
        recording.end_with_process()
        end_mpi()

    def abort_at_exit(status: Any) -> None:
        recording.aborts = True
        set_abort_status(status)

    module.Request, module.Prequest = (recorded_request(recording, base) for base in (REQUEST, PREQUEST))
    module.Finalize, module._set_abort_status = finalize, abort_at_exit
    atexit.register(recording.end_with_process)
    return classes.get(type(comm), classes[MPI.Intracomm])(comm)


def record(comm: MPI.Intracomm, path: str = "mpi.h5") -> Any:
    """Record when each rank of a program of mpi4py computes and when it waits, in an ordinary trace.

    It is collective.

    Parameters
    ----------
    comm : Intracomm
        The ranks, at least two.
    path : str
        The trace, which rank 0 writes.

    Returns
    -------
    Intracomm
        The communicator to use in its place; also those are recorded that it is split or duplicated into. Its
        ``recording.end()`` completes the trace, as the end of the process and ``MPI.Finalize`` do.

    Raises
    ------
    InputError
        If there are fewer than two ranks, or rank 0 cannot write the trace.
    """
    return start(comm, path, "pdcode.record")


def start_world(path: str) -> Callable[[Sequence[str]], None]:
    """Record COMM_WORLD; return a function that runs the command line of a Python program."""
    from mpi4py.run import run_command_line

    process.check_launcher()
    module.COMM_WORLD = start(MPI.COMM_WORLD, path, "pdcode record")
    return lambda program: run_command_line([*program])
