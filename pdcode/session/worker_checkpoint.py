"""A worker's part of a checkpoint: a file with the state of its encoders."""

from pathlib import Path
from typing import Any

import msgspec

from ..util import checked
from ..util.errors import InputError, prefix_errors, reason
from ..util.output import print_line
from ..util.stateful import load_state, state_of


class WorkerFile(msgspec.Struct):
    """A worker's file: the run, the worker, its next task, and the state."""

    run: str
    worker: int
    task: int
    state: Any


def coordinator_file(folder: Path) -> Path:
    """Return the path of rank 0's file, the newest one."""
    return folder / "coordinator"


def worker_file(folder: Path, worker: int) -> Path:
    """Return the path of a worker's file."""
    return folder / f"worker-{worker}"


class WorkerCheckpoint:
    """Writer and reader of a worker's file in the folder of the checkpoints."""

    def __init__(self, folder: str, run: str, worker: int) -> None:
        self._path, self._run, self._worker = worker_file(Path(folder), worker), run, worker
        self._problem = ""  # why the last part could not be written
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._say(error)

    def write(self, stateful: object, task: int) -> None:
        """Write the state of objects before a task."""
        memory = WorkerFile(self._run, self._worker, task, state_of(stateful))
        try:
            checked.write(self._path, memory)
            self._problem = ""
        except FileNotFoundError:
            pass  # the run has ended, and rank 0 has removed the folder
        except OSError as error:
            self._say(error)

    def _say(self, error: OSError) -> None:
        """Say once why no part is written: the run continues, as without rank 0's part."""
        if self._problem != (problem := reason(error)):
            print_line(f"{self._path}: no checkpoint was written: {problem}")
        self._problem = problem

    def find(self, task: int) -> WorkerFile | None:
        """Read the file that was written before a task; None if there is none."""
        for path in (self._path, checked.older(self._path)):
            try:
                memory = checked.read(path, WorkerFile)
            except InputError:
                continue
            if (memory.run, memory.worker, memory.task) == (self._run, self._worker, task):
                return memory
        return None

    def read(self, stateful: object, task: int) -> None:
        """Load the state that was written before a task."""
        with prefix_errors(f"{self._path}: it does not fit this run"):
            if (memory := self.find(task)) is None:
                raise InputError(f"nothing before task {task}")
            load_state(stateful, memory.state)
