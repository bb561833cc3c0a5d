"""Recorded delays in a file: a trace of pdcode, or a matrix of workers × rounds as CSV or HDF5."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..config.tables import LARGEST
from ..util.errors import InputError
from .base import Integers, Reals

if TYPE_CHECKING:
    from .trace import Recorded

HDF5 = b"\x89HDF\r\n\x1a\n"  # how such a file begins


@dataclass(frozen=True)
class Records:
    """Delays of all workers, one worker after the other.

    Attributes
    ----------
    delays_s : ndarray of float64
        Of each worker in the order of its tasks.
    counts : ndarray of int64, shape (m,)
        How many are each worker's.
    stretch : ndarray of float64, shape (m,)
        By how much of its own compute time each worker is late besides; -1 if delays are whole tasks.
    """

    delays_s: Reals
    counts: Integers
    stretch: Reals


def load(table: Recorded, above: tuple[Path, ...] = ()) -> Records:
    """Read the file that ``[stragglers]`` names; one that has not changed is read once.

    Parameters
    ----------
    table : Recorded
    above : tuple of Path
        Traces of runs that took their delays from this file.

    Raises
    ------
    InputError
        Naming stragglers.path or stragglers.dataset, and what is wrong.
    """
    path = Path(table.path)
    try:
        if not path.is_file():
            raise wrong(path, "not a file" if path.exists() else "no such file")
        found = os.stat(path)
        stamp = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
        return _read(path, table.dataset, table.draw, table.times, stamp, above)
    except OSError as error:
        raise wrong(path, error.strerror or str(error)) from None


def wrong(path: Path, what: str, key: str = "path") -> InputError:
    """What to raise because of a file, or of another key that the file does not fit."""
    return InputError(f"stragglers.{key}: {path}: {what}")


def is_hdf5(path: Path) -> bool:
    """Whether a file can be read and begins as HDF5 does, whatever its name."""
    with suppress(OSError), path.open("rb") as file:
        return file.read(len(HDF5)) == HDF5
    return False


@lru_cache(maxsize=4)
def _read(
    path: Path, dataset: str | None, draw: str, times: str, stamp: tuple[int, ...], above: tuple[Path, ...]
) -> Records:
    if is_hdf5(path):
        from . import hdf5

        found = hdf5.read(path, dataset, draw, times, above)
    elif dataset is not None:
        raise wrong(path, f"'{dataset}' names an HDF5 dataset, and this is not HDF5", "dataset")
    else:
        found = matrix(path, csv(path), times)
    if not len(found.delays_s):
        raise wrong(path, "has no delays")
    return found


def csv(path: Path) -> Reals:
    """A row of numbers a worker, shape (workers, rounds); an empty cell is NaN.

    Raises
    ------
    InputError
        Naming the line that is wrong.
    """
    check_size(path, path.stat().st_size // 2)  # two bytes an entry, at the least: a digit and a comma
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise wrong(path, "neither HDF5 nor UTF-8 text") from None
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append([float(cell.strip() or "nan") for cell in line.split(",")])
        except ValueError as error:
            raise wrong(path, f"line {number}: {error}") from None
        if len(rows[-1]) != len(rows[0]):
            raise wrong(
                path, f"line {number}: {len(rows[-1])} columns, where the first row has {len(rows[0])}"
            )
    return np.array(rows, np.float64).reshape(len(rows), -1) if rows else np.empty((0, 0))


def matrix(path: Path, values: Reals, times: str) -> Records:
    """Records of a matrix (workers, rounds) in seconds; NaN where nothing was recorded.

    Entries are delays or, where `times` is ``task``, times of whole tasks: then a task is late by what it
    computes less than that.

    Raises
    ------
    InputError
        If an entry is neither.
    """
    known = ~np.isnan(values)
    bad = np.argwhere(known & ~((values >= 0) & (values <= LARGEST)))
    if len(bad):
        worker, task = bad[0]
        found = f"worker {worker}, round {task}: {values[worker, task]:g}"
        what = "delay" if times == "delay" else "time"
        raise wrong(path, f"{found} is not a {what} from 0 to {LARGEST:g} s")
    counts = np.count_nonzero(known, axis=1).astype(np.int64)
    return Records(values[known], counts, np.full(len(counts), 0.0 if times == "delay" else -1.0))


def check_size(path: Path, entries: int) -> None:
    """Refuse more numbers than a quarter of this machine's memory holds, for they are copied.

    Raises
    ------
    InputError
        Naming the file.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if 4 * 8 * entries > memory:
        raise wrong(path, f"{entries:,} delays are more than the {memory >> 30} GiB of this machine can take")
