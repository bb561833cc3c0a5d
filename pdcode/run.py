"""The command `pdcode run`: from a configuration to a trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import assignments, configfile, decoders, optimizers, policies, preview, problems
from .config import Config, Stop
from .errors import InputError
from .fleet import launch
from .messages import Layout
from .problems.partition import Blocks
from .trace.reader import Trace


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
        for override in overrides:
            key, _, value = override.partition("=")
            if key.strip() == "workers.count" and value.strip() != str(workers):
                raise InputError(
                    f"--set {override}: the launcher started {place[1]} ranks, that is {workers} workers"
                )
    overrides = [*overrides]
    if workers is not None:
        overrides.append(f"workers.count={workers}")
    if output is not None:
        overrides.append(f"trace.path={json.dumps(output, ensure_ascii=False)}")
    config, text = configfile.load(path, overrides)
    if place is None or dry_run:
        parts = prepare(config, path)
        if dry_run:
            print(preview.describe(config, parts.assignment, parts.layout))
            return 0
        check_writable(config.trace.path, path)
        sys.stdout.flush()
        command, environment = launch.command(config.workers.count, argv)
        os.execvpe(command[0], command, environment)
    if place[0] == 0:
        return rank_0(config, text, path)
    from . import ranks

    return ranks.serve(config)


def rank_0(config: Config, text: str, path: str) -> int:
    """Prepare, and only then start MPI; if that fails, take down the ranks that wait for us there."""
    try:
        parts = prepare(config, path)
        check_writable(config.trace.path, path)
    except BaseException as error:
        from .fleet.process import abort

        abort(error)
        raise
    from . import ranks

    return ranks.coordinate(config, text, parts)


@dataclass
class Parts:
    """What rank 0 makes before MPI starts, so that bad input never reaches it."""

    source: problems.Source | None
    git_commit: str
    problem: problems.Problem
    assignment: assignments.Assignment
    layout: Layout
    decoders: list[decoders.Decoder]
    ready: policies.Ready
    optimizer: optimizers.Optimizer


def prepare(config: Config, path: str = "") -> Parts:
    """Load the data and make rank 0's parts.

    Raises
    ------
    InputError
        Naming the file, key and value.
    """
    workers, dtype = config.workers.count, np.dtype(config.problem.dtype)
    try:
        if config.stop == Stop():
            raise InputError("stop: nothing would end the run; give updates, seconds, loss or accuracy")
        source = problems.describe(config.problem)
        problem = problems.Problem.from_dataset(config.problem, source.dataset, config.code.blocks)
        source.shard(workers - 1, workers)  # enough rows for all
        assignment = assignments.create(config, problem.layers, workers)
        layout = Layout(
            problem.layers,
            {k: code.weight for k, code in assignment.designs.items()},
            config.code.rows_per_task,
            dtype,
        )
        made = [decoder_of(config, layer, assignment) for layer in problem.layers]
        ready = policies.create(config.update, workers)
        optimizer = optimizers.create(config.optimizer, problem.size, dtype)
    except InputError as error:
        raise InputError(f"{path}: {error}" if path else str(error)) from None
    return Parts(source, git_commit(), problem, assignment, layout, made, ready, optimizer)


def decoder_of(config: Config, layer: Blocks, assignment: assignments.Assignment) -> decoders.Decoder:
    """The decoder of a layer, as the configuration says."""
    options: dict[str, object] = {"length": layer.length}
    if config.decoder.kind == "adjoint":
        if layer.count > 1:
            options["rows"] = len(assignment.designs[layer.count])
        if config.memory.kind == "worker":
            options["mean_of"] = config.workers.count
    if config.decoder.kind == "tracking":
        options["step"] = config.decoder.step
    return decoders.create(config.decoder.kind, layer.count, layer.shape, config.problem.dtype, **options)


def check_writable(trace: str, path: str) -> None:
    """Make the trace's folder, and refuse one in which no file can be made.

    Raises
    ------
    InputError
        Naming file, key and value.
    """
    folder = Path(trace).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if Path(trace).is_dir():
            raise IsADirectoryError(None, "it is a folder")
        if Path(trace).exists():
            Trace(trace)  # an older trace is kept beside the new one; any other file is not ours to move
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, InputError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"a file is there: {error}"
        raise InputError(f"{path}: trace.path: cannot write '{trace}': {reason}") from None


def git_commit() -> str:
    """Commit of the source tree that runs, or an empty string."""
    here = Path(__file__).parent
    if not (here.parent / ".git").exists():
        return ""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
