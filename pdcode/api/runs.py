"""`pdcode.run`, `pdcode.simulate` and `pdcode.plan`: the commands as functions."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..config import kinds
from ..launch import launcher
from ..util.errors import Failure, InputError, in_one_line, place_of_user
from ..util.output import print_line
from ..util.threads import one_thread
from . import command, configs
from .configs import ConfigLike, PathLike, Settings, path_of
from .data import Data, named, own_keys, store
from .plans import Plan
from .traces import Trace


def run(
    config: ConfigLike,
    *,
    data: Data = None,
    workers: int | None = None,
    output: PathLike | None = None,
    set: Settings = (),
    resume: bool = False,
    progress: bool = True,
) -> Trace:
    """Train a model over MPI, as ``pdcode run`` does.

    A child process starts mpirun: the caller needs no launcher and no ``if __name__ == "__main__"``.

    Parameters
    ----------
    config : dict, path or Trace
        Tables of a configuration, a TOML file of them, or the trace of a run to repeat. Paths in a dict are
        relative to the current folder.
    data : tuple or data frame, optional
        Data in place of ``problem.data``: a pair (X, y) of an array, sparse matrix or data frame and targets,
        or a frame whose columns ``problem.inputs``, ``targets`` and ``exclude`` choose; columns of text and
        missing values of frames are coded as in files; of kind ``sparse-coding`` an array of rows. They
        are written to a file beside the trace, ``NAME.data.npz``, from which the run reads them, and a replay
        or resumption, too.
    workers : int, optional
        Number of workers, instead of ``workers.count``.
    output : path, optional
        HDF5 file to write, instead of ``trace.path``.
    set : dict or sequence of str
        Keys to override: ``{"update.mode": "all"}``, or ``["update.mode=all"]`` as on the command line.
    resume : bool
        Whether to resume from a checkpoint of the trace, if there is one.
    progress : bool
        Whether to print the lines that the command prints; a notebook shows the run so far in their place.

    Returns
    -------
    Trace

    Raises
    ------
    InputError
        If the input is bad, or a launcher started the caller: under mpirun, use the command.
    Failure
        If the run fails, for example by divergence; the exception's `trace` is what it recorded.
    KeyboardInterrupt
        After Ctrl-C, when the run has stopped and closed its trace, as on the command line.

    Examples
    --------
    >>> import pdcode
    >>> config = {"problem": {"kind": "softmax", "data": "digits"}, "stop": {"updates": 50}}
    >>> trace = pdcode.run(config, workers=2, output="run.h5", progress=False)
    >>> trace
    Trace('run.h5'): finished
    >>> trace.updates.rows, len(trace.theta)
    (50, 650)
    """
    if launcher.launched_rank(os.environ) is not None:
        raise InputError("pdcode.run: it starts mpirun itself; start the script without a launcher")
    settings = store(config, configs.overrides(set, workers, output), data)
    job = configs.read(config, settings)
    path = Path(job.config.trace.path)
    with job.as_file() as file, _with_trace(path), named(data):
        flags = ["--resume"] if resume else []
        notebook = progress and "ipykernel" in sys.modules
        command.run_command(
            ["run", *flags, *(f"--set={setting}" for setting in settings), "--", file], progress,
            tell=kinds.find("views", "live")(path) if notebook else print_line,
        )  # fmt: skip
    return Trace(path)


def simulate(
    config: ConfigLike,
    *,
    data: Data = None,
    workers: int | None = None,
    output: PathLike | None = None,
    set: Settings = (),
    stragglers: PathLike | Trace | None = None,
    cost: PathLike | Trace | None = None,
    timing_only: bool = False,
    resume: bool = False,
    progress: bool = True,
) -> Trace:
    """Run a configuration on the virtual clock, as ``pdcode simulate`` does, in this process.

    Under mpirun every rank that calls it runs its own simulation.

    Parameters
    ----------
    config, data, workers, set, resume, progress
        As for `run`.
    output : path, optional
        HDF5 file to write, instead of ``trace.path`` with the extension .virtual.h5.
    stragglers : path or Trace, optional
        Delays to replay: of a recorded run, or of a workers × rounds matrix (CSV, HDF5) in seconds.
        With a trace, costs are fitted unless `cost` is given.
    cost : path or Trace, optional
        ``[machine]`` and ``[link]``: a TOML file of these tables, or a trace to which they are fitted.
    timing_only : bool
        Whether to simulate arrival times only, without gradients.

    Returns
    -------
    Trace

    Raises
    ------
    InputError
        If the input is bad.
    Failure
        If the run fails, for example by divergence; the exception's `trace` is what it recorded.
    KeyboardInterrupt
        After Ctrl-C, when the run has stopped and closed its trace, as on the command line.

    Examples
    --------
    >>> import pdcode
    >>> config = {
    ...     "problem": {"kind": "softmax", "data": "digits", "batch": 32},
    ...     "stragglers": {"kind": "shifted-exponential", "mean_s": 0.01, "slow": [7], "slowdown": 10.0},
    ...     "stop": {"loss": 1.0, "seconds": 60.0},
    ... }
    >>> for mode in ("all", "async"):
    ...     trace = pdcode.simulate(
    ...         config, workers=8, output=f"{mode}.h5", set={"update.mode": mode}, progress=False
    ...     )
    ...     print(f"{mode}: {trace.summary()['target_s']:.1f} s")
    all: 2.0 s
    async: 0.2 s
    """
    from . import simulation

    settings = store(config, configs.overrides(set, workers, output), data)
    files = path_of(output), path_of(stragglers), path_of(cost)
    request = simulation.load(config, settings, *files, timing_only, resume)
    path = Path(request.loaded.config.trace.path)
    if request.ended:
        return Trace(path)
    with _with_trace(path), one_thread(), named(data):
        try:
            result = simulation.simulate(request, print_line if progress else lambda line: None)
        except SystemExit as error:
            if place := place_of_user(error):
                raise InputError(f"{in_one_line(error)}, in {place}") from error
            raise KeyboardInterrupt from None  # a second Ctrl-C
        if result.reason == "interrupted":
            raise KeyboardInterrupt
        if result.failed:
            raise Failure(result.reason)
    return Trace(path)


def train(
    config: ConfigLike,
    *,
    comm: Any = None,
    data: Data = None,
    output: PathLike | None = None,
    set: Settings = (),
    resume: bool = False,
    progress: bool = True,
) -> Trace | None:
    """Train a model on ranks of the caller's own MPI program, which goes on afterwards. Collective.

    Rank 0 of the communicator is the coordinator, the others are workers. Runs on communicators without a
    common rank can take place at the same time.

    Parameters
    ----------
    config : dict, path or Trace
        As for `run`, on every rank.
    comm : mpi4py.MPI.Intracomm, optional
        Communicator of two ranks or more; default: ``MPI.COMM_WORLD``.
    data : tuple or data frame, optional
        As for `run`; only the data of rank 0 are used.
    output, set, resume
        As for `run`, on every rank.
    progress : bool
        Whether rank 0 prints the lines of the run.

    Returns
    -------
    Trace or None
        The trace on rank 0, None on the others.

    Raises
    ------
    InputError
        If the input is bad.
    Failure
        If the run fails, for example by divergence or an error of a worker; on rank 0 the exception's `trace`
        is what it recorded. An error of another type is raised on its own rank.
    KeyboardInterrupt
        If a signal has ended the run, on all ranks.
    """
    import numpy as np

    from ..choice.preset import prepare_ranks
    from ..mpi import ranks
    from ..mpi.hosted import hosted
    from ..mpi.process import Poller
    from ..session import checkpoint
    from ..session.run import INTERRUPTED, check_writable

    with hosted(comm) as group, one_thread():
        given = np.array([data is not None])
        group.Bcast(given)
        settings = configs.overrides(set, group.size - 1, output)
        if group.rank == 0:
            settings = store(config, settings, data)
        elif given[0]:
            settings.append("problem.data=data.npz")  # rank 0 sends the rows
        if spares := configs.read(config, settings).config.workers.spares:
            settings += configs.overrides((), group.size - 1 - spares)
        job, text, name = configs.read(config, settings)
        path = Path(job.trace.path)
        found = checkpoint.find(job) if resume and group.rank == 0 else None
        if resume:
            finished = np.array([group.rank == 0 and found is None and checkpoint.is_finished(path)])
            group.buffers.append(finished)
            Poller(1e-3, group).wait(group.Ibcast(finished).Test)
            if finished[0]:
                return None if group.rank else Trace(path)
        if group.rank:
            ranks.serve(group, job)
            return None
        with named(data):
            components = prepare_ranks(job if found is None else found.resumed_config(job), name)
        check_writable(str(path), name, job.stragglers.reads)
        with _with_trace(path):
            show = print_line if progress else lambda line: None
            descent = ranks.Coordination(group, text, job, found, resume, show).run(components)
            if descent.coordinator.stopping == INTERRUPTED:
                raise KeyboardInterrupt
            if descent.failed:
                raise Failure(descent.coordinator.stopping)
        return Trace(path)


def plan(
    config: ConfigLike,
    *,
    data: Data = None,
    trace: PathLike | Trace | None = None,
    like: bool = False,
    deadline: float | None = None,
    target: float | None = None,
    workers: int | None = None,
    set: Settings = (),
    candidates: int | None = None,
    seeds: int | None = None,
    eta: float | None = None,
    seconds: float | None = None,
    processes: int | None = None,
    output: PathLike | None = None,
    progress: bool = True,
) -> Plan:
    """Search for a faster configuration in virtual time, as ``pdcode plan`` does.

    Parameters
    ----------
    config : dict, path or Trace
        As for `run`.
    data : tuple or data frame, optional
        As for `run`; the file lies beside `output`, and is deleted if that is not given.
    trace : path or Trace, optional
        Recorded run whose delays, machine and link are used.
    like : bool
        Whether the trace is of another program's job, and `config` a stand-in for what it trains.
    deadline : float, optional
        Time t in s of the printed chances P(T ≤ t); with `like` by default the job's own.
    target : float, optional
        Training loss to reach, instead of the loss of ``[stop]``.
    workers, set
        As for `run`.
    candidates, seeds, eta, seconds, processes
        Size of the search: see ``pdcode plan --help``.
    output : path, optional
        TOML file for the best configuration; by default none is written.
    progress : bool
        Whether to print progress and ranking.

    Returns
    -------
    Plan
        A dict of the tables of the best configuration, for `run`; its attributes are `predicted`, a text with
        the predicted times, and `ranking`, the finalists, best first, as lists of texts.

    Raises
    ------
    InputError
        If the input is bad.
    Failure
        If no candidate reaches the target.
    """
    options = {"trace": path_of(trace), "target": target, "candidates": candidates, "seeds": seeds}
    options |= {"eta": eta, "seconds": seconds, "processes": processes, "deadline": deadline}
    with tempfile.TemporaryDirectory(prefix="pdcode-") as folder:
        best = Path(output or Path(folder) / "plan.toml")
        settings = store(config, configs.overrides(set, workers), data, best)
        with configs.read(config, settings).as_file() as file, named(data):
            given = [f"--like={file}"] if like else ["--", file]
            arguments = ["plan", *command.to_options(options, settings), f"--output={best}", *given]
            command.run_command(arguments, progress, hidden="plan: " if output is None else None)
        tables = Plan(best.read_text(encoding="utf-8"))
    if data is not None and output is None:  # the file of data is gone; `run` is given them again
        for key, value in own_keys(config, configs.overrides(set, workers)).items():
            tables["problem"].pop(key, None)
            tables["problem"] |= {} if value is None else {key: value}
    return tables


@contextmanager
def _with_trace(path: Path) -> Iterator[None]:
    """Attach the trace that the block writes, and the reason in it, to a `Failure` of the block."""
    before = _identity(path)
    try:
        yield
    except Failure as error:
        if _identity(path) in (None, before):
            raise
        trace = Trace(path)
        reason, text = trace.summary()["failure"] or "", str(error)
        if trace.descent.diverged and trace.descent.what.startswith(reason):  # and has no other reason
            reason = trace.descent.text
        failure = Failure(text if reason in text else reason)
        failure.trace = trace
        raise failure from None


def _identity(path: Path) -> tuple[int, int] | None:
    return (path.stat().st_dev, path.stat().st_ino) if path.exists() else None
