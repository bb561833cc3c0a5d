"""One run of a configuration under a seed: on the virtual clock, with or without a trace, or over MPI."""

import functools
import hashlib
import math
import os
import shlex
from collections.abc import Hashable, Iterable, Iterator
from contextlib import chdir
from dataclasses import dataclass, replace
from operator import methodcaller
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
import numpy as np

from .. import problems
from ..analysis.statistics import crossing
from ..api import command, simulation
from ..api.configs import LoadedConfig
from ..api.simulation import Request
from ..choice.preset import prepare
from ..config import Config, ProblemTable, legacy
from ..config.load import read_text
from ..config.write import to_toml
from ..launch import launcher
from ..schemes import make_scheme
from ..session.monitor import INTERRUPTED
from ..trace.reader import TraceReader
from ..trace.recorder import Recorder
from ..util.errors import Failure, InputError, reason
from ..util.output import write_file
from ..util.processes import Pool
from ..virtual.simulation import Simulation
from .goal import Goal
from .measurement import Measured, measure

TUNING_OFFSET = 1000  # offset of the seeds of search and tuning from the seeds of the results
MAX_SEED = 2**63 - 1 - 10**6  # leaves room for the seeds of search, tuning and further runs
LARGEST = 1 << 30  # bytes of a journal


@dataclass(frozen=True)
class Trial:
    """One run of a configuration under a seed."""

    config: Config  # with the limits of the run; its seed is replaced
    seed: int
    goal: Goal | None  # target; None: the run ends at its limits
    clock: str = "virtual"  # {"virtual", "mpi"}
    file: str = ""  # TOML file of `config`, which a run over MPI reads
    trace: str = ""  # HDF5 file of the run; empty, on the virtual clock: none is written, which is faster
    survives: bool = True  # whether a run over MPI continues without workers that die
    scored: bool = True  # whether more than the loss is measured, unless the target is one

    @property
    def arguments(self) -> list[str]:
        """Arguments of the command that performs the run."""
        verb = "run" if self.clock == "mpi" else "simulate"
        return [verb, self.file, "--set", f"seed={self.seed}", "-o", self.trace]

    def __str__(self) -> str:
        return shlex.join(["pdcode", *self.arguments])

    def within(self, limit_s: float) -> Self:
        """Return the trial with a time limit of at most `limit_s`."""
        return replace(self, config=within(self.config, limit_s))

    def write(self, head: str) -> None:
        """Write the configuration to its file, below a line of comment."""
        write_file(Path(self.file), f"{head}\n{to_toml(self.config)}", "the configuration")

    def perform(self) -> Measured:
        """Perform and measure the run: in this process on the virtual clock, else by its command.

        A run over MPI without a trace has failed, but does not end the study.
        """
        if not self.config.plugins:
            return self._perform()
        with chdir(os.getcwd()):  # a user's function may change the folder
            return replace(self, trace=self.trace and os.path.abspath(self.trace))._perform()

    def _perform(self) -> Measured:
        if not self.trace:
            return self._simulate()
        if self.clock == "mpi":
            try:
                command.run_command(
                    self.arguments, False, None if self.survives else launcher.WITHOUT_SURVIVAL
                )
            except Failure:  # such as divergence, which the trace records
                if not Path(self.trace).exists():
                    return Measured(stop_s=self.config.stop.seconds or math.nan, failed=True)
        else:
            config = self.config.with_keys(trace={"path": self.trace})
            config = config.with_seed(self.seed)
            job = LoadedConfig(config, to_toml(config), self.file)
            done = simulation.simulate(Request(job, None, False), lambda line: None, data_source(config))
            if done.reason == INTERRUPTED:
                raise KeyboardInterrupt
        return measure(TraceReader(self.trace), self.goal)

    def _simulate(self) -> Measured:
        """Simulate without a trace; payloads that are drained after the stop are also counted."""
        config, recorder = self.config.with_seed(self.seed), ProgressRecorder()
        components = prepare(config, source=data_source(config))
        components.problem.scored = self.scored or (self.goal is not None and self.goal.kind != "loss")
        with np.errstate(all="ignore"):  # the run may diverge
            _, result = Simulation(components, shares=True).run(recorder)
        seconds = math.inf if result.failed else result.seconds
        versions, t_ns, loss, accuracy = np.array(recorder.rows).T
        if self.goal is not None:
            values = self.goal.value(loss, accuracy)
            seconds = crossing(1e-9 * t_ns, values, self.goal.bound, versions)
        curves = {
            "t_s": 1e-9 * t_ns,
            "loss": loss,
            "accuracy": accuracy,
            "bytes": np.full(len(loss), math.nan),
        }
        return Measured(
            curves=curves,
            seconds=seconds,
            stop_s=result.seconds,
            updates=result.updates,
            bytes_up=result.bytes_up,
            bytes_down=result.bytes_down,
            wasted=(result.wasted + result.refused) / max(1, result.arrivals),
            loss=result.loss,
            accuracy=result.accuracy,
            oracle_s=result.oracle_s,
            failed=result.failed,
            arrivals=result.arrivals,
        )


class ProgressRecorder(Recorder):
    """Recorder of the measurements only: rows (version, time in ns, loss, accuracy)."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, ...]] = []

    def progress(self, *values: float) -> None:
        self.rows.append(values[:4])


class Journal:
    """File of the runs of a study that are done, so that it resumes behind them.

    A run is known by its configuration with the content of its files, seed, target, and `key`, if runs with
    all these in common differ; its result is of a class with `to_json` and `from_json`. A last line that was
    cut off is ignored.
    """

    def __init__(self, path: Path, kind: Any = Measured) -> None:
        self._path, self._kind, self._done = path, kind, dict[str, str]()
        text = read_text(path, "the journal", LARGEST) if path.exists() else ""
        for line in text.splitlines(keepends=True):
            if line.endswith("\n"):
                self._done[line[:KEY_LENGTH]] = line[KEY_LENGTH:]
        if text and not text.endswith("\n"):
            write_file(path, "".join(key + line for key, line in self._done.items()), "the journal")

    def find(self, trial: Trial, *key: Hashable) -> Any:
        """Return the result of a run, or None if it is not done."""
        line = self._done.get(_digest(trial, *key))
        try:
            return None if line is None else self._kind.from_json(line)
        except (ValueError, TypeError, LookupError):
            raise InputError(f"{self._path}: damaged, remove it") from None

    def add(self, trial: Trial, run: Any, *key: Hashable) -> None:
        """Write the result of a run."""
        digest, line = _digest(trial, *key), run.to_json() + "\n"
        self._done[digest] = line
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(digest + line)
        except OSError as error:
            raise InputError(f"{self._path}: cannot write the journal: {reason(error)}") from None

    def remove(self) -> None:
        """Remove the file, once the study is written."""
        self._path.unlink(missing_ok=True)


KEY_LENGTH = 64
Key = TypeVar("Key", bound=Hashable)


def _digest(trial: Trial, *key: Hashable) -> str:
    goal, config = None if trial.goal is None else (trial.goal.kind, trial.goal.level), trial.config
    files = map(problems.fingerprint, (config.problem, config.stragglers, config.code))
    more = *filter(None, (*files, *map(legacy.plugin_digest, config.plugins))), *key
    content = config, trial.seed, goal, trial.clock, bool(trial.trace), *more
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()


def perform_all(
    trials: Iterable[tuple[Key, Trial]], pool: Pool, journal: Journal | None = None, keep: bool = False
) -> Iterator[tuple[Key, Measured]]:
    """Perform trials by key, those over MPI one after another, and yield results as they are complete.

    Trials that are in the journal are not performed, unless `keep` asks for a trace that is not there; others
    are added to it.
    """
    virtual: dict[Key, Trial] = {}
    for key, trial in trials:
        mine = [key] * (trial.clock == "mpi")  # there, equal configurations have different results
        there = journal is not None and (not keep or Path(trial.trace).exists())
        if journal is not None and there and (done := journal.find(trial, *mine)) is not None:
            yield key, done
        elif trial.clock == "mpi":
            run = trial.perform()
            if journal is not None:
                journal.add(trial, run, *mine)
            yield key, run
        else:
            virtual[key] = trial
    for key, run in pool.results(methodcaller("perform"), virtual.items()):
        if journal is not None:
            journal.add(virtual[key], run)
        yield key, run


def within(config: Config, limit_s: float) -> Config:
    """Return the configuration with a time limit of at most `limit_s`, but above 0."""
    given = config.stop.seconds
    if not math.isfinite(limit_s) or (given is not None and given <= limit_s):
        return config
    return config.with_keys(stop={"seconds": max(limit_s, 1e-9)})


def check_seed(config: Config) -> None:
    """Refuse a seed that leaves no room for larger ones."""
    if config.seed > MAX_SEED:
        raise InputError(f"seed: {config.seed}: larger seeds are used, too; give {MAX_SEED} at most")


def data_source(config: Config) -> problems.DataSource:
    """Read the configuration's data, once per process for all trials."""
    return _source(msgspec.json.encode(config.problem))


@functools.lru_cache(1)
def _source(table: bytes) -> problems.DataSource:
    return problems.load_source(ProblemTable.of(msgspec.json.decode(table)))


def payloads_per_update(config: Config) -> float:
    """Return the approximate number of payloads of whole tasks that an update uses."""
    if config.update.asynchronous:
        return 1 / make_scheme(config).task_size.messages
    return config.update.typical_payloads(config.workers.count)
