"""Delays of a recorded run."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from . import records
from .base import Integers, Law, Model, Reals


class Recorded(Law, tag="trace", kw_only=True):
    """Worker i takes its delays from worker i mod m of the m that were recorded."""

    path: str  # of recorded delays: a trace, or a CSV or HDF5 matrix of workers × rounds
    dataset: str | None = None  # of an HDF5 file with several matrices
    draw: Literal["bootstrap", "replay"] = "bootstrap"  # recorded delays at random, or in their order
    # What a matrix has: delays, which come on top of compute times, or times of whole tasks, which contain
    # them: a task takes so long, or what it computes if that is longer.
    times: Literal["delay", "task"] = "delay"

    @property
    def reads(self) -> str:
        return self.path

    def make(self, seed: int, workers: int) -> Model:
        return RecordedDelays(self, seed, workers)

    def words(self) -> str:
        return f"those recorded in {self.path}, {'in their order' if self.draw == 'replay' else 'at random'}"


class RecordedDelays(Model):
    """Delays of `Recorded`.

    ``replay``: a worker's task t has the delay of the t-th task recorded, and after the last comes the first
    again. ``bootstrap``: each task has one of all those delays, drawn with replacement (Efron, "Bootstrap
    methods", Ann. Statist. 1979). A worker of which nothing was recorded never answers. One that computed
    slower than others does so here: `stretch`.
    """

    def __init__(self, table: Recorded, seed: int, workers: int) -> None:
        super().__init__(table, seed, workers)
        self._replays = table.draw == "replay"
        recorded = load(table)
        self._values, model = recorded.delays_s, np.arange(workers) % len(recorded.counts)
        self._counts = recorded.counts[model]
        self._starts = (np.cumsum(recorded.counts) - recorded.counts)[model]
        self._stretch = recorded.stretch[model]
        self.dead |= self._counts == 0

    def stretch(self, workers: Any) -> Reals:
        own = self._stretch[workers]
        return np.where(own < 0, own, own * self.factor[workers])  # whole tasks are as many times as long

    def _draw_s(self, workers: Integers, first: Integers, count: int) -> Reals:
        counts, starts = self._counts[workers, None], self._starts[workers, None]
        if self._replays:
            number = (first[:, None] + np.arange(count)) % np.maximum(counts, 1)
        else:
            number = (self._uniforms(workers, first, count)[..., 0] * counts).astype(np.int64)
        return np.take(self._values, starts + number, mode="clip")  # clipped for the dead alone


def load(table: Recorded, above: tuple[Path, ...] = ()) -> records.Records:
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
            raise records.wrong(path, "not a file" if path.exists() else "no such file")
        found = os.stat(path)
        stamp = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
        return _read(path, table.dataset, table.draw, table.times, stamp, above)
    except OSError as error:
        raise records.wrong(path, error.strerror or str(error)) from None


@lru_cache(maxsize=4)
def _read(
    path: Path, dataset: str | None, draw: str, times: str, stamp: tuple[int, ...], above: tuple[Path, ...]
) -> records.Records:
    if records.is_hdf5(path):
        from . import hdf5

        found = hdf5.read(path, dataset, draw, times, above, load)
    elif dataset is not None:
        raise records.wrong(path, f"'{dataset}' names an HDF5 dataset, and this is not HDF5", "dataset")
    else:
        found = records.matrix(path, records.csv(path), times)
    if not len(found.delays_s):
        raise records.wrong(path, "has no delays")
    return found
