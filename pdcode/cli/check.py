"""`pdcode check`: whether a recorded run has slow workers or costs above a limit, for pipelines."""

import argparse
import math
from typing import Any

from ..util.errors import InputError
from ..util.formats import percent, ratio
from ..util.output import print_line


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "check",
        help="say by the exit code whether a run is slowed down",
        example="results/digits.h5 --slow 1.2 --cost 5%",
        description="Print one line, for pipelines. Exit codes: 0 within the limits, 1 beyond one, or not to "
        "be judged, 2 bad input.",
    )
    command.add_argument("trace", metavar="TRACE", help="HDF5 file of a run")
    what = "most times as long as the others' tasks that a worker's may take"
    command.add_argument("--slow", type=float, metavar="FACTOR", help=what)
    what = "most that one cause may cost, as a fraction of the time, such as 5%% or 0.05"
    command.add_argument("--cost", metavar="SHARE", help=what)
    command.set_defaults(function=check, alone="check")


def check(options: argparse.Namespace) -> int:
    """Judge a run by its limits; print the line."""
    from ..analysis import causes
    from ..trace.reader import TraceReader
    from . import guard

    if options.slow is options.cost is None:
        raise InputError("check: expected --slow or --cost, or both")
    if options.slow is not None and not 1 <= options.slow < math.inf:
        raise InputError(f"--slow: expected a number of 1 or more (got {options.slow:g})")
    most = None if options.cost is None else fraction(options.cost)
    guard.probe_in_subprocess(options.trace)
    trace = TraceReader(options.trace)
    found = causes.diagnosed(trace, costs=most is not None)
    beyond = [str(part) for part in found.slow if options.slow is not None and part.ratio > options.slow]
    named = bool(beyond)
    if most is not None:
        costly = [each for each in found.causes if each.share > most]
        for each in costly:
            what = "slow workers" if named and each.name == "workers" else each.statement
            beyond.append(f"{what}: {percent(each.share, 1)} % of the time")
    unknown = found.missing
    if most is not None and not found.causes and found.cost:
        unknown = unknown or f"the cost is {found.cost}"
    if beyond or unknown:
        print_line(f"{options.trace}: {'; '.join(beyond) or f'not judged: {unknown}'}")
        return 1
    limits = [] if options.slow is None else [f"no worker is slow by more than {ratio(options.slow)}"]
    limits += [] if most is None else [f"no cause costs more than {percent(most, 1)} % of the time"]
    print_line(f"{options.trace}: {', '.join(limits)}")
    return 0


def fraction(text: str) -> float:
    """Return the fraction of an option like 5% or 0.05."""
    try:
        value = float(text.rstrip(" %")) / (100 if text.rstrip().endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise InputError(f"--cost: expected a fraction, such as 5% or 0.05 (got {text})")
    return value
