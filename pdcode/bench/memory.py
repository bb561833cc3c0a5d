"""What a memory of unsent gradients is worth: updates and bytes up and down, and how large memories grow."""

from __future__ import annotations

import time

from . import convergence, minibatches, shards


def run() -> int:
    """Print all; 0 if what is claimed holds, else 1."""
    start = time.perf_counter()
    sound = True
    for part in (minibatches.run, shards.run, convergence.run):
        sound &= part()
        print(f"\n{time.perf_counter() - start:.0f} s\n", flush=True)
    return 0 if sound else 1
