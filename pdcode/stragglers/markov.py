"""Slow spells: delays that are correlated between successive tasks of a worker."""

import numpy as np
from numpy.typing import NDArray

from ..config import Duration, Fraction
from .base import DelayModel, Integers, Reals
from .laws import Shifted, format_s

WINDOW, MOST = 16, 1 << 20  # draws searched at a time: at first for one worker, and at most for all

States = NDArray[np.bool_]


class Markov(Shifted, tag="markov", kw_only=True):
    """Two-state Markov chain: a delay of shift_s, and extra_s more in a slow spell.

    Gilbert, "Capacity of a burst-noise channel", Bell Syst. Tech. J. 1960; Elliott, "Estimates of error rates
    for codes on burst-noise channels", ibid. 1963. At each task a spell begins with probability ``enter`` and
    ends with probability ``leave``. It lasts 1/leave tasks in the mean, and enter / (enter + leave) of all
    tasks are slow. The first task's state has this stationary distribution.
    """

    extra_s: Duration  #: additional delay in a slow spell [s]
    enter: Fraction  #: probability per task that a spell begins
    leave: Fraction  #: probability per task that a spell ends

    def make(self, seed: int, workers: int) -> DelayModel:
        return MarkovDelays(self, seed, workers)

    def random_part(self) -> str:
        slow = 100 * self.enter / (self.enter + self.leave)
        spells = f"of {1 / self.leave:g} tasks" if self.leave > 1e-300 else "without end"
        return f"{format_s(self.extra_s)} in spells {spells}, {slow:.3g} % of all"


class MarkovDelays(DelayModel):
    """Delays of `Markov`.

    Task t is slow if U_t < enter after a fast task, or if U_t < 1 - leave after a slow one. A U_t below both
    bounds, or above both, *settles* the state whatever it was before. Between the bounds the state stays, or,
    if 1 - leave < enter, changes. A task's state therefore follows from the last settling draw and the number
    of tasks since; that draw lies 1 / (1 - |1 - enter - leave|) tasks back in the mean.
    """

    def __init__(self, table: Markov, seed: int, workers: int) -> None:
        super().__init__(table, seed, workers)
        self._shift_s, self._extra_s = table.shift_s, table.extra_s
        self._low, self._high = sorted((table.enter, 1 - table.leave))
        self._changes = 1 - table.leave < table.enter
        self._occupancy = table.enter / (table.enter + table.leave)
        # State after the last call: a call that continues it needs no search backwards.
        self._next, self._last = np.zeros(workers, np.int64), np.zeros(workers, bool)

    def _draw_s(self, workers: Integers, first: Integers, count: int) -> Reals:
        slow = self.slow(workers, first, count).astype(np.float64)
        return self._shift_s + self._extra_s * slow

    def slow(self, workers: Integers, first: Integers, count: int) -> States:
        """Return whether each task falls into a slow spell, bool, shape (m, count)."""
        settled, state = self._settle(workers, first, count)
        if not count:
            return state
        missing = ~settled[:, 0]
        before = self._last[workers]
        unknown = np.flatnonzero(missing & (self._next[workers] != first))
        before[unknown] = self._before(workers[unknown], first[unknown])
        state[missing, 0] = before[missing] ^ self._changes
        number = np.arange(count)
        last_settled = np.where(settled, number, 0)  # last settled task up to each task
        np.maximum.accumulate(last_settled, axis=1, out=last_settled)
        slow = np.take_along_axis(state, last_settled, axis=1)
        if self._changes:
            slow ^= (number - last_settled) % 2 == 1
        self._next[workers], self._last[workers] = first + count, slow[:, -1]
        return slow

    def _settle(self, workers: Integers, first: Integers, count: int) -> tuple[States, States]:
        """Return two bool arrays, shape (m, count): tasks settled by their own draws, and their states."""
        uniform = self._uniforms(workers, first, count)[..., 0]
        state = uniform < self._low
        settled = state | (uniform >= self._high)
        if count:
            start = first == 0
            settled[start, 0], state[start, 0] = True, uniform[start, 0] < self._occupancy
        return settled, state

    def _before(self, workers: Integers, first: Integers) -> States:
        """Return the state of the task before `first` ≥ 1, for each worker."""
        found, end, window = np.zeros(len(first), bool), first.copy(), WINDOW
        rest = np.arange(len(first))
        while len(rest):
            begin = np.maximum(end[rest] - window, 0)
            settled, state = self._settle(workers[rest], begin, window)
            settled &= begin[:, None] + np.arange(window) < end[rest, None]
            last = window - 1 - np.argmax(settled[:, ::-1], axis=1)
            row = np.flatnonzero(settled.any(axis=1))
            since = first[rest[row]] - 1 - (begin[row] + last[row])
            found[rest[row]] = state[row, last[row]] ^ (self._changes & (since % 2 == 1))
            end[rest] = begin
            rest = np.delete(rest, row)
            window = max(WINDOW, min(2 * window, MOST // max(1, len(rest))))
        return found
