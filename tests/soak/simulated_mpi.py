"""MPI's ranks and messages in one process, on a clock of its own: what `pdcode.mpi` calls of mpi4py.

Each rank is a greenlet. It goes on until it calls MPI, sleeps or waits: the world then draws, by its seed,
when it goes on, when each message arrives, whether a message is buffered or is read from the sender's memory
as it is received, and when the others learn of a death. Messages from one rank to another keep their order,
as MPI promises; nothing else does. Of a rank that dies the last messages may be lost, and the others live on
(ULFM). `install` puts the module in mpi4py's place, and the world's clock in the place of `time`'s.
"""

import heapq
import math
import os
import random
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np
from greenlet import getcurrent, greenlet

ANY_SOURCE, ANY_TAG = -1, -1
SUCCESS, ERR_TRUNCATE, ERR_IN_STATUS, ERR_PENDING = 0, 15, 18, 19
ERR_PROC_FAILED, ERR_PROC_FAILED_PENDING, ERR_REVOKED = 76, 77, 78
CALL_NS = 20, 2_000  # least and longest time of a call
TRIP_NS = 500, 200_000  # of a message
NOTICE_NS = 1_000, 20_000_000  # until a rank learns of a death
LONGEST_NAP_NS = 1_000_000  # of a call that waits
EAGER_BYTES = 2_000  # of messages that are always buffered
READ_NS = 30  # by which a look at the clock moves it


class MPIError(Exception):
    """mpi4py's Exception: an error class of MPI."""

    def Get_error_class(self) -> int:
        return int(self.args[0])


class Rank:
    """A process: a greenlet, and what it has been sent."""

    def __init__(self, world: "World", number: int, work: Callable[[], object]) -> None:
        self.world, self.number, self.work = world, number, work
        self.greenlet = greenlet(self._run, world.hub)
        self.dead, self.code = False, None  # killed or ended; exit code
        self.stopped, self.missed = False, False  # by SIGSTOP; whether it would have gone on since
        self.known_dead: set[int] = set()  # ranks
        self.posted: list[Request] = []  # receives, in their order
        self.sends: list[Request] = []  # under way
        self.unexpected: list[Message] = []
        self.collectives = count()  # numbers of collective calls
        self.signals: list[int] = []
        self.handlers: dict[int, Any] = {}

    def _run(self) -> None:
        try:
            self.work()
            self.end(0)
        except SystemExit as error:
            self.end(error.code if isinstance(error.code, int) else 1)
        except BaseException as error:  # noqa: BLE001 - whoever runs the world raises it
            self.world.errors.append((self.number, error))
            self.end(1)

    def end(self, code: int) -> None:
        """End this rank; nothing of it runs any more."""
        self.code = code
        self.world.bury(self.number)
        self.world.hub.switch()

    def pause(self, least_ns: int) -> None:
        """Let others go on, for `least_ns` at least."""
        self.world.at(self.world.now_ns + least_ns, self.go_on)
        self.world.hub.switch()
        while self.signals:
            number = self.signals.pop()
            handler = self.handlers.get(number, signal.SIG_DFL)
            if callable(handler):
                handler(number, None)
            elif handler == signal.SIG_DFL:
                self.end(-number)

    def go_on(self) -> None:
        """Continue, unless it is dead or stopped."""
        if self.stopped:
            self.missed = True
        elif not self.dead:
            self.world.current = self
            self.greenlet.switch()


class Message:
    """A message on its way; `data` once it is buffered, else it lies in `source`'s memory."""

    def __init__(self, context: int, source: int, tag: int, view: memoryview, send: "Request") -> None:
        self.context, self.source, self.tag, self.view, self.send = context, source, tag, view, send
        self.data: bytes | None = None


class World:
    """The ranks of a job. `run` returns when all have ended or one has aborted the job."""

    def __init__(self) -> None:
        self.begin([], 0)

    def begin(self, works: Sequence[Callable[[], object]], seed: int) -> None:
        """Begin a job whose ranks call `works`."""
        self.random, self.now_ns = random.Random(seed), 1_000_000_000
        self.hub, self.current = getcurrent(), None
        self.ranks = [Rank(self, number, work) for number, work in enumerate(works)]
        self.code: int | None = None  # of an aborted job
        self.errors: list[tuple[int, BaseException]] = []  # of ranks
        self.revoked, self.begun = False, set[int]()  # whether the job ends; ranks whose run has begun
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._number = count()
        self._arrives_ns: dict[tuple[int, int], int] = {}  # the last message between two ranks
        self.gatherings: dict[tuple[int, int], list[Any]] = {}  # collective calls under way

    def at(self, time_ns: int, call: Callable[[], None]) -> None:
        """Call a function at a time."""
        heapq.heappush(self._due, (time_ns, next(self._number), call))

    def draw_ns(self, bounds: tuple[int, int]) -> int:
        """Draw a time, uniformly in its logarithm."""
        least, most = map(math.log, bounds)
        return round(math.exp(self.random.uniform(least, most)))

    def read_ns(self) -> int:
        """Return the time; a look moves the clock, so that loops end that wait for a time."""
        self.now_ns += READ_NS
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.current.pause(max(1, round(1e9 * seconds)))

    def run(self, limit_s: float) -> None:
        """Run all ranks to their end; TimeoutError at a time of the simulated clock."""
        for rank in self.ranks:
            self.at(self.now_ns + self.draw_ns(TRIP_NS), rank.go_on)
        limit_ns = self.now_ns + round(1e9 * limit_s)
        while self.code is None and not all(rank.dead for rank in self.ranks):
            if not self._due:
                raise TimeoutError("all ranks wait, and nothing will come")
            time_ns, _, call = heapq.heappop(self._due)
            self.now_ns = max(self.now_ns, time_ns)
            if self.now_ns > limit_ns:
                raise TimeoutError(f"no end after {limit_s:g} s")
            call()

    def bury(self, number: int) -> None:
        """End a rank: what it has sent last may be lost, and others learn of it."""
        self.ranks[number].dead = True
        for other in self.ranks:
            self.at(self.now_ns + self.draw_ns(NOTICE_NS), lambda other=other: notice(other, number))

    def kill(self, number: int) -> None:
        """Kill a rank, as SIGKILL does."""
        if not self.ranks[number].dead:
            self.bury(number)

    def signal(self, number: int, signal_number: int) -> None:
        """Send a rank a signal that it handles at its next call."""
        self.ranks[number].signals.append(signal_number)

    def stop(self, number: int, for_ns: int) -> None:
        """Stop a rank, as SIGSTOP does, and let it continue."""
        rank = self.ranks[number]
        rank.stopped = True

        def resume() -> None:
            rank.stopped = False
            if rank.missed:
                rank.missed = False
                rank.go_on()

        self.at(self.now_ns + for_ns, resume)

    def post(self, message: Message, target: int) -> None:
        """Send a message on its way."""
        pair = message.source, target
        time_ns = max(self._arrives_ns.get(pair, 0), self.now_ns + self.draw_ns(TRIP_NS))
        self._arrives_ns[pair] = time_ns
        self.at(time_ns, lambda: deliver(self.ranks[target], message))


def notice(rank: Rank, dead: int) -> None:
    """Have a rank learn of a death: receives from the dead rank fail, and sends to it."""
    rank.known_dead.add(dead)
    for request in [each for each in [*rank.posted, *rank.sends] if each.source == dead and not each.done]:
        request.fail(ERR_PROC_FAILED)
    for message in [each for each in rank.unexpected if each.source == dead and each.data is None]:
        rank.unexpected.remove(message)


def deliver(rank: Rank, message: Message) -> None:
    """Deliver a message: to the first receive that fits, else it waits."""
    world = rank.world
    sender = world.ranks[message.source]
    if sender.dead and (message.data is None or world.random.random() < 0.5):
        rank.known_dead.add(message.source)  # all that it has sent later is lost, too
    if rank.dead or message.source in rank.known_dead:
        return
    for request in rank.posted:
        if request.fits(message):
            request.take(message)
            return
    rank.unexpected.append(message)


def view_of(buffer: Any) -> memoryview:
    """Return the bytes of a buffer as mpi4py takes it: an array, or a sequence that begins with one."""
    if isinstance(buffer, tuple | list):
        array, size = buffer[0], buffer[1]
        return view_of(array)[: size if isinstance(size, int) and len(buffer) > 2 else None]
    array = np.asarray(buffer) if isinstance(buffer, np.ndarray | np.generic) else buffer
    if isinstance(array, np.ndarray):
        assert array.flags.c_contiguous
        array = array.reshape(-1).view(np.uint8)
    return memoryview(array).cast("B")


class Status:
    def __init__(self) -> None:
        self.source, self.tag, self.count, self.error = ANY_SOURCE, ANY_TAG, 0, SUCCESS

    def Get_count(self, kind: Any) -> int:
        return self.count

    def Get_source(self) -> int:
        return self.source

    def take(self, request: "Request") -> None:
        """Describe a completed request."""
        self.source, self.tag = request.matched
        self.count, self.error = request.count, SUCCESS


class Request:
    """A send or receive; `null` once its end has been seen, `active` while it is under way."""

    persistent = False

    def __init__(
        self, rank: Rank | None = None, context: int = 0, buffer: Any = None, source: int = 0, tag: int = 0
    ) -> None:
        self.rank, self.context, self.buffer, self.source, self.tag = rank, context, buffer, source, tag
        self.null, self.active, self.done = rank is None, False, False
        self.error, self.count, self.matched = SUCCESS, 0, (ANY_SOURCE, ANY_TAG)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Request) and self.null and other.null)

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return not self.null

    def fits(self, message: Message) -> bool:
        """Return whether this receive takes a message."""
        return (
            self.context == message.context
            and self.source in (ANY_SOURCE, message.source)
            and self.tag in (ANY_TAG, message.tag)
        )

    def post(self) -> None:
        """Post a receive."""
        self.active, self.done, self.error = True, False, SUCCESS
        for message in self.rank.unexpected:
            if self.fits(message):
                self.rank.unexpected.remove(message)
                self.rank.posted.append(self)
                self.take(message)
                return
        self.rank.posted.append(self)
        if self.source in self.rank.known_dead:
            self.fail(ERR_PROC_FAILED)

    def take(self, message: Message) -> None:
        """Receive a message."""
        inbox, data = view_of(self.buffer), message.view if message.data is None else message.data
        size = min(len(inbox), len(data))
        inbox[:size] = data[:size]
        self.matched = message.source, message.tag
        if len(data) > len(inbox):
            self.fail(ERR_TRUNCATE, size)
        else:
            self.finish(size)
        message.send.finish(len(data))

    def finish(self, size: int) -> None:
        if self.active and not self.done:
            self.done, self.count = True, size
            if self in (posted := self.rank.posted):
                posted.remove(self)

    def fail(self, error: int, size: int = 0) -> None:
        self.finish(size)
        self.error = error

    def seen(self, status: Status | None = None) -> None:
        """Note that the caller has seen the end."""
        if status is not None:
            status.take(self)
        self.active = self.done = False
        self.matched = ANY_SOURCE, ANY_TAG
        self.null = self.null or not self.persistent

    def Test(self, status: Status | None = None) -> bool:
        if self.null or not self.active:
            if status is not None:
                status.__init__()
            return True
        call(self.rank)
        if self.done:
            error = self.error
            self.seen(status)
            if error:
                raise MPIError(error)
            return True
        return False

    def Wait(self, status: Status | None = None) -> bool:
        nap_ns = 1_000
        while not self.Test(status):
            self.rank.pause(nap_ns)
            nap_ns = min(2 * nap_ns, LONGEST_NAP_NS)
        return True

    def Cancel(self) -> None:
        if self.active and not self.done:
            self.finish(0)

    def Free(self) -> None:
        if not self.null and self in self.rank.posted:
            self.rank.posted.remove(self)
        self.active, self.null = False, True

    def Start(self) -> None:
        call(self.rank)
        self.post()

    @staticmethod
    def Testsome(requests: Sequence["Request"], statuses: Sequence[Status] = ()) -> list[int] | None:
        active = [(place, each) for place, each in enumerate(requests) if not each.null and each.active]
        if not active:
            return None
        call(active[0][1].rank)
        done = [(place, each) for place, each in active if each.done]
        errors = {each.error for _, each in done} - {SUCCESS}
        for number, (_, each) in enumerate(done):
            if statuses:
                statuses[number].take(each)
                statuses[number].error = each.error
            if each.error != ERR_PROC_FAILED:  # these stay, as do those from ranks that have failed
                each.seen()
        if ERR_PROC_FAILED in errors:
            raise MPIError(ERR_PROC_FAILED)
        if errors:
            raise MPIError(ERR_IN_STATUS)
        return [place for place, _ in done]

    @staticmethod
    def Testall(requests: Sequence["Request"], statuses: Any = None) -> bool:
        active = [each for each in requests if not each.null and each.active]
        if not active:
            return True
        call(active[0].rank)
        if any(each.error for each in active if each.done):
            raise MPIError(next(each.error for each in active if each.done and each.error))
        if not all(each.done for each in active):
            return False
        for each in active:
            each.seen()
        return True

    @staticmethod
    def Waitall(requests: Sequence["Request"], statuses: Any = None) -> bool:
        for request in requests:
            request.Wait()
        return True


class Prequest(Request):
    persistent = True


REQUEST_NULL = Request()


def call(rank: Rank) -> None:
    """Begin a call of MPI: others may go on."""
    rank.pause(rank.world.draw_ns(CALL_NS))
    if rank.world.revoked:
        raise MPIError(ERR_REVOKED)


class Group:
    def __init__(self, ranks: Sequence[int]) -> None:
        self.ranks = list(ranks)

    def Excl(self, ranks: Sequence[int]) -> "Group":
        return Group([each for place, each in enumerate(self.ranks) if place not in ranks])

    def Translate_ranks(self, ranks: Sequence[int] | None, group: "Group") -> list[int]:
        assert ranks is None
        return [group.ranks.index(each) for each in self.ranks]

    def Free(self) -> None:
        pass


class Intracomm:
    """A communicator; `members` are its ranks in the world. A subclass copies the handle of another."""

    def __new__(cls, comm: "Intracomm | None" = None, *more: Any) -> "Intracomm":
        made = super().__new__(cls)
        if comm is not None:
            made.__dict__.update(world=comm.world, members=comm.members, context=comm.context)
        return made

    @classmethod
    def of(cls, world: World, members: Sequence[int], context: int) -> "Intracomm":
        made = object.__new__(Intracomm)
        made.world, made.members, made.context = world, list(members), context
        return made

    @property
    def _here(self) -> Rank:
        return self.world.current

    @property
    def rank(self) -> int:
        return self.members.index(self._here.number)

    @property
    def size(self) -> int:
        return len(self.members)

    @property
    def group(self) -> Group:
        return Group(self.members)

    def Create_group(self, group: Group) -> "Intracomm":
        return Intracomm.of(self.world, group.ranks, 1 + self.context + len(group.ranks))

    def Free(self) -> None:
        pass

    def Set_errhandler(self, handler: Any) -> None:
        pass

    def Get_attr(self, key: int) -> int:
        return 1 << 20

    def Is_revoked(self) -> bool:
        return self.world.revoked

    def Revoke(self) -> None:
        self.world.revoked = True

    def Get_failed(self) -> Group:
        return Group([each for each in self.members if each in self._here.known_dead])

    def Ack_failed(self) -> None:
        pass

    def Abort(self, code: int) -> None:
        self.world.code = code
        self._here.end(code)

    def Isend(self, buffer: Any, dest: int, tag: int = 0) -> Request:
        here, world = self._here, self.world
        call(here)
        target = self.members[dest]
        if target in here.known_dead:
            raise MPIError(ERR_PROC_FAILED)
        request = Request(here, self.context, source=target)
        request.active = True
        here.sends = [each for each in here.sends if each.active and not each.done] + [request]
        message = Message(self.context, here.number, tag, view_of(buffer), request)
        if len(message.view) <= EAGER_BYTES or world.random.random() < 0.5:
            message.data = bytes(message.view)
            request.finish(len(message.view))
        world.post(message, target)
        return request

    def Send(self, buffer: Any, dest: int, tag: int = 0) -> None:
        self.Isend(buffer, dest, tag).Wait()

    def Irecv(self, buffer: Any, source: int = ANY_SOURCE, tag: int = ANY_TAG) -> Request:
        call(self._here)
        request = Request(self._here, self.context, buffer, self._source(source), tag)
        request.post()
        return request

    def Recv(self, buffer: Any, source: int = ANY_SOURCE, tag: int = ANY_TAG) -> None:
        self.Irecv(buffer, source, tag).Wait()

    def Recv_init(self, buffer: Any, source: int = ANY_SOURCE, tag: int = ANY_TAG) -> Prequest:
        return Prequest(self._here, self.context, buffer, self._source(source), tag)

    def _source(self, source: int) -> int:
        return source if source == ANY_SOURCE else self.members[source]

    def Iprobe(self, source: int = ANY_SOURCE, tag: int = ANY_TAG) -> bool:
        call(self._here)
        wanted = Request(self._here, self.context, None, self._source(source), tag)
        return any(wanted.fits(message) for message in self._here.unexpected)

    def Ialltoall(self, sent: np.ndarray, received: np.ndarray) -> Request:
        """Exchange one element with each rank, once all have called this."""
        here, request = self._here, Request(self._here)
        call(here)
        request.active = True
        key = self.context, next(here.collectives)
        come = self.world.gatherings.setdefault(key, [])
        come.append((self.rank, sent.copy(), received, request))
        if len(come) == self.size:
            for place, _, inbox, other in come:
                for source, values, _, _ in come:
                    inbox[source] = values[place]
                other.finish(0)
        return request


@contextmanager
def handled(world: World, handlers: Any) -> Iterator[None]:
    """Install a rank's handlers for the block, as `signals.handled` does in a process."""
    rank = world.current
    before = dict(rank.handlers)
    rank.handlers.update(handlers)
    try:
        yield
    finally:
        rank.handlers = before


def install(world: World) -> None:
    """Put the world in the place of mpi4py, of the clock and of exits; before pdcode is imported."""
    module: Any = types.ModuleType("pdcode.mpi.initialise")
    module.MPI = types.SimpleNamespace(
        ANY_SOURCE=ANY_SOURCE, ANY_TAG=ANY_TAG, BYTE="byte", SUCCESS=SUCCESS, TAG_UB=0, IN_PLACE=None,
        ERR_TRUNCATE=ERR_TRUNCATE, ERR_IN_STATUS=ERR_IN_STATUS, ERR_PENDING=ERR_PENDING,
        ERR_PROC_FAILED=ERR_PROC_FAILED, ERR_PROC_FAILED_PENDING=ERR_PROC_FAILED_PENDING,
        ERR_REVOKED=ERR_REVOKED, ERRORS_RETURN=None, THREAD_MULTIPLE=3, THREAD_SINGLE=0,
        COMM_TYPE_SHARED=0, BOR=None, Exception=MPIError, Intracomm=Intracomm, Group=Group, Status=Status,
        Request=Request, Prequest=Prequest, REQUEST_NULL=REQUEST_NULL, COMM_NULL=None, Comm=Intracomm,
        COMM_WORLD=Intracomm.of(world, (), 0), Query_thread=lambda: 0,  # no thread of a rank calls MPI
        Get_library_version=lambda: "simulated 1.0",
    )  # fmt: skip
    sys.modules["pdcode.mpi.initialise"] = module
    subprocess.time = types.SimpleNamespace(sleep=time.sleep)  # children of the process go by the real clock
    time.perf_counter_ns = time.monotonic_ns = world.read_ns
    time.perf_counter = time.monotonic = lambda: 1e-9 * world.read_ns()
    time.sleep = world.sleep
    os._exit = lambda code: world.current.end(code)
