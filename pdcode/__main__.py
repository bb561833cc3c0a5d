"""The command line. A command is a function; what it needs is imported when it runs, so `pdcode --help` is
quick and starts no MPI."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from io import TextIOWrapper

from . import __version__
from .cli import bench as bench_command
from .cli import codes as codes_command
from .cli import plan as plan_command
from .mpi import launch
from .util import signals
from .util.errors import Failure, InputError


def run(options: argparse.Namespace) -> int:
    from .cli.run import run

    return run(options.config, options.set, options.workers, options.output, options.dry_run, options.argv)


def simulate(options: argparse.Namespace) -> int:
    from .cli.simulate import simulate

    return simulate(options)


def replay(options: argparse.Namespace) -> int:
    from .cli.replay import replay

    launch.alone("replay")
    return replay(options.trace)


def show(options: argparse.Namespace) -> int:
    from .analysis import style, tables
    from .trace.reader import Trace

    if options.figure:
        style.check(options.figure)
        if len(options.trace) != 1:
            raise InputError(f"--figure {options.figure}: draws one trace, got {len(options.trace)}")
    traces = [Trace(path) for path in options.trace]
    for trace in traces:
        tables.show(trace)
    if options.figure:
        from .analysis import plots

        plots.figure(traces[0], options.figure)
        print(f"figure: {options.figure}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = argparse.ArgumentParser(
        prog="pdcode", description="Distributed gradient descent with coded partial derivatives."
    )
    top.add_argument("--version", action="version", version=f"pdcode {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    command = commands.add_parser(
        "run",
        help="train a model over MPI as a configuration says",
        description="Train a model over MPI. Starts mpirun itself where no launcher (mpirun, srun) did; "
        "under a launcher the number of workers is its number of ranks less one. "
        "Exit codes: 0 done, 1 failure, 2 bad input.",
    )
    command.add_argument("config", metavar="CONFIG", help="TOML file, such as jobs/digits.toml")
    command.add_argument(
        "-n", "--workers", type=int, metavar="WORKERS", help="number of workers (instead of workers.count)"
    )
    command.add_argument("-o", "--output", metavar="TRACE", help="HDF5 file to write (instead of trace.path)")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key, such as update.mode=all; may be repeated",
    )
    command.add_argument(
        "--dry-run",
        action="store_true",
        help="print the resolved configuration, the code and the message sizes; start nothing",
    )
    command.set_defaults(function=run)

    command = commands.add_parser(
        "simulate",
        help="run a configuration on the virtual clock",
        description="Run a configuration on the virtual clock: the coordinator of `pdcode run` over workers "
        "whose tasks take what [machine], [link] and [stragglers] say. Payloads are computed for real, by "
        "this process or, under mpirun, by all ranks. Exit codes: 0 done, 1 failure, 2 bad input.",
    )
    command.add_argument("config", metavar="CONFIG", help="TOML file, such as jobs/digits.toml")
    command.add_argument(
        "-n", "--workers", type=int, metavar="WORKERS", help="number of workers (instead of workers.count)"
    )
    command.add_argument(
        "-o", "--output", metavar="TRACE", help="HDF5 file to write (instead of trace.path's .virtual.h5)"
    )
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key; may be repeated"
    )
    command.add_argument(
        "--stragglers",
        metavar="TRACE",
        help="what if: the delays of a recorded run, which is a trace, or a CSV or HDF5 matrix of workers × "
        "rounds in seconds (of whole tasks with --set stragglers.times=task); with a trace the costs are "
        "fitted to it too, unless --cost is given",
    )
    command.add_argument(
        "--cost", metavar="FILE", help="[machine] and [link] from a TOML file, or fitted to a trace"
    )
    command.add_argument(
        "--timing-only",
        action="store_true",
        help="only when tasks arrive: no gradients, no loss, and no policy or fault that depends on them",
    )
    command.set_defaults(function=simulate)

    command = commands.add_parser(
        "replay",
        help="make a run again from its trace, and prove that it is the same",
        description="Make a run, over MPI or on the virtual clock, again from its trace alone: "
        "configuration, seed and order of arrivals. Every payload is computed anew, in this process. All "
        "that this determines, in every row of arrivals, updates and progress, and the final theta, the "
        "optimizer's state and the counters, beside the codes and sizes that the file begins with, must be "
        "the same to the last bit; else it names the first arrival that differs. The arithmetic must be that "
        "of the run: the same kind of processor, the same numpy and BLAS. Of a run that was killed, or goes "
        "on, the rows that are there are compared. "
        "Exit codes: 0 the same, 1 not the same, 2 bad input, such as a trace without all arrivals.",
    )
    command.add_argument("trace", metavar="TRACE", help="HDF5 file of a run")
    command.set_defaults(function=replay)

    command = commands.add_parser(
        "show",
        help="print what a trace says",
        description="Print what ran, loss and accuracy, where the time went, which worker is slow, "
        "staleness and bytes. Works on traces of running and of killed runs too.",
    )
    command.add_argument("trace", nargs="+", metavar="TRACE", help="HDF5 file of a run")
    command.add_argument(
        "--figure",
        metavar="PNG",
        help="also draw loss against time and the timeline of arrivals (or .svg, .pdf)",
    )
    command.set_defaults(function=show)

    codes_command.add_parser(commands)
    plan_command.add(commands)
    bench_command.add_parser(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code (0 done, 1 failure, 2 bad input)."""
    launch.one_thread(os.environ)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no × must not end a run
    options = parser().parse_args(argv)
    options.argv = list(sys.argv[1:] if argv is None else argv)
    place = launch.place(os.environ)
    # SIGTERM is as Ctrl-C, unless a launcher sends it, which has an end of its own in mind.
    handlers = {signal.SIGTERM: signal.default_int_handler} if place is None else {}
    try:
        with signals.handled(handlers):
            return options.function(options)
    except InputError as error:
        if place is None or place[0] == 0:
            print(f"pdcode: {error}", file=sys.stderr, flush=True)
        else:
            # Rank 0 finds the same fault; a launcher kills all when one ends: let its line come out first.
            time.sleep(3)
        return 2
    except Failure as error:
        print(f"pdcode: {error}", file=sys.stderr, flush=True)
        return 1
    except MemoryError as error:
        print(f"pdcode: not enough memory: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("pdcode: interrupted", file=sys.stderr, flush=True)
        return 1
    except BrokenPipeError:  # `pdcode show … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
