"""`pdcode replay`: verification of a trace."""

import argparse
import time
from typing import Any

from ..util.formats import counted
from ..util.output import print_line
from . import arguments


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "replay",
        help="recompute a run from its trace and verify that it is bit-identical",
        example="results/digits.h5",
        description="Recompute a run, over MPI or on the virtual clock, from its trace alone: "
        "configuration, seed and order of arrivals. Compares codes, arrivals, updates, progress, final "
        "theta, optimizer state and counters bit for bit, on the virtual clock also all times, and prints "
        "the first row (counted from 0) that differs. The arithmetic must be as in the run: the same "
        "kind of processor, numpy and BLAS. For a killed or running run, the existing rows are compared. "
        "Exit codes: 0 identical, 1 different, 2 bad input, such as a trace without all arrivals.",
    )
    command.add_argument("trace", metavar="TRACE", help="HDF5 file of a run")
    arguments.add_plugin(command)
    command.set_defaults(function=run, alone="replay")


def run(options: argparse.Namespace) -> int:
    """Replay a trace; print whether it is bit-identical."""
    from ..coding.replica import digest
    from ..replay import Difference, replay
    from ..trace.reader import TraceReader
    from . import guard

    arguments.import_plugins(options)
    guard.probe_in_subprocess(options.trace)
    trace, began_s = TraceReader(options.trace, correct_clocks=False), time.perf_counter()
    try:
        done = replay(trace, print_line)
    except Difference as difference:
        print_line(f"{options.trace}: not the same: {difference}")
        return 1
    took_s, compared = time.perf_counter() - began_s, done.compared
    arrivals, updates, measurements = compared.arrivals, compared.updates, compared.measurements
    print_line(
        f"{options.trace}: bit-identical: {counted(arrivals.equal, 'arrival')}, "
        f"{counted(updates.equal, 'update')} and {counted(measurements.equal, 'row')} of progress, "
        f"recomputed in {took_s:.1f} s"
    )
    theta = f"{len(done.theta)} parameters, digest {digest(done.theta) % 2**64:016x}"
    if trace.finished:
        print_line(f"final theta, optimizer state and counters too: {theta}")
    else:
        left = f"{updates.rows - updates.equal} updates, {measurements.rows - measurements.equal} of progress"
        print_line(f"unfinished run: no final theta to compare; rows after the last arrival: {left}")
    if done.untimed_reason:
        print_line(f"injected delays and times were not compared: {done.untimed_reason}")
    elif not done.timed:
        print_line("times of a real run cannot be reproduced and were not compared")
    return 0
