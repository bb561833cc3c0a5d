"""Delays of a recorded run."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from ..util.errors import not_a_file
from . import records
from .base import Integers, Law, Model, Reals


class Recorded(Law, tag="trace", kw_only=True):
    """Recorded delays: worker i takes those of recorded worker i mod m."""

    paths: ClassVar[tuple[str, ...]] = ("path",)

    #: path of recorded delays: a trace, or a CSV or HDF5 matrix (workers × rounds) in s; in a TOML file
    #: relative to its folder, on the command line to the current folder
    path: str
    dataset: str | None = None  #: name of the matrix in an HDF5 file with several
    draw: Literal["bootstrap", "replay"] = "bootstrap"  #: draw recorded delays at random, or in their order
    #: meaning of a matrix's entries: delays in addition to the compute time, or total durations of tasks,
    #: which take at least their compute time
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

    ``replay``: a worker's task t has the delay of its t-th recorded task, cyclically. ``bootstrap``: each
    task has one of the worker's recorded delays, drawn with replacement (Efron, "Bootstrap methods", Ann.
    Statist. 1979). A worker without records never answers. A worker that computed more slowly than others is
    slower here too, by its `stretch`.

    Attributes
    ----------
    recorded : int
        Number of recorded workers m.
    """

    def __init__(self, table: Recorded, seed: int, workers: int) -> None:
        super().__init__(table, seed, workers)
        self._replays = table.draw == "replay"
        recorded = load_records(table)
        self._values, model = recorded.delays_s, np.arange(workers) % len(recorded.counts)
        self.recorded = len(recorded.counts)
        self._counts = recorded.counts[model]
        self._starts = (np.cumsum(recorded.counts) - recorded.counts)[model]
        self._stretch = recorded.stretch[model]
        self.dead |= self._counts == 0

    def stretch(self, workers: Any) -> Reals:
        own = self._stretch[workers]
        return np.where(own < 0, own, own * self.factor[workers])  # total durations keep their mark -1

    def _draw_s(self, workers: Integers, first: Integers, count: int) -> Reals:
        counts, starts = self._counts[workers, None], self._starts[workers, None]
        if self._replays:
            number = (first[:, None] + np.arange(count)) % np.maximum(counts, 1)
        else:
            number = (self._uniforms(workers, first, count)[..., 0] * counts).astype(np.int64)
        return np.take(self._values, starts + number, mode="clip")  # clips only for dead workers


def load_records(table: Recorded, above: tuple[Path, ...] = ()) -> records.Records:
    """Read the file that ``[stragglers]`` names; an unchanged file is read only once.

    Parameters
    ----------
    table : Recorded
        The table ``[stragglers]``.
    above : tuple of Path
        Traces of runs that took their delays from this file, to detect cycles.

    Raises
    ------
    InputError
        If there are no usable delays; the message names stragglers.path or stragglers.dataset and the reason.
    """
    path = Path(table.path)
    try:
        if why := not_a_file(path):
            raise records.wrong(path.absolute(), why)
        status = os.stat(path)
        stamp = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
        return _read(path, table.dataset, table.draw, table.times, stamp, above)
    except OSError as error:
        raise records.wrong(path, error.strerror or str(error)) from None


@lru_cache(maxsize=4)
def _read(
    path: Path, dataset: str | None, draw: str, times: str, stamp: tuple[int, ...], above: tuple[Path, ...]
) -> records.Records:
    if records.is_hdf5(path):
        from . import hdf5

        delays = hdf5.read_records(path, dataset, draw, times, above, load_records)
    elif dataset is not None:
        raise records.wrong(path, f"'{dataset}' names an HDF5 dataset, and this is not HDF5", "dataset")
    else:
        delays = records.matrix(path, records.csv(path), times)
    if not len(delays.delays_s):
        raise records.wrong(path, "has no delays")
    return delays
