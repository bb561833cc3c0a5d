"""A program of mpi4py with a cause of lateness, which is not in the program.

`pdcode record -o TRACE benchmarks/inject.py CAUSE PROGRAM ARGUMENT…` runs the program; the cause acts where
it enters a recorded call: before the time of entering is noted, which is the rank's own work, or after it.
"""

import random
import runpy
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Cause(NamedTuple):
    """A cause, and what is to be named."""

    ranks: tuple[int, ...]
    named: tuple[int | str, ...]
    stretch: float = 0.0  # of the rank's own work, before all calls
    delay_s: float = 0.0  # once a step
    share: float = 1.0  # of the steps, by chance
    period: int = 1  # in steps, of the delay
    inside: bool = False  # the delay is part of the call


CAUSES = {
    "none": Cause((), ()),
    "a slow rank": Cause((2,), (2,), stretch=0.8),
    "slow sometimes": Cause((1,), (1,), delay_s=0.08, share=0.15),
    "stalls": Cause((3,), (3,), delay_s=0.5, period=30),
    "a slow loader": Cause((1,), (1,), delay_s=0.015),
    "a busy rank 0": Cause((0,), (0,), delay_s=0.018),
    "a slow link": Cause((0, 1, 2, 3), ("the reduction",), delay_s=0.01, inside=True),
}
CHOSEN = 10  # the call at whose place the delay is
SEED = 3


def delayed(recording: Any, cause: Cause) -> Callable[[], int]:
    """Return `recording.enter` with the delays of a cause."""
    enter, draws = recording.enter, random.Random(SEED)
    calls, steps, place = 0, 0, (0, 0)

    def enter_late() -> int:
        nonlocal calls, steps, place
        frame, delay_s = sys._getframe(2), 0.0
        here = id(frame.f_code), frame.f_lasti
        calls += 1
        if calls == CHOSEN:
            place = here
        if calls >= CHOSEN and here == place:
            steps += 1
            if steps % cause.period == 0 and draws.random() < cause.share:
                delay_s = cause.delay_s
        before_s = cause.stretch * 1e-9 * (time.perf_counter_ns() - recording._left_ns)
        time.sleep(before_s + delay_s * (not cause.inside))
        entered_ns: int = enter()
        time.sleep(delay_s * cause.inside)
        return entered_ns

    return enter_late


def main() -> None:
    """Run the program."""
    from mpi4py import MPI

    name, sys.argv = sys.argv[1], sys.argv[2:]
    comm: Any = MPI.COMM_WORLD
    if comm.rank in CAUSES[name].ranks:
        comm.recording.enter = delayed(comm.recording, CAUSES[name])
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
