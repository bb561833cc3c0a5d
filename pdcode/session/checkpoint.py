"""Checkpoints: files beside a trace, from which a run resumes (``--resume``).

The folder ``<trace>.checkpoint`` has two generations of rank 0's state, and of each worker's. Rank 0 copies
its state, which another thread writes, and marks the next task of every worker: at that task the worker
writes its own file, before it computes. A payload that was in flight when rank 0 copied its state is not in
the state, even if it arrives later; the worker's file is written as if rank 0 had dropped that payload. A
worker's file thus belongs to that file of rank 0 in which the worker's next task has the same number.

On the virtual clock rank 0's file includes the workers and all messages in flight: the resumed run equals an
uninterrupted one.
"""

import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from ..config import Config, legacy
from ..config.defaults import Origins, flat, preset_filled
from ..problems import fingerprint
from ..trace import opening
from ..trace.header import arithmetic
from ..trace.reader import TraceReader
from ..trace.writer import ResumePoint
from ..util import checked
from ..util.errors import InputError, reason, short_repr
from ..util.formats import workers_named
from ..util.stateful import load_state, part, state_of
from .setup import prepare
from .worker_checkpoint import WorkerFile, coordinator_file, worker_file

FREE_TABLES = "trace", "stop", "faults"  # may differ when a run resumes
FREE_KEYS = {"workers.spares"}  # likewise, of other tables


class CoordinatorFile(msgspec.Struct):
    """Rank 0's file."""

    run: str  # identity of the run, as in its trace
    config: dict[str, Any]  # as the user gave it
    resolved: dict[str, Any]  # with values for keys that are "auto"
    t_ns: int
    version: int  # of θ
    tasks: list[int]  # number of each worker's next task
    traffic: tuple[int, int]  # bytes that rank 0 has received and sent
    rows: dict[str, int]  # of the trace's tables
    local: bool  # whether the state includes the workers, on the virtual clock
    state: dict[str, Any]  # of rank 0's objects, see `TrainingRun.stateful`


def folder_of(trace: str | Path) -> Path:
    """Return the folder of the checkpoints of a trace."""
    return Path(f"{Path(trace).resolve()}.checkpoint")


class CheckpointWriter:
    """Writer of the checkpoints of a run; `config` is the user's configuration, `resolved` that in force."""

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
        header = CoordinatorFile(self.run, *given, t_ns, version, [*tasks], traffic, dict(rows), local, state)
        self._thread = threading.Thread(target=self._write, args=(header,))
        self._thread.start()

    def _write(self, header: CoordinatorFile) -> None:
        try:
            checked.write(coordinator_file(self.folder), header)
            self.taken += 1
        except OSError as error:
            self._print(f"{self.folder}: no checkpoint was written: {reason(error)}")

    def wait(self) -> None:
        """Wait until the last checkpoint is on disk."""
        if self._thread.ident is not None:
            self._thread.join()
            self._thread = threading.Thread()


class Checkpoint:
    """A checkpoint to resume from."""

    def __init__(self, path: Path, header: CoordinatorFile, saved: list[int]) -> None:
        self.path, self.header = path, header
        self.saved = saved  # workers with files that belong to it
        self.lines: list[str] = []  # for the user

    @property
    def incomplete(self) -> list[int]:
        """Workers without a file."""
        workers = range(0 if self.header.local else len(self.header.tasks))
        return [worker for worker in workers if worker not in self.saved]

    @property
    def config(self) -> Config:
        """The configuration of the run, with resolved keys, and the plug-ins of the user's, see `check`."""
        return Config.of(self.header.resolved | {"plugins": self.header.config.get("plugins", [])})

    def resume_point(self, workers: int) -> ResumePoint:
        """Return the point at which to continue the trace; of another number of workers it starts again."""
        rows = self.header.rows if workers == len(self.header.tasks) else {}
        return ResumePoint(rows, self.header.t_ns, self.header.version)

    def resumed_config(self, config: Config) -> Config:
        """Return the configuration of the resumed run, given the user's.

        Keys that are "auto" have the values of the interrupted run, unless the number of workers differs.
        """
        if len(self.header.tasks) != config.workers.count:
            before = self.config.scheme
            auto = config.scheme.is_auto  # the preset remains
            return preset_filled(config, f"{before.name}:{before.preset}", Origins()) if auto else config
        free = {name: getattr(config, name) for name in FREE_TABLES}
        return msgspec.structs.replace(self.config, workers=config.workers, **free)

    def restore(self, stateful: dict[str, Any], config: Config) -> None:
        """Load the state of rank 0's objects; refuse one that does not fit."""
        if len(self.header.tasks) == config.workers.count:
            self._load(stateful)
        else:
            self._restore_resized(stateful, config)

    def _load(self, stateful: dict[str, Any]) -> None:
        with part(f"{self.path}: it does not fit this run"):
            load_state(stateful, self.header.state)

    def _restore_resized(self, stateful: dict[str, Any], config: Config) -> None:
        """Load θ, the optimizer and counters from a run with another number of workers."""
        state, before, now = stateful["state"], len(self.header.tasks), config.workers.count
        resizes = state.resizes and not config.reduction.owners
        if not resizes or config.memory.kind not in ("none", "worker"):
            raise InputError(
                f"workers.count: {now}, and {before} in the checkpoint {self.path}: scheme "
                f"'{config.scheme.name}' with memory.kind '{config.memory.kind}' has state of each worker"
            )
        old_state = prepare(self.config).state.unrelayed
        stateful["coordinator"].roster.restart(before)
        self._load(stateful | {"state": old_state})
        state.theta[:] = old_state.theta
        state.optimizer.load_state_dict(old_state.optimizer.state_dict())
        stateful["coordinator"].update.begin()
        self.lines.append(
            f"workers.count: {now}, before {before}: payloads of the unfinished update are dropped, and the "
            "memories of removed workers"
        )


def find(config: Config) -> Checkpoint | None:
    """Return the newest valid checkpoint of a configuration's trace; None if the trace has none.

    The newer of two is used if the files of all workers belong to it; else the older one if that holds for
    it. Refuse checkpoints of another configuration, and several if none is valid. One from before the first
    event is none for another number of workers.
    """
    folder = folder_of(config.trace.path)
    newest = coordinator_file(folder)
    found, problems = list[Checkpoint](), list[str]()
    for path in (newest, checked.older(newest)):
        if not path.exists():
            continue
        try:
            header = checked.read(path, CoordinatorFile)
            found.append(Checkpoint(path, header, saved_workers(folder, header)))
        except InputError as error:
            problems.append(str(error))
    if not found:
        if problems:
            raise InputError("; ".join(problems))
        return None
    best = next((candidate for candidate in found if not candidate.incomplete), found[0])
    best.lines += problems
    if best is not found[0]:
        best.lines.append(f"{found[0].path}: workers have not written their parts; the older one is used")
    check(best, config)
    resolved = best.config if best.incomplete else config  # as the preset may be "auto"
    if best.incomplete and resolved.relies_on_parts:
        have = "have" if len(best.incomplete) > 1 else "has"
        raise InputError(
            f"{folder}: {workers_named(best.incomplete)} {have} no part in a checkpoint, which "
            f"{resolved.relies_on_parts} requires of every worker"
        )
    if best.incomplete and resolved.memory.has_residual:
        best.lines.append(
            f"{workers_named(best.incomplete)}: nothing in {folder}; their memories start empty"
        )
    if len(best.header.tasks) != config.workers.count and not best.header.t_ns:
        return None  # nothing had happened yet
    return best


def saved_workers(folder: Path, header: CoordinatorFile) -> list[int]:
    """Return the workers whose files belong to a file of rank 0."""
    workers = []
    for worker, task in enumerate(() if header.local else header.tasks):
        path = worker_file(folder, worker)
        for each in (path, checked.older(path)):
            try:
                memory = checked.read(each, WorkerFile, arrays=False)
            except InputError:
                continue
            if (memory.run, memory.worker, memory.task) == (header.run, worker, task):
                workers.append(worker)
                break
    return workers


def check(found: Checkpoint, config: Config) -> None:
    """Refuse a checkpoint of another configuration; the message names the first key that differs."""
    was, now = flat(found.header.config), flat(msgspec.to_builtins(config))
    free = FREE_KEYS if found.header.local else {"workers.count", *FREE_KEYS}
    named = "kind", "name", "family"  # reported first: if one of them differs, other keys do, too
    if Path(config.trace.path).exists() and found.header.run == (
        trace := TraceReader(config.trace.path)
    ).attributes.get("run"):
        when = f"since the checkpoint {found.path}"
        ensure_same_data(config, trace, when)
        if files := changed_files(config, trace):
            raise InputError(f"plugins: {files[0]} has changed {when}")
        if others := other_arithmetic(trace):
            found.lines.append(f"the run may go on otherwise than it would have: {', '.join(others)}")
    for key in sorted({*was, *now} - free, key=lambda key: (key.rpartition(".")[2] not in named, key)):
        if was.get(key) != now.get(key) and key.partition(".")[0] not in FREE_TABLES:
            before, after = short_repr(was.get(key)), short_repr(now.get(key))
            resized = len(found.header.tasks) != config.workers.count  # defaults may follow from it
            hint = f"; --set {key}={before} goes on with it" if resized else ""
            raise InputError(f"{key}: {after}, and {before} in the checkpoint {found.path}{hint}")


def ensure_same_data(config: Config, trace: TraceReader, when: str) -> None:
    """Refuse files of data that have changed since a trace was begun."""
    recorded, now = trace.data.get("digest"), fingerprint(config.problem)
    if recorded and now and recorded != now:
        files = (
            config.problem.data,
            getattr(config.problem, "start", None),
            getattr(config.problem, "init", None),
        )
        raise InputError(f"problem.data: {' or '.join(map(repr, filter(None, files)))} has changed {when}")


def changed_files(config: Config, trace: TraceReader) -> list[str]:
    """Return the plug-ins, and files with a user's model, whose text has changed since a trace was begun."""
    pairs = zip(config.plugins, trace.plugin_digests, strict=False)
    return [path for path, digest in pairs if digest != legacy.plugin_digest(path)]


def other_arithmetic(trace: TraceReader) -> list[str]:
    """Describe versions, threads and instructions that differ from a trace's."""
    now, before = arithmetic(), trace.environment
    return [
        f"{key} {value or 'unset'} and {before[key] or 'unset'} in {trace.path}"
        for key, value in now.items()
        if key in before and before[key] != value
    ]


def move_aside(trace: Path) -> None:
    """Rename the checkpoints of an older trace, as the trace itself is renamed."""
    folder, older = folder_of(trace), folder_of(opening.previous(trace))
    if folder.exists():
        shutil.rmtree(older, ignore_errors=True)
        os.replace(folder, older)


def remove(folder: Path) -> None:
    """Remove the checkpoints of a finished run, of which late workers may still write parts."""
    removed = folder.with_name(f"{folder.name}.removed")
    shutil.rmtree(removed, ignore_errors=True)
    with suppress(OSError):
        os.replace(folder, removed)
        shutil.rmtree(removed, ignore_errors=True)


def is_finished(trace: str | Path) -> bool:
    """Return whether a file is the trace of a finished run."""
    path = Path(trace)
    return path.exists() and opening.is_trace(path) and TraceReader(path).finished
