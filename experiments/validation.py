"""Predictions of the virtual clock, written before runs over MPI judge them.

A cell is a number of workers, delays and an entrant. For each MPI the first half of one run calibrates the
clock, and the second half judges it; cells without delays have such runs of their own, as ranks that have
slept, and so cold caches, take longer for the same work, and ranks that share cores wait for each other. A
cell is predicted by `SEEDS` simulations, whose seeds no run has. The name of the journal of measured runs has
the first digits of the predictions' digest.
"""

import fnmatch
import hashlib
import itertools
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np

from pdcode.analysis import description, timing
from pdcode.analysis.statistics import in_time
from pdcode.api import command
from pdcode.bench.machine import processor
from pdcode.config import Config, StopTable
from pdcode.config.load import read_text
from pdcode.launch import launcher
from pdcode.session.monitor import Print
from pdcode.studies.goal import Goal, choose_goal
from pdcode.studies.named_candidates import named_candidates
from pdcode.studies.trial import TUNING_OFFSET, Journal, Trial
from pdcode.trace.reader import TraceReader
from pdcode.util.errors import Failure, InputError
from pdcode.util.formats import duration
from pdcode.util.output import ensure_writable, write_file
from pdcode.util.processes import Pool, cores
from pdcode.util.progress import track
from pdcode.util.version import __version__
from pdcode.virtual import calibration

TABLES: dict[str, Any] = {
    "problem": {"kind": "mlp", "data": "digits", "hidden": [64], "batch": 32, "l2": 1e-4},
    "scheme": {"name": "uncoded", "preset": "async"},
    "optimizer": {"rate": 0.2},
    "stop": {"loss": 0.1, "seconds": 60.0},
    "trace": {"progress_s": 0.03},
}
"""The job, without workers and delays."""

DELAYS: Mapping[str, dict[str, Any]] = {
    "exponential": {"kind": "shifted-exponential", "shift_s": 0.01, "mean_s": 0.005},
    "pareto": {"kind": "pareto", "shift_s": 0.01, "shape": 3.0},
    "markov": {"kind": "markov", "shift_s": 0.01, "extra_s": 0.05, "enter": 0.02, "leave": 0.1},
    "none": {"kind": "none"},
}
"""Tables ``[stragglers]``; without delays, ranks that outnumber the cores share them."""

ENTRANTS = {
    "all": "uncoded:all/optimizer.rate=0.5",
    "first": "uncoded:first/optimizer.rate=0.5",
    "async": "uncoded:async",
    "topk": "topk/optimizer.rate=0.5",
    "coded": "lwpd:default",
}
"""Candidates, as of `pdcode compare`, by label: three policies, and two schemes with smaller payloads."""

HALF = "calibration"  # cell of the second half of the run that calibrates cells with delays
CALIBRATIONS = {"exponential": 200, "none": 5000}
"""Updates of such a run of entrant "first", by its delays."""
SEED = 1  # of the first run over MPI
SEEDS = 19  # of a prediction: the second and the last but one bound the 80 % interval
GRID = np.linspace(0, 1, 101)  # quantiles by which the times of updates are kept
PARTS = "compute", "delay", "link", "rank 0", "waiting"
LEAST_S, SLACK = 5.0, 10.0  # a run over MPI may take this, or the longest predicted time times this

Key = tuple[str, str]
"""MPI and cell."""


@dataclass(frozen=True)
class Times:
    """Times of one or several runs, in s."""

    target_s: list[float]  # to the target, of each run; infinite if it missed it
    steps_s: list[float]  # quantiles `GRID` of the times between updates
    parts_s: dict[str, float]  # mean time of an update by part, of the mean worker; they sum to the whole
    load: float = 0.0  # of the machine when a run over MPI started, processes

    @classmethod
    def of(cls, trace: TraceReader, goal: Goal, begin_ns: int = 0, load: float = 0.0) -> Self:
        """Measure a run, or what follows `begin_ns`."""
        length, workers, rows = description.stop_ns(trace) - begin_ns, trace.worker_count, trace.arrivals
        mine = in_time(rows) & (rows["t_decoded_ns"] > begin_ns)
        arrivals = {key: rows[key][mine] for key in ("worker", "injected_delay_ns")}
        arrivals |= {key: rows[key][mine] - begin_ns for key in calibration.EVENTS}
        split = timing.split(arrivals, workers, length)
        updates = trace.updates["t_ns"][trace.updates["t_ns"] >= begin_ns]
        if len(updates) < 2:
            raise Failure(f"{trace.path}: fewer than two updates, too few to measure their times")
        own, rest = split.compute + split.send, split.idle + split.quiet + split.dead
        parts = own, split.delay, split.flight, split.decode, rest
        count = len(updates) - (begin_ns > 0)  # the first of a half ended the other half
        parts_s = [1e-9 * float(part.sum()) / (workers * count) for part in parts]
        steps_s = _quantiles(1e-9 * np.diff(updates))
        return cls([goal.seconds(trace)], steps_s, dict(zip(PARTS, parts_s, strict=True)), load)

    @classmethod
    def pooled(cls, runs: Sequence[Self]) -> Self:
        """Combine the times of several runs."""
        return cls(
            [each for run in runs for each in run.target_s],
            _quantiles(np.concatenate([run.steps_s for run in runs])),
            {name: float(np.mean([run.parts_s[name] for run in runs])) for name in PARTS},
            max(run.load for run in runs),
        )

    @property
    def step_s(self) -> float:
        """Median time between updates."""
        return self.steps_s[len(GRID) // 2]

    @property
    def mean_target_s(self) -> float:
        """Geometric mean of the times to the target; infinite if a run missed it."""
        return float(np.exp(np.mean(np.log(self.target_s))))

    def to_json(self) -> str:
        """Return the times as a line of text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read what `to_json` returned."""
        return msgspec.convert(json.loads(line), cls)


def _quantiles(values: np.ndarray) -> list[float]:
    """Return the quantiles `GRID`, each one of the values, with as many digits as the file needs."""
    found = np.quantile(values, GRID, method="inverted_cdf")
    return [float(f"{each:.5g}") for each in found]


@dataclass(frozen=True)
class Cell:
    """A number of workers, delays, and a label of `ENTRANTS`, with their configuration."""

    name: str
    config: Config

    @property
    def half(self) -> str:
        """Cell of the run that calibrates the clock for this one."""
        if self.name.startswith(HALF):
            return self.name
        return f"{HALF}-{self.name.rpartition('-')[0]}" if self.config.stragglers.kind == "none" else HALF


@dataclass(frozen=True)
class Library:
    """An MPI, and the runs over it that calibrate the clock."""

    launcher: str  # path of its mpirun; "": the mpirun of `pdcode run`
    start_s: float  # time that starting and ending the ranks took
    costs: dict[str, dict[str, Any]]  # tables ``[machine]`` and ``[link]``, from the first half of each run
    judged: dict[str, Times]  # of the second half of each


@dataclass(frozen=True)
class Predictions:
    """Predictions of all cells."""

    request: dict[str, Any]
    machine: str
    libraries: dict[str, Library]  # by name and version
    times: dict[str, dict[str, Times]]  # by library and cell, the halves among them


@dataclass(frozen=True)
class Validation:
    """Options of the validation."""

    cells: list[Cell]
    bases: list[Cell]  # of the calibrations
    launchers: Sequence[str]  # paths of mpirun; "": the mpirun of `pdcode run`
    folder: Path

    @property
    def path(self) -> Path:
        """File of the predictions; the file of their digest, as `sha256sum -c` reads it, is beside it."""
        return self.folder / "prediction.json"

    @property
    def digest(self) -> str:
        """SHA-256 of the predictions."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def goal(self) -> Goal:
        """Target of the runs."""
        return choose_goal(self.cells[0].config, None, None)

    @property
    def request(self) -> dict[str, Any]:
        """Identity of the predicted runs."""
        configs = hashlib.sha256(msgspec.json.encode([each.config for each in self.cells])).hexdigest()
        cells = [each.name for each in self.cells]
        return {"pdcode": __version__, "launchers": [*self.launchers], "cells": cells, "configs": configs}

    def trial(self, cell: Cell, seed: int, clock: str, place: int, **tables: Any) -> Trial:
        """Return a run of a cell with an MPI, the number `place`, and with other tables."""
        config = msgspec.structs.replace(cell.config, **tables)
        path = f"{self.folder / cell.name}-{clock}-{place}-{seed}"
        return Trial(config, seed, self.goal, clock, f"{path}.toml", f"{path}.h5")


def choose(
    workers: Sequence[int], patterns: str, settings: Sequence[str], launchers: Sequence[str], folder: Path
) -> Validation:
    """Choose the cells whose names match one of the patterns, separated by commas."""
    cells: dict[str, Cell] = {}
    for n, (delays, table) in itertools.product(workers, DELAYS.items()):
        tables = TABLES | {"seed": SEED, "workers": {"count": n}, "stragglers": table}
        made = named_candidates(tables, settings, Path(), ",".join(ENTRANTS.values()))
        for entrant, candidate in zip(ENTRANTS, made, strict=True):
            name, trace = f"{n}-{delays}-{entrant}", candidate.config.trace
            trace = msgspec.structs.replace(trace, arrivals="all")
            if candidate.config.workers.count != n:
                raise InputError("--set workers.count: give --workers")
            cells[name] = Cell(name, msgspec.structs.replace(candidate.config, trace=trace))
    wanted = set[str]()
    for pattern in patterns.split(","):
        if not (found := fnmatch.filter(cells, pattern)):
            raise InputError(f"--cells {pattern}: matches none of {', '.join(cells)}")
        wanted.update(found)
    chosen, bases = [cell for name, cell in cells.items() if name in wanted], dict[str, Cell]()
    for cell in chosen:
        n = cell.config.workers.count if cell.half != HALF else max(workers)
        delays = "none" if cell.half != HALF else "exponential"
        base, stop = cells[f"{n}-{delays}-first"].config, StopTable(updates=CALIBRATIONS[delays])
        bases[cell.half] = Cell(cell.half, msgspec.structs.replace(base, stop=stop))
    return Validation(chosen, [*bases.values()], launchers, folder)


def run_over_mpi(trial: Trial, mpirun: str) -> tuple[TraceReader, float, float]:
    """Run over MPI; return the trace, the time in s that starting and ending the ranks took, and the load."""
    trial.write("# Written by experiments/validate.py")
    began_s, load = time.perf_counter(), os.getloadavg()[0]
    command.run_command(trial.arguments, False, {launcher.LAUNCHER: mpirun} if mpirun else None)
    trace = TraceReader(trial.trace)
    return trace, max(0.0, time.perf_counter() - began_s - 1e-9 * description.stop_ns(trace)), load


def simulate(trial: Trial) -> Times:
    """Return the times of a run on the virtual clock."""
    assert trial.goal is not None
    trial.perform()
    times = Times.of(TraceReader(trial.trace), trial.goal)
    Path(trial.trace).unlink()
    return times


def first_half(trace: TraceReader) -> tuple[TraceReader, int]:
    """Return a trace with the rows of the first half of its updates, and the end of that half, ns."""
    updates = trace.updates["t_ns"]
    until_ns, half = int(updates[len(updates) // 2]), TraceReader(trace.path)
    for name, key in (("arrivals", "t_decoded_ns"), ("updates", "t_ns")):
        table = getattr(trace, name)
        mine = table[key] <= until_ns
        vars(half)[name] = {column: table[column][mine] for column in table}
    return half, until_ns


def expected_s(cell: Cell, library: Library, times: Times) -> tuple[float, float]:
    """Return the limit of a cell's runs over MPI, and how long one of them takes by the predictions, in s."""
    reached = [each for each in times.target_s if math.isfinite(each)]
    most_s = min(cell.config.stop.seconds or math.inf, max(LEAST_S, SLACK * max(reached, default=math.inf)))
    return most_s, library.start_s + float(np.mean(np.minimum(times.target_s, most_s)))


def predict(bench: Validation, seeds: int, pool: Pool, print_line: Print) -> Predictions:
    """Calibrate the clock for each MPI, predict each cell, and write the predictions."""
    ensure_writable(bench.path, str(bench.path))
    first, each_cell = SEED + TUNING_OFFSET, (*bench.bases, *bench.cells)
    libraries: dict[str, Library] = {}
    costs: dict[tuple[int, str], dict[str, Any]] = {}
    runs = [*itertools.product(enumerate(bench.launchers), bench.bases)]
    for (place, mpirun), base in track(runs, len(runs), "calibrations over MPI"):
        trace, start_s, load = run_over_mpi(bench.trial(base, first - 1, "mpi", place), mpirun)
        half, until_ns = first_half(trace)
        machine, link = calibration.fit(half, trace.attributes["task_flops"])
        costs[place, base.name] = {"machine": machine, "link": link}
        label = str(trace.attributes["mpi_library"])
        library = libraries.setdefault(label, Library(mpirun, start_s, {}, {}))
        if library.launcher != mpirun:
            raise InputError(f"--mpirun {mpirun}: {label} is there twice")
        library.costs[base.name] = msgspec.to_builtins(costs[place, base.name])
        library.judged[base.name] = Times.of(trace, bench.goal, until_ns, load)
        updates, described = base.config.stop.updates, describe_costs(machine, link)
        print_line(f"{label}: {base.name}: costs from half of {updates} updates: {described}")
    found: dict[Key, list[Times]] = {}
    began_s = time.perf_counter()
    for some in range(first, first + 1), range(first + 1, first + SEEDS):  # the first tell how long all take
        trials = [
            ((label, cell.name), bench.trial(cell, seed, "virtual", place, **costs[place, cell.half]))
            for seed, (place, label), cell in itertools.product(some, enumerate(libraries), each_cell)
        ]
        for key, times in track(pool.results(simulate, trials), len(trials), "simulations"):
            found.setdefault(key, []).append(times)
        if first in some:
            left_s = (SEEDS - 1) * (time.perf_counter() - began_s)
            runs_s = sum(
                expected_s(cell, library, found[label, cell.name][0])[1]
                for (label, library), cell in itertools.product(libraries.items(), bench.cells)
            )
            times_left = duration(1e9 * left_s), duration(1e9 * seeds * runs_s)
            print_line(f"plan: simulations, about {times_left[0]}; runs over MPI, about {times_left[1]}")
    predicted: dict[str, dict[str, Times]] = {label: {} for label in libraries}
    for (label, cell), mine in found.items():
        predicted[label][cell] = Times.pooled(mine)
    made = Predictions(bench.request, f"{processor()}; {cores()} cores", libraries, predicted)
    write_file(bench.path, json.dumps(msgspec.to_builtins(made), indent=1), "the predictions")
    write_file(Path(f"{bench.path}.sha256"), f"{bench.digest}  {bench.path.name}\n", "the digest")
    return made


def describe_costs(*tables: Any) -> str:
    """Describe tables of costs in one line."""
    pairs = [pair for table in tables for pair in msgspec.structs.asdict(table).items()]
    return ", ".join(f"{key} {value:.4g}" for key, value in pairs if isinstance(value, float))


def read(bench: Validation) -> Predictions:
    """Read the predictions of an earlier call, which must be of the same cells."""
    try:
        found = msgspec.convert(json.loads(read_text(bench.path, "the predictions")), Predictions)
    except (ValueError, TypeError):
        raise InputError(f"{bench.path}: damaged, remove it") from None
    if found.request != bench.request:
        raise InputError(f"{bench.path}: is there, of another bench; use another folder, or remove it")
    beside = Path(f"{bench.path}.sha256")
    if bench.digest != read_text(beside, "the digest").partition(" ")[0]:
        raise InputError(f"{bench.path}: was changed after it was written, as {beside} says; remove both")
    return found


def measure(
    bench: Validation, made: Predictions, seeds: int, limit_s: float, print_line: Print
) -> dict[Key, list[Times]]:
    """Run the cells over MPI, but for runs that are in the journals, until `limit_s` is spent."""
    found: dict[Key, list[Times]] = {}
    todo: list[tuple[Key, Trial, Journal, float]] = []
    libraries = [*enumerate(made.libraries.items())]
    journals = [bench.folder / f"measured-{bench.digest[:16]}-{place}.journal" for place, _ in libraries]
    opened = [Journal(path, Times) for path in journals]
    for seed, (place, (label, library)), cell in itertools.product(range(seeds), libraries, bench.cells):
        most_s, run_s = expected_s(cell, library, made.times[label][cell.name])
        stop = msgspec.structs.replace(cell.config.stop, seconds=most_s)
        key, trial = (label, cell.name), bench.trial(cell, SEED + seed, "mpi", place, stop=stop)
        if (times := opened[place].find(trial)) is not None:
            found.setdefault(key, []).append(times)
        else:
            todo.append((key, trial, opened[place], run_s))
    done, needed_s = sum(map(len, found.values())), sum(each[3] for each in todo)
    there = f"; {done} are in the journal" if done else ""
    print_line(f"runs over MPI: {len(todo)}, about {duration(1e9 * needed_s)} by the predictions{there}")
    began_s = time.perf_counter()
    for place, (key, trial, journal, run_s) in enumerate(track(todo, len(todo), "runs over MPI")):
        if time.perf_counter() - began_s + run_s > limit_s:
            print_line(f"--seconds {limit_s:g}: {place} of {len(todo)} runs; the same command continues")
            break
        trace, _, load = run_over_mpi(trial, made.libraries[key[0]].launcher)
        journal.add(trial, times := Times.of(trace, bench.goal, 0, load))
        found.setdefault(key, []).append(times)
        for path in (trial.trace, trial.file):
            Path(path).unlink()
    return found
