"""Signals while a command starts: Python sees them between its own steps, and a compiled call may be long."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..util.output import print_error
from ..util.signals import TERMINATING

PATIENCE_S = 1.0  # for the main thread to end by itself


@contextmanager
def at_once() -> Iterator[None]:
    """End the process at a terminating signal even if its main thread is in a long call, such as of BLAS.

    For blocks that leave nothing behind: no files, no processes. Python's own handlers must be installed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals, written = socket.socketpair()
    written.setblocking(False)
    left = threading.Event()

    def watch() -> None:
        while number := signals.recv(1):
            if number[0] in TERMINATING and not left.wait(PATIENCE_S):
                print_error("interrupted")
                os._exit(1)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    before = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        left.set()
        signal.set_wakeup_fd(before)
        written.close()
        watcher.join()
        signals.close()
