"""Signal handlers, which Python allows in its main thread only."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

ENDS = signal.SIGINT, signal.SIGTERM

Handler = Callable[[int, FrameType | None], object]


class Interruptible(Protocol):
    """A run that can be asked to end early."""

    interrupted: bool


def interrupts(run: Interruptible) -> dict[signal.Signals, Handler]:
    """Return handlers of Ctrl-C and SIGTERM: the first interrupts a run, the second ends the process."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        if run.interrupted:
            raise SystemExit(128 + number)
        run.interrupted = True

    return dict.fromkeys(ENDS, interrupt)


@contextmanager
def handled(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    """Install handlers for the duration of the block; a no-op outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """Defer Ctrl-C and SIGTERM until the end of the block."""
    caught: list[int] = []
    with handled(dict.fromkeys(ENDS, lambda number, frame: caught.append(number))):
        yield
    if caught:
        signal.raise_signal(caught[0])
