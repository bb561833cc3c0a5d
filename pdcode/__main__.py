"""Command line. Commands import what they need when they run, which keeps `pdcode --help` fast and free of
MPI."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from io import TextIOWrapper

from .cli import bench, codes, plan, replay, run, show, simulate
from .mpi import launch
from .util import signals
from .util.errors import Failure, InputError
from .util.version import __version__


def parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    top = argparse.ArgumentParser(
        prog="pdcode", description="Distributed gradient descent with coded partial derivatives."
    )
    top.add_argument("--version", action="version", version=f"pdcode {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    for command in (run, simulate, replay, show, codes, plan, bench):
        command.add_parser(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code (0 done, 1 failure, 2 bad input)."""
    launch.one_thread(os.environ)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without × must not end a run
    options = parser().parse_args(argv)
    options.argv = list(sys.argv[1:] if argv is None else argv)
    place = launch.place(os.environ)
    # SIGTERM acts like Ctrl-C, except under a launcher, which handles it for all ranks.
    handlers = {signal.SIGTERM: signal.default_int_handler} if place is None else {}
    try:
        with signals.handled(handlers):
            return options.function(options)
    except InputError as error:
        if place is None or place[0] == 0:
            print(f"pdcode: {error}", file=sys.stderr, flush=True)
        else:
            # Rank 0 finds the same error. Let it report first: the launcher kills all ranks when one ends.
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
