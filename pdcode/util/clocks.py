"""Offsets between the clocks of ranks.

The offset is taken from the exchange with the shortest round trip; its half bounds the error (Cristian,
"Probabilistic clock synchronization", 1989). Ranks on one machine share a monotonic clock; their offset is 0.
"""

import socket
import time
from collections.abc import Callable
from pathlib import Path

ROUNDS = 16

now_ns = time.perf_counter_ns


def host() -> str:
    """Return the name of this machine."""
    return socket.gethostname()


def identity() -> str:
    """Return the identity of this machine's clock: host name and, on Linux, boot id and time namespace."""
    boot, offsets = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/timens_offsets")
    return "|".join([host(), *(path.read_text().strip() for path in (boot, offsets) if path.exists())])


def offset(exchange: Callable[[], int], rounds: int = ROUNDS) -> tuple[int, int]:
    """Measure remote minus local clock by `exchange`, which returns the remote clock, in ns.

    Return the offset and a bound on its error, half of the shortest round trip, in ns.
    """
    best = None
    for _ in range(rounds):
        before = now_ns()
        remote = exchange()
        after = now_ns()
        if best is None or after - before < best[1]:
            best = remote - (before + after) // 2, after - before
    assert best is not None
    return best[0], (best[1] + 1) // 2
