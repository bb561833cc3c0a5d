"""Signals, for as long as somebody wants them: Python has them in its main thread alone."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

ENDS = signal.SIGINT, signal.SIGTERM

Handler = Callable[[int, FrameType | None], object]


@contextmanager
def handled(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    """Handle signals so, and afterwards as before; in other threads than the main one, as they are."""
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
    """Ctrl-C and SIGTERM wait until this is over."""
    caught: list[int] = []
    with handled(dict.fromkeys(ENDS, lambda number, frame: caught.append(number))):
        yield
    if caught:
        signal.raise_signal(caught[0])
