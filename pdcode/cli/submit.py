"""`pdcode submit`: a run, or one for each row of a table, as a SLURM job."""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from ..util.errors import Failure, InputError, prefix_errors
from ..util.output import print_line
from . import arguments

CHECKPOINT_S = "trace.checkpoint_s=60"  # unless the configuration has the key, so that jobs can be resumed
VENV = "PDCODE_VENV"  # variable of jobs/env.sh: the Python environment of a job


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "submit",
        usage="%(prog)s [-h] [-n N] [--set KEY=VALUE] [--array TABLE] [--dry-run] CONFIG [-- OPTION …]",
        help="submit a run to SLURM, or one for each row of a table",
        example="jobs/digits.toml -n 63 -- --time=0:30:00 --nodes=2",
        description="Check a configuration and submit it to SLURM: jobs/train.sbatch, or with a table "
        "jobs/sweep.sbatch, with a task for rank 0 and for each worker. Prints the command. Options after "
        "-- are passed to sbatch, such as -- --time=2:00:00 --nodes=2. The trace and the other files of "
        "the job are written to results/pdcode-JOBID. Exit codes: 0 submitted, 1 SLURM refuses it, 2 bad "
        "input, no sbatch.",
    )
    option = command.add_argument
    arguments.add_job(command)
    what = "a job array: a run for each row of this CSV file, whose first line has the keys to override"
    option("--array", metavar="TABLE", help=what)
    option("--dry-run", action="store_true", help="print the command and exit")
    command.set_defaults(function=submit, alone="submit")

    command.hint = "; options for sbatch come after --, as in: pdcode submit job.toml -- --time=2:00:00"
    parse = command.parse_known_args

    def split(argv: Sequence[str], options: argparse.Namespace | None = None) -> Any:
        """Parse the arguments before --; argparse does not accept others after options."""
        argv = list(argv)
        end = argv.index("--") if "--" in argv else len(argv)
        parsed, unknown = parse(argv[:end], options)
        parsed.sbatch = argv[end + 1 :]
        return parsed, unknown

    command.parse_known_args = split


def submit(options: argparse.Namespace) -> int:
    """Check every run, print the command, and submit it."""
    limits, script = compose(options)
    command = ["sbatch", *limits, *options.sbatch, *script]
    print_line(shlex.join(command))
    if options.dry_run:
        return 0
    if shutil.which("sbatch") is None:
        raise InputError(f"no sbatch on PATH, so no SLURM here; without it: {shlex.join(['bash', *script])}")
    code = subprocess.run(command, env={VENV: sys.prefix} | os.environ, check=False).returncode
    if code:
        raise Failure(f"sbatch has not accepted the job: exit code {code}")
    return 0


def compose(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Return sbatch's options for the job, and the script with its arguments.

    Every run's configuration is checked; the runs of an array must have the same number of workers.
    """
    from ..api import configs
    from ..config import load as configfile
    from ..config import settings

    path, table = options.config, options.array
    rows = settings.read(table) if table else [[]]
    counts: dict[int, int] = {}  # number of workers -> the first row that has it
    without_checkpoints = True
    for number, row in enumerate(rows, 1):
        with prefix_errors(f"{table}: row {number}" if table else ""):
            overrides = configs.overrides([*options.set, *row], options.workers)
            config, _ = configfile.load(path, overrides)
        counts.setdefault(config.workers.count + config.workers.spares, number)
        without_checkpoints &= config.trace.checkpoint_s is None
    if len(counts) > 1:
        some = " and ".join(f"{count} in row {row}" for count, row in [*counts.items()][:2])
        raise InputError(f"{table}: workers.count: {some}: all runs of an array have as many tasks")
    limits = [f"--job-name={Path(path).stem}", f"--ntasks={1 + next(iter(counts))}"]
    script = [str(folder() / ("sweep.sbatch" if table else "train.sbatch")), os.path.abspath(path)]
    if table:
        limits.append(f"--array=1-{len(rows)}")
        script.append(os.path.abspath(table))
    return limits, [*script, *settings.options([*([CHECKPOINT_S] * without_checkpoints), *options.set])]


def folder() -> Path:
    """Return the folder of the batch scripts: jobs/ of the clone, or where pip has installed it."""
    places = [Path(__file__).parents[2] / "jobs"]
    with suppress(metadata.PackageNotFoundError):
        places += [Path(str(file.locate())).parent for file in metadata.files("pdcode") or ()]
    for place in places:
        if (place / "train.sbatch").exists():
            return place.resolve()
    raise InputError(f"{places[0]}: no batch scripts there; in a clone: sbatch jobs/train.sbatch CONFIG")
