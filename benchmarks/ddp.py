"""Runs of PyTorch's DistributedDataParallel (DDP) over gloo as candidates in a comparison of real runs.

One process per worker trains, see `ddp_rank`; this process measures. Like rank 0 of pdcode, it measures the
loss of a copy of θ by the same rule (`session.monitor`), and ends the run. Training does not wait for
measurements: rank 0 of DDP copies θ and its time into shared memory, and continues.
"""

import argparse
import importlib.util
import math
import os
import platform
import shlex
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Self

import msgspec
import numpy as np

from pdcode.analysis import statistics
from pdcode.api import configs
from pdcode.bench.machine import processor
from pdcode.cli import arguments
from pdcode.config import Config, StopTable, StragglersTable
from pdcode.config import load as configfile
from pdcode.problems import Problem, of_network
from pdcode.problems.losses import LeastSquaresProblem, Logistic, Softmax
from pdcode.problems.matrix import Csr
from pdcode.schemes import make_scheme
from pdcode.session.monitor import Monitor
from pdcode.session.pace import PERIOD_S, SHARE
from pdcode.session.setup import prepare
from pdcode.studies import tournament
from pdcode.studies.candidate import Candidate
from pdcode.studies.comparison import Comparison
from pdcode.studies.comparison_file import ensure_savable
from pdcode.studies.learning_rates import rate_of, settled
from pdcode.studies.measurement import Measured
from pdcode.studies.tournament import Tournament
from pdcode.studies.trial import ProgressRecorder, Trial, data_source
from pdcode.studies.tuning import Tuning
from pdcode.trace.recorder import Recorder
from pdcode.util import processes
from pdcode.util.errors import Failure, InputError, prefix_errors
from pdcode.util.formats import duration
from pdcode.util.output import print_line
from pdcode.util.processes import Pool
from pdcode.virtual import oracle
from pdcode.virtual.simulation import Simulation

from .ddp_rank import DDPJob, RankResult, SharedBoard, train_rank

RUNS, SEEDS, TARGET = 7, 3, 0.1
ALIASES = {"ddp": "allreduce", "ddp:powersgd": "powersgd", "ddp:coded": "allreduce"}
"""Names of DDP without a hook and with one of `HOOKS`, and the schemes whose configurations they have."""

EFFECTIVE_KEYS = "optimizer.", "scheme.options"  # beginnings of the keys that DDP uses
FIXED_VALUES = {
    "code.whiten": "none",
    "code.centre": False,
    "optimizer.average": False,
    "update.mode": "all",
    "wire.dtype": None,
}
UPDATES = 5  # updates of the self-check
MAX_ERROR = {"float32": 1e-4, "float64": 1e-12}  # largest error of θ in it, relative to the change of θ
START_TIMEOUT_S, END_TIMEOUT_S = 300.0, 60.0  # longest start of the ranks, and of their exit after the end
POLL_S = 2e-3  # period at which this process polls for a copy of θ
MIN_COMPRESSION = 2  # least factor by which PowerSGD shortens a matrix; PyTorch's default


def ensure_torch() -> None:
    """Refuse to run without PyTorch."""
    with suppress(ValueError):
        if importlib.util.find_spec("torch") is not None:
            return
    raise InputError("benchmarks ddp: needs torch; `make .venv/extra-torch` installs it")


def is_ddp(name: str) -> bool:
    """Return whether a candidate is DDP."""
    return name.partition("/")[0] in ALIASES


class DDPRanks(ExitStack):
    """Processes in which DDP trains, one per worker, for several runs, as importing PyTorch takes long."""

    def __init__(self, workers: int) -> None:
        super().__init__()
        self._workers, self._numbers = workers, count()

    def __enter__(self) -> Self:
        self._folder = Path(self.enter_context(tempfile.TemporaryDirectory(prefix="pdcode-")))
        self._executor: ProcessPoolExecutor = self.enter_context(processes.start(self._workers))
        return self

    def job(self, config: Config, hook: str) -> DDPJob:
        """Return the job of a run."""
        path, rendezvous = (str(self._folder / name) for name in (f"board-{next(self._numbers)}", "ranks"))
        return DDPJob(config, path, rendezvous, hook)

    def start(self, job: DDPJob) -> list[Future[RankResult]]:
        """Start a run."""
        return [processes.submit(self._executor, train_rank, job, rank) for rank in range(self._workers)]


@dataclass(frozen=True, kw_only=True)
class DDPTrial(Trial):
    """One run of DDP."""

    name: str  # name of the candidate
    ranks: DDPRanks

    def __str__(self) -> str:
        alone = ["--schemes", self.name, "--seeds", "1", "--tune", "0", "--set", f"seed={self.seed}"]
        return f"python -m benchmarks ddp {shlex.join([self.file, *alone])}"

    def perform(self) -> Measured:
        config = self.config.with_seed(self.seed)
        return measure(train(config, self.ranks, hook_of(self.name)), self)


@dataclass(frozen=True, kw_only=True)
class DDPTournament(Tournament):
    """A comparison of real runs in which some candidates are DDP."""

    ranks: DDPRanks

    def trial(self, candidate: Candidate, seed: int) -> Trial:
        trial, name = super().trial(candidate, seed), candidate.name
        return DDPTrial(**vars(trial), name=name, ranks=self.ranks) if is_ddp(name) else trial


def hook_of(name: str) -> str:
    """Return the name of the hook of a candidate that is DDP, or an empty text."""
    return name.partition("/")[0].partition(":")[2]


def check(candidates: Sequence[Candidate]) -> None:
    """Refuse configurations that DDP does not run as pdcode would."""
    for candidate in candidates:
        if not is_ddp(candidate.name):
            continue
        config = candidate.config
        with prefix_errors(f"--schemes {candidate.name}"):
            for change in candidate.name.split("/")[1:]:
                if not change.startswith(EFFECTIVE_KEYS):
                    raise InputError(f"{change.partition('=')[0]}: has no effect on DDP; [optimizer] has")
            tables = msgspec.to_builtins(config)
            for key, usual in FIXED_VALUES.items():
                table, _, name = key.partition(".")
                if tables[table][name] != usual:
                    raise InputError(f"{key}: {tables[table][name]!r} has no effect on DDP")
            if getattr(config.optimizer, "proximal", None) is not None:
                raise InputError("optimizer.proximal: DDP has no proximal steps")
            if config.faults:
                raise InputError("faults.events: DDP has no injected faults")
            problem = of_network(prepare(config, source=data_source(config)).problem, "DDP")
            if type(problem.model.loss) not in (Softmax, Logistic, LeastSquaresProblem):
                raise InputError(f"problem.kind: '{config.problem.kind}' is not known to DDP")
            if isinstance(problem.dataset.x, Csr):
                raise InputError(f"problem.data: '{config.problem.data}' is sparse; DDP takes dense rows")


@dataclass(frozen=True)
class DDPRun:
    """A run of DDP before its figures are computed."""

    problem: Problem
    points: np.ndarray  # measurements, with the columns of `ProgressRecorder`
    updates: int  # number of updates at the stop
    stop_s: float  # see `Measured`
    job_s: float
    compute_ns: np.ndarray  # each rank's compute time of a task
    theta: np.ndarray  # final θ
    failed: bool  # whether the run diverged
    gathered: float = 0.0  # bytes that a rank has others gather in an update


def train(config: Config, ranks: DDPRanks, hook: str = "") -> DDPRun:
    """Train by DDP, and measure the loss meanwhile."""
    config = settled(config)
    problem, points = prepare(config, source=data_source(config)).problem, ProgressRecorder()
    monitor, stop = Monitor(problem, config, points, lambda line: None), config.stop
    monitor.measure(0, 0, problem.initial(config.seed))
    job = ranks.job(config, hook)
    board = job.board(problem)
    board.head["end"] = -1 if stop.updates is None else stop.updates
    running = ranks.start(job)
    until_ns = measure_until_stop(board, running, monitor, config)
    _, version, t_ns, theta, gathered = min(map(result, running), key=lambda trained: trained.rank)
    if version == stop.updates:
        monitor.measure(t_ns, version, theta)
    start_ns, compute_ns = int(board.head["start_ns"]), board.compute_ns
    rows = np.array(points.rows, np.float64)
    reached = monitor.reached or monitor.failed or version == stop.updates
    stop_ns = int(rows[-1, 1]) if reached else round(1e9 * (stop.seconds or 0))
    updates = int(rows[-1, 0]) if reached else version
    job_ns = max(stop_ns, int(until_ns.max()) - start_ns)
    times_s = 1e-9 * stop_ns, 1e-9 * job_ns
    return DDPRun(
        problem, rows, updates, *times_s, compute_ns, theta, monitor.failed, gathered / max(1, version)
    )


def measure_until_stop(
    board: SharedBoard, ranks: Sequence[Future[RankResult]], monitor: Monitor, config: Config
) -> np.ndarray:
    """Measure until the target or the limit of time is reached, then end the run.

    Return the times at which the ranks' last delays would have ended, int64 ns, shape (n,).
    """
    head, begun_s, every_ns = board.head, time.monotonic(), round(1e9 * (config.trace.progress_s or PERIOD_S))
    limit_ns = math.inf if config.stop.seconds is None else 1e9 * config.stop.seconds
    while not all(rank.done() for rank in ranks):
        for rank in ranks:
            if rank.done():
                result(rank)  # raises the rank's exception, if any
        if not head["start_ns"] and time.monotonic() > begun_s + START_TIMEOUT_S:
            raise Failure(f"DDP: the {len(ranks)} ranks did not start within {START_TIMEOUT_S:g} s")
        if head["full"]:
            before_ns, t_ns = time.perf_counter_ns(), int(head["t_ns"])
            reason = monitor.measure(t_ns, int(head["version"]), board.theta)
            head["due_ns"] = t_ns + max(every_ns, SHARE * (time.perf_counter_ns() - before_ns))
            head["full"] = 0
            if reason:
                break
        elif head["start_ns"] and time.perf_counter_ns() - head["start_ns"] >= limit_ns:
            break
        time.sleep(POLL_S)
    until_ns = board.until_ns.copy()
    head["stop"] = 1
    return until_ns


def result(rank: Future[RankResult]) -> RankResult:
    """Wait for a rank to end, and return its result."""
    try:
        return rank.result(END_TIMEOUT_S)
    except TimeoutError:
        raise Failure(f"DDP: a rank did not end within {END_TIMEOUT_S:g} s") from None
    except RuntimeError as error:  # raised by torch, for example if another rank has died
        raise Failure(f"DDP: a rank failed: {error}") from error


def measure(run: DDPRun, trial: DDPTrial) -> Measured:
    """Compute the figures of a run, as `measurement.measure` does. No gradient is stale."""
    config, goal, problem = trial.config, trial.goal, run.problem
    workers, points, updates = config.workers.count, run.points, run.updates
    rank = make_scheme(config).options.rank if hook_of(trial.name) == "powersgd" else None
    reduced = 2 * elements(problem, rank) * problem.dtype.itemsize
    sent = (workers - 1) * (workers * run.gathered or reduced)  # of all ranks in an update
    versions, t_ns, loss, accuracy = points.T
    seconds = math.inf if run.failed else run.stop_s
    if goal is not None:
        seconds = 1e-9 * statistics.crossing(t_ns, goal.value(loss, accuracy), goal.bound)
    total_rows = make_scheme(config).placement.total_rows(data_source(config))
    rows = round(config.problem.batch or total_rows / workers)
    return Measured(
        seconds=seconds,
        stop_s=run.stop_s,
        job_s=run.job_s,
        updates=updates,
        samples=updates * workers * rows,
        bytes_up=updates * sent,
        bytes_down=updates * sent,
        busy=1e-9 * updates * float(run.compute_ns.mean()) / max(run.stop_s, 1e-9),
        wasted=0.0,
        staleness=0.0,
        loss=float(loss[-1]),
        accuracy=float(accuracy[-1]),
        oracle_s=oracle.time_s(config, run.compute_ns, updates * workers) if updates else math.nan,
        failed=run.failed,
        curves={"t_s": 1e-9 * t_ns, "loss": loss, "accuracy": accuracy, "bytes": 2 * sent * versions},
    )


def elements(problem: Problem, rank: int | None) -> int:
    """Return how many numbers an update reduces, with PowerSGD of rank `rank` if that is given.

    PyTorch's hook compresses neither biases nor matrices that it would shorten by less than
    `MIN_COMPRESSION`.
    """
    if rank is None:
        return problem.size
    total = 0
    for layer in problem.layers:
        whole, side = layer.inputs * layer.outputs, layer.inputs + layer.outputs
        r = min(rank, layer.inputs, layer.outputs)
        total += layer.outputs + (side * r if side * r * MIN_COMPRESSION < whole else whole)
    return total


def self_check(candidates: Sequence[Candidate], ranks: DDPRanks) -> Iterator[str]:
    """Compare a few updates of DDP with pdcode's, without delays; yield a sentence for each candidate.

    Candidates with a hook are left out.
    """
    for candidate in candidates:
        if not is_ddp(candidate.name) or hook_of(candidate.name):
            continue
        stop, delays = StopTable(updates=UPDATES), StragglersTable.of({"kind": "none"})
        config = msgspec.structs.replace(candidate.config, stop=stop, stragglers=delays)
        components = prepare(config, source=data_source(config))
        Simulation(components).run(Recorder())
        ours, theirs = components.state.theta, train(config, ranks).theta
        change = np.linalg.norm(ours - components.problem.initial(config.seed))
        error = float(np.linalg.norm(ours - theirs) / change)
        if not error <= MAX_ERROR[config.problem.dtype]:
            raise Failure(f"{candidate.name}: θ after {UPDATES} updates is off by {error:.1g} from pdcode's")
        yield f"After {UPDATES} updates θ of {candidate.name} equals θ of allreduce to {error:.0e}."


def describe_setup(tournament: Tournament) -> list[str]:
    """Describe the machine, the versions, and how runs are measured."""
    packages = ("torch", "numpy", "mpi4py")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    cores, period = len(os.sched_getaffinity(0)), duration(1e9 * (tournament.limits.step_s or PERIOD_S))
    return [
        f"{cores} cores, {processor()}; Python {platform.python_version()}, {versions}.",
        "ddp: PyTorch's DistributedDataParallel over gloo, a process for each worker, one thread each; "
        "ddp:powersgd: with PyTorch's hook, from its third update on; ddp:coded: with pdcode's.",
        "Time runs from when all ranks have model and data. A process that does not train measures the loss "
        f"every {period}, or for 1/{SHARE} of the time if that is less: "
        "pdcode's rank 0, for which arrivals wait meanwhile unless workers add up by allreduce, and for DDP "
        "the bench, to which a rank hands copies of θ. Both take processor time from ranks if cores are few.",
        "busy of DDP is estimated from gradients before the start.",
    ]


def parser() -> arguments.Parser:
    """Return the parser of the options."""
    bench = arguments.Parser(
        prog="python -m benchmarks ddp",
        description="Time to a target of PyTorch's DDP over gloo and of pdcode, with its job and delays. "
        "DistributedDataParallel, plain, with its PowerSGD hook or with pdcode's, trains the same network "
        "from the same θ on the same mini-batches, and each rank has the injected delays of the worker of "
        "its number. Runs alternate, seed by seed; nothing else should run on the machine. Needs the extra "
        "`torch`. Exit codes: 0 done, 1 failure, also if DDP's θ after a few updates, which is compared "
        "first, differs from pdcode's, 2 bad input.",
        epilog="example: python -m benchmarks ddp jobs/digits.toml -n 8 --seeds 3",
    )
    option = bench.add_argument
    arguments.add_job(bench, "problem.batch=16", " for all", "jobs/digits.toml")
    what = (
        "candidates, separated by commas: as in `pdcode compare`, and `ddp`, `ddp:powersgd` and "
        "`ddp:coded` (pdcode.torch.ddp.Coded, which needs a rate of its own), with /KEY=VALUE for keys to "
        "change, such as ddp/optimizer.momentum=0.9/optimizer.nesterov=true or "
        "ddp:powersgd/scheme.options={rank=2} (default: yours,allreduce,ddp,ddp:powersgd)"
    )
    option("--schemes", metavar="A,B,…", default="yours,allreduce,ddp,ddp:powersgd", help=what)
    option("--seeds", type=int, default=SEEDS, metavar="N", help=f"runs of each (default: {SEEDS})")
    rate = bench.add_mutually_exclusive_group()
    what = f"choose each learning rate first, by N runs with another seed (default: {RUNS}; 0: do not)"
    rate.add_argument("--tune", type=int, default=RUNS, metavar="N", help=what)
    rate.add_argument("--rates", metavar="FILE", help="read the learning rates from an earlier comparison")
    arguments.add_target(bench, f"default: the target of [stop], else {TARGET}")
    arguments.add_seconds(bench, "")
    option("-o", "--output", metavar="FILE", help="HDF5 file (default: results/<name>.ddp.h5)")
    bench.set_defaults(function=run, alone="benchmarks ddp")
    return bench


def run(options: argparse.Namespace) -> int:
    """Check DDP against pdcode, tune, run and print; write the comparison for `pdcode show`."""

    least = 0 if options.tune == 0 else 3
    arguments.ensure_in_range(options, tune=(least, 99, "0, or 3 to 99"))
    ensure_torch()

    output = Path(options.output or Path("results") / f"{Path(options.config).stem}.ddp.h5")
    ensure_savable(output)
    rates = (options.rates, Comparison.load(options.rates)) if options.rates else None
    settings, target = configs.overrides(options.set, options.workers), options.target
    stop = configfile.load(options.config, settings)[0].stop
    if target is None and stop.loss is None and stop.accuracy is None:
        target = TARGET
    limits = {"target": target, "seconds": options.seconds}
    request = tournament.ComparisonRequest(
        options.config, options.schemes, settings, options.seeds, "mpi", **limits, aliases=ALIASES
    )
    prepared = tournament.prepare(request, output.with_suffix(""))
    check(prepared.candidates)
    with DDPRanks(prepared.candidates[0].config.workers.count) as ranks, Pool(1) as pool:
        runs = DDPTournament(**vars(prepared), ranks=ranks)
        runs.notes.extend(describe_setup(runs))
        for line in runs.notes:
            print_line(line)
        for line in self_check(runs.candidates, ranks):
            print_line(line)
            runs.notes.append(line)
        tuned = Tuning(options.tune, with_knobs=False) if options.tune and not rates else None
        compared = tournament.perform(runs, options.command, pool, print_line, tune=tuned, rates=rates)
    chosen = zip(compared.names, compared.read_configs(str(output)), strict=True)
    taken = (f"{name} {rate_of(each):g}" for name, each in chosen if not each.scheme.is_auto)
    compared.notes.append(f"Rates: {', '.join(taken)}.")
    compared.save(output)
    print_line("")
    compared.show()
    print_line("repeat a run:")
    for candidate in runs.candidates:
        print_line(f"  {runs.trial(candidate, runs.seeds[0])}")
    print_line(f"comparison: {output}")
    return 0
