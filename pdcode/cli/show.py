"""`pdcode show`: summary of a trace."""

from __future__ import annotations

import argparse
from typing import Any

from ..util.errors import InputError


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "show",
        help="summarise a trace",
        description="Print configuration, loss and accuracy, a breakdown of the time, the slowest worker, "
        "staleness and bytes. Also works on traces of running and killed runs.",
    )
    command.add_argument("trace", nargs="+", metavar="TRACE", help="HDF5 file of a run")
    command.add_argument(
        "--figure",
        metavar="PNG",
        help="also draw loss against time and the timeline of arrivals (.png, .svg or .pdf)",
    )
    command.set_defaults(function=show)


def show(options: argparse.Namespace) -> int:
    """Print the traces; with ``--figure`` draw the only one."""
    from ..analysis import style, tables
    from ..trace.reader import Trace

    if options.figure:
        style.ensure_figure_can_be_drawn(options.figure)
        if len(options.trace) != 1:
            raise InputError(f"--figure {options.figure}: draws one trace, got {len(options.trace)}")
    traces = [Trace(path) for path in options.trace]
    for trace in traces:
        tables.show(trace)
    if options.figure:
        from ..analysis import plots

        plots.figure(traces[0], options.figure)
        print(f"figure: {options.figure}")
    return 0
