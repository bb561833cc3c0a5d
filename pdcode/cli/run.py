"""The command `pdcode run`: from a configuration to a trace."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..config import load as configfile
from ..config.tables import Config
from ..mpi import launch
from ..trace import opening
from ..trace.reader import Trace
from ..training.setup import Parts, prepare
from ..util.errors import InputError, within
from . import preview


def run(
    path: str,
    overrides: Sequence[str] = (),
    workers: int | None = None,
    output: str | None = None,
    dry_run: bool = False,
    argv: Sequence[str] = (),
) -> int:
    """Run a configuration under the launcher that started this process, or start mpirun.

    Parameters
    ----------
    path : str
        Of the configuration.
    overrides : sequence of str
        ``key=value``.
    workers : int, optional
        Instead of workers.count; under a launcher it must agree with the number of ranks.
    output : str, optional
        Instead of trace.path.
    dry_run : bool
        Print what would run.
    argv : sequence of str
        Command line to hand on to the ranks.

    Returns
    -------
    int
        Exit code.

    Raises
    ------
    InputError
        Before MPI starts.
    """
    place = launch.place(os.environ)
    if place and not dry_run:
        if place[1] < 2:
            raise InputError(f"{place[1]} rank: rank 0 coordinates, so at least 2 are needed")
        if workers not in (None, place[1] - 1):
            raise InputError(
                f"--workers {workers}: the launcher started {place[1]} ranks, that is {place[1] - 1} workers"
            )
        workers = place[1] - 1
        counts = [override for override in overrides if override.partition("=")[0].strip() == "workers.count"]
        if counts and counts[-1].partition("=")[2].strip() != str(workers):  # the last one counts
            raise InputError(
                f"--set {counts[-1]}: the launcher started {place[1]} ranks, that is {workers} workers"
            )
    overrides = [*overrides]
    if workers is not None:
        overrides.append(f"workers.count={workers}")
    if output is not None:
        overrides.append(f"trace.path={json.dumps(output, ensure_ascii=False)}")
    config, text = configfile.load(path, overrides)
    if place is None or dry_run:
        parts = prepare_ranks(config, path)
        if dry_run:
            print(preview.describe(config, parts))
            return 0
        check_writable(config.trace.path, path, config.stragglers.reads)
        sys.stdout.flush()
        command, environment = launch.command(config.workers.count, argv)
        os.execvpe(command[0], command, environment)
    if place[0] == 0:
        return rank_0(config, text, path)
    from ..mpi import ranks

    return ranks.serve(config)


def rank_0(config: Config, text: str, path: str) -> int:
    """Prepare, and only then start MPI; if that fails, take down the ranks that wait for us there."""
    try:
        parts = prepare_ranks(config, path)
        check_writable(config.trace.path, path, config.stragglers.reads)
    except BaseException as error:
        from ..mpi.process import abort

        abort(error)
        raise
    from ..mpi import ranks

    return ranks.coordinate(config, text, parts)


def prepare_ranks(config: Config, path: str) -> Parts:
    """The parts of a run over MPI: so many ranks are likely meant where each has rows of its own.

    Raises
    ------
    InputError
        Naming file, key and value.
    """
    parts, workers = prepare(config, path), config.workers.count
    assert parts.source is not None
    rows = parts.source.rows
    if workers > rows and config.problem.shards == "auto":
        raise InputError(
            f"{path}: workers.count: {workers} workers are more than the {rows} training rows of "
            "problem.data; problem.shards = 'replicated' gives all rows to each"
        )
    return parts


def check_writable(trace: str, path: str, reads: str | None = None) -> None:
    """Make the trace's folder, and refuse one that has no room for it, or a file that the run reads.

    Raises
    ------
    InputError
        Naming file, key and value.
    """
    with within(path):
        if reads is not None and Path(reads).resolve() == Path(trace).resolve():
            raise InputError(f"trace.path: '{trace}' is stragglers.path, from which delays are read")
        opening.check(Path(trace))
        if Path(trace).exists():
            with within(f"trace.path: cannot write '{trace}': a file is there"):
                Trace(trace)  # an older trace is kept beside the new one; any other file is not ours to move
