"""`pdcode import`: traces of jobs that pdcode did not run."""

import argparse
from pathlib import Path
from typing import Any

from ..config import kinds
from ..util.formats import counted, duration
from ..util.output import ensure_writable, print_line
from . import arguments


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "import",
        help="make a trace of a job that pdcode did not run",
        example="kineto rank0.json.gz rank1.json.gz -o job.h5",
        describe=lambda: (
            "Read what other programs record of their jobs, and write a trace of workers × steps, "
            "with each worker's own work, its waiting and its link, for `pdcode show`. "
            f"Formats: {arguments.described('importers')}. Exit codes: 0 done, 1 failure, 2 bad input."
        ),
    )
    names = kinds.Names("importers")
    command.add_argument("format", choices=names, metavar="FORMAT", help="format of the files")
    command.add_argument("files", nargs="+", metavar="FILE", help="files of one job")
    command.add_argument("-o", "--output", metavar="TRACE", required=True, help="HDF5 file to write")
    command.set_defaults(function=run)


def run(options: argparse.Namespace) -> int:
    """Read the files and write the trace."""
    job = kinds.find("importers", options.format).read(options.files)
    path = Path(options.output)
    ensure_writable(path, str(path))
    notice = job.write(path)
    for line in filter(None, [notice, *job.notes]):
        print_line(line)
    there = (job.times != -1).any(axis=2)
    steps, workers = there.shape
    size = f"{counted(steps, 'step')} of {counted(workers, 'worker')}"
    print_line(f"trace: {path}, {size}, {duration(int(job.times.max()))}")
    if absent := there.size - int(there.sum()):
        print_line(f"workers took no part in {absent:,} of {there.size:,} tasks")
    return 0
