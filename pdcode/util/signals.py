"""Signal handlers, which Python allows in its main thread only."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

# Ctrl-C, `kill`, a closed terminal, and the usual choice for SLURM's warning before the time limit.
TERMINATING = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1
SAME_REQUEST_S = 1.0  # signals within it are one request: SLURM, mpirun, `timeout` and we may send one each

NOHUP = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # in a process started by `nohup pdcode …`

Handler = Callable[[int, FrameType | None], object] | signal.Handlers


class Interruptible(Protocol):
    """A run that a signal can interrupt: its number becomes `interrupted`."""

    interrupted: int


class StopRequests:
    """The user's requests to stop: of a signal, or of several within `SAME_REQUEST_S`."""

    def __init__(self) -> None:
        self._last_s = -math.inf

    def new(self) -> bool:
        """Return whether a signal that arrives now is a new request."""
        now_s = time.monotonic()
        if now_s < self._last_s + SAME_REQUEST_S:
            return False
        self._last_s = now_s
        return True


def interrupts(run: Interruptible) -> dict[signal.Signals, Handler]:
    """Return handlers of the terminating signals: a request interrupts the run, the next ends the process."""
    requests = StopRequests()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if requests.new():
            if run.interrupted:
                raise SystemExit(128 + number)
            run.interrupted = number

    return dict.fromkeys(TERMINATING, interrupt)


def as_keyboard_interrupt() -> dict[signal.Signals, Handler]:
    """Return handlers by which each request of a terminating signal raises KeyboardInterrupt."""
    requests = StopRequests()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if requests.new():
            raise KeyboardInterrupt

    return dict.fromkeys(TERMINATING, interrupt)


@contextmanager
def handled(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    """Install handlers for the block, but none outside the main thread, nor of SIGHUP under `nohup`."""
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
    """Defer the terminating signals until the end of the block."""
    caught: list[int] = []
    try:
        with handled(dict.fromkeys(TERMINATING, lambda number, frame: caught.append(number))):
            yield
    finally:
        if caught:
            signal.raise_signal(caught[0])
