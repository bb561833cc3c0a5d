"""Pace of the measurements of a run: by the keys of ``[trace]``, or so that the time to a target is known."""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ..config import Config
from ..util.stateful import Stateful

PERIOD_S = 1.0  # longest time between measurements over MPI
GROWTH = 8  # measurements without a target are apart by an eighth of the time, or updates, so far
WIDEST = 0.25  # largest such fraction with a target
SHARE = 20  # measuring takes at most 1/20 of rank 0's time, as arrivals wait meanwhile
KEPT_BYTES = 1 << 25  # of θ since the last measurement; of large models not each is kept
NEVER = math.inf

Row = tuple[float, ...]


class Pace(Stateful):
    """Pace of the measurements of a run.

    On the virtual clock measuring takes no time. Without a period it is done by updates, ever less often, but
    more often the closer the target is. θ is kept in between: once the target is reached, `missed` finds the
    update that first reached it, in few measurements.

    Attributes
    ----------
    due_ns : float
        Time of the next measurement.
    due_version : float
        Version at which the next measurement is due in any case.
    keep_version : float
        Version from which on θ is to be kept next.
    """

    state_names = ("due_ns", "due_version", "keep_version", "_kept")
    state_types = (("_kept", list[tuple[int, int, bytes]]),)

    def __init__(self, config: Config, virtual: bool) -> None:
        period_s, updates = config.trace.progress_s, config.trace.progress_updates
        self._growing = period_s is None
        self._every_ns = round(1e9 * (PERIOD_S if period_s is None else period_s))
        self._by_update = virtual and period_s is None and updates is None
        self._keeps = self._by_update and {config.stop.loss, config.stop.accuracy} != {None}
        self._each = updates or NEVER
        self.due_ns, self.due_version = 0.0, float(self._each)
        self.keep_version = NEVER
        self._kept: list[tuple[int, int, bytes]] = []  # version, time in ns, θ and its average

    def keep(self, now_ns: int, version: int, points: Sequence[npt.NDArray[np.floating]]) -> None:
        """Keep θ, and its average, if there is one, at a version from `keep_version` on."""
        self._kept.append((version, now_ns, kept := b"".join(each.tobytes() for each in points)))
        apart = self.due_version - self._kept[0][0]
        self.keep_version = version + 1 + int(apart * len(kept) / KEPT_BYTES)

    def measured(self, version: int) -> None:
        """Forget θ before this version, which is measured."""
        self._kept.clear()
        self.keep_version = version + 1 if self._keeps else NEVER

    def plan(self, now_ns: int, version: int, cost_ns: int, distance: float) -> None:
        """Plan the next measurement after one that took `cost_ns`.

        `distance` is the logarithm of the loss as a multiple of the target, or 1 without one.
        """
        apart = min(distance / GROWTH, WIDEST)
        if self._by_update:
            self.due_ns, self.due_version = NEVER, version + max(1, int(apart * version))
            return
        every_ns = min(self._every_ns, apart * now_ns) if self._growing else self._every_ns
        self.due_ns, self.due_version = now_ns + max(every_ns, SHARE * cost_ns), version + self._each

    def missed(
        self,
        measure: Callable[[Sequence[np.ndarray]], Row],
        reached: Callable[[Row], bool],
        theta: npt.NDArray[np.floating],
    ) -> list[Row]:
        """Measure between the last measurement and one that reached the target; return the rows, in order.

        `theta` is any θ of the run.
        """
        rows: dict[int, Row] = {}

        def at(place: int) -> bool:
            version, now_ns, kept = self._kept[place]
            points = np.frombuffer(kept, theta.dtype).copy()  # PyTorch warns of what is not writable
            values = measure([*points.reshape(-1, len(theta))])
            rows[place] = (version, now_ns, *values)
            return reached(values)

        bisect_left(range(len(self._kept)), True, key=at)
        return [rows[place] for place in sorted(rows)]
