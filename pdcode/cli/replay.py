"""The command `pdcode replay`: a run made again from its trace."""

from __future__ import annotations

import time

import numpy as np

from ..coding.replica import digest
from ..config.tables import Config
from ..replay.again import ByClock, ByTrace, Ended
from ..replay.recorded import Difference, Recorded
from ..trace.reader import Trace
from ..training.coordinator import Coordinator
from ..training.monitor import Print
from ..training.setup import prepare
from ..util.errors import InputError
from ..util.output import say


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
            coordinator, recorded, unknown = remake(trace, say)
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
    virtual = trace.attributes.get("clock") == "virtual"
    if unknown:
        what = "times and injected delays" if virtual else "injected delays"
        say(f"{what} were not compared, as they cannot be made again: {unknown}")
    rows = "every row with its times"
    if not recorded.timed:
        whose = (
            "" if virtual else ", which are those of the machine and were only searched for contradictions"
        )
        rows = f"every row but its times{whose}"
    if trace.finished:
        end = "theta, the optimizer's state and the counters"
        say(f"identical to the last bit: {end}, and {rows}")
        return 0
    updates = recorded.updates.rows - recorded.version
    measured = recorded.measurements.rows - recorded.measured
    say(
        "the run did not end, or not yet, so there is no final theta to compare; identical to the last bit: "
        + rows
        + (f", without the last {updates} of updates, whose arrivals are not there" if updates > 0 else "")
        + (f", without the last {measured} of progress, whose arrivals are not there" if measured > 0 else "")
    )
    return 0


def remake(trace: Trace, say: Print) -> tuple[Coordinator, Recorded, str]:
    """Make a run again, and compare all that is determined: of a virtual run, the times too.

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
    unknown : str
        Why injected delays, and the times of a virtual run, cannot be made again; else empty.

    Raises
    ------
    Difference
        Something is not the same.
    InputError
        The trace cannot be replayed.
    """
    config = configuration(trace)
    parts = prepare(config, str(trace.path), check=False)
    model, unknown = None, ""
    try:
        model = config.stragglers.make(config.seed, config.workers.count)
    except InputError as error:
        unknown = str(error)
    recorded = Recorded(trace, model is not None and trace.attributes.get("clock") == "virtual")
    again = (
        ByClock(config, parts, recorded, say)
        if recorded.timed
        else ByTrace(config, parts, recorded, say, model)
    )
    try:
        again.run()
    except Ended:
        pass
    else:
        if recorded.row < recorded.arrivals.rows:
            raise recorded.differs([], "The run is over then: no worker has a task.")
    recorded.finish(parts.state, again.counted() if trace.finished else {})
    return again.descent.coordinator, recorded, unknown


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
        config = Config.of(trace.config, old=True)
    except InputError as error:
        raise InputError(f"{trace.path}: config_resolved: {error}") from None
    if config.trace.arrivals != "all":
        raise InputError(
            f"{trace.path}: trace.arrivals: '{config.trace.arrivals}': a replay needs every arrival; "
            "set it to 'all' for a run that is to be replayed"
        )
    if not trace.attributes.get("numerics", True):
        raise InputError(f"{trace.path}: numerics: False: only times were simulated; there is no theta")
    return config
