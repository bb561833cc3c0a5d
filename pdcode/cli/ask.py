"""`pdcode ask`: what a recorded run says, in plain words, and its time under changes."""

import argparse
from typing import Any

from ..util.output import print_line
from . import arguments


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "ask",
        help="ask a recorded run what would help, and what it would take under changes",
        example='results/digits.h5 --set workers.count=32 --set link.bandwidth="1 Gbit/s"',
        description="Without changes: what costs time, since when, how much, what would help, and the time "
        "over the number of workers and over the link. With changes: the predicted time, with a 90 % "
        "interval. By the virtual clock under the recorded delays, to the loss that the run reached. Exit "
        "codes: 0 done, 2 bad input, such as a key that the recording does not answer.",
    )
    command.add_argument("trace", metavar="TRACE", help="HDF5 file of a run")
    what = "ask for the time with another key, such as link.bandwidth=1Gbit/s; may be repeated"
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=what)
    what = "ask for the time without these workers, separated by commas"
    command.add_argument("--without", metavar="WORKERS", help=what)
    what = "ask for the time with these workers as a usual one, separated by commas"
    command.add_argument("--replaced", metavar="WORKERS", help=what)
    command.set_defaults(function=ask, alone="ask")


def ask(options: argparse.Namespace) -> int:
    """Answer a question, or say what a run says."""
    from ..analysis import questions
    from ..trace.reader import TraceReader
    from . import guard

    guard.probe_in_subprocess(options.trace)
    trace = TraceReader(options.trace)
    workers = [
        [] if text is None else arguments.numbers(text, option, 0, 2**31 - 1)
        for option, text in (("--without", options.without), ("--replaced", options.replaced))
    ]
    if options.set or any(workers):
        print_line(repr(questions.ask(trace, options.set, *workers)))
        return 0
    for line in questions.said(trace):
        print_line(line)
    return 0
