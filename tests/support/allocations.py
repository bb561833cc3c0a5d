"""What a call allocates."""

import tracemalloc
from collections.abc import Callable


def allocated(turn: Callable[[], object], turns: int) -> tuple[int, int]:
    """Return how many bytes some turns leave behind, and the most that they hold at a time.

    That is the least of three tries: meanwhile a thread of pytest-xdist may receive a message.
    """
    tries = []
    for _ in range(3):
        tracemalloc.start()
        try:
            turn()
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(turns):
                turn()
            after, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        tries.append((after - before, peak - before))
    return min(left for left, _ in tries), min(peak for _, peak in tries)
