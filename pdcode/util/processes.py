"""Pools of worker processes that end with the process that started them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from . import signals
from .errors import Failure

MAX_PROCESSES = 1024  # of a pool
ENDED_S = 2.0  # for terminated processes to end

Key = TypeVar("Key")
In = TypeVar("In")
Out = TypeVar("Out")


@contextmanager
def start(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Start processes that leave signals to this process, and end with it even if it is killed.

    An exception in the block ends them at once. If one of them is killed, that is a `Failure`.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy MPI, and BLAS's locked threads
    with _safe_path():
        executor = ProcessPoolExecutor(processes, context, _begin)
        try:
            yield executor
        except BaseException as error:
            started = list((executor._processes or {}).values())
            for process in started:
                process.terminate()
            manager: Any = executor._executor_manager_thread
            executor.shutdown(wait=False, cancel_futures=True)
            if manager is not None:
                manager.join(ENDED_S)  # Python's exit would race with it, and print a traceback
            if isinstance(error, BrokenProcessPool):
                for process in started:  # the manager waits for one whose run took the signal for its own
                    process.kill()
                raise Failure("a process that shared the work was killed") from None
            raise
        executor.shutdown(cancel_futures=True)


def submit(executor: ProcessPoolExecutor, function: Callable[..., Out], *arguments: Any) -> Future[Out]:
    """Submit a call, with signals deferred so that no process is left half-started."""
    with signals.deferred():
        submitted = executor.submit(function, *arguments)
        manager: Any = executor
        with manager._shutdown_lock:  # it may wait without knowing the process that was started for the call
            manager._executor_manager_thread_wakeup.wakeup()
    return submitted


@contextmanager
def _safe_path() -> Iterator[None]:
    """Start Python processes without the current folder on their path: it may have a `random.py`."""
    name = "PYTHONSAFEPATH"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _begin() -> None:
    for number in set(signals.TERMINATING) - {signal.SIGTERM}:  # the parent handles them
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    """Exit when the parent process ends."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


class Pool(ExitStack):
    """Pool of processes that is reused; by default one per core. A pool of 1 works in this process."""

    def __init__(self, processes: int | None = None) -> None:
        super().__init__()
        self.processes = processes or cores()
        self._executor: ProcessPoolExecutor | None = None

    def results(
        self, function: Callable[[In], Out], items: Iterable[tuple[Key, In]]
    ) -> Iterator[tuple[Key, Out]]:
        """Apply a function to the argument of each (key, argument) item; yield (key, result) on completion.

        An item is drawn when a process is free, so that it may depend on earlier results.
        """
        if self.processes == 1:
            for key, item in items:
                yield key, function(item)
            return
        if self._executor is None:
            self._executor = self.enter_context(start(self.processes))
        todo = iter(items)
        running: dict[Future[Any], Key] = {}
        more = True
        while more or running:
            while more and len(running) < self.processes:
                try:
                    key, item = next(todo)
                except StopIteration:
                    more = False
                else:
                    running[submit(self._executor, function, item)] = key
            for done in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                yield running.pop(done), done.result()
