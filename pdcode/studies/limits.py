"""Limits of a study's runs: time, updates and arrivals, from a run of the user's own configuration."""

from dataclasses import dataclass, replace

import msgspec

from ..config import MAX_VALUE, Config, StopTable
from ..session.pace import PERIOD_S
from ..util.errors import InputError
from .goal import Goal
from .measurement import Measured
from .trial import TUNING_OFFSET, Trial, payloads_per_update

ARRIVALS = 100_000  # approximate limit of a run's arrivals, if the user does not limit its time
MAX_ARRIVALS = 10_000_000  # approximate limit of any other run's arrivals
OWN_SLACK = 10.0  # limit of a run's time, in multiples of the time of the user's own configuration
OWN_POINTS = 50  # number of measurements over MPI in the time of the user's own configuration


@dataclass(frozen=True)
class Limits:
    """Limits of a run."""

    seconds: float  # time of the run
    step_s: float | None = None  # time between measurements; none: as the clock does by itself


def max_updates(config: Config, arrivals: int) -> int:
    """Return the number of updates for approximately this many arrivals."""
    return max(100, int(arrivals / payloads_per_update(config)))


def with_limits(config: Config, goal: Goal | None, limits: Limits, updates: int | None) -> Config:
    """Return the configuration of a run that ends at the target, or at a limit of time or work."""
    stop = goal.stop(limits.seconds, updates) if goal else StopTable(seconds=limits.seconds, updates=updates)
    kept = {"drain_s": config.stop.drain_s, "epochs": config.stop.epochs}
    config = msgspec.structs.replace(config, stop=msgspec.structs.replace(stop, **kept))
    trace = {"progress_s": limits.step_s, "progress_updates": None, "arrivals": "all"}
    return config.with_keys(trace=trace)


def measure_own(
    config: Config,
    goal: Goal | None,
    path: str,
    limit_s: float | None,
    updates: int | None,
    arrivals: int,
    further: int = 0,
) -> Measured:
    """Simulate the user's own configuration, under the first seed of tuning, or a further one.

    Without `updates` the run ends after approximately `arrivals` arrivals.
    """
    most = updates or max_updates(config, arrivals)
    longest_s = limit_s or MAX_VALUE
    own = with_limits(config, goal, Limits(longest_s), most)
    measured = Trial(own, config.seed + TUNING_OFFSET + further, goal).perform()
    early = measured.updates < most and measured.stop_s < longest_s and config.stop.epochs is None
    if not measured.reached and measured.failed and early:
        if limit_s is None:
            raise InputError(
                f"{path}: the configuration diverges, and nothing limits the time of a run; give "
                "--seconds or stop.seconds"
            )
        return replace(measured, stop_s=limit_s)
    return measured


def find_limits(config: Config, goal: Goal | None, path: str, seconds: float | None, clock: str) -> Limits:
    """Choose the limits of runs by a run of the user's own configuration on the virtual clock.

    Unless the user sets a limit, it is `OWN_SLACK` times the time of that run.
    """
    given = seconds or config.stop.seconds
    if given is None and clock == "mpi":
        raise InputError("stop.seconds: not given, and some scheme may not reach the target; give --seconds")
    if given is not None and clock == "virtual":
        return Limits(given)
    arrivals = ARRIVALS if given is None else MAX_ARRIVALS
    own = measure_own(config, goal, path, given, config.stop.updates if seconds is None else None, arrivals)
    if given is None:
        return Limits(min(OWN_SLACK * own.spent_s, MAX_VALUE))
    return Limits(given, min(config.trace.progress_s or PERIOD_S, max(own.spent_s / OWN_POINTS, 1e-6)))
