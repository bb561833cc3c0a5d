"""Counter-based randomness: a number depends on (seed, stream, worker, task) alone, not on earlier draws.

Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) with one key per stream.
Rounding uses Threefry4x32-13, keyed by a block of these numbers (csrc/random.h). All schemes therefore have
the same mini-batches and delays, in any order of events.
"""

import numpy as np

from ..kernels import philox

BATCH, DELAY, CODE, WIRE, BLOCK, ELEMENTS, FAULT = 1, 2, 3, 4, 5, 6, 7  # streams

_one = np.empty(1, np.float64)


def uniform(seed: int, stream: int, worker: int, task: int) -> float:
    """Return a number in [0, 1)."""
    philox.uniforms(seed, stream, worker, task, _one)
    return float(_one[0])


def generator(seed: int, stream: int, *place: int) -> np.random.Generator:
    """Return numpy's generator keyed by at most three further numbers, such as worker and task."""
    counter = [0, *place, *[0] * (3 - len(place))]
    return np.random.Generator(np.random.Philox(key=[seed, stream], counter=counter))


class BatchSampler:
    """Sampler of a worker's mini-batches, with replacement from its rows; batch 0: all rows in order."""

    def __init__(self, seed: int, worker: int, rows: int, batch: int) -> None:
        self.seed, self.worker, self.rows, self.full = seed, worker, rows, batch == 0
        self._indices = np.arange(rows, dtype=np.int64) if self.full else np.empty(batch, np.int64)

    def draw(self, task: int) -> np.ndarray:
        """Return the row indices (batch,) int64 of a task, in the same buffer each time."""
        if not self.full:
            philox.integers(self.seed, BATCH, self.worker, task, self.rows, self._indices)
        return self._indices
