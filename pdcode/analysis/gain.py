"""A run beside the same job that waits for all workers: the time of both to a loss."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..trace.reader import TraceReader
from ..util.formats import SCALES, reached, two_digits
from . import description, statistics

APART = 2  # ratio of the times of two measurements between which no time is named


@dataclass(frozen=True)
class Gain:
    """Times of a run, and of the same job in which rank 0 waits for all workers, to a loss."""

    run: TraceReader
    waiting: TraceReader  # simulated under the delays of the run
    level: float

    @property
    def run_s(self) -> float:
        """Time of the run in s, interpolated between measurements."""
        return time_s(self.run, self.level)

    @property
    def waiting_s(self) -> float:
        """Time of the job that waits in s; infinite if its simulation ended before."""
        return time_s(self.waiting, self.level)

    @property
    def known(self) -> bool:
        """Whether the simulation went far enough to tell which of the two is sooner."""
        return math.isfinite(self.waiting_s) or 1e-9 * description.stop_ns(self.waiting) > self.run_s

    @property
    def factor(self) -> str:
        """How many times as long waiting takes, as text; at least, if measurements were far apart."""
        measured = self.run.progress
        first_ns, last_ns = statistics.reached_ns(measured, measured["loss"], self.level)
        if math.isfinite(self.waiting_s) and first_ns < last_ns / APART:
            return f"at least {two_digits(1e9 * self.waiting_s / last_ns)}"
        if math.isfinite(self.waiting_s):
            return two_digits(self.waiting_s / self.run_s)
        return f"more than {two_digits(1e-9 * description.stop_ns(self.waiting) / self.run_s)}"

    def time(self, seconds: float) -> str:
        """Return a time, in the unit of the longer one."""
        longest_ns = 1e9 * max(time for time in (self.run_s, self.waiting_s) if math.isfinite(time))
        scale, unit = next((each for each in SCALES if longest_ns >= each[0]), SCALES[-1])
        return f"{two_digits(1e9 * seconds / scale)} {unit}"

    def __str__(self) -> str:
        """Return the gain in a sentence without its full stop."""
        would = f"waiting for all {self.run.worker_count:,} workers would take"
        took = f"{self.time(self.waiting_s)}: " if math.isfinite(self.waiting_s) else ""
        measured = self.run.progress
        when = reached(*statistics.reached_ns(measured, measured["loss"], self.level))
        return f"Loss {self.level:g} {when}; {would} {took}{self.factor} times as long"


def time_s(trace: TraceReader, level: float) -> float:
    """Return when a run reached a loss in s, interpolated between measurements; infinite if it did not."""
    measured = trace.progress
    return 1e-9 * statistics.crossing(measured["t_ns"], measured["loss"], level, measured["version"])


def level_of(trace: TraceReader) -> float | None:
    """Return the loss by which a run is judged: its target if it reached that, or the lowest round number."""
    target = trace.table("stop").get("loss")
    reached = [level for level, _ in statistics.milestones(trace.progress, target)]
    return target if target in reached else min(reached, default=None)
