"""Clipping of payloads to the median norm of recent ones (``update.clip``).

Every worker has one vote, the norm of its last payload, so a fast worker has no more influence than others.
Less than half of the workers cannot move the median beyond the norms of the others. The payload is scaled in
its message, so that rank 0 relays what it uses.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..transport.base import Arrival
from ..util.stateful import Stateful

if TYPE_CHECKING:
    from ..config import Config

SMALLEST = float(np.finfo(np.float32).tiny)  # below it squares in single precision have lost digits
MIN_VOTES = 3
"""Number of workers whose norms must be known before a payload is scaled."""


def square(payload: np.ndarray) -> float:
    """Return the squared norm of a usable payload, in double precision where its own does not suffice."""
    with np.errstate(over="ignore"):
        result = float(np.vdot(payload, payload))
    if SMALLEST < result < math.inf:
        return result
    return float(np.square(payload, dtype=np.float64).sum())


class Votes:
    """The last norm of each worker, and their median."""

    def __init__(self, last: Mapping[int, float] | None = None) -> None:
        self.last = {**(last or {})}
        self._sorted = sorted(self.last.values())

    def __len__(self) -> int:
        return len(self._sorted)

    def put(self, worker: int, norm: float) -> None:
        """Replace a worker's vote."""
        old = self.last.get(worker)
        if old is not None:
            del self._sorted[bisect_left(self._sorted, old)]
        self.last[worker] = norm
        insort(self._sorted, norm)

    @property
    def median(self) -> float:
        """The lower median."""
        return self._sorted[(len(self._sorted) - 1) // 2]


class Clip(Stateful):
    """Clipping to the median norm of the same round and part of replies."""

    def __init__(self) -> None:
        self.votes: dict[tuple[int, int], Votes] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"votes": [[*place, {**votes.last}] for place, votes in self.votes.items()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.votes = {(number, part): Votes(last) for number, part, last in state["votes"]}

    def __call__(self, arrival: Arrival, living: int) -> float | None:
        """Scale a payload down to the median norm, in place; return the factor, at most 1.

        `living` is the number of workers that can have a vote. The result is None if too few norms are known;
        the payload is then unchanged.
        """
        votes = self.votes.setdefault((arrival.round, arrival.part), Votes())
        norm = math.sqrt(sum(map(square, arrival.payloads)))
        votes.put(arrival.worker, norm)
        if len(votes) < min(MIN_VOTES, living):
            return None
        if norm <= (median := votes.median):
            return 1.0
        arrival.scale(median / norm)
        return median / norm


def make_clip(config: Config) -> Clip | None:
    """Build the clipping of ``[update]``; None if there is none."""
    return Clip() if config.update.clip == "median" else None
