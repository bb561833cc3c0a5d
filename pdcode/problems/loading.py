"""Loading of the data that a [problem] table names: all rows, or a worker's shard."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..config import NetworkTable, ProblemTable, kinds
from ..util.errors import InputError
from . import hdf5, split
from .dataset import Dataset, RowSet
from .formats import format_of
from .matrix import Array, Csr, as_dense
from .model import ModelTable
from .samples import CHUNK, Samples, Statistics, flatten_inputs, is_classification, label_column, label_values
from .scaling import column_maxima, moments

# Rows by which rank 0 chooses the values of keys that are "auto": at most so many, and so many bytes of them.
SAMPLE_ROWS, SAMPLE_BYTES = 10_000, 1 << 30


def read(table: NetworkTable, required: bool = True) -> Samples:
    """Read all rows; unless targets are `required`, they may be missing. Inputs become (rows, d)."""
    samples: Samples = kinds.find("readers", format_of(table))(table, required)
    if required and samples.y is None:
        raise InputError(f"problem.data: {table.data!r} has no targets, which kind {table.kind!r} needs")
    return flatten_inputs(table, samples)


def load(table: ProblemTable) -> RowSet:
    """Read or make all rows; those of networks are split and standardised.

    Raises InputError if the data are missing, damaged or unfit for the kind of problem; the message names key
    and value.
    """
    if isinstance(table, ModelTable):
        return table.read()
    assert isinstance(table, NetworkTable)
    x, y, labels, columns = read(table, not table.latent)
    train, test = split.split(table, len(x))
    if table.latent:
        x, y = np.empty((len(x), 0)), table.loss_of(None).prepare(as_dense(x), train)
        labels, columns = None, ()
    assert y is not None
    values = None
    if is_classification(table, y, certain=labels is not None):
        y = label_column(table, y)
        values = label_values(table, y)
        values = values if labels is None else labels  # some class may have no rows
    mean = deviation = None
    if table.standardise and isinstance(x, Csr):
        mean, deviation = column_maxima(x[train])
    elif table.standardise:
        chunks = (as_dense(x[train[start : start + CHUNK]]) for start in range(0, len(train), CHUNK))
        mean, deviation = moments(chunks, x.shape[1])
    common = Statistics(values, mean, deviation, columns)
    pairs = [common.apply(table, x[rows], y[rows], rows) for rows in (train, test)]
    return Dataset(pairs[0], pairs[1], common)


@dataclass(frozen=True, eq=False)
class DataSource:
    """The data on rank 0: the rows that it keeps, and those to be sent to each worker."""

    dataset: RowSet  # at most `evaluate` training and test rows, for rank 0's Problem
    rows: int  # total number of training rows
    sliced: bool  # whether each worker reads or makes its own rows
    _table: ProblemTable
    _whole: RowSet | None
    _common: Statistics | None

    @cached_property
    def whole(self) -> RowSet:
        """All rows; read once more if each worker reads its own."""
        return load(self._table) if self._whole is None else self._whole

    @cached_property
    def sample(self) -> RowSet:
        """Training rows for decisions on the algorithm, which must not depend on `evaluate`."""
        most = max(1, min(SAMPLE_ROWS, SAMPLE_BYTES // max(1, self.dataset.row_bytes)))
        if most == self._table.evaluate:
            return self.dataset
        if self._whole is not None:
            return self._whole.sample(most)
        assert self._common is not None
        assert isinstance(self._table, NetworkTable)
        return hdf5.load_sample(self._table, self._common, most)

    def shard(self, worker: int, workers: int) -> dict[str, Array]:
        """Return the arrays to be sent to a worker, the input of `receive`."""
        how = self._sharding(workers)
        if self._whole is not None and not self.sliced:
            return self._whole.shard(worker, workers, how).arrays()
        split.shard(self.rows, worker, workers, how)  # raises if there are fewer rows than workers
        return self._common.arrays() if self._common is not None else {}

    def total_rows(self, workers: int) -> int:
        """Return the number of training rows of all workers together; replicated rows count repeatedly."""
        how = self._sharding(workers)
        split.shard(self.rows, workers - 1, workers, how)  # raises if there are fewer rows than workers
        return self.rows * workers if how == "replicated" else self.rows

    def _sharding(self, workers: int) -> str:
        outnumbered = self._table.shards == "auto" and not self.sliced and workers > self.rows
        return "replicated" if outnumbered else split.sharding(self._table)


def sliced(table: ProblemTable) -> bool:
    """Return whether each worker reads its own rows, from HDF5 with contiguous shards, or makes them."""
    if isinstance(table, ModelTable):
        return table.rows == "made"
    if isinstance(table, NetworkTable) and table.latent:
        return False
    return format_of(table) == "hdf5" and split.sharding(table) == "contiguous"


def load_source(table: ProblemTable) -> DataSource:
    """Load rank 0's data: all rows, or only those for evaluation if workers read slices of the file."""
    if isinstance(table, NetworkTable) and sliced(table):
        rows, common = hdf5.statistics(table)
        train, _ = split.split(table, rows)
        sample = hdf5.load_sample(table, common, table.evaluate)
        return DataSource(sample, len(train), True, table, None, common)
    whole = load(table)
    return DataSource(whole.sample(table.evaluate), whole.rows, sliced(table), table, whole, None)


def receive(table: ProblemTable, arrays: dict[str, Array], worker: int, workers: int) -> RowSet:
    """Build a worker's rows from the result of `DataSource.shard`, or from its slice of the file."""
    if isinstance(table, ModelTable):
        if sliced(table):
            return table.read().shard(worker, workers, split.sharding(table))
        return RowSet.from_arrays(arrays)
    assert isinstance(table, NetworkTable)
    if sliced(table):
        common = Statistics(arrays.get("values"), arrays.get("mean"), arrays.get("deviation"))
        return hdf5.load_slice(table, worker, workers, common)
    return Dataset.from_arrays(arrays)
