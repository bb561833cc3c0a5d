"""Limits of a study's runs: time, updates and arrivals, from a run of the user's own configuration."""

from dataclasses import dataclass, replace

import msgspec

from ..config import MAX_VALUE, Config, StopTable
from ..util.errors import InputError
from .goal import Goal
from .measurement import Measured
from .trial import TUNING_OFFSET, Trial, payloads_per_update

ARRIVALS = 100_000  # approximate limit of a run's arrivals, if the user does not limit its time
MAX_ARRIVALS = 10_000_000  # approximate limit of any other run's arrivals
OWN_SLACK = 10.0  # limit of a run's time, in multiples of that of the user's own configuration
POINTS = 128  # approximate number of measurements of a run of a search
OWN_POINTS = 50  # number of measurements in the time of the user's own configuration
MIN_POINTS = 16  # least number of measurements of the user's own configuration


@dataclass(frozen=True)
class Limits:
    """Limits of a run."""

    seconds: float  # time of the run
    step_s: float  # time between measurements


def max_updates(config: Config, arrivals: int) -> int:
    """Return the number of updates for approximately this many arrivals."""
    return max(100, int(arrivals / payloads_per_update(config)))


def with_limits(config: Config, goal: Goal | None, limits: Limits, updates: int | None) -> Config:
    """Return the configuration of a run that ends at the target, or at a limit of time or updates."""
    stop = goal.stop(limits.seconds, updates) if goal else StopTable(seconds=limits.seconds, updates=updates)
    config = msgspec.structs.replace(config, stop=msgspec.structs.replace(stop, drain_s=config.stop.drain_s))
    return config.with_keys(trace={"progress_s": limits.step_s, "arrivals": "all"})


def measure_own(
    config: Config, goal: Goal | None, path: str, limit_s: float | None, updates: int | None, arrivals: int
) -> Measured:
    """Simulate the user's own configuration with sufficiently frequent measurements.

    Without `updates` the run ends after approximately `arrivals` arrivals.
    """
    longest_s, step_s = limit_s or MAX_VALUE, config.trace.progress_s
    most = updates or max_updates(config, arrivals)
    while True:
        own = with_limits(config, goal, Limits(longest_s, step_s), most)
        measured = Trial(own, config.seed + TUNING_OFFSET, goal).perform()
        early = measured.updates < most and measured.stop_s < longest_s
        if not measured.reached and measured.failed and early:
            if limit_s is None:
                raise InputError(
                    f"{path}: the configuration diverges, and nothing limits the time of a run; give "
                    "--seconds or stop.seconds"
                )
            return replace(measured, stop_s=limit_s)
        if measured.stop_s >= MIN_POINTS * step_s or measured.stop_s <= 0:
            return measured
        step_s = measured.stop_s / POINTS


def find_limits(config: Config, goal: Goal | None, path: str, seconds: float | None, clock: str) -> Limits:
    """Choose the limits of runs by a run of the user's own configuration on the virtual clock.

    Unless the user sets a limit, it is `OWN_SLACK` times the time of that run.
    """
    given = seconds or config.stop.seconds
    if given is None and clock == "mpi":
        raise InputError("stop.seconds: not given, and some scheme may not reach the target; give --seconds")
    arrivals = ARRIVALS if given is None else MAX_ARRIVALS
    own = measure_own(config, goal, path, given, config.stop.updates if seconds is None else None, arrivals)
    most_s = given or min(OWN_SLACK * own.spent_s, MAX_VALUE)
    return Limits(most_s, min(config.trace.progress_s, max(own.spent_s / OWN_POINTS, 1e-6)))
