"""Delays of a recorded run."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np

from ..config import Config, Count, Positive
from ..config.requirements import KeyNeeds, one_of
from ..kernels import philox
from ..util import rng
from ..util.errors import InputError, not_a_file
from ..util.formats import workers_named
from . import records
from .base import DelayModel, Integers, Law, Reals


class Recorded(Law, tag="trace", kw_only=True):
    """Recorded delays: worker i takes the delays of recorded worker i mod m."""

    paths: ClassVar[tuple[str, ...]] = ("path",)

    #: path of recorded delays: a trace, or a CSV or HDF5 matrix (workers × rounds) in s; in a TOML file
    #: relative to its folder, on the command line to the current folder
    path: str
    dataset: str | None = None  #: name of the matrix in an HDF5 file with several
    #: how recorded delays are drawn: single ones at random, blocks of consecutive ones at random and for all
    #: workers together, or all in their order
    draw: Literal["bootstrap", "block", "replay"] = "bootstrap"
    #: with "block", number of consecutive tasks; none: from the number of recorded delays and their
    #: autocorrelation
    block: Positive | None = None
    #: recorded workers that are replaced by a usual one: each takes the delays of the worker whose mean delay
    #: is the median of the others', one from the middle of its record on, m from m places that divide it
    replaced: list[Count] = msgspec.field(default_factory=list)
    #: recorded workers that are left out: worker i takes the delays of the i-th of the others
    dropped: list[Count] = msgspec.field(default_factory=list)
    #: first recorded delays of each worker that are left out, as of tasks that compiled or filled caches
    skipped: Count = 0
    #: meaning of a matrix's entries: delays in addition to the compute time, or total durations of tasks,
    #: which take at least their compute time
    times: Literal["delay", "task"] = "delay"

    effective: ClassVar[KeyNeeds] = {**Law.effective, "block": {"stragglers.draw": one_of("block")}}

    @property
    def reads(self) -> str:
        return self.path

    def check_config(self, config: Config) -> None:
        super().check_config(config)
        for key in ("replaced", "dropped"):
            workers = getattr(self, key)
            count = len(load_records(self).counts) if workers else 0
            if count and (max(workers) >= count or len({*workers}) == count):
                raise InputError(f"stragglers.{key}: {workers}: some of workers 0 to {count - 1}, not all")

    def make(self, seed: int, workers: int) -> DelayModel:
        return DRAWS[self.draw](self, seed, workers)

    def description(self) -> str:
        size = "" if self.block is None else f" of {self.block} tasks"
        drawn = {"bootstrap": "at random", "block": f"in random blocks{size}", "replay": "in their order"}
        usual = f"; {workers_named(self.replaced)} as a usual worker" if self.replaced else ""
        without = f"; without {workers_named(self.dropped)}" if self.dropped else ""
        later = f"; without each worker's first {self.skipped:,}" if self.skipped else ""
        return f"those recorded in {self.path}, {drawn[self.draw]}{usual}{without}{later}"


class RecordedDelays(DelayModel):
    """Delays of `Recorded`, from the records of m = `recorded` workers.

    A worker without records never answers. A worker that computed more slowly than others is slower here too,
    by its `stretch`.
    """

    def __init__(self, table: Recorded, seed: int, workers: int) -> None:
        super().__init__(table, seed, workers)
        recorded = load_records(table)
        if table.skipped:
            recorded = records.skip(recorded, table.skipped)
        if table.replaced:
            recorded = records.replace(recorded, table.replaced)
        if table.dropped:
            recorded = records.drop(recorded, table.dropped)
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
        return np.take(self._values, self.places(workers, first, count), mode="clip")  # clips dead workers

    def places(self, workers: Integers, first: Integers, count: int) -> Integers:
        """Return the place, among all recorded delays, of each task's one, shape (m, count)."""
        number = self._number(workers, first, count, np.maximum(self._counts[workers, None], 1))
        places: Integers = self._starts[workers, None] + number
        return places

    def _number(self, workers: Integers, first: Integers, count: int, counts: Integers) -> Integers:
        """Return the number of the recorded delay that each task of each worker takes, shape (m, count)."""
        raise NotImplementedError


class ReplayedDelays(RecordedDelays):
    """Recorded delays in their order: task t of a worker has the delay of its t-th record, cyclically."""

    def _number(self, workers: Integers, first: Integers, count: int, counts: Integers) -> Integers:
        number: Integers = (first[:, None] + np.arange(count)) % counts
        return number


class BootstrapDelays(RecordedDelays):
    """Single recorded delays of the worker, drawn with replacement for each task.

    Efron, "Bootstrap methods: another look at the jackknife", Ann. Statist. 1979.
    """

    def _number(self, workers: Integers, first: Integers, count: int, counts: Integers) -> Integers:
        return (self._uniforms(workers, first, count)[..., 0] * counts).astype(np.int64)


class BlockBootstrapDelays(RecordedDelays):
    """Blocks of consecutive recorded delays, drawn with replacement for all workers together.

    Künsch, "The jackknife and the bootstrap for general stationary observations", Ann. Statist. 1989;
    circular: Politis and Romano, "A circular block-resampling procedure for stationary data", 1992.

    Tasks bL … (b+1)L - 1 of all workers are block b. A block starts at the same fraction of each worker's
    records, which is the same round if all have the same number. Within blocks, a worker's delays keep their
    autocorrelation. The delays of different workers at the same task number keep their dependence on each
    other, whenever these tasks are run. Worker i takes the records of worker i mod m; each further m workers
    draw blocks of their own.
    """

    def __init__(self, table: Recorded, seed: int, workers: int) -> None:
        super().__init__(table, seed, workers)
        self._block = table.block or block_length(load_records(table))

    def _number(self, workers: Integers, first: Integers, count: int, counts: Integers) -> Integers:
        block, place = np.divmod(first[:, None] + np.arange(count), self._block)
        blocks = count // self._block + 2  # upper bound on the number of blocks of these tasks
        out = np.empty((len(first), blocks, 1))
        start = first // self._block
        philox.uniforms_of(self.seed, rng.BLOCK, workers // self.recorded, start, blocks, 1, out)
        fraction = np.take_along_axis(out[..., 0], block - start[:, None], axis=1)
        number: Integers = ((fraction * counts).astype(np.int64) + place) % counts
        return number


DRAWS: dict[str, type[RecordedDelays]] = {
    "bootstrap": BootstrapDelays,
    "block": BlockBootstrapDelays,
    "replay": ReplayedDelays,
}


def block_length(recorded: records.DelayRecords) -> int:
    """Return a block length for recorded delays.

    It has the least mean square error of the variance of a mean, (6 ρ² N)^⅓ / (1 - ρ²)^⅔, if delays are a
    first-order autoregression, and at most 3 √N and N / 3: Politis and White, "Automatic block-length
    selection for the dependent bootstrap", Econometric Reviews 2004, corrected by Patton, Politis and White,
    ibid. 2009. N is the number of a worker's delays and ρ their lag-1 autocorrelation; of all workers, the
    longest length is taken.
    """
    longest = 1
    for values in np.split(recorded.delays_s, np.cumsum(recorded.counts)[:-1]):
        centred, n = values - values.mean() if len(values) else values, len(values)
        square = float(centred @ centred)
        rho = float(centred[:-1] @ centred[1:]) / square if square > 0 else 0.0
        best = (6 * rho * rho * n) ** (1 / 3) / (1 - rho * rho) ** (2 / 3)
        longest = max(longest, min(round(best), int(3 * n**0.5), n // 3))
    return longest


def load_records(table: Recorded, ancestors: tuple[Path, ...] = ()) -> records.DelayRecords:
    """Read the file that ``[stragglers]`` names; an unchanged file is read only once.

    `ancestors` are the traces of runs that took their delays from this file, to detect cycles. Raises
    InputError if there are no usable delays.
    """
    path = Path(table.path)
    try:
        if why := not_a_file(path):
            raise records.file_error(path.absolute(), why)
        status = os.stat(path)
        stamp = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
        return _read(path, table.dataset, table.draw, table.times, stamp, ancestors)
    except OSError as error:
        raise records.file_error(path, error.strerror or str(error)) from None


@lru_cache(maxsize=4)
def _read(
    path: Path,
    dataset: str | None,
    draw: str,
    times: str,
    stamp: tuple[int, ...],
    ancestors: tuple[Path, ...],
) -> records.DelayRecords:
    if records.is_hdf5(path):
        from . import hdf5

        delays = hdf5.read_records(path, dataset, draw, times, ancestors, load_records)
    elif dataset is not None:
        raise records.file_error(path, f"'{dataset}' names an HDF5 dataset, and this is not HDF5", "dataset")
    else:
        delays = records.from_matrix(path, records.read_csv(path), times)
    if not len(delays.delays_s):
        raise records.file_error(path, "has no delays")
    return delays
