"""Signal handlers, which Python allows in its main thread only."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

# Ctrl-C, `kill`, a terminal that is closed, and the usual choice for SLURM's warning before the time limit.
ENDS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1
ONE_WISH_S = 1.0  # signals within this time are one: SLURM, mpirun, `timeout` and we may each send theirs

NOHUP = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # as `nohup pdcode …` starts this process

Handler = Callable[[int, FrameType | None], object] | signal.Handlers


class Interruptible(Protocol):
    """A run that can be asked to end early: `interrupted` is then the signal's number."""

    interrupted: int


class Wishes:
    """The user's wishes to end, of one signal each or of several within `ONE_WISH_S`."""

    def __init__(self) -> None:
        self._last_s = -math.inf

    def new(self) -> bool:
        """Return whether a signal that arrives now is a new wish."""
        now_s = time.monotonic()
        if now_s < self._last_s + ONE_WISH_S:
            return False
        self._last_s = now_s
        return True


def interrupts(run: Interruptible) -> dict[signal.Signals, Handler]:
    """Return handlers of the signals that end: the first wish interrupts a run, the next ends the process."""
    wishes = Wishes()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if wishes.new():
            if run.interrupted:
                raise SystemExit(128 + number)
            run.interrupted = number

    return dict.fromkeys(ENDS, interrupt)


def endings() -> dict[signal.Signals, Handler]:
    """Return handlers by which all signals that end act like Ctrl-C, those of one wish as one."""
    wishes = Wishes()

    def end(number: int, frame: FrameType | None) -> None:
        if wishes.new():
            raise KeyboardInterrupt

    return dict.fromkeys(ENDS, end)


@contextmanager
def handled(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    """Install handlers for the duration of the block; a no-op outside the main thread.

    A hang-up that this process was started to ignore stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, handler)
        for number, handler in handlers.items()
        if not (number == signal.SIGHUP and NOHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """Defer the signals that end until the end of the block."""
    caught: list[int] = []
    try:
        with handled(dict.fromkeys(ENDS, lambda number, frame: caught.append(number))):
            yield
    finally:
        if caught:
            signal.raise_signal(caught[0])
