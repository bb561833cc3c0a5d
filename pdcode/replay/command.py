"""The command `pdcode replay`: a run made again from its trace."""

from __future__ import annotations

import time

import msgspec
import numpy as np

from ..config import Config
from ..coordinator import Coordinator
from ..descent import Descent, counters, say
from ..downlink import digest
from ..errors import InputError
from ..fleet.virtual import VirtualFleet
from ..observer import LINE_NS, Print
from ..parts import employer, prepare
from ..trace.reader import Trace
from .recorded import Difference, Recorded
from .script import Scripted, Watched

COUNTED = ("version", "arrivals", "used", "wasted", "refused", "flagged")
"""Counters of a trace that are determined."""


class Ended(Exception):
    """A trace of a run that did not end has no more rows."""


class Watch:
    """In place of the observer: measures what was measured, and stops where that or the trace says so.

    Parameters
    ----------
    descent : Descent
    recorded : Recorded
    script : Scripted
    say : callable
        Prints a line.
    """

    def __init__(self, descent: Descent, recorded: Recorded, script: Scripted, say: Print) -> None:
        self._measure, self._say = descent.observer.measure, say
        self._updates = descent.config.stop.updates
        self._recorded, self._script = recorded, script
        self._start_ns = self._line_ns = time.perf_counter_ns()

    def __call__(self, now_ns: int, coordinator: Coordinator) -> str:
        """Reason to stop, or an empty string."""
        recorded, script, version = self._recorded, self._script, coordinator.version
        reason = f"{version} updates" if self._updates is not None and version >= self._updates else ""
        if recorded.measures(version):
            reason = self._measure(now_ns, version, coordinator.theta) or reason
        if (wall_ns := time.perf_counter_ns()) >= self._line_ns + LINE_NS:
            self._line_ns, took_s = wall_ns, 1e-9 * (wall_ns - self._start_ns)
            self._say(
                f"{took_s:7.1f} s  {recorded.row} of {recorded.arrivals.rows} arrivals and update "
                f"{version} are the same  {recorded.row / took_s:7.0f} arrivals/s"
            )
        if recorded.row == recorded.arrivals.rows and not recorded.trace.finished:
            raise Ended
        if not script.stopped and script.over():
            reason = reason or "the trace stops here"
        script.stopped = script.stopped or bool(reason)
        return reason


def replay(path: str) -> int:
    """Make a run again from its trace; say whether it is the same.

    Parameters
    ----------
    path : str
        Of the trace.

    Returns
    -------
    int
        0 if all is the same to the last bit, 1 if not.

    Raises
    ------
    InputError
        If the trace cannot be replayed, because its arrivals or its data are not there.
    """
    trace = Trace(path, correct_clocks=False)
    began_s = time.perf_counter()
    try:
        with np.errstate(all="ignore"):  # as in the run
            coordinator, recorded, script = remake(trace, say)
    except Difference as difference:
        say(f"{path}: not the same: {difference}")
        return 1
    took_s = time.perf_counter() - began_s
    say(
        f"{path}: {recorded.row} arrivals, {recorded.version} updates and {recorded.measured} rows of "
        f"progress made again in {took_s:.1f} s"
    )
    version, theta = coordinator.version, coordinator.theta
    say(f"theta of version {version}: {len(theta)} parameters, digest {digest(theta) % 2**64:016x}")
    if script.unknown:
        say(f"injected delays were not compared, as they cannot be made again: {script.unknown}")
    if trace.finished:
        say("identical to the last bit: every row, theta, the optimizer's state and the counters")
        return 0
    updates = recorded.updates.rows - recorded.version
    measured = recorded.measurements.rows - recorded.measured
    say(
        "the run did not end, or not yet, so there is no final theta to compare; identical to the last bit: "
        "every row"
        + (f", without the last {updates} of updates, whose arrivals are not there" if updates > 0 else "")
        + (f", without the last {measured} of progress, whose arrivals are not there" if measured else "")
    )
    return 0


def remake(trace: Trace, say: Print) -> tuple[Coordinator, Recorded, Scripted]:
    """Make a run again, and compare all that is determined.

    Parameters
    ----------
    trace : Trace
        With the clocks as they were.
    say : callable
        Prints a line.

    Returns
    -------
    coordinator : Coordinator
        As the run left it.
    recorded : Recorded
    script : Scripted

    Raises
    ------
    Difference
        Something is not the same.
    InputError
        The trace cannot be replayed.
    """
    config = configuration(trace)
    parts = prepare(config, str(trace.path))
    recorded = Recorded(trace)
    script = Scripted(recorded, config)
    recorded.hint = script.lost
    workers = config.workers.count
    crew = Watched(parts.layout, workers, employer(config, parts), recorded)
    fleet = VirtualFleet(parts.layout, workers, crew, script)
    descent = Descent(config, parts, fleet, recorded, say)
    coordinator = descent.coordinator
    try:
        coordinator.run(Watch(descent, recorded, script, say))
    except Ended:
        pass
    else:
        if recorded.row < recorded.arrivals.rows:
            raise recorded.differs([], "The run is over then: no worker has a task.")
    counted = counters(descent)
    recorded.finish(parts.state, {key: counted[key] for key in COUNTED})
    return coordinator, recorded, script


def configuration(trace: Trace) -> Config:
    """The configuration of a trace that can be replayed.

    Raises
    ------
    InputError
        If it is not known, or not all arrivals are, or nothing was computed.
    """
    if "config_resolved" not in trace.attributes:
        raise InputError(f"{trace.path}: config_resolved: not there, so the run cannot be made again")
    try:
        config = msgspec.convert(trace.config, Config)
    except msgspec.ValidationError as error:
        raise InputError(f"{trace.path}: config_resolved: {error}") from None
    if config.trace.arrivals != "all":
        raise InputError(
            f"{trace.path}: trace.arrivals: '{config.trace.arrivals}': a replay needs every arrival; "
            "set it to 'all' for a run that is to be replayed"
        )
    if not trace.attributes.get("numerics", True):
        raise InputError(f"{trace.path}: numerics: False: only times were simulated; there is no theta")
    return config
