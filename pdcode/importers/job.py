"""Jobs that importers read: when each worker began each step, had done its own work, and went on."""

import csv
import gzip
import math
import os
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import msgspec
import numpy as np

from ..config.kinds import Record
from ..trace.steps import StepWriter
from ..util.errors import InputError, ensure_file, reason, short_repr, shorten
from ..util.memory import ensure_fits

T = TypeVar("T")

LONGEST_S = 1e9  # time of a job
GZIP = b"\x1f\x8b"
EXPANDED = 10  # memory that a decoded file takes, as a multiple of its bytes
LINE = "\n"  # key of a table's lines, which no column can have


@dataclass(frozen=True)
class Fault:
    """An event that a trace has in its table of faults."""

    t_ns: int
    worker: int
    kind: str
    message: str


@dataclass
class Job:
    """Steps of a job in which all workers wait for all.

    Attributes
    ----------
    hosts : list of str
        Host or name of each worker.
    source : str
        What has recorded it.
    times : ndarray of int64, shape (steps, workers, 3) or (steps, workers, 6)
        When a worker began a step, had done its own work, and had what all wait for, in ns since the start
        of the job, and phases, see `StepWriter.write`; -1 everywhere: it took no part.
    reduction : {"allreduce", "star"}
        See `StepWriter`.
    gradient_bytes : int
        0: unknown.
    faults : list of Fault
    notes : list of str
        Lines for the user.
    """

    hosts: list[str]
    source: str
    times: np.ndarray
    reduction: str = "allreduce"
    gradient_bytes: int = 0
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def write(self, path: str | os.PathLike[str]) -> str:
        """Write the trace; return a notice if one of this name was renamed."""
        sizes = {"gradient_bytes": self.gradient_bytes, "payload_bytes": self.gradient_bytes}
        workers = [{"host": host} for host in self.hosts]
        writer = StepWriter(path, self.source, workers, sizes, self.reduction)
        writer.write(self.times)
        for each in self.faults:
            writer.fault(each.worker, each.kind, each.message, each.t_ns)
        writer.close()
        return writer.notice


@dataclass(frozen=True, eq=False)
class Importer(Record):
    """A format of the files of other programs, which `pdcode import` reads."""

    group: ClassVar[str] = "importers"

    name: str
    description: str  # of the files, in a line
    read: Callable[[Sequence[str]], Job]  # of all files of a job, in any order; errors name file and place


def in_turn(
    path: str,
    hosts: Sequence[str],
    source: str,
    work_s: np.ndarray,
    link_s: np.ndarray | None = None,
    least_s: np.ndarray | float = 0.0,
) -> Job:
    """Return the job whose steps follow one another: each takes as long as its slowest worker.

    Parameters
    ----------
    path : str
        For errors.
    work_s, link_s : ndarray of float64, shape (steps, workers)
        Own work and link in s; NaN: the worker took no part. Without links all workers end a step together.
    least_s : ndarray of float64, shape (steps,), or float
        Duration of each step in s, at least.
    """
    here = ~np.isnan(work_s)
    times = work_s + (0.0 if link_s is None else link_s)
    kept = here.any(axis=1)
    if not kept.all():
        least_s = np.broadcast_to(least_s, len(kept))[kept]
        work_s, times, here = work_s[kept], times[kept], here[kept]
    if not len(times):
        raise InputError(f"{path}: no step")
    lengths = np.maximum(np.nanmax(times, axis=1), least_s)
    ends = np.cumsum(lengths)
    if not (np.nanmin(times) >= 0 and ends[-1] <= LONGEST_S):
        raise InputError(f"{path}: a time is below 0, or all steps take more than {LONGEST_S:g} s together")
    begins = np.concatenate(([0.0], ends[:-1]))
    work_s, times = np.where(here, work_s, 0.0), np.where(here, times, 0.0)
    finish = np.broadcast_to(ends[:, None], work_s.shape) if link_s is None else begins[:, None] + times
    parts = (np.broadcast_to(begins[:, None], work_s.shape), begins[:, None] + work_s, finish)
    made = np.where(here[..., None], np.rint(1e9 * np.stack(parts, axis=2)).astype(np.int64), -1)
    return Job([*hosts], source, made, "allreduce" if link_s is None else "star")


class Grid:
    """Values of a table by step and worker: arrays of shape (steps, workers), NaN where a row is missing.

    Parameters
    ----------
    path : str
        For errors.
    steps, workers : sequence
        Step and worker of each row; they are sorted.
    places : sequence of str, optional
        Names of the rows: a second row of a worker and step is refused. Without them the last one counts.
    """

    def __init__(
        self, path: str, steps: Sequence[Any], workers: Sequence[Any], places: Sequence[str] | None = None
    ) -> None:
        if not len(steps):
            raise InputError(f"{path}: no row")
        self.steps, self._step = np.unique(steps, return_inverse=True)
        self.workers, self._worker = np.unique(workers, return_inverse=True)
        self.shape = len(self.steps), len(self.workers)
        ensure_fits(
            path, f"{self.shape[0]:,} steps of {self.shape[1]:,} workers", 200 * math.prod(self.shape)
        )
        if places is not None:
            cells = self._step * self.shape[1] + self._worker
            again = np.setdiff1d(np.arange(len(cells)), np.unique(cells, return_index=True)[1])
            if len(again):
                row = int(again[0])
                text = f"a second row of worker {workers[row]} at step {steps[row]}"
                raise InputError(f"{path}, {places[row]}: {text}")

    def __call__(self, values: Sequence[float]) -> np.ndarray:
        """Return the array of a column."""
        out = np.full(self.shape, np.nan)
        out[self._step, self._worker] = values
        return out

    def hosts(self) -> list[str]:
        """Return the names of workers that are not numbered from 0."""
        numbered = [*map(str, self.workers)] == [*map(str, range(self.shape[1]))]
        return ["unknown" if numbered else str(each) for each in self.workers]


def only(paths: Sequence[str], what: str) -> str:
    """Return the only path."""
    if len(paths) != 1:
        raise InputError(f"{paths[1]}: expected one file, {what}")
    return paths[0]


def content(path: str) -> bytes:
    """Read a file, also a gzipped one."""
    ensure_file(path)
    data, size = [], 0
    try:
        with open(path, "rb") as raw, gzip.open(raw) if raw.peek(2)[:2] == GZIP else raw as file:
            while part := file.read(1 << 20):
                data.append(part)
                size += len(part)
                ensure_fits(path, "its content", EXPANDED * size)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InputError(f"{path}: a damaged gzip file") from None
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from None
    return b"".join(data)


def from_json(path: str, kind: type[T]) -> T:
    """Read a JSON file as a struct; errors name the place."""
    try:
        return msgspec.json.decode(content(path), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: {shorten(str(error))}") from None


def table(path: str, needed: Sequence[str]) -> dict[str, list[str]]:
    """Read the columns of a CSV file with a header; `LINE` has the line of each row."""
    try:
        text = content(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    lines = csv.reader(text.splitlines())
    try:
        names = [name.strip() for name in next(lines, [])]
        if missing := [name for name in needed if name not in names]:
            raise InputError(f"{path}: no column {missing[0]}; it needs {', '.join(needed)}")
        if again := [name for name, times in Counter(names).items() if name and times > 1]:
            raise InputError(f"{path}: two columns {short_repr(again[0])}")
        columns: dict[str, list[str]] = {LINE: [], **{name: [] for name in names}}
        for row in lines:
            if row and any(row):
                if len(row) != len(names):
                    raise InputError(f"{path}, line {lines.line_num}: {len(row)} cells of {len(names)}")
                for name, cell in zip(names, row, strict=True):
                    columns[name].append(cell.strip())
                columns[LINE].append(f"line {lines.line_num}")
    except csv.Error as error:
        raise InputError(f"{path}, line {lines.line_num}: {error}") from None
    return columns


def numbers(path: str, columns: Mapping[str, list[str]], name: str, kind: type = float) -> list[Any]:
    """Return a column's numbers, from 0 to `LONGEST_S`; an integer may be any."""
    found = []
    for cell, line in zip(columns[name], columns[LINE], strict=True):
        try:
            found.append(kind(cell))
        except ValueError:
            raise InputError(f"{path}, {line}, {name}: expected a number (got {short_repr(cell)})") from None
        if not -(2**62) <= found[-1] <= 2**62 or (kind is float and not 0 <= found[-1] <= LONGEST_S):
            raise InputError(f"{path}, {line}, {name}: {cell} is not from 0 to {LONGEST_S:g}")
    return found
