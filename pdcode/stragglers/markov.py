"""Slow spells: a worker that is slow tends to stay so for a while."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..config.tables import Fraction, Real
from .base import Integers, Model, Reals
from .laws import Shifted, time

WINDOW, MOST = 16, 1 << 20  # draws that are looked at in one go: at first of a worker, and of all at the most

States = NDArray[np.bool_]


class Markov(Shifted, tag="markov", kw_only=True):
    """shift_s, and extra_s more in a slow spell.

    A worker's tasks are a Markov chain of two states (Gilbert, "Capacity of a burst-noise channel", Bell
    Syst. Tech. J. 1960; Elliott, "Estimates of error rates for codes on burst-noise channels", ibid. 1963): a
    spell begins with probability ``enter`` a task and ends with probability ``leave``, so it lasts 1/leave
    tasks in the mean, and enter / (enter + leave) of all tasks are slow. The first task's state is of that
    stationary law.
    """

    extra_s: Real  # more for the tasks of a slow spell
    enter: Fraction  # probability that a spell begins, a task
    leave: Fraction  # probability that it ends

    def make(self, seed: int, workers: int) -> Model:
        return Spells(self, seed, workers)

    def part(self) -> str:
        slow = 100 * self.enter / (self.enter + self.leave)
        spells = f"of {1 / self.leave:g} tasks" if self.leave > 1e-300 else "without end"
        return f"{time(self.extra_s)} in spells {spells}, {slow:.3g} % of all"


class Spells(Model):
    """Delays of `Markov`.

    Notes
    -----
    The state of task t is that of t-1 put through U_t: to slow from fast if U_t < enter, and from slow if
    U_t < 1 - leave. A U_t below both bounds, or above both, *settles* the state whatever it was; between them
    the state stays, or where 1 - leave < enter it changes. So any task's state is known from the last draw
    that settled it, and the number of tasks since: 1 / (1 - |1 - enter - leave|) draws back in the mean.
    """

    def __init__(self, table: Markov, seed: int, workers: int) -> None:
        super().__init__(table, seed, workers)
        self._shift_s, self._extra_s = table.shift_s, table.extra_s
        self._low, self._high = sorted((table.enter, 1 - table.leave))
        self._changes = 1 - table.leave < table.enter
        self._occupancy = table.enter / (table.enter + table.leave)
        # Going on from where the last call ended costs no look back.
        self._next, self._last = np.zeros(workers, np.int64), np.zeros(workers, bool)

    def _draw_s(self, workers: Integers, first: Integers, count: int) -> Reals:
        slow = self.slow(workers, first, count).astype(np.float64)
        return self._shift_s + self._extra_s * slow

    def slow(self, workers: Integers, first: Integers, count: int) -> States:
        """Whether each of some tasks falls into a slow spell, shape (m, count)."""
        settled, state = self._settle(workers, first, count)
        if not count:
            return state
        missing = ~settled[:, 0]
        before = self._last[workers]
        strange = np.flatnonzero(missing & (self._next[workers] != first))
        before[strange] = self._before(workers[strange], first[strange])
        state[missing, 0] = before[missing] ^ self._changes
        number = np.arange(count)
        known = np.where(settled, number, 0)  # number of the last task that is settled, by itself or by now
        np.maximum.accumulate(known, axis=1, out=known)
        slow = np.take_along_axis(state, known, axis=1)
        if self._changes:
            slow ^= (number - known) % 2 == 1
        self._next[workers], self._last[workers] = first + count, slow[:, -1]
        return slow

    def _settle(self, workers: Integers, first: Integers, count: int) -> tuple[States, States]:
        """Which tasks' states are settled by their own draws, and those states."""
        uniform = self._uniforms(workers, first, count)[..., 0]
        state = uniform < self._low
        settled = state | (uniform >= self._high)
        if count:
            start = first == 0
            settled[start, 0], state[start, 0] = True, uniform[start, 0] < self._occupancy
        return settled, state

    def _before(self, workers: Integers, first: Integers) -> States:
        """States of the tasks before `first` ≥ 1."""
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
