"""The split into training and test rows, and into workers' shards."""

from typing import Literal

import numpy as np

from ..config import ProblemTable
from ..util.errors import InputError
from .formats import format_of
from .matrix import Array

STREAM = 0x5E9A7A7E  # separates the permutation's random numbers from others of the same seed


def sharding(table: ProblemTable) -> Literal["shuffled", "contiguous", "replicated"]:
    """Return the kind of shards: `auto` is contiguous for HDF5 files, to be read in slices, else shuffled."""
    if table.shards == "auto":
        return "contiguous" if format_of(table) == "hdf5" else "shuffled"
    return "replicated" if table.shards == "common" else table.shards


def split(table: ProblemTable, rows: int) -> tuple[Array, Array]:
    """Split rows into training and test rows by a random permutation, keyed by `split_seed`.

    Row numbers are ascending if shards are contiguous, and in the permutation's order if shuffled.
    """
    if rows < 1:
        raise InputError(f"problem.data: {table.data!r} has no rows")
    key = np.array([table.split_seed, STREAM], np.uint64)
    order = np.random.Generator(np.random.Philox(key=key)).permutation(rows)
    tests = test_rows(table, rows)
    test, train = order[:tests], order[tests:]
    if sharding(table) == "contiguous":
        return np.sort(train), np.sort(test)
    return train, test


def test_rows(table: ProblemTable, rows: int) -> int:
    """Return the number of test rows among all rows."""
    return min(round(rows * table.test_fraction), rows - 1)


def shard(rows: int, worker: int, workers: int, how: str) -> slice:
    """Return a worker's shard of the training rows; raise InputError if there are fewer rows than workers.

    Shuffled shards take every `workers`-th row, contiguous ones a run of rows, replicated ones all rows.
    """
    if not 0 <= worker < workers:
        raise ValueError(f"there is no worker {worker} among {workers}")
    if how == "replicated":
        return slice(None)
    if rows < workers:
        raise InputError(
            f"workers.count: {workers} workers are more than the {rows} training rows of problem.data; with "
            'problem.shards = "replicated" every worker has all rows'
        )
    if how == "contiguous":
        return slice(worker * rows // workers, (worker + 1) * rows // workers)
    return slice(worker, None, workers)


def evenly_spaced(rows: int, count: int) -> Array:
    """Return `count` distinct row numbers, ascending and evenly spaced over `rows` ≥ `count` rows."""
    return np.arange(count, dtype=np.int64) * rows // count
