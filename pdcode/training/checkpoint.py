"""Checkpoints: files beside a trace, from which a run that has ended resumes (``--resume``).

The folder ``<trace>.checkpoint`` has two generations of rank 0's state, and of each worker's. Rank 0 copies
its state, which another thread writes, and marks the next task of every worker: at that task the worker
writes its own file, before it computes. A payload that was on its way when rank 0 copied its state is not in
the state, even if it arrives later; the worker's file has it as one that rank 0 has dropped. A worker's file
thus belongs to that file of rank 0 in which the worker's next task has the same number.

On the virtual clock the workers, and all messages on their way, are in rank 0's file: the resumed run is the
one that never stopped.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..coding.state import Coded
from ..config import Config
from ..trace import ResumePoint, TraceReader, opening
from ..util import checked
from ..util.errors import InputError, reason, short_repr
from ..util.formats import workers_named
from ..util.stateful import load_state, part, state_of
from .memories import Memory, worker_file
from .setup import prepare

FREE = "trace", "stop", "faults"
"""Tables whose keys may differ when a run goes on …"""
FREE_KEYS = {"workers.spares"}
"""… and keys of others."""


class Coordinates(msgspec.Struct):
    """Rank 0's file.

    Attributes
    ----------
    run : str
        Identity of the run, as in its trace.
    config, resolved : dict
        The configuration as it was given, and with the values of keys that are "auto".
    t_ns, version : int
        Time, and version of θ.
    tasks : list of int
        Number of each worker's next task.
    traffic : (int, int)
        Bytes that rank 0 has received and sent.
    rows : dict of str to int
        Rows of the trace's tables.
    local : bool
        Whether the workers are in the state, on the virtual clock.
    state : dict
        State of rank 0's objects, see `TrainingRun.stateful`.
    """

    run: str
    config: dict[str, Any]
    resolved: dict[str, Any]
    t_ns: int
    version: int
    tasks: list[int]
    traffic: tuple[int, int]
    rows: dict[str, int]
    local: bool
    state: dict[str, Any]


def folder_of(trace: str | Path) -> Path:
    """Return the folder of the checkpoints of a trace."""
    return Path(f"{Path(trace).resolve()}.checkpoint")


class Checkpoints:
    """Writer of a run's checkpoints.

    Parameters
    ----------
    trace : Path
        File of the trace.
    run : str
        Identity of the run.
    config, resolved : Config
        The configuration as it was given, and with resolved keys.
    print_line : callable
        Prints what goes wrong.
    """

    def __init__(self, trace: Path, run: str, config: Config, resolved: Config, print_line: Any) -> None:
        self.folder, self.run = folder_of(trace), run
        self._config, self._resolved = msgspec.to_builtins(config), msgspec.to_builtins(resolved)
        self._print, self._thread = print_line, threading.Thread()
        self.taken = 0
        self.folder.mkdir(parents=True, exist_ok=True)

    def take(
        self,
        stateful: object,
        t_ns: int,
        version: int,
        tasks: Sequence[int],
        rows: Mapping[str, int],
        traffic: tuple[int, int],
        local: bool,
    ) -> None:
        """Copy the state of rank 0's objects; another thread writes it."""
        self.wait()
        given, state = (self._config, self._resolved), state_of(stateful)
        header = Coordinates(self.run, *given, t_ns, version, [*tasks], traffic, dict(rows), local, state)
        self._thread = threading.Thread(target=self._write, args=(header,))
        self._thread.start()

    def _write(self, header: Coordinates) -> None:
        try:
            checked.write(self.folder / "coordinator", header)
            self.taken += 1
        except OSError as error:
            self._print(f"{self.folder}: no checkpoint was written: {reason(error)}")

    def wait(self) -> None:
        """Wait until what was taken is on disk."""
        if self._thread.ident is not None:
            self._thread.join()
            self._thread = threading.Thread()


class Checkpoint:
    """A checkpoint with which a run resumes.

    Attributes
    ----------
    header : Coordinates
    saved : list of int
        Workers whose state is in files.
    lines : list of str
        What the user should know.
    """

    def __init__(self, path: Path, header: Coordinates, saved: list[int]) -> None:
        self.path, self.header, self.saved = path, header, saved
        self.lines: list[str] = []

    @property
    def lacking(self) -> list[int]:
        """Workers whose state is not there."""
        workers = range(0 if self.header.local else len(self.header.tasks))
        return [worker for worker in workers if worker not in self.saved]

    @property
    def config(self) -> Config:
        """The configuration of the run, with resolved keys."""
        return Config.of(self.header.resolved)

    def continued(self, workers: int) -> ResumePoint:
        """Return what the trace goes on with; of another number of workers it begins anew."""
        rows = self.header.rows if workers == len(self.header.tasks) else {}
        return ResumePoint(rows, self.header.t_ns, self.header.version)

    def goes_on(self, config: Config) -> Config:
        """Return the configuration with which a run of this one goes on.

        Keys that are "auto" have the values of the run, unless there is another number of workers now.
        """
        if len(self.header.tasks) != config.workers.count:
            return config
        return msgspec.structs.replace(self.config, **{name: getattr(config, name) for name in FREE})

    def restore(self, stateful: dict[str, Any], config: Config) -> None:
        """Load the state of rank 0's objects.

        Raises
        ------
        InputError
            If the checkpoint is of something else.
        """
        if len(self.header.tasks) == config.workers.count:
            self._load(stateful)
        else:
            self._restore_others(stateful, config)

    def _load(self, stateful: dict[str, Any]) -> None:
        with part(f"{self.path}: it does not fit this run"):
            load_state(stateful, self.header.state)

    def _restore_others(self, stateful: dict[str, Any], config: Config) -> None:
        """Load the state of a run with another number of workers: θ, the optimizer and counts."""
        state, before, now = stateful["state"], len(self.header.tasks), config.workers.count
        if not (isinstance(state, Coded) and state.resizes) or config.memory.kind not in ("none", "worker"):
            raise InputError(
                f"workers.count: {now}, and {before} in the checkpoint {self.path}: scheme "
                f"'{config.scheme.name}' with memory.kind '{config.memory.kind}' has something of each worker"
            )
        was = prepare(self.config).state.unrelayed
        stateful["coordinator"].roster.rejoin(before)
        self._load(stateful | {"state": was})
        state.theta[:] = was.theta
        state.optimizer.load_state_dict(was.optimizer.state_dict())
        stateful["coordinator"].update.begin()
        self.lines.append(
            f"workers.count: {now}, before {before}: payloads of the unfinished update are dropped, and of "
            "memories those of other workers"
        )


def find(config: Config) -> Checkpoint | None:
    """Return the newest whole checkpoint of a configuration's trace; None if there is none.

    Of two, the newer is taken if all workers have written theirs; else the older one if they have.

    Raises
    ------
    InputError
        If there are checkpoints, and none is whole; or if they are of another configuration: the message
        names the key.
    """
    folder = folder_of(config.trace.path)
    newest = folder / "coordinator"
    found, problems = list[Checkpoint](), list[str]()
    for path in (newest, checked.older(newest)):
        if not path.exists():
            continue
        try:
            header = checked.read(path, Coordinates)
            found.append(Checkpoint(path, header, saved_workers(folder, header)))
        except InputError as error:
            problems.append(str(error))
    if not found:
        if problems:
            raise InputError("; ".join(problems))
        return None
    best = next((each for each in found if not each.lacking), found[0])
    best.lines += problems
    if best is not found[0]:
        best.lines.append(f"{found[0].path}: workers have not written all of it; the older one is used")
    if best.lacking and config.reduce.summed:
        have = "have" if len(best.lacking) > 1 else "has"
        raise InputError(
            f"{folder}: {workers_named(best.lacking)} {have} no part in a checkpoint, and with reduce.kind "
            "'allreduce' none goes on without"
        )
    if best.lacking and config.memory.keeps:
        best.lines.append(f"{workers_named(best.lacking)}: nothing in {folder}; their memories begin empty")
    check(best, config)
    return best


def saved_workers(folder: Path, header: Coordinates) -> list[int]:
    """Return the workers whose files belong to a file of rank 0."""
    workers = []
    for worker, task in enumerate(() if header.local else header.tasks):
        path = worker_file(folder, worker)
        for each in (path, checked.older(path)):
            try:
                memory = checked.read(each, Memory, arrays=False)
            except InputError:
                continue
            if (memory.run, memory.worker, memory.task) == (header.run, worker, task):
                workers.append(worker)
                break
    return workers


def check(found: Checkpoint, config: Config) -> None:
    """Refuse a checkpoint of another configuration.

    Raises
    ------
    InputError
        Naming the first key that differs.
    """
    was, now = flat(found.header.config), flat(msgspec.to_builtins(config))
    free = FREE_KEYS if found.header.local else {"workers.count", *FREE_KEYS}
    named = "kind", "name", "family"  # if one of them differs, others do
    for key in sorted({*was, *now} - free, key=lambda key: (key.rpartition(".")[2] not in named, key)):
        if was.get(key) != now.get(key):
            before, after = short_repr(was.get(key)), short_repr(now.get(key))
            raise InputError(f"{key}: {after}, and {before} in the checkpoint {found.path}")


def flat(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a configuration that matter to a run that goes on, with their tables' names."""
    keys: dict[str, Any] = {}
    for name in tables.keys() - {*FREE}:
        table = tables[name]
        keys |= (
            {f"{name}.{key}": value for key, value in table.items()}
            if isinstance(table, dict)
            else {name: table}
        )
    return keys


def begin(trace: Path) -> None:
    """Keep the checkpoints of an older trace beside it, as the trace itself is kept."""
    folder, older = folder_of(trace), folder_of(opening.previous(trace))
    if folder.exists():
        shutil.rmtree(older, ignore_errors=True)
        os.replace(folder, older)


def end(folder: Path) -> None:
    """Remove the checkpoints of a run that has ended."""
    shutil.rmtree(folder, ignore_errors=True)


def ended(trace: str | Path) -> bool:
    """Tell whether a trace is that of a run that has ended."""
    path = Path(trace)
    return path.exists() and opening.is_trace(path) and TraceReader(path).finished
