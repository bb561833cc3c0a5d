"""Offsets between the clocks of ranks.

The offset is that of the exchange with the least round trip, whose half bounds its error (Cristian,
"Probabilistic clock synchronization", 1989). Ranks of one boot of one machine read the same monotonic clock:
their offset is 0 by definition.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

ROUNDS = 16

now_ns = time.perf_counter_ns


def host() -> str:
    """Name of this machine."""
    return socket.gethostname()


def identity() -> str:
    """What tells the clock of this machine from others: host name and, on Linux, its boot and time
    namespace."""
    boot, offsets = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/timens_offsets")
    return "|".join([host(), *(path.read_text().strip() for path in (boot, offsets) if path.exists())])


def offset(exchange: Callable[[], int], rounds: int = ROUNDS) -> tuple[int, int]:
    """Offset of a remote clock and a bound on its error.

    Parameters
    ----------
    exchange : callable
        Returns the remote clock in ns, read between call and return.
    rounds : int
        Number of exchanges.

    Returns
    -------
    offset_ns, error_ns : int
        Remote minus local clock; half of the least round trip.
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
