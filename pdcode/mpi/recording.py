"""A recorder of other programs of mpi4py: when each rank enters and leaves the calls in which it may wait.

Communicators and requests are subclasses of mpi4py's, which take the time before and after a call. The time
between calls is a rank's own work. Steps are the shortest sequence of calls that repeats, see
`CallRecording`.
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
from operator import attrgetter
from typing import Any, NamedTuple, Self

import numpy as np

from ..trace import periods
from ..trace.steps import CLOSE_S, Mail, StepRecording, as_if_usual
from ..util import clocks
from ..util.errors import InputError
from . import process
from .initialise import MPI

EXCHANGE_NS, EXCHANGE_ROWS = 1_000_000_000, 1024  # from one exchange to the next, at most
SEEN_NS = 2_000_000_000  # after which steps are sought; before the end, for want of any, later and later
ALONE = 4  # multiple of that after which ranks may have steps of their own
ALIKE, APART = 0.05, 2  # ratio and number by which the steps of ranks differ that take them together
LOST = 64  # calls, and multiple of a step's, without a step, after which steps are sought again
IDLE = 0.1  # of the usual work: a manager that does less has no steps
MOST_CALLS = 1 << 17  # of a rank without steps that are kept
CLOCK, ROWS = 1, 2  # tags
PLACE, RANK = -1, -2  # third numbers of rows that describe a call: by its place in the program, or by a rank
ANY, NONE, ALL, ANY_SOURCE = -1, -2, -3, MPI.ANY_SOURCE  # ranks
PARTS = 8  # of a step, at most, at whose ends all wait for all

COLLECTIVE = (
    "Barrier", "Bcast", "Gather", "Gatherv", "Scatter", "Scatterv", "Allgather", "Allgatherv", "Alltoall",
    "Alltoallv", "Alltoallw", "Reduce", "Allreduce", "Reduce_scatter", "Reduce_scatter_block", "Scan",
    "Exscan",
)  # fmt: skip
DEST, SOURCE, SOURCE_FIRST = ("dest", 1), ("source", 1), ("source", 0)
POINT_TO_POINT = {
    **dict.fromkeys(("Send", "Ssend", "Bsend", "Rsend"), (DEST,)), "Recv": (SOURCE,),
    "Sendrecv": (DEST, ("source", 4)), "Sendrecv_replace": (DEST, ("source", 3)),
    "Probe": (SOURCE_FIRST,), "Mprobe": (SOURCE_FIRST,),
}  # fmt: skip
"""Calls, with the names and places of their arguments that are ranks."""
MAKERS = (
    "Clone", "Create", "Create_cart", "Create_dist_graph", "Create_dist_graph_adjacent", "Create_graph",
    "Create_group", "Dup", "Dup_with_info", "Split", "Split_type", "Sub",
)  # fmt: skip
"""Methods that return communicators."""

REQUEST, PREQUEST = MPI.Request, MPI.Prequest
module: Any = MPI  # whose names are replaced
COMMUNICATORS = MPI.Intracomm, MPI.Cartcomm, MPI.Graphcomm, MPI.Distgraphcomm
PEERS = attrgetter("peers")
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


class Found(NamedTuple):
    """The steps of a rank: a sequence of calls, or of their places in the program."""

    sequence: periods.Sequel
    by_place: bool
    work: np.ndarray  # of each step

    def times(self, turns: int) -> Self:
        """Return the steps that each are several of these."""
        one = self.sequence
        return self._replace(sequence=one._replace(codes=one.codes * turns))


class CallRecording(StepRecording):
    """Recording of calls: rows are what a call is, the own work before it, and its end.

    A call is known by its place in the program and the ranks that it may wait for, or, where no sequence of
    such calls repeats, by its place only. Each rank's steps are its shortest sequence that comes as often as
    a sequence of each other rank. If there is none, as where a manager gives work to whoever asks, each rank
    has steps of its own. Calls that come seldom belong to a step; calls before the first step to none.
    Operations of all ranks divide a step into parts, whose work stands behind its times.
    """

    step_columns = 3 + PARTS

    def __init__(self, comm: MPI.Intracomm, path: str, recorder: str) -> None:
        self._codes = dict[Any, int]()  # of calls, by place and ranks
        self._places = dict[tuple[int, int], int]()
        self._frames = list[Any]()  # code objects, which keep their `id`
        self.reset(comm.size)
        super().__init__(MPIMail(comm), path, recorder, {"mpi_library": process.library()})
        self.group = comm.Get_group()
        self.size, self._thread = comm.size, threading.get_ident()
        self._rows, self._waited_ns, self._left_ns = list[int](), 0, clocks.now_ns()
        self._rows.extend((0, 0, self._left_ns))
        self._exchanged_ns, self.closed = self._left_ns, False
        self.aborts = False  # whether mpi4py ends the job at the end of this process, by its exit code

    def reset(self, ranks: int) -> None:
        """Forget the calls of all ranks, at rank 0."""
        self._calls = [np.empty((0, 3), np.int64)] * ranks
        self._place_of = [defaultdict[int, int](int) for _ in range(ranks)]
        self._peers = [defaultdict[int, set[int]](set) for _ in range(ranks)]
        self._found = list[Found | None]()
        self._manager: int | None = None
        self._made = np.zeros(ranks, np.int64)  # steps of each rank
        self._since_ns = clocks.now_ns()
        self._seek_ns = self._since_ns + SEEN_NS

    def enter(self) -> int:
        """Return the time at which a call begins; 0 if it is not recorded, as in other threads."""
        return 0 if self.closed or threading.get_ident() != self._thread else clocks.now_ns()

    def leave(self, entered_ns: int, ranks: Any, depth: int = 2) -> None:
        """Note that a call is over, which may have waited for these ranks; None if it goes on, as of a test.

        The program is `depth` frames above.
        """
        if not entered_ns:
            return
        now_ns = clocks.now_ns()
        if ranks is None:
            self._waited_ns += now_ns - entered_ns
            return
        frame = sys._getframe(depth)
        key = id(frame.f_code), frame.f_lasti, ranks
        code = self._codes.get(key) or self._describe(key, frame.f_code)
        self._rows.extend((code, max(0, entered_ns - self._left_ns - self._waited_ns), now_ns))
        self._waited_ns, self._left_ns = 0, now_ns
        if now_ns - self._exchanged_ns >= EXCHANGE_NS or len(self._rows) >= 3 * EXCHANGE_ROWS:
            with suppress(MPI.Exception):  # the program meets the error, too
                self.exchange(self._take())
            self._exchanged_ns = clocks.now_ns()
            self._waited_ns = self._exchanged_ns - now_ns  # not the program's work

    def _describe(self, key: Any, of_frame: Any) -> int:
        """Return the new number of a call, with rows that describe it."""
        self._frames.append(of_frame)
        code = self._codes[key] = 1 + len(self._codes)
        self._rows.extend((code, self._places.setdefault(key[:2], 1 + len(self._places)), PLACE))
        for rank in {*_flat(key[2])} - {NONE}:
            self._rows.extend((code, rank, RANK))
        return code

    def _take(self) -> np.ndarray:
        rows, self._rows = self._rows, list[int]()
        return np.array(rows, np.int64).reshape(-1, 3)

    def steps_of(self, rows: Sequence[np.ndarray], last: bool) -> list[np.ndarray]:
        for rank, own in enumerate(rows):
            for code, what, kind in own[own[:, 2] < 0].tolist():
                if kind == PLACE:
                    self._place_of[rank][code] = what
                else:
                    self._peers[rank][code].add(what)
            self._calls[rank] = np.concatenate((self._calls[rank], own[own[:, 2] >= 0]))
        steps = [np.empty((0, self.step_columns), np.int64) for _ in rows]
        while self._found or self._seek(last):
            lost = list[bool]()
            for rank, found in enumerate(self._found):
                waiting = not found and self.alone and rank != self._manager
                if waiting and (last or len(self._calls[rank]) < LOST):  # it may have begun late
                    found = next(iter(self._candidates(rank)), None)
                if found:
                    new, stray = self._next(rank, found)
                    steps[rank] = np.concatenate((steps[rank], new))
                    self._made[rank] += len(new)
                    lost.append(stray > LOST + LOST * len(found.sequence.codes))
                else:
                    self._calls[rank] = self._calls[rank][-MOST_CALLS:]
            if not (any(lost) if self.alone else all(lost)):
                break
            self._found, self._since_ns = [], clocks.now_ns()
            self._seek_ns = self._since_ns + SEEN_NS
            for rank, behind in enumerate(() if self.alone else self._made.max() - self._made):
                steps[rank] = np.concatenate((steps[rank], np.full((behind, self.step_columns), -1)))
                self._made[rank] += behind
        return steps

    def _codes_of(self, rank: int, by_place: bool) -> np.ndarray:
        codes = self._calls[rank][:, 0]
        if by_place and len(codes):
            kinds, index = np.unique(codes, return_inverse=True)
            codes = np.array([self._place_of[rank][code] for code in kinds.tolist()])[index]
        return codes

    def _steps(self, rank: int, one: periods.Sequel, by_place: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return a rank's steps (k, 3 + `PARTS`), and the last call of each."""
        calls, begin = self._calls[rank], one.begin
        each = begin + periods.occurrences(self._codes_of(rank, by_place)[begin:], one.codes)
        ends = each[:, -1]
        begins = np.append(max(0, begin - 1), ends)[:-1]
        work, left = np.cumsum(calls[:, 1]), calls[:, 2]
        until = np.column_stack((begins, each[:, self._joints(rank, one.codes, by_place)], ends))
        parts = np.zeros((len(each), PARTS), np.int64)
        if (count := until.shape[1] - 2) > 1:
            # After a step's last operation of all the first part of the next step begins.
            places = np.append(np.arange(count) * min(PARTS, count) // count, 0)
            np.add.at(parts.T, places, np.diff(work[until]).T)
        times = left[begins], left[begins] + work[ends] - work[begins], left[ends]
        return np.column_stack((*times, parts)), ends

    def _joints(self, rank: int, codes: Sequence[int], by_place: bool) -> list[int]:
        """Return the places of the operations of all ranks in a sequence of calls."""
        place = self._place_of[rank]
        joint = {
            place[code] if by_place else code for code, ranks in self._peers[rank].items() if ALL in ranks
        }
        return [at for at, code in enumerate(codes) if code in joint]

    def times_of(self, steps: np.ndarray) -> np.ndarray:
        known = [(rank, each) for rank, each in enumerate(self._found) if each]
        counts = {len(self._joints(rank, each.sequence.codes, each.by_place)) for rank, each in known}
        return as_if_usual(steps) if len(counts) == 1 else steps[:, :, :3]

    def _next(self, rank: int, found: Found) -> tuple[np.ndarray, int]:
        """Return a rank's new steps, and how many calls came since."""
        calls, one = self._calls[rank], found.sequence
        steps, ends = self._steps(rank, one, found.by_place)
        if len(ends):
            # The call before a step stays, as its end is the begin of the step.
            self._calls[rank], one = calls[ends[-1] :], one._replace(begin=1)
        self._found[rank] = found._replace(sequence=one)
        return steps, len(self._calls[rank]) - one.begin

    def _seek(self, last: bool) -> bool:
        """Seek each rank's sequence of calls; return whether it is known."""
        now_ns = clocks.now_ns()
        if not last and now_ns < self._seek_ns:
            return False
        self._seek_ns = now_ns + max(SEEN_NS, now_ns - self._since_ns) // 2
        each = [self._candidates(rank) for rank in range(len(self._calls))]
        known = [own for own in each if own]
        late = last or now_ns - self._since_ns >= ALONE * SEEN_NS
        if known and (late or len(known) == len(each)):
            for count in sorted({len(one.work) for own in known for one in own}, reverse=True):
                alike = [[one for one in own if _alike(len(one.work), count)] for own in each]
                if sum(map(bool, alike)) == len(known):
                    turns = periods.turns([own[0].work for own in alike if own])
                    self._found = [own[0].times(turns) if own else None for own in alike]
                    manager = self._sought_manager()
                    means = [own[0].work.mean() if own else 0.0 for own in alike]
                    if manager is not None and means[manager] < IDLE * np.median(means):
                        self._found[manager] = None
                    self.without = [rank for rank, found in enumerate(self._found) if not found]
                    self.peers = self._waited_for()
                    if any({ANY, ALL} & peers for peers in self.peers):
                        self.peers = []
                    return True
            self._found = [own[0] if own else None for own in each]
            self._manager = self._sought_manager()
            full = max(map(len, self._calls)) > MOST_CALLS
            if late and (last or full or self._manager is not None):
                if self._manager is not None:
                    self._found[self._manager] = None
                self.alone = True
                return True
            self._found = []
        for rank, calls in enumerate(self._calls):
            if len(calls) > MOST_CALLS:
                self._calls[rank] = calls[-MOST_CALLS // 2 :]
        return False

    def _candidates(self, rank: int) -> list[Found]:
        """Return a rank's sequences that repeat, the most frequent one first."""
        found = list[Found]()
        for by_place in (False, True):
            codes = self._codes_of(rank, by_place)
            for one in () if found else periods.sequences(codes):
                steps, _ = self._steps(rank, one, by_place)
                found.append(Found(one, by_place, steps[:, 1] - steps[:, 0]))
        return found

    def _waited_for(self) -> list[set[int]]:
        """Return for which ranks each one may wait in its steps."""
        others = list[set[int]]()
        for rank, found in enumerate(self._found):
            codes, peers = set(found.sequence.codes) if found else set[int](), set[int]()
            for code, place in self._place_of[rank].items():
                if (place if found and found.by_place else code) in codes:
                    peers |= self._peers[rank][code]
            others.append(peers - {rank})
        return others

    def _sought_manager(self) -> int | None:
        """Return the rank, if any, for which alone all others wait in their steps."""
        peers = [each - {ANY, ALL} for each in self._waited_for()]
        for manager in range(len(peers)):
            if set().union(*peers[:manager], *peers[manager + 1 :]) == {manager}:
                return manager
        return None

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


def _alike(count: int, other: int) -> bool:
    return abs(count - other) <= max(APART, ALIKE * max(count, other))


def _flat(ranks: Any) -> list[int]:
    return [one for each in ranks for one in _flat(each)] if isinstance(ranks, tuple) else [ranks]


def ranks_of(comm: Any) -> dict[int, int]:
    """Return the recorded ranks by a communicator's, which also gets `all_ranks`."""
    own = [*range(comm.size)]
    world = MPI.Group.Translate_ranks(comm.Get_group(), own, comm.recording.group)
    comm.recorded_ranks = {ANY_SOURCE: ANY, **dict(zip(own, world, strict=True))}
    comm.all_ranks = (ALL,) if comm.size == comm.recording.size else tuple(world)
    return comm.recorded_ranks


def peers(comm: Any, where: Any, args: Any, keys: Any) -> Any:
    """Return the recorded ranks of a call: of a message, or, without places of arguments, of all."""
    try:
        ranks = comm.recorded_ranks
    except AttributeError:
        ranks = ranks_of(comm)
    if where is None:
        return comm.all_ranks
    name, at = where[0]
    first = ranks.get(args[at] if at < len(args) else keys.get(name, ANY_SOURCE), NONE)
    if len(where) > 1:
        return first, peers(comm, where[1:], args, keys)
    return (first,) if name == "dest" else first  # a send is another call than a receipt


def timed(recording: CallRecording, original: Any, where: Any = None, depth: int = 2) -> Callable[..., Any]:
    """Return a blocking method of a communicator that notes its time."""

    @functools.wraps(original)
    def method(self: Any, *args: Any, **keys: Any) -> Any:
        entered_ns = recording.enter()
        try:
            return original(self, *args, **keys)
        finally:
            recording.leave(entered_ns, entered_ns and peers(self, where, args, keys), depth)

    return method


def requesting(original: Any, where: Any, recording: CallRecording) -> Callable[..., Any]:
    """Return a nonblocking method of a communicator, with a request that notes the time of its waits."""

    @functools.wraps(original)
    def method(self: Any, *args: Any, **keys: Any) -> Any:
        request = original(self, *args, **keys)
        if recording.closed:
            return request
        noted: Any = (MPI.Prequest if isinstance(request, PREQUEST) else MPI.Request)(request)
        noted.peers = peers(self, where, args, keys)
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
        for name, where in {**dict.fromkeys(COLLECTIVE), **POINT_TO_POINT}.items():
            for each in (name, name.lower()):
                if original := getattr(base, each, None):
                    methods[each] = timed(recording, original, where)
            for each in (f"I{name.lower()}", f"i{name.lower()}", f"{name}_init"):
                if (original := getattr(base, each, None)) and "probe" not in each:
                    methods[each] = requesting(original, where, recording)
        for name in dir(base):
            if name.lower().startswith("neighbor_"):
                methods[name] = timed(recording, getattr(base, name))
        for name in MAKERS:
            if original := getattr(base, name, None):
                methods[name] = making(timed(recording, original, depth=3), classes)
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
            recording.leave(entered_ns, getattr(self, "peers", ()) if done else None)  # or of another one
            return result

        return method

    def waiting_for_several(name: str) -> Any:
        original = getattr(base, name)

        def method(cls: type, requests: Any, *args: Any, **keys: Any) -> Any:
            entered_ns = recording.enter()
            result = original(requests, *args, **keys)
            done = result
            if name.lower().startswith("wait"):
                done = True
            elif isinstance(result, tuple):
                done = result[1 if "any" in name else 0]
            try:
                ranks = tuple(map(PEERS, requests)) if done else None
            except AttributeError:  # requests of a communicator that is not recorded
                ranks = ()
            recording.leave(entered_ns, ranks)
            return result

        return classmethod(functools.wraps(original)(method))

    methods = {name: waiting(name) for name in WAITS}
    methods |= {name: waiting_for_several(name) for name in WAITS_OF_SEVERAL}
    return type(base.__name__, (base,), methods)


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
