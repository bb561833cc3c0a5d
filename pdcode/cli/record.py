"""`pdcode record`: a program of mpi4py, with a trace of when its ranks compute and when they wait."""

import argparse
import os
from pathlib import Path
from typing import Any

from ..launch import launcher, siblings
from ..util.errors import Failure, InputError


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "record",
        help="run a program of mpi4py, and record who waits for whom",
        example="-o job.h5 script.py",
        description="Run a program of mpi4py under mpiexec as it is, with a trace of when each rank computes "
        "and when it waits for others. `pdcode show TRACE` names a slow rank, what it costs and what to try. "
        "The calls of MPI.COMM_WORLD and of communicators made from it are seen. Exit codes: the codes of "
        "the program; 2 bad input.",
    )
    what = "HDF5 file to write (default: SCRIPT.h5, in this folder)"
    command.add_argument("-o", "--output", metavar="TRACE", help=what)
    command.add_argument("-m", dest="module", metavar="MODULE", help="run a module, not a script")
    what = "the script, unless there is a module, and its arguments"
    command.add_argument("program", nargs=argparse.REMAINDER, metavar="SCRIPT …", help=what)
    command.set_defaults(function=record)


def record(options: argparse.Namespace) -> int:
    """Run the program; exceptions of its own pass."""
    program = ["-m", options.module, *options.program] if options.module else options.program
    try:
        if not program:
            raise InputError("record: which script?")
        if not options.module and not Path(program[0]).is_file():
            raise InputError(f"{program[0]}: no such file")
        launcher.ensure_mpi(os.environ)
        from ..mpi import recording

        name = options.module or Path(program[0]).stem
        recorded = recording.start_world(options.output or f"{name}.h5")
    except (InputError, Failure) as error:
        return siblings.report(error)
    recorded(program)
    return 0
