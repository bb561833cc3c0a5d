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

from .cli import bench, codes, plan, replay, run, show, simulate
from .mpi import launch
from .util import signals
from .util.errors import Failure, InputError
from .util.version import __version__


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
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
