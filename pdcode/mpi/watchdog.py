"""A watch over rank 0's loop: a call that does not return stops a run without a word.

A connection from outside the job, or a link that breaks, can hold MPI's progress for ever. Imports no MPI.
"""

import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Protocol, Self

from ..launch import launcher, siblings, supervised
from ..util.errors import RESUMABLE, place_of_frame
from ..util.output import print_error, print_line

POLL_S = 0.5
STILL_S = 5.0  # until a line
BOUND_S = 60.0  # in a call of MPI: until rank 0 ends; what it computes may take its time
HERE = os.path.dirname(__file__)


class Turning(Protocol):
    """What the watch knows of a run's ranks, see `process.Group`."""

    turns: int
    checkpoint: Path | None


class Watchdog:
    """A thread that watches whether the loop of the thread that made it still turns."""

    def __init__(self, comm: Turning) -> None:
        self._comm, self._watched, self._over = comm, threading.get_ident(), threading.Event()
        self._said = set[str]()  # places; an evaluation may be long each time

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()

    def _watch(self) -> None:
        turns, polls = -1, 0
        while not self._over.wait(POLL_S):
            before, turns = turns, self._comm.turns
            polls = polls + 1 if turns == before else 0  # no times: this process may have been stopped, too
            if polls < STILL_S / POLL_S:
                continue
            in_mpi, place = self._place()
            if place not in self._said:
                self._said.add(place)
                print_line(f"rank 0 has stood still for {polls * POLL_S:g} s{place}; replies wait")
            if in_mpi and polls >= BOUND_S / POLL_S and turns == self._comm.turns:
                self._end()

    def _place(self) -> tuple[bool, str]:
        """Return whether the thread is in a call of MPI, and where it is."""
        frame = sys._current_frames().get(self._watched)
        if frame is None:
            return False, ""
        folder, name = os.path.split(frame.f_code.co_filename)
        if folder == HERE:
            return True, ": a call of MPI does not return"
        return False, place_of_frame(frame) or f", in {name}, {frame.f_code.co_name}"

    def _end(self) -> None:
        """End rank 0 without MPI: the job goes on from its newest checkpoint, if it can."""
        print_error(f"rank 0: a call of MPI has not returned for {BOUND_S:g} s; rank 0 ends")
        checkpoint = self._comm.checkpoint
        code = RESUMABLE if checkpoint is not None and checkpoint.exists() else 1
        supervised.report_exit(code, died=True)
        if launcher.survives_deaths(os.environ) and not supervised.is_attached():
            for pid in siblings.living():  # the same connections may hold them
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        os._exit(code)
