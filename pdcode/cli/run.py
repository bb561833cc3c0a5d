"""`pdcode run`: a training run over MPI."""

from __future__ import annotations

import argparse
import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..launch import launcher, supervised
from ..util import progress
from ..util.errors import InputError, prefix_errors
from ..util.formats import counted
from ..util.output import print_error
from . import arguments

if TYPE_CHECKING:
    from ..config import Config


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "run",
        help="train a model over MPI",
        example="jobs/digits.toml -n 8 -o results/digits.h5 --set stop.seconds=5",
        description="Train a model over MPI. Starts mpirun, unless a launcher (mpirun, srun) started this "
        "process; the number of workers is then the launcher's number of ranks minus one. "
        "Exit codes: 0 done, 1 failure, 2 bad input, 75 ended after a checkpoint by SIGTERM, SIGUSR1 or "
        "deaths.",
    )
    arguments.add_job(command)
    command.add_argument("-o", "--output", metavar="TRACE", help="HDF5 file to write (instead of trace.path)")
    arguments.add_resume(command)
    what = "print the resolved configuration, the codes and the message sizes, and exit"
    command.add_argument("--dry-run", action="store_true", help=what)
    command.set_defaults(function=run)


def run(options: argparse.Namespace) -> int:
    """Run a configuration under the launcher that started this process, or start mpirun.

    Bad input is refused before MPI starts.
    """
    from ..api import configs
    from ..config import load as configfile
    from ..config.defaults import Origins
    from . import guard, starting

    folder = os.getcwd()
    path, workers, dry_run = options.config, options.workers, options.dry_run
    launcher.ensure_mpi(os.environ)
    place = launcher.launched_rank(os.environ)
    if place and not dry_run:
        gc.disable()  # until the rank's job begins: imported objects stay, and scanning them takes time
        workers = launched_workers(options, place[1])
    settings = configs.overrides(options.set, workers, options.output)
    origins = Origins() if dry_run else None
    config, text = configfile.load(path, settings, origins)
    if dry_run or place is None:
        guard.probe_inputs(config)
    if origins is not None:
        from ..choice.preset import prepare_ranks
        from . import preview

        with starting.at_once():
            text = preview.dry_run_text(config, origins, prepare_ranks(config, path))
        print(text)
        return 0
    if not supervised.is_attached():  # the command that started mpirun has printed it
        progress.print_line(
            f"{path}: {counted(config.workers.count, 'worker')}, loading {config.problem.data}"
        )
    if place is None:
        return supervise(config, options, folder)
    if place[0] == 0:
        return rank_0(config, text, path, options.resume)
    from ..mpi import process, ranks

    with process.job() as comm:
        ranks.serve(comm, config)
    return 0


def launched_workers(options: argparse.Namespace, ranks: int) -> int:
    """Return the number of workers among the ranks that a launcher has started; refuse another number."""
    from ..api import configs
    from ..config import load as configfile

    if ranks < 2:
        raise InputError(f"{ranks} rank: at least 2 are needed, as rank 0 is the coordinator")
    settings = configs.overrides(options.set, ranks - 1, options.output)
    spares = configfile.load(options.config, settings)[0].workers.spares
    workers: int = ranks - 1 - spares
    if workers < 1:
        raise InputError(
            f"workers.spares: {spares}: expected {ranks - 2} at most, as the launcher started {ranks} ranks"
        )
    started = f"the launcher started {ranks} ranks, i.e. {workers} workers"
    if options.workers not in (None, workers):
        raise InputError(f"--workers {options.workers}: {started}")
    counts = [override for override in options.set if override.partition("=")[0].strip() == "workers.count"]
    if counts and counts[-1].partition("=")[2].strip() != str(workers):
        raise InputError(f"--set {counts[-1]}: {started}")
    return workers


def supervise(config: Config, options: argparse.Namespace, folder: str) -> int:
    """Start mpirun in a folder, and wait for its end; refuse bad input before."""
    from ..choice.preset import prepare_ranks
    from ..launch.supervisor import Supervisor
    from ..session.restarts import KEY, Restarts
    from ..session.run import check_writable
    from ..trace import lock
    from . import starting

    if options.resume and report_if_ended(config, options.config):
        return 0
    with starting.at_once():
        prepare_ranks(config, options.config)
    held = check_writable(config.trace.path, options.config, config.stragglers.reads)
    others = config.workers.count + config.workers.spares
    command, environment = launcher.command(others, options.argv)
    os.chdir(folder)  # which a user's code may have left
    progress.print_line(f"starting {1 + others} processes by {Path(command[0]).name}")
    if home := launcher.lacking_home():
        print_error(f"HOME is not set; MPI gets {home['HOME']}")
    shared = {lock.KEY: held.key}  # of rank 0
    restarts = Restarts(config, options.resume)
    while True:
        supervisor = Supervisor(command, environment | shared)
        code = supervisor.run()
        if not supervisor.died:
            return code
        restart = restarts.after(supervisor.died, supervisor.died_ns)
        if restart is None:
            return 1  # a batch system shall not start again what dies again
        print_error(restart.text)
        command, environment = launcher.command(others, [*options.argv, "--resume"])
        shared[KEY] = restart.encoded


def report_if_ended(config: Config, path: str) -> bool:
    """Return whether the run to be resumed has ended, and print a line if so.

    Refused are checkpoints that are all of another configuration.
    """
    from ..session import checkpoint
    from ..util.output import print_line

    with prefix_errors(path):
        found = checkpoint.find(config)
    ended = found is None and checkpoint.is_finished(config.trace.path)
    if ended:
        print_line(f"{config.trace.path}: the run has ended; there is nothing to resume")
    return ended


def rank_0(config: Config, text: str, path: str, resume: bool = False) -> int:
    """Prepare and run rank 0; on failure abort the other ranks, which may be waiting for it."""
    from ..choice.preset import prepare_ranks
    from ..mpi import process, ranks
    from ..session import checkpoint
    from ..session.run import check_writable

    process.check_launcher()  # first, as the other ranks check it now
    found, given = None, config
    try:
        if resume:
            if report_if_ended(config, path):
                process.end_job(0)
            found = checkpoint.find(config)
        if found is not None:
            config = found.resumed_config(config)
        components = prepare_ranks(config, path)
        check_writable(config.trace.path, path, config.stragglers.reads)
    except BaseException as error:
        process.abort(error)
        raise  # not reached
    with process.job() as comm:
        return ranks.Coordination(comm, text, given, found, resume).run(components).code
