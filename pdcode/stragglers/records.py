"""Recorded delays in a file: a trace of pdcode, or a matrix of workers × rounds as CSV or HDF5."""

import itertools
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..config import MAX_VALUE
from ..util.errors import InputError, not_a_file, shorten
from ..util.memory import ensure_fits
from .base import Integers, Reals

HDF5 = b"\x89HDF\r\n\x1a\n"  # signature of an HDF5 file


@dataclass(frozen=True)
class DelayRecords:
    """Delays of all workers, one worker after the other."""

    delays_s: Reals  # of each worker in the order of its tasks
    counts: Integers  # number of delays of each worker, (m,)
    # additional delay as a multiple of a task's compute time, (m,); -1: delays are total durations of tasks
    stretch: Reals


def replace(recorded: DelayRecords, workers: Collection[int]) -> DelayRecords:
    """Return the records in which these workers have the delays of a usual one, each from another place on.

    That is the worker whose mean delay is the median of the others'; of two, in turn, the lower one first.
    The places divide a record evenly: workers that are late together cost those less who wait for all.
    """
    rows = np.split(recorded.delays_s, np.cumsum(recorded.counts)[:-1])
    stretch = recorded.stretch.copy()
    others = [each for each, row in enumerate(rows) if each not in workers and len(row)]
    if not others:
        raise InputError("all workers are slow: the time of a usual one is not known")
    ranked = sorted(others, key=lambda each: (stretch[each], rows[each].mean()))
    middle = ranked[(len(ranked) - 1) // 2 : len(ranked) // 2 + 1]
    for place, (each, usual) in enumerate(zip(sorted(workers), itertools.cycle(middle), strict=False), 1):
        begin = place * len(rows[usual]) // (1 + len(workers))
        rows[each], stretch[each] = np.roll(rows[usual], -begin), stretch[usual]
    return DelayRecords(np.concatenate(rows), np.array([*map(len, rows)], np.int64), stretch)


def drop(recorded: DelayRecords, workers: Collection[int]) -> DelayRecords:
    """Return the records without the records of these workers."""
    kept = ~np.isin(np.arange(len(recorded.counts)), list(workers))
    delays_s = recorded.delays_s[np.repeat(kept, recorded.counts)]
    return DelayRecords(delays_s, recorded.counts[kept], recorded.stretch[kept])


def skip(recorded: DelayRecords, first: int) -> DelayRecords:
    """Return the records without the `first` ones of each worker; a worker keeps its last one at least."""
    rows = np.split(recorded.delays_s, np.cumsum(recorded.counts)[:-1])
    rows = [row[max(0, min(first, len(row) - 1)) :] for row in rows]
    return DelayRecords(np.concatenate(rows), np.array([*map(len, rows)], np.int64), recorded.stretch)


def file_error(path: Path, what: str, key: str = "path") -> InputError:
    """Return the InputError for a file of delays, or for another key that does not fit the file."""
    return InputError(f"stragglers.{key}: {path}: {what}")


def is_hdf5(path: Path) -> bool:
    """Return whether a file is readable and begins with the HDF5 signature."""
    if not not_a_file(path):  # opening a pipe may wait for ever
        with suppress(OSError), path.open("rb") as file:
            return file.read(len(HDF5)) == HDF5
    return False


def read_csv(path: Path) -> Reals:
    """Read a CSV matrix, shape (workers, rounds); empty cells are NaN."""
    ensure_delays_fit(path, path.stat().st_size // 2)  # an entry has at least two bytes: a digit and a comma
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise file_error(path, "neither HDF5 nor UTF-8 text") from None
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append([float(cell.strip() or "nan") for cell in line.split(",")])
        except ValueError as error:
            raise file_error(path, f"line {number}: {shorten(str(error))}") from None
        if len(rows[-1]) != len(rows[0]):
            raise file_error(
                path, f"line {number}: {len(rows[-1])} columns, where the first row has {len(rows[0])}"
            )
    return np.array(rows, np.float64).reshape(len(rows), -1) if rows else np.empty((0, 0))


def from_matrix(path: Path, values: Reals, times: str) -> DelayRecords:
    """Return the records of a matrix (workers, rounds) in seconds; NaN where nothing was recorded.

    Entries are delays or, if `times` is ``task``, total durations of tasks.
    """
    recorded = ~np.isnan(values)
    bad = np.argwhere(recorded & ~((values >= 0) & (values <= MAX_VALUE)))
    if len(bad):
        worker, task = bad[0]
        entry = f"worker {worker}, round {task}: {values[worker, task]:g}"
        what = "delay" if times == "delay" else "time"
        raise file_error(path, f"{entry} is not a {what} from 0 to {MAX_VALUE:g} s")
    counts = np.count_nonzero(recorded, axis=1).astype(np.int64)
    return DelayRecords(values[recorded], counts, np.full(len(counts), 0.0 if times == "delay" else -1.0))


def ensure_delays_fit(path: Path, entries: int) -> None:
    """Refuse delays that do not fit into memory; they are copied three times."""
    ensure_fits("stragglers.path", f"{path}: {entries:,} delays", 4 * 8 * entries)
