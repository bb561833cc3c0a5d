"""The steps of a program of which only calls are known: the shortest sequence of calls that repeats."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MOST_CALLS = 4096  # that are searched
COVERED = 0.8  # fraction of the calls that a sequence has to explain; others are extra
ALIKE = 0.9  # fraction of the calls that are as one period earlier
STEADY = 0.2  # relative change from one step to the next, of that from one occurrence to the next
NEGLIGIBLE = 0.01  # of the longest times: they say nothing of steps
REPEATED = 3  # times that a sequence comes in the middle half of the calls, at least


class Sequel(NamedTuple):
    """A sequence of calls that repeats, and the call with which it begins to."""

    codes: tuple[int, ...]
    begin: int


def sequences(codes: np.ndarray) -> list[Sequel]:
    """Return sequences of calls that repeat over most of a program, the one that comes most often first.

    Calls that come seldom, such as an evaluation of each tenth step, are no part of the first ones. What
    comes only in the first or in the last quarter, as at a start or an end, is left out; if nothing repeats
    between, as where a start is long, of the last half of the calls, or less.

    Parameters
    ----------
    codes : ndarray of int64, shape (calls,)
        What each call is.
    """
    for length in (len(codes), len(codes) // 2, len(codes) // 4, len(codes) // 8):
        if found := _sequences(codes, codes[len(codes) - length :]):
            return found
    return []


def _sequences(codes: np.ndarray, window: np.ndarray) -> list[Sequel]:
    """Return the sequences that repeat in the middle half of a window, and where these begin in all calls."""
    quarter = len(window) // 4
    middle = window[quarter : len(window) - quarter][-MOST_CALLS:]
    kinds, counts = np.unique(middle, return_counts=True)
    found, times = list[Sequel](), list[int]()
    for level in np.unique(counts)[::-1]:
        core = kinds[counts >= level]
        if counts[counts >= level].sum() < COVERED * len(middle):
            continue
        own = middle[np.isin(middle, core)]
        period = shortest_period(own)
        if not period or (found and period == len(found[-1].codes)):
            continue
        at = np.flatnonzero(np.isin(codes, core))
        exact = _repeats(own, period)
        first = own[exact[0] : exact[0] + period].tolist() if len(exact) else [-1]
        if occurrences(own, first).size < COVERED * len(own):  # of a part of the middle only
            continue
        for place in _repeats(codes[at], period):
            sequence = tuple(codes[at[place : place + period]].tolist())
            if any(sequence == (*first[k:], *first[:k]) for k in range(period)):
                if times and len(own) // period >= times[-1] - 1:  # the same steps with more calls
                    found.pop()
                found.append(Sequel(sequence, int(at[place])))
                times.append(len(own) // period)
                break
    return found


def shortest_period(codes: np.ndarray) -> int:
    """Return the shortest period of a sequence, 0 if it has none."""
    for period in range(1, len(codes) // REPEATED + 1):
        if np.count_nonzero(codes[:-period] == codes[period:]) >= ALIKE * (len(codes) - period):
            return period
    return 0


def turns(times: Sequence[np.ndarray]) -> int:
    """Return of how many occurrences a step consists, by the times before them on each rank.

    A call that is made several times a step has a long time before the first of them, on all ranks.
    """
    means = [float(each.mean()) for each in times]
    busy = [each for each, mean in zip(times, means, strict=True) if mean > NEGLIGIBLE * max(means)]
    one = [np.abs(np.diff(each)).mean() for each in busy]
    for turn in range(2, min(map(len, busy), default=0) // (2 * REPEATED) + 1):
        changes = [np.abs(each[turn:] - each[:-turn]).mean() for each in busy]
        if all(change < STEADY * before for change, before in zip(changes, one, strict=True)):
            return turn
    return 1


def _repeats(codes: np.ndarray, period: int) -> np.ndarray:
    """Return where a sequence of this length is followed by the same one."""
    alike = np.concatenate(([0], np.cumsum(codes[:-period] == codes[period:])))
    return np.flatnonzero(alike[period:] - alike[:-period] == period)


def occurrences(codes: np.ndarray, sequence: Sequence[int]) -> np.ndarray:
    """Return the calls of each occurrence of a sequence, int64, shape (steps, calls of the sequence).

    Other calls may lie between them.
    """
    place, length, found = 0, len(sequence), list[int]()
    for at, code in enumerate(codes.tolist()):
        if code == sequence[place]:
            found.append(at)
            place = (place + 1) % length
    return np.array(found[: len(found) // length * length], np.int64).reshape(-1, length)
