"""Loading of the data that a [problem] table names: all rows, or a worker's shard."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..config import AUTO, NetworkTable, ProblemTable, kinds
from ..util.errors import InputError, short_repr
from ..util.formats import counted, listing
from . import hdf5, split
from .coding import Coding, Samples, lacking, leave_out, refuse_missing, rows_of
from .dataset import Dataset, RowSet
from .formats import format_of
from .matrix import Array, Csr, as_dense
from .model import ModelTable
from .samples import (
    CHUNK,
    Statistics,
    flatten_inputs,
    is_classification,
    label_column,
    label_values,
    quoted_name,
)
from .scaling import column_maxima, moments, of_inputs, target_scales
from .tables import MISSING, as_list

# Rows by which rank 0 chooses the values of keys that are "auto": at most so many, and so many bytes of them.
SAMPLE_ROWS, SAMPLE_BYTES = 10_000, 1 << 30


def read(table: NetworkTable, required: bool = True) -> Samples:
    """Read all rows; unless targets are `required`, they may be missing. Inputs become (rows, d)."""
    samples: Samples = kinds.find("readers", format_of(table))(table, required)
    if required and samples.y is None:
        raise InputError(f"problem.data: {table.data!r} has no targets, which kind {table.kind!r} needs")
    return flatten_inputs(table, samples)


def without_missing(table: NetworkTable, samples: Samples) -> tuple[Samples, str]:
    """Return samples without the rows that cannot be used, and a line on them; else refuse the first one.

    Such rows lack a target or, with ``missing = "drop"``, an input.
    """
    x, y = samples.x, samples.y
    if table.missing == "refuse":
        where, targets = (_place(table, samples, key) for key in ("inputs", "targets"))
        refuse_missing(samples, where, targets, ", ".join(as_list(table.targets, "y")))
        return samples, ""
    lost = np.zeros(len(x), bool) if samples.absent is None else samples.absent
    if isinstance(x, Csr):
        raise InputError(f"problem.missing: {table.data!r} is sparse: what it does not have is zero")
    if y is not None and y.dtype.kind == "f":
        lost = lost | np.isnan(y.reshape(len(y), -1)).any(axis=1)
    without, text = int(lost.sum()), ""
    if table.missing == "drop" and (inputs := lacking(x)).any():
        lost = lost | inputs.any(axis=1)
    if not lost.any():
        return samples, ""
    kept = np.flatnonzero(~lost)
    if not len(kept):
        raise InputError(
            f"problem.missing: every row of {table.data!r} has a missing value{_empty_column(samples)}"
        )
    counts = {"without a target": without, "with a missing value": len(lost) - len(kept) - without}
    text = listing([f"{counted(count, 'row')} {what}" for what, count in counts.items() if count])
    left = samples._replace(
        x=x[kept], y=None if y is None else y[kept], absent=None, place=rows_of(kept, samples.place)
    )
    return left, f"{text} left out, of {len(lost):,}"


def _empty_column(samples: Samples) -> str:
    """Return the end of a message about the first column without any value; empty if each has one."""
    empty = np.flatnonzero(lacking(samples.x).all(axis=0))
    if not (samples.columns and len(empty)):
        return ""
    name = samples.columns[empty[0]]
    return f"; column {short_repr(name)} has no value at all{leave_out(name)}"


def load(table: ProblemTable) -> RowSet:
    """Read or make all rows; rows of networks are split and standardised.

    Raises InputError if the data are missing, damaged or unfit for the kind of problem; the message names key
    and value.
    """
    if isinstance(table, ModelTable):
        return table.read()
    assert isinstance(table, NetworkTable)
    samples, left_out = without_missing(table, read(table, not table.latent))
    train, test = split.split(table, len(samples.x))
    where = _place(table, samples, "inputs")
    coding = Coding.of(table, samples, train, where)
    coding = replace(coding, remarks=(*filter(None, (left_out,)), *coding.remarks))
    x, y, labels = coding.encode(samples, where), samples.y, samples.labels
    if table.latent:
        x, y = np.empty((len(x), 0)), table.loss_of(None).prepare(as_dense(x), train)
        labels, coding = None, Coding()
    assert y is not None
    values = None
    if is_classification(table, y, certain=labels is not None):
        y = label_column(table, y)
        values = label_values(table, y)
        if doubtful := [text for text in values.tolist() if text in MISSING]:
            hint = 'leave its cells empty, and problem.missing = "drop" leaves their rows out'
            what = f"{doubtful[0]!r} is a class; if it means that the target is missing, {hint}"
            coding = replace(coding, remarks=(what, *coding.remarks))
        values = values if labels is None else labels  # some class may have no rows
    mean = deviation = decorrelation = None
    if table.standardise not in (False, AUTO) and isinstance(x, Csr):
        mean, deviation = column_maxima(x[train])
    elif table.scaling:

        def chunks() -> Iterator[Array]:
            return (as_dense(x[train[start : start + CHUNK]]) for start in range(0, len(train), CHUNK))

        keep = coding.binary if coding.categories else None
        mean, deviation, decorrelation = of_inputs(table.scaling, chunks, x.shape[1], keep)
    target_mean = target_scale = None
    if table.standardise_targets and values is None:
        real = y.reshape(len(y), -1)[train]
        target_mean, target_scale = target_scales(moments([real], real.shape[1]))
    common = Statistics(values, mean, deviation, decorrelation, target_mean, target_scale, coding)
    pairs = [common.apply(table, x[rows], y[rows], rows_of(rows, samples.place)) for rows in (train, test)]
    return Dataset(pairs[0], pairs[1], common)


def _place(table: NetworkTable, samples: Samples, key: str) -> str:
    """Return the beginning of messages on the inputs or targets; messages on tables name a column besides."""
    return f"problem.{key}: {repr(table.data) if samples.columns else quoted_name(table, key)}"


@dataclass(frozen=True, eq=False)
class DataSource:
    """The data on rank 0: the rows that it keeps, and the rows to be sent to each worker."""

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
    """Load rank 0's data: all rows, or only rows for evaluation if workers read slices of the file."""
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
        common = Statistics.of(arrays)
        return hdf5.load_slice(table, worker, workers, common)
    return Dataset.from_arrays(arrays)
