"""Ranks as processes: the ranks that one launcher has started here, and the launcher. Imports no MPI.

In MPI_Init ranks wait for each other, for ever if one has died (``mpirun --with-ft ulfm``) or is stopped. So
from its first moment to the beginning of the run, each rank watches the others on its machine, in a thread:
the lowest that lives says which one has died, and each whether the next one is stopped. After that, all watch
whether rank 0 is stopped.
"""

import ctypes
import fcntl
import math
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from ..util.errors import Failure, InputError
from ..util.output import print_error
from . import launcher, supervised

END_S = 2.0  # for ranks to end by themselves, and for a launcher to end after a signal
POLL_S = 0.25
STOPPED_S = 3.0  # that a stopped rank may remain stopped before it ends the job
STARTED_S = 4.0  # for the other ranks here to appear after this one
FORKED_S = 2.0  # for a rank to appear after one with a higher number: launchers start them in their order
STRANGE = 4  # polls in which a child of the launcher may become a rank
FOUND_S = 3.0  # for rank 0 to find, and print, the same error as another rank
SAID_S = 3.5  # for a job to end after a rank that has printed why
NOTED_S, ELSEWHERE_S = 10.0, 120.0  # waits for ranks on other machines: until a line, until the job ends
SAID = "pdcode: ended"  # name of the process of a rank that has printed why it ends
INIT = "pdcode: init"  # the same of a rank in MPI_Init
FINISHED, EXITS = "pdcode: done", "pdcode: exits"  # of a rank in MPI_Finalize, and after it
NAMED = 8  # processes in a line
PR_SET_CHILD_SUBREAPER = 36  # of Linux
PRRTE = "prterun", "prted", "prte"  # names of Open MPI 5's launchers
PIDFD_GET_INFO, PIDFD_INFO_EXIT = 0xC040FF0B, 8  # of Linux 6.15

_launcher = os.getppid()  # until it ends
_mpi_started, _run_started = threading.Event(), threading.Event()
_name = ""  # of this process before MPI_Init, if it was marked


def state(pid: int) -> tuple[str, str]:
    """Return name and state letter of a process, T if it is stopped, Z if it is a zombie or gone."""
    try:
        name, _, values = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
        return name, values.split()[0]
    except OSError:
        return "", "Z"


def is_stopped(pid: int) -> bool:
    """Return whether a process is stopped by a signal."""
    return state(pid)[1] == "T"


def lives(pid: int) -> bool:
    """Return whether a process lives."""
    return state(pid)[1] != "Z"


def children(parent: int | None = None) -> list[int]:
    """Return the process ids of a process's children, by default the launcher's."""
    found = []
    for path in Path(f"/proc/{_launcher if parent is None else parent}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(pid) for pid in path.read_text().split()]
    return found


def descendants(ancestor: int) -> list[int]:
    """Return the process ids of a process's living descendants."""
    found = [pid for pid in children(ancestor) if lives(pid)]
    for pid in found:  # it grows
        found += [child for child in children(pid) if lives(child)]
    return found


def adopt(whether: bool = True) -> None:
    """Make this process the parent of its descendants that lose theirs, on Linux."""
    with suppress(AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(whether))


def described(left: list[int], ranks: Collection[int]) -> str:
    """Name processes of a job that have not ended, without ranks that only wait for others."""
    names = []
    for pid in [pid for pid in left if state(pid)[0] != FINISHED] or left:
        rank, (name, letter) = rank_of(pid), state(pid)
        who = f"process {pid} ({name})" + ("" if rank is None else f", started by rank {rank},")
        doing = "stopped by a signal" if letter == "T" else "in MPI_Finalize" if name == FINISHED else ""
        names.append((named(rank) if rank is not None and pid in ranks else who) + (doing and f" ({doing})"))
    return names[0] if len(names) == 1 else f"{len(names)} processes: {'; '.join(names[:NAMED])}"


def kill(pids: Iterable[int]) -> None:
    """Kill processes."""
    for pid in pids:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def living() -> list[int]:
    """Return the process ids of the launcher's children that live, without this process."""
    return [pid for pid in children() if pid != os.getpid() and lives(pid)]


def rank_0_lives() -> bool:
    """Return whether rank 0 lives on this machine."""
    return any(rank_of(pid) == 0 for pid in living())


def outlive(everyone_here: bool) -> None:
    """Wait until the other ranks have ended; if some hang, or may hang elsewhere, end the launcher."""
    until = time.monotonic() + END_S
    while (hanging := bool(living()) or not everyone_here) and time.monotonic() < until:
        time.sleep(0.02)
    if hanging:
        _end_launcher()


def kill_launcher() -> None:
    """Kill what this rank has started, and Open MPI's launcher.

    That may wait for ever if its ranks end at the same time (`_end_launcher`).
    """
    kill(descendants(os.getpid()))
    if os.getppid() == _launcher and state(_launcher)[0] in PRRTE:
        os.kill(_launcher, signal.SIGKILL)


def _end_launcher() -> None:
    """Have the launcher end all ranks, this one too.

    PRRTE 3, Open MPI's launcher, may complete a job twice if its ranks end at the same time, or a signal
    reaches it while the last one ends: it uses freed memory, and waits for ever. So this rank lives on until
    it is ended. After a third signal PRRTE ends all processes at once.
    """
    for _ in range(3):
        if os.getppid() != _launcher:  # it has ended
            return
        os.kill(_launcher, signal.SIGTERM)
        time.sleep(END_S)


def watch(rank: int) -> None:
    """Watch the other ranks on this machine."""
    threading.Thread(target=_Watch(rank).run, daemon=True).start()


def mpi_starts() -> None:
    """Mark this process: it waits for the other ranks in MPI_Init."""
    global _name
    _name = state(os.getpid())[0]
    mark(INIT)


def mpi_started() -> None:
    """Leave deaths to MPI from now on: MPI_Init is over."""
    _mpi_started.set()
    if _name:
        mark(_name)


def run_started() -> None:
    """End the watch of the start: the run begins."""
    _run_started.set()


def report(error: InputError | Failure) -> int:
    """Print an error that other ranks may also find, at rank 0 if that does; return the exit code."""
    place = launcher.launched_rank(os.environ)
    if place is None or place[0] == 0:
        print_error(str(error))
    else:
        time.sleep(FOUND_S)  # the launcher kills all ranks when one ends
        if rank_0_lives() or not launcher.on_one_machine(os.environ):
            print_error(f"{named(place[0])}: {error}")
    return 2 if isinstance(error, InputError) else 1


def mark(name: str) -> None:
    """Name this process, for others that look at it."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name)


def say_end() -> None:
    """Before the run: mark this process, so that other ranks know that it ends and has printed why."""
    if _run_started.is_set():
        return
    mark(SAID)
    time.sleep(2 * POLL_S)  # until the other ranks have seen the mark


def named(rank: int) -> str:
    """Name a rank of this machine."""
    return f"rank {rank} on {socket.gethostname()}"


def stopped(who: str) -> str:
    """Return the line about a process that has been stopped."""
    return f"{who} is stopped by a signal; the job ends in {STOPPED_S:g} s unless it continues (SIGCONT)"


def named_signal(number: int) -> str:
    """Name a signal by which a process has ended."""
    memory = ", which Linux also sends when memory runs out" if number == signal.SIGKILL else ""
    return f"signal {number} ({signal.Signals(number).name}{memory})"


class _Watch:
    """Watch of this machine's ranks by one of them. Counts polls, not time: this rank may be stopped, too."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.ranks = {os.getpid(): rank}  # by process id, of all that have been seen
        direct = state(_launcher)[0] in PRRTE  # no script or container between it and this rank
        self.expected = int(os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", "1")) if direct else 1
        self.handles: dict[int, int] = {}  # pidfds, by process id
        # Number of polls that have seen a child that is no rank, for good or not yet.
        self.strangers: dict[int, int] = {}
        self.said: set[int] = set()  # process ids of ranks that have printed why the job ends
        self.next = os.getpid()  # process id of the rank after this one
        self.stopped = self.gone = self.missing = 0  # numbers of polls in a row
        # Whether ranks on other machines may die without an end of MPI_Init; number of polls until its end.
        self.spread = launcher.survives_deaths(os.environ) and not launcher.on_one_machine(os.environ)
        self.polls, self.noted = 0, False

    def run(self) -> None:
        while not _run_started.wait(POLL_S):
            self.poll_start()
        while self.rank and (rank_0 := next((pid for pid, rank in self.ranks.items() if not rank), None)):
            time.sleep(POLL_S)
            self.check_stopped(rank_0)

    def poll_start(self) -> None:
        if os.getppid() != _launcher:
            if not supervised.is_attached() and self.rank == min(self.ranks.values()):
                supervised.print_line(f"{named(self.rank)}: the launcher has ended before the run began")
            os._exit(1)
        alive = {*children(), os.getpid()}
        for pid in alive - self.ranks.keys():
            if (rank := rank_of(pid)) is not None:
                self.ranks[pid] = rank
                with suppress(OSError):
                    self.handles[pid] = os.pidfd_open(pid)
        self.strangers = {pid: self.strangers.get(pid, 0) + 1 for pid in alive - self.ranks.keys()}
        if not _mpi_started.is_set():
            self.check_deaths(alive)
            if self.spread:
                self.check_elsewhere()
        order = sorted(self.ranks, key=lambda pid: self.ranks[pid])
        pid = order[(order.index(os.getpid()) + 1) % len(order)]
        if pid != self.next:
            self.next, self.stopped = pid, 0
        self.check_stopped(pid)

    def check_deaths(self, alive: set[int]) -> None:
        """End the job if a rank has died; the lowest that lives says so."""
        known = self.ranks.keys() & alive
        complete = all(polls > STRANGE for polls in self.strangers.values())
        first = min(known, key=self.ranks.__getitem__)
        lowest = complete and first == os.getpid()
        for pid in known if lowest else (first,):
            name, letter = state(pid)
            if name == SAID:
                self.said.add(pid)
            if letter == "Z":
                alive.discard(pid)
        dead = self.ranks.keys() - alive
        self.gone = self.gone + 1 if dead else 0
        for pid in sorted(dead) if lowest and not self.said else ():  # else a consequence
            self.end(
                f"{named(self.ranks[pid])} {_cause(pid, self.handles.get(pid, -1))} before the run began"
            )
        if self.gone * POLL_S > (SAID_S if lowest else 2 * SAID_S):
            self.end("")
        missing = self.expected - len(self.ranks)
        self.missing = self.missing + 1 if missing > 0 and complete else 0
        if self.missing and lowest:
            first, last = (
                min(set(range(self.expected + 1)) - set(self.ranks.values())),
                max(self.ranks.values()),
            )
            here = launcher.on_one_machine(os.environ)
            if self.missing * POLL_S > (FORKED_S if here and first < last else STARTED_S):
                which = named(first) if here else f"{missing} ranks on {socket.gethostname()}"
                self.end(f"{which} died before the run began")

    def check_elsewhere(self) -> None:
        """Limit the wait in MPI_Init for ranks on other machines.

        If one of them dies that is alone on its machine, no other rank sees its death.
        """
        self.polls += 1
        waited_s = self.polls * POLL_S
        if self.rank == 0 and waited_s >= NOTED_S and not self.noted:
            self.noted = True
            line = f"waits for ranks on other machines; the job ends if that takes {ELSEWHERE_S:g} s"
            supervised.print_line(f"{named(0)} {line}")
        limit_s = ELSEWHERE_S if self.rank == 0 else ELSEWHERE_S + SAID_S  # rank 0 may be the one
        if waited_s > limit_s and self.rank == min(self.ranks.values()):
            why = f"has waited {ELSEWHERE_S:g} s for ranks on other machines; one may have died"
            self.end(f"{named(self.rank)} {why}")

    def check_stopped(self, pid: int) -> None:
        self.stopped = self.stopped + 1 if pid != os.getpid() and is_stopped(pid) else 0
        who = named(self.ranks[pid])
        if self.stopped == 2 and self.speaks():
            supervised.print_line(stopped(who))
        if self.stopped * POLL_S > STOPPED_S:
            self.end(f"{who} remained stopped" if self.speaks() else "", pid)

    def speaks(self) -> bool:
        """Return whether this is the first of the living ranks that see the same."""
        others = filter(None, map(rank_of, living()))
        return not _run_started.is_set() or self.rank < min(others, default=math.inf)

    def end(self, why: str, stopped: int | None = None) -> NoReturn:
        """End the job, with a line, and a stopped process."""
        if why:
            supervised.print_line(f"{why}; the job ends")
        supervised.report_exit(1, died=True)
        say_end()
        if stopped is not None:
            with suppress(OSError):
                os.kill(stopped, signal.SIGKILL)  # not all launchers do
        if supervised.is_attached():
            time.sleep(supervised.END_S)  # until the command ends this rank: no other shall take it for dead
        elif launcher.survives_deaths(os.environ):
            _end_launcher()
        os._exit(1)


def rank_of(pid: int) -> int | None:
    """Return the rank of a child of the launcher; None if it is not yet known."""
    place = launcher.launched_rank(_environment(pid))
    return place and place[0]


def is_alone(pid: int) -> bool:
    """Return whether Open MPI has started a rank as the only one on this machine."""
    return _environment(pid).get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1"


def _environment(pid: int) -> dict[str, str]:
    """Return the environment with which a process has started; empty if it is gone."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return {}
    return dict(variable.partition("=")[::2] for variable in variables)


def _cause(pid: int, handle: int) -> str:
    """Describe how a process has ended, where the system tells: of a zombie, or by its pidfd."""
    info = bytearray(struct.pack("Q56x", PIDFD_INFO_EXIT))
    try:
        status = int(Path(f"/proc/{pid}/stat").read_text().split()[-1])
    except OSError:
        try:
            fcntl.ioctl(handle, PIDFD_GET_INFO, info)
        except OSError:
            return "ended"
        known, *_, status = struct.unpack("Q52xi", info)
        if not known & PIDFD_INFO_EXIT:
            return "ended"
    if os.WIFSIGNALED(status):
        return f"was ended by {named_signal(os.WTERMSIG(status))}"
    return f"ended with exit code {os.waitstatus_to_exitcode(status)}"
