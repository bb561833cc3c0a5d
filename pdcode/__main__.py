"""The command line. Only the command's module is imported, and it imports the rest when it runs.

Ranks therefore start quickly, and `pdcode --help` does not load MPI.
"""

import os
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import TextIOWrapper

from .cli import arguments
from .config import kinds
from .launch import exits, launcher, siblings, supervised
from .util import output, progress, signals, threads
from .util.errors import Failure, InputError, explained, place_of_user, reason
from .util.version import __version__


def parser(only: str | None = None) -> arguments.Parser:
    """Return the argument parser of all commands, or of `only` one."""
    top = arguments.Parser(
        prog="pdcode",
        example="run jobs/digits.toml",
        description="Distributed gradient descent with coded partial derivatives.",
    )
    top.set_defaults(parser=parser)
    top.add_argument("--version", action="version", version=f"pdcode {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    if only in kinds.KINDS["commands"]:
        kinds.find("commands", only)(commands)
    else:
        arguments.add_kinds(commands, "commands")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code (0 done, 1 failure, 2 bad input)."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["record"]:  # a program of the user's, in an environment of the user's
        options = parser("record").parse_args(given)
        code: int = options.function(options)
        return code
    supervised.attach(siblings.kill_launcher)
    place = launcher.launched_rank(os.environ)
    rank = place[0] if place and place[1] > 1 else None
    if rank is not None:
        siblings.watch(rank)
    users = rank is not None or given[:1] in (["run"], ["simulate"])  # this process runs a user's code
    ending = exits.Exit(rank) if users and argv is None else None
    output.open_streams()
    code = 1  # after an unexpected exception
    try:
        code = run_command(given)
    except BaseException as error:
        one_of_several = rank is not None and isinstance(error, Exception)
        if not (one_of_several or place_of_user(error)):
            raise
        output.print_error(explained(error, f"{siblings.named(place[0])} failed:" if place else ""))
        code = 2 if isinstance(error, SystemExit) else 1
    finally:
        if argv is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # the process ends: another Ctrl-C is no error
        supervised.report_exit(code)
        if ending:
            ending.limit(code)
        if code and rank is not None:
            siblings.say_end()
    return code


def ensure_folder() -> None:
    """Refuse a current folder that was removed: no path can be made absolute there."""
    try:
        os.getcwd()
    except OSError as error:
        raise InputError(f"the current folder: {reason(error)}; it was removed or cannot be read") from None


def run_command(argv: list[str], made: arguments.Parser | None = None) -> int:
    """Run a command; report errors of the user and the environment by a line and an exit code.

    `made` is the parser of a program that is no command of pdcode.
    """
    threads.limit(os.environ)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal's encoding may lack ×
    place = launcher.launched_rank(os.environ)
    # Terminating signals act like Ctrl-C, except under a launcher, which handles them for all ranks.
    handlers = signals.as_keyboard_interrupt() if place is None else {}
    try:
        with signals.handled(handlers), redirect_stdout(output.CheckedStream(sys.stdout)) as stdout:
            try:
                if argv[:1] != ["doctor"]:  # it examines the folder
                    ensure_folder()
                made = made or parser(argv[0] if argv else None)
                options = made.parse_args(argv)
                options.argv, options.command = argv, f"{made.prog} {shlex.join(argv)}"
                if alone := getattr(options, "alone", ""):  # the name of a command for one process
                    launcher.require_one_process(alone)
                with progress.shown(place):
                    code: int = options.function(options) or 0  # a plug-in's may return nothing
            finally:
                stdout.flush()
            return code
    except (InputError, Failure) as error:
        return siblings.report(error)
    except MemoryError as error:
        output.print_error(f"not enough memory: {error}")
        return 1
    except KeyboardInterrupt:
        output.print_error("interrupted")
        return 1
    except BrokenPipeError:  # `pdcode show … | head`
        output.silence_stdout()
        return 0


if __name__ == "__main__":
    sys.exit(main())
