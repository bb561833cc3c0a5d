"""Plateaus of the mini-batches' loss, at which steps become shorter (``optimizer.plateau``)."""

from math import sqrt

from ..util.stateful import Stateful

# Rounds of a window, at least and as a part of earlier rounds; the factor at a plateau, and the rounds t of
# the least factor √(ROOT/t), which sums of steps need to reach any point.
SHORTEST, GROWTH, SHRINKAGE, ROOT = 3, 1 / 3, 0.7, 4.0


class Plateau(Stateful):
    """Factor on the learning rate, which falls where the mean loss of a window is not below the last one's.

    A round is as many payloads as there are workers, and windows grow with the rounds before them, as do the
    noise and the slowness of a descent. After t rounds the factor is at least √(4/t).

    Attributes
    ----------
    factor : float
    """

    state_names = ("factor", "_payloads", "_length", "_total", "_before")
    state_types = (("_before", float | None),)

    def __init__(self, workers: int) -> None:
        self.factor = 1.0
        self._workers, self._payloads = workers, 0  # used before this window
        self._length, self._total = 0, 0.0  # of this window: payloads, and the sum of their losses
        self._before: float | None = None  # mean loss of the last window

    def add(self, loss: float) -> None:
        """Count the loss of a payload that is used."""
        self._length += 1
        self._total += loss
        rounds = max(SHORTEST, int(GROWTH * self._payloads / self._workers))
        if self._length < rounds * self._workers:
            return
        mean = self._total / self._length
        self._payloads += self._length
        if self._before is not None and not mean < self._before:
            least = sqrt(ROOT * self._workers / self._payloads)
            self.factor = max(SHRINKAGE * self.factor, min(1.0, least))
        self._before, self._length, self._total = mean, 0, 0.0
