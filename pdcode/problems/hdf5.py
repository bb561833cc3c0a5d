"""Reader of HDF5 files, whole or in slices: each worker may read only its own rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import NetworkTable
from ..util.datasets import ensure_files, ensure_written, errors_as_damage
from ..util.errors import InputError
from ..util.memory import ensure_fits
from . import split
from .coding import Samples, rows_of
from .dataset import Dataset
from .formats import existing_path
from .matrix import Array
from .samples import (
    CHUNK,
    Statistics,
    check_shapes,
    is_classification,
    label_column,
    label_values,
    quoted_name,
)
from .scaling import moments, of_inputs, target_scales
from .split import evenly_spaced
from .tables import missing_name

if TYPE_CHECKING:
    import h5py

WINDOWS = 64  # number of runs of rows that rank 0 reads for evaluation
GAP = 16  # gap in rows up to which reading on is cheaper than skipping


class Text:
    """A dataset of text, which is read as such."""

    dtype = np.dtype("U")

    def __init__(self, data: h5py.Dataset) -> None:
        self._data, self.shape, self.ndim, self.size = data, data.shape, data.ndim, data.size

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, rows: slice) -> Array:
        return np.array(self._data.asstr(errors="replace")[rows], np.str_)


def read_all(table: NetworkTable, required: bool = True) -> Samples:
    """Read all rows; unless targets are `required`, they may be missing."""
    with open_datasets(table, required) as (x, y):
        for key, data in (("inputs", x), ("targets", y)):
            if data is not None:
                size = 2 * data.size * data.dtype.itemsize  # it is copied
                ensure_fits(f"problem.{key}", f"{quoted_name(table, key)} of shape {data.shape}", size)
        return Samples(x[:], None if y is None else y[:])


def statistics(table: NetworkTable) -> tuple[int, Statistics]:
    """Read the number of rows and the statistics that slices need; inputs are read only to standardise."""
    with open_datasets(table) as (x, y):
        rows = len(x)
        values = mean = deviation = decorrelation = target_mean = target_scale = None
        train = np.zeros(rows, bool)
        train[split.split(table, rows)[0]] = True

        def trained(data: Any) -> Iterator[Array]:
            for start in range(0, rows, CHUNK):
                yield _flat_rows(data, start, start + CHUNK)[train[start : start + CHUNK]]

        if is_classification(table, y):
            values = label_values(table, label_column(table, y[:]))
        elif table.standardise_targets:
            target_mean, target_scale = target_scales(moments(trained(y), math.prod(y.shape[1:])))
        if table.scaling:
            width = math.prod(x.shape[1:])
            mean, deviation, decorrelation = of_inputs(table.scaling, lambda: trained(x), width)
            if not (finite := np.isfinite(mean + deviation)).all():
                where = f"problem.inputs: {quoted_name(table, 'inputs')}"
                raise InputError(f"{where} has a NaN or infinite value in column {np.argmin(finite)}")
        return rows, Statistics(values, mean, deviation, decorrelation, target_mean, target_scale)


def load_slice(table: NetworkTable, worker: int, workers: int, common: Statistics) -> Dataset:
    """Read one worker's training rows; `common` are the statistics of all rows, from rank 0."""
    with open_datasets(table) as (x, y):
        train, test = split.split(table, len(x))
        mine = train[split.shard(len(train), worker, workers, "contiguous")]
        return _build_dataset(table, common, x, y, mine, test[:0])


def load_sample(table: NetworkTable, common: Statistics, most: int) -> Dataset:
    """Read at most `most` training and `most` test rows, in runs spread evenly over the file."""
    with open_datasets(table) as (x, y):
        train, test = (rows[_spread_runs(len(rows), most)] for rows in split.split(table, len(x)))
        return _build_dataset(table, common, x, y, train, test)


@contextmanager
def open_datasets(table: NetworkTable, required: bool = True) -> Iterator[tuple[h5py.Dataset, Any]]:
    """Open the file, and yield its datasets of inputs and targets, with checked shapes.

    Targets that are missing and not `required` are None. The block must only read the datasets: an OSError in
    it is reported as a damaged file.
    """
    import h5py

    path = existing_path("data", table.data)
    try:
        with h5py.File(path, "r") as file:
            x = _find_dataset(table, "inputs", file)
            y: Any = None
            if required or table.array("targets") in file:
                y = _find_dataset(table, "targets", file)
                ensure_written(y, "problem.targets", quoted_name(table, "targets"))
                y = y if h5py.check_string_dtype(y.dtype) is None else Text(y)
            check_shapes(table, x, y)
            ensure_written(x, "problem.inputs", quoted_name(table, "inputs"))
            ensure_fits("problem.data", f"a permutation of the {len(x)} rows of {table.data!r}", 32 * len(x))
            yield x, y
    except OSError as error:  # from h5py, also while the block reads
        raise InputError(f"problem.data: {table.data!r} cannot be read as HDF5: {error}") from error


def _find_dataset(table: NetworkTable, key: str, file: h5py.File) -> h5py.Dataset:
    """Return the dataset of the inputs or targets; an InputError describes another object of that name."""
    import h5py

    name = table.array(key)
    if not isinstance(name, str):
        raise InputError(
            f"problem.{key}: a list names columns of a table, and {table.data!r} has arrays; name one"
        )
    where = f"problem.{key}: {quoted_name(table, key)}"
    found = link = None
    ensure_files(file, name, where)
    with suppress(RuntimeError, KeyError, ValueError, OSError):  # links in a loop, damage, a NUL in the name
        link = file.get(name, getlink=True)
        found = file[name]
    if isinstance(found, h5py.Dataset):
        try:
            empty = found.shape is None or found.dtype is None
        except (TypeError, ValueError) as error:  # of the type of its numbers
            raise InputError(f"{where} cannot be read: {error}") from None
        if empty:
            raise InputError(f"{where} is empty")
        return found
    if isinstance(found, h5py.Group):
        inner = _names(found, table)[:20]
        raise InputError(f"{where} is a group, which holds {', '.join(inner) or 'nothing'}; name a dataset")
    if isinstance(link, h5py.ExternalLink):
        raise InputError(f"{where} is a link to {link.path!r} in {link.filename!r}, which leads nowhere")
    if isinstance(link, h5py.SoftLink):
        raise InputError(f"{where} is a link to {link.path!r}, which leads nowhere")
    if link is not None:
        raise InputError(f"{where} is damaged or not a dataset")
    raise missing_name(key, name, table, _names(file, table))


def _names(group: h5py.Group, table: NetworkTable) -> list[str]:
    """Return the names in a group, as text."""
    with errors_as_damage(f"problem.data: {table.data!r}"):
        return sorted(map(str, group))


def _flat_rows(x: h5py.Dataset, start: int, stop: int) -> Array:
    """Read rows start … stop - 1, flattened to shape (rows, features)."""
    return x[start:stop].reshape(-1, math.prod(x.shape[1:]))


def _spread_runs(rows: int, most: int) -> Array:
    """Choose at most `most` of `rows` rows, in a few runs; return their numbers, ascending."""
    if rows <= most:
        return np.arange(rows)
    windows = min(WINDOWS, most)
    return (evenly_spaced(rows, windows)[:, None] + np.arange(most // windows)).ravel()


def _read_rows(data: Any, rows: Array) -> Array:
    """Read rows of a dataset by ascending numbers; rows close together are read at once."""
    if not len(rows):
        return data[:0]
    runs = np.split(rows, np.flatnonzero(np.diff(rows) > GAP) + 1)
    chunks = [data[run[0] : run[-1] + 1][run - run[0]] for run in runs]
    return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)


def _build_dataset(
    table: NetworkTable, common: Statistics, x: h5py.Dataset, y: Any, train: Array, test: Array
) -> Dataset:
    """Build a Dataset from training and test rows."""
    pairs = []
    for rows in (train, test):
        size = len(rows) * math.prod(x.shape[1:]) * (x.dtype.itemsize + 2 * np.dtype(table.dtype).itemsize)
        ensure_fits("problem.inputs", f"{len(rows)} rows of {quoted_name(table, 'inputs')}", size)
        inputs, targets = _read_rows(x, rows).reshape(len(rows), math.prod(x.shape[1:])), _read_rows(y, rows)
        if common.values is not None:
            targets = label_column(table, targets)
        pairs.append(common.apply(table, inputs, targets, rows_of(rows)))
    return Dataset(pairs[0], pairs[1], common)
