"""The steps of a program of which only calls are known: the shortest sequence of calls that repeats."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MOST_CALLS = 4096  # that are searched
COVERED = 0.8  # fraction of the calls that a sequence has to explain; others are extra
ALIKE = 0.9  # fraction of the calls that are as one period earlier
REPEATED = 3  # times that a sequence comes in the middle half of the calls, at least


class Sequel(NamedTuple):
    """A sequence of calls that repeats, and the call with which it begins to."""

    codes: tuple[int, ...]
    begin: int


def sequences(codes: np.ndarray) -> list[Sequel]:
    """Return sequences of calls that repeat over most of a program, the one that comes most often first.

    Calls that come seldom, such as an evaluation of each tenth step, are no part of the first ones. What
    comes only in the first or in the last quarter, as at a start or an end, is left out.

    Parameters
    ----------
    codes : ndarray of int64, shape (calls,)
        What each call is.
    """
    quarter = len(codes) // 4
    middle = codes[quarter : len(codes) - quarter][-MOST_CALLS:]
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
        turns = own[_repeats(own, period)[:1] + np.arange(period)].tolist()
        for place in _repeats(codes[at], period):
            sequence = tuple(codes[at[place : place + period]].tolist())
            if any(sequence == (*turns[k:], *turns[:k]) for k in range(period)):
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
