"""A worker's part of a checkpoint: a file of what it keeps from task to task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from ..util import checked
from ..util.errors import Failure, InputError, reason
from . import snapshot


class Memory(msgspec.Struct):
    """Header of a worker's file: the run, the worker, its next task, and the tree of the snapshot."""

    run: str
    worker: int
    task: int
    tree: Any


def worker_file(folder: Path, worker: int) -> Path:
    """Return the path of a worker's file."""
    return folder / f"worker-{worker}"


class Memories:
    """Writer of what a worker keeps from task to task.

    Parameters
    ----------
    folder : str
        Folder of the checkpoints.
    run : str
    worker : int
    """

    def __init__(self, folder: str, run: str, worker: int) -> None:
        self._path, self._run, self._worker = worker_file(Path(folder), worker), run, worker

    def write(self, state: object, task: int) -> None:
        """Write the state before a task.

        Raises
        ------
        Failure
            If that fails.
        """
        taken = snapshot.take(state)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            checked.write(self._path, Memory(self._run, self._worker, task, taken.tree), taken.contents)
        except OSError as error:
            raise Failure(f"{self._path}: cannot write a checkpoint: {reason(error)}") from None

    def read(self, state: object, task: int) -> bool:
        """Restore the state that was written before a task; return whether there was one that fits."""
        for path in (self._path, checked.older(self._path)):
            try:
                header, contents = checked.read(path, Memory)
                if (header.run, header.worker, header.task) == (self._run, self._worker, task):
                    snapshot.restore(state, snapshot.Snapshot(header.tree, contents))
                    return True
            except (InputError, snapshot.Mismatch):
                continue
        return False
