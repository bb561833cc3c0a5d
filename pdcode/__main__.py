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
from .cli import codes as codes_command
from .cli import plan as plan_command
from .cli import run as run_command
from .cli import show as show_command
from .cli import simulate as simulate_command
from .mpi import launch
from .util import signals
from .util.errors import Failure, InputError


def replay(options: argparse.Namespace) -> int:
    from .cli.replay import replay

    launch.alone("replay")
    return replay(options.trace)


def bench(options: argparse.Namespace) -> int:
    from . import bench

    return bench.run(options.what, options.argv)


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = argparse.ArgumentParser(
        prog="pdcode", description="Distributed gradient descent with coded partial derivatives."
    )
    top.add_argument("--version", action="version", version=f"pdcode {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run_command.add_parser(commands)
    simulate_command.add_parser(commands)

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

    show_command.add_parser(commands)
    codes_command.add(commands)
    plan_command.add(commands)

    command = commands.add_parser(
        "bench",
        help="measure pdcode against its limits on this machine",
        description="clocks: real runs beside what the virtual clock predicts of them. "
        "kernels: each kernel beside its limit (copy bandwidth, numpy's GEMM), measured in turn "
        "with it. "
        "decoders: what an arrival and a gradient cost, and captured energy against arrivals. "
        "events: arrivals a second of the virtual clock without numerics, beside SimPy and a bare loop. "
        "machine: [machine] and [link] of this machine, for the virtual clock. "
        "memory: updates and bytes to a loss with every kind of memory. "
        "messages: arrivals a second through rank 0's whole path, beside a bare mpi4py loop. "
        "packings: optimized codes beside the best known packings of lines, a CSV file that PDCODE_PACKINGS "
        "names.",
    )
    names = ["clocks", "decoders", "events", "kernels", "machine", "memory", "messages", "packings"]
    command.add_argument("what", choices=names)
    command.set_defaults(function=bench)
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
