"""Cells of a comparison: one run of one entrant under one seed, and what is measured of it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from .. import stragglers
from ..analysis import comparison, description, statistics, timing
from ..api import command, simulation
from ..api.configs import LoadedConfig
from ..api.simulation import Request
from ..config import Config
from ..config.write import to_toml
from ..mpi import launch
from ..schemes import delay_model
from ..trace.reader import TraceReader
from ..trace.schema import APPLIED, DRAINED
from ..training.monitor import INTERRUPTED
from ..util.errors import Failure
from ..util.processes import Pool
from ..virtual import oracle
from ..virtual.calibration import config_of
from .goal import Goal
from .trial import Outcome, source

CLOCKS = "virtual", "mpi"


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes
    ----------
    config : Config
        Configuration of the entrant; its seed is replaced.
    seed : int
    clock : {"virtual", "mpi"}
    file : str
        TOML file of `config`.
    trace : str
        HDF5 file of the run.
    goal : Goal or None
    survives : bool
        Whether a run over MPI goes on without workers that die.
    """

    config: Config
    seed: int
    clock: str
    file: str
    trace: str
    goal: Goal | None
    survives: bool = field(default=True, kw_only=True)

    @property
    def arguments(self) -> list[str]:
        """Arguments of the command that performs the run."""
        verb = "run" if self.clock == "mpi" else "simulate"
        return [verb, self.file, "--set", f"seed={self.seed}", "-o", self.trace]

    def perform(self) -> tuple[Measured, Curves]:
        """Perform the run on the virtual clock, in this process, or over MPI, as its command; measure it.

        A real run that leaves no trace has failed; what others have measured is not lost by that.
        """
        if self.clock == "mpi":
            try:
                command.run_command(self.arguments, False, None if self.survives else launch.MORTAL)
            except Failure:  # such as divergence, which the trace records
                if not Path(self.trace).exists():
                    return nothing(self.config), {key: np.zeros(0) for key in CURVES}
        else:
            trace = msgspec.structs.replace(self.config.trace, path=self.trace)
            config = msgspec.structs.replace(self.config, seed=self.seed, trace=trace)
            job = LoadedConfig(config, to_toml(config), self.file)
            done = simulation.simulate(Request(job, None, False), lambda line: None, source(config))
            if done.reason == INTERRUPTED:
                raise KeyboardInterrupt
        recorded = TraceReader(self.trace)
        return measure(recorded, self.goal), curves(recorded)

    def __str__(self) -> str:
        return shlex.join(["pdcode", *self.arguments])


@dataclass(frozen=True)
class Measured:
    """Figures of a run.

    Attributes
    ----------
    seconds : float
        Time to the target, interpolated between measurements; infinite if it was not reached. Without a
        target, time of the stop.
    stop_s : float
        Time of the stop: from then on rank 0 has its result.
    job_s : float
        Time until the last payload in flight at the stop would have arrived, had the stop not cut its
        injected delay short: a job that cannot end before its stragglers takes so long. Tasks of dead workers
        do not count.
    updates, samples, bytes_up, bytes_down : float
        Updates, training rows that gradients were computed of, bytes of payloads and of tasks, to the stop.
    busy : float
        Share of the workers' time until the stop in which they computed.
    wasted : float
        Share of the payloads until the stop that were not used.
    staleness : float
        Mean number of updates between a used payload's θ and its use.
    loss, accuracy : float
        Last training loss and test accuracy (R² for regression).
    oracle_s : float
        Time of an oracle for the work of the used payloads, see `virtual.oracle`.
    failed : bool
        Whether the run diverged or failed otherwise.
    arrivals : float
        Number of payloads until the stop.
    processor, ingress, egress : float
        Share of the time until the stop for which rank 0's processor and each direction of its link were
        busy; nan over MPI.
    """

    seconds: float
    stop_s: float
    job_s: float
    updates: float
    samples: float
    bytes_up: float
    bytes_down: float
    busy: float
    wasted: float
    staleness: float
    loss: float
    accuracy: float
    oracle_s: float
    failed: bool
    arrivals: float = math.nan
    processor: float = math.nan
    ingress: float = math.nan
    egress: float = math.nan

    def outcome(self, goal: Goal | None) -> Outcome:
        """Return what runs are ranked by."""
        value = goal.value(self.loss, self.accuracy) if goal else self.loss
        return Outcome(
            seconds=self.seconds,
            ended_s=self.stop_s,
            value=value,
            oracle_s=self.oracle_s,
            updates=int(self.updates),
            bytes_up=int(self.bytes_up),
            bytes_down=int(self.bytes_down),
            wasted=self.wasted,
            diverged=self.failed,
        )


COLUMNS = [field.name for field in fields(Measured)]
LATER = "arrivals", "processor", "ingress", "egress"  # not in files of before
CURVES = "t_s", "loss", "accuracy", "bytes"
Curves = dict[str, np.ndarray]
"""Time, training loss, test accuracy, and bytes up and down until then, for each measurement of a run."""


def results(cells: Iterable[tuple[int, Cell]], pool: Pool) -> Iterator[tuple[int, tuple[Measured, Curves]]]:
    """Perform runs, each with a number; yield the results as they come. Runs over MPI take turns."""
    virtual: list[tuple[int, Cell]] = []
    for number, cell in cells:
        if cell.clock == "mpi":
            yield number, cell.perform()
        else:
            virtual.append((number, cell))
    yield from pool.results(Cell.perform, virtual)


def measure(trace: TraceReader, goal: Goal | None) -> Measured:
    """Measure a run by its trace, of which all arrivals must be recorded."""
    config, arrivals, progress = config_of(trace), trace.arrivals, trace.progress
    stop_ns, failed = description.stop_ns(trace), bool(description.failure(trace))
    replies = max(1, len(np.unique(_numbers(arrivals))))
    in_time = arrivals["status"] != DRAINED
    used = np.isin(arrivals["status"], APPLIED)
    if goal is None:
        seconds = math.inf if failed else 1e-9 * stop_ns
    else:
        seconds = goal.seconds(trace)
    split = timing.split({key: arrivals[key][in_time] for key in arrivals}, trace.worker_count, stop_ns)
    compute_ns = _task_ns(arrivals, trace.worker_count)
    work = int(used.sum()) / replies
    return Measured(
        seconds=seconds,
        stop_s=1e-9 * stop_ns,
        job_s=1e-9 * max(stop_ns, _last_ns(trace, config)),
        updates=trace.updates.rows,
        samples=int(in_time.sum()) / replies * trace.attributes.get("task_rows", math.nan),
        bytes_up=float(arrivals["bytes_up"][in_time].sum()),
        bytes_down=float(arrivals["bytes_down"][in_time].sum()),
        busy=float(split.compute.sum() / max(1, trace.worker_count * stop_ns)),
        wasted=1 - int(used.sum()) / max(1, int(in_time.sum())),
        staleness=float(arrivals["staleness"][used].mean()) if used.any() else math.nan,
        loss=float(progress["loss"][-1]) if progress.rows else math.nan,
        accuracy=float(progress["accuracy"][-1]) if progress.rows else math.nan,
        oracle_s=oracle.time_s(config, compute_ns, work) if work else math.nan,
        failed=failed,
        arrivals=int(in_time.sum()),
        **_occupied(trace.counters, stop_ns),
    )


def _occupied(counters: Mapping[str, Any], stop_ns: int) -> dict[str, float]:
    """Return the share of the time for which each part of rank 0 was busy, on the virtual clock."""
    parts = "processor", "ingress", "egress"
    known = stop_ns > 0 and all(f"{part}_ns" in counters for part in parts)
    return {part: timing.busy_ns(counters, part) / stop_ns for part in parts} if known else {}


def nothing(config: Config) -> Measured:
    """Return the figures of a run of which nothing is known but that it failed."""
    figures = dict.fromkeys(COLUMNS, math.nan) | dict.fromkeys(("updates", "bytes_up", "bytes_down"), 0.0)
    figures |= {"seconds": math.inf, "stop_s": config.stop.seconds or math.nan}
    return Measured(**figures | {"failed": True})  # type: ignore[arg-type]


def curves(trace: TraceReader) -> Curves:
    """Return the measurements of a run."""
    progress = trace.progress
    return {
        "t_s": 1e-9 * progress["t_ns"],
        "loss": progress["loss"],
        "accuracy": progress["accuracy"],
        "bytes": comparison.sent(trace),
    }


def _numbers(arrivals: statistics.Columns) -> np.ndarray:
    """Return the number of each payload among those of its worker to an update, by round and part."""
    numbers: np.ndarray = arrivals["round"] * (1 + int(arrivals["part"].max(initial=0))) + arrivals["part"]
    return numbers


def _task_ns(arrivals: statistics.Columns, workers: int) -> np.ndarray:
    """Return the median compute time of each worker's tasks of an update, int64 ns, shape (n,)."""
    compute_ns = arrivals["t_compute_ns"] - arrivals["t_start_ns"]
    total = np.zeros(workers)
    numbers = _numbers(arrivals)
    for number in np.unique(numbers):
        rows = numbers == number
        usual = float(np.median(compute_ns[rows]))
        mine = {key: arrivals[key][rows] for key in ("worker", "t_start_ns")}
        for worker, own in enumerate(timing.by_worker(mine, workers)):
            total[worker] += float(np.median(compute_ns[rows][own])) if len(own) else usual
    return np.maximum(1, total).astype(np.int64)


def _last_ns(trace: TraceReader, config: Config) -> int:
    """Return when the last payload would have arrived with its whole injected delay, ns."""
    arrivals = trace.arrivals
    late = np.flatnonzero(arrivals["status"] == DRAINED)
    if not len(late):
        return 0
    model, numbers = delay_model(config), _numbers(arrivals)
    compute_ns = arrivals["t_compute_ns"] - arrivals["t_start_ns"]
    drawn = arrivals["version" if arrivals["round"].any() else "task"]
    whole_ns = stragglers.delays_ns(model, arrivals["worker"], drawn, 1, compute_ns)[:, 0]
    injected_ns = arrivals["injected_delay_ns"]
    left_ns = np.zeros(len(late), np.int64)
    for number in np.unique(numbers[late]):
        done = (numbers == number) & (arrivals["status"] != DRAINED) & (whole_ns > 0)
        share = float(np.median(injected_ns[done] / whole_ns[done])) if done.any() else 1.0
        mine = numbers[late] == number
        left_ns[mine] = np.maximum(share * whole_ns[late][mine] - injected_ns[late][mine], 0)
    left_ns = np.bincount(arrivals["worker"][late], left_ns)[arrivals["worker"][late]]  # of all its parts
    return int((arrivals["t_recv_ns"][late] + left_ns)[whole_ns[late] >= 0].max(initial=0))
