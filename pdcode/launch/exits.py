"""The exit of a process whose work is done, bounded: threads, exit handlers and children may not want to end.

A user's code may have started them. Python waits for threads that are no daemons, and for exit handlers. The
other ranks wait for this one in MPI_Finalize, and the launcher for all that have its pipes.
"""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..util.errors import place_of_frame
from . import siblings, supervised

EXIT_S = 5.0  # for threads and exit handlers
CHILDREN_S = 1.0  # for children to end after them
OTHERS_S = 7.0  # until rank 0 ends ranks that have not come to MPI_Finalize, if no command does
LAST_S = 8.0  # until Linux ends a rank that has no command to do so, and whose Python hangs
HELPERS = b"multiprocessing.resource_tracker", b"multiprocessing.forkserver"  # end with their parents

at_end: list[Callable[[], object]] = []  # what to do after exit handlers: MPI_Finalize


class Exit:
    """The exit of this process, a rank with its children, or a command alone."""

    def __init__(self, rank: int | None) -> None:
        self._rank, self._pid = rank, os.getpid()
        self._lock, self._finished = threading.Lock(), False
        if rank is not None and not supervised.is_attached():  # else the command does
            siblings.adopt()
        atexit.register(self._finish)  # after those that are registered later

    def limit(self, code: int) -> None:
        """Limit the time from now to the end of the process, whose exit code is given."""
        threading.Thread(target=self._end, args=(code,), daemon=True).start()
        if self._rank is not None and not supervised.is_attached():
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, LAST_S)

    def _end(self, code: int) -> None:
        time.sleep(EXIT_S)
        if not self._finished:
            who = "the command" if self._rank is None else siblings.named(self._rank)
            supervised.print_line(f"{who} {self._cause()} {EXIT_S:g} s after its work, and is ended")
            self._finish()
        elif self._rank == 0 and not supervised.is_attached():
            time.sleep(OTHERS_S - EXIT_S)
            if left := siblings.living():
                supervised.print_line(
                    f"{siblings.described(left, left)} did not end after the job, and was killed"
                )
                siblings.kill(left)
        else:
            return
        with suppress(Exception):
            sys.stdout.flush()
        os._exit(code)

    def _cause(self) -> str:
        """Say what the process waits for."""
        main, frames = threading.main_thread(), sys._current_frames()
        threads = [each for each in threading.enumerate() if each is not main and not each.daemon]
        places = [f"{each.name!r}{place_of_frame(frames.get(each.ident or 0))}" for each in threads]
        if threads:
            return f"still has {'thread' if len(threads) == 1 else 'threads'} {', '.join(places)}"
        return f"is still in an exit handler{place_of_frame(frames.get(main.ident or 0))}"

    def _finish(self) -> None:
        """End children, and wait for other ranks."""
        if os.getpid() != self._pid:  # a fork
            return
        with self._lock:
            if self._finished:
                return
            self._finished = True
            if self._rank is not None:
                self._end_children()
                siblings.mark(siblings.FINISHED)
            for end in at_end:
                end()
            siblings.mark(siblings.EXITS)

    def _end_children(self) -> None:
        until_s = time.monotonic() + CHILDREN_S
        while (left := [*filter(_is_users, siblings.descendants(self._pid))]) and time.monotonic() < until_s:
            time.sleep(0.02)
        if left:
            supervised.print_line(
                f"{siblings.described(left, ())} did not end after its rank, and was killed"
            )
            siblings.kill(left)


def _is_users(pid: int) -> bool:
    """Return whether a process is none of Python's own."""
    with suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        return not any(helper in command for helper in HELPERS)
    return False
