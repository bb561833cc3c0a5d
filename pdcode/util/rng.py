"""Counter-based randomness: a number depends on (seed, stream, worker, task) alone, not on earlier draws.

Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) with one key per stream.
Rounding uses Threefry4x32-13, keyed by a block of these numbers (csrc/random.h). All schemes therefore have
the same mini-batches and delays, in any order of events.
"""

import numpy as np

from ..kernels import philox

BATCH, DELAY, CODE, WIRE, BLOCK, ELEMENTS, FAULT, EPOCH, MODEL, SHUFFLE, CHANNEL = range(1, 12)  # streams

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
    """Sampler of a worker's mini-batches from its rows; batch 0: all rows in order.

    Rows are drawn with replacement, or in epochs: task t has the rows t·B … (t + 1)·B - 1 of permutations of
    all rows, one after another.
    """

    def __init__(self, seed: int, worker: int, rows: int, batch: int, epochs: bool = False) -> None:
        self.seed, self.worker, self.rows, self.full = seed, worker, rows, batch == 0
        self._epochs = epochs
        self._epoch, self._permutation = -1, np.empty(0, np.int64)  # the last one that was drawn
        self._indices = np.arange(rows, dtype=np.int64) if self.full else np.empty(batch, np.int64)

    def key(self, task: int, step: int = 0) -> tuple[int, int, int, int]:
        """Return the key of the random numbers of a model in a step of a task."""
        return self.seed, self.worker, task, step

    def draw(self, task: int) -> np.ndarray:
        """Return the row indices (batch,) int64 of a task, in the same buffer each time."""
        if self._epochs and not self.full:
            self._fill(task)
        elif not self.full:
            philox.integers(self.seed, BATCH, self.worker, task, self.rows, self._indices)
        return self._indices

    def _fill(self, task: int) -> None:
        """Fill in the rows of a task, of one epoch or of several."""
        done, count = 0, len(self._indices)
        while done < count:
            epoch, at = divmod(task * count + done, self.rows)
            if epoch != self._epoch:
                random = generator(self.seed, EPOCH, self.worker, epoch)
                self._epoch, self._permutation = epoch, random.permutation(self.rows)
            part = self._permutation[at : at + count - done]
            self._indices[done : done + len(part)] = part
            done += len(part)
