"""Samples as a loader read them, their checks, and their conversion for training."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from ..config import NetworkTable
from ..config.kinds import Record, errors_of_user
from ..util.errors import InputError, short_repr
from .coding import Coding, Place, Samples, ensure_no_nul
from .formats import format_of
from .matrix import Array, Csr, Matrix, with_ones

CHUNK = 4096  # rows per step of passes that copy data
HELD = {
    "U": "text",
    "S": "bytes",
    "O": "Python objects",
    "M": "dates",
    "m": "durations",
    "c": "complex numbers",
}
"""Kind of a type of numpy -> what an array of it holds."""
MANY = 20  # distinct real numbers that classes may be, or a quarter of the rows
MAX_CLASSES = 100  # integers with more distinct values than this, or than half the rows, may not be classes


@dataclass(frozen=True, eq=False)
class Reader(Record):
    """A kind of data that a plug-in adds: a data set, or with a `pattern` a format of files."""

    group: ClassVar[str] = "readers"

    name: str  # value of ``problem.data`` that names the data set; name of the format
    read: Callable[[NetworkTable, bool], Samples]  # of a table; unless True is given, targets may be missing
    pattern: str = ""  # regular expression, which is searched for in a file's name

    def __call__(self, table: NetworkTable, required: bool) -> Samples:
        with errors_of_user(f"problem.data: {table.data!r}"):
            return self.read(table, required)


ARRAYS = "values", "mean", "deviation", "decorrelation", "target_mean", "target_scale"
"""Arrays of `Statistics`."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """Statistics of all rows of a data set: labels, scaling and the coding of columns as inputs."""

    values: Array | None = None  # the distinct labels, ascending: int64, bool or text; None for real targets
    mean: Array | None = None  # inputs become (x - mean) / deviation, float64, (d,); None: they stay
    deviation: Array | None = None
    decorrelation: Array | None = None  # and are multiplied by this matrix then, float64, (d, d)
    target_mean: Array | None = None  # real targets become (y - target_mean) / target_scale, float64, (T,)
    target_scale: Array | None = None  # and (1,); None: they stay
    coding: Coding = field(default_factory=Coding)

    @classmethod
    def of(cls, arrays: Mapping[str, Array]) -> Self:
        """Return the statistics of the arrays by name; some may be missing."""
        values, mean, deviation, matrix, target_mean, target_scale = map(arrays.get, ARRAYS)
        return cls(values, mean, deviation, matrix, target_mean, target_scale)

    def arrays(self) -> dict[str, Array]:
        """Return the arrays that are not None, by name."""
        return {name: each for name in ARRAYS if (each := getattr(self, name)) is not None}

    @property
    def loss_unit(self) -> float | None:
        """Squared losses of the targets as they are, over the losses of scaled targets; None: they stay."""
        return None if self.target_scale is None else float(self.target_scale[0]) ** 2

    def apply(self, table: NetworkTable, x: Matrix, y: Array, place: Place) -> tuple[Matrix, Array]:
        """Scale the inputs, append ones, and convert the targets to int32 labels or to real (rows, T).

        Raises InputError if an input or target is NaN or infinite, or a count negative; `place` names a row
        for its message.
        """
        given, dtype = y, np.dtype(table.dtype)
        scaled = self.scale(x, dtype, f"problem.inputs: {quoted_name(table, 'inputs')}", place)
        if self.values is None:
            with np.errstate(over="ignore", invalid="ignore"):
                y = y if y.ndim == 2 else y[:, None]
                if self.target_mean is not None:
                    y = (y - self.target_mean) / self.target_scale
                y = y.astype(dtype)
            check_finite(f"problem.targets: {quoted_name(table, 'targets')}", y, given, place)
            check_counts(table, y)
        else:
            y = np.searchsorted(self.values, y).astype(np.int32)
        return with_ones(scaled), y

    def scale(self, x: Matrix, dtype: np.dtype, name: str, place: Place) -> Matrix:
        """Scale inputs; refuse inputs that are NaN or infinite then, by a message that begins with `name`."""
        scaled: Matrix
        with np.errstate(over="ignore", invalid="ignore"):  # reported by check_finite
            if self.mean is None or self.deviation is None:
                scaled = x.astype(dtype)
            elif isinstance(x, Csr):
                scaled = Csr(x.indptr, x.columns, (x.data / self.deviation[x.columns]).astype(dtype), x.width)
            else:
                rows = (x - self.mean) / self.deviation
                if self.decorrelation is not None:
                    rows = rows @ self.decorrelation
                scaled = rows.astype(dtype)
        check_finite(name, scaled, x, place, self.coding.inputs)
        return scaled


def flatten_inputs(table: NetworkTable, samples: Samples) -> Samples:
    """Check types and shapes of samples, and flatten inputs such as images to shape (rows, d)."""
    x = samples.x
    check_shapes(table, x, samples.y)
    return samples if isinstance(x, Csr) else samples._replace(x=x.reshape(len(x), -1))


def check_shapes(table: NetworkTable, x: Matrix, y: Array | None) -> None:
    """Refuse inputs and targets (arrays or HDF5 datasets) of wrong types or shapes."""
    if not isinstance(x, Csr) and x.ndim and not len(x):
        raise InputError(f"problem.data: {table.data!r} has no rows")
    arrays = {"targets": y} if isinstance(x, Csr) else {"inputs": x, "targets": y}
    for key, array in arrays.items():
        if array is None:
            continue
        name = f"problem.{key}: {quoted_name(table, key)}"
        if array.dtype.kind not in ("buif" if key == "inputs" else "buifU"):
            held = HELD.get(array.dtype.kind, str(array.dtype))
            what = f"{held}, not real numbers{' or labels' * (key == 'targets')}"
            raise InputError(f"{with_verb(name, 'holds')} {what}")
        if key == "inputs" and (array.ndim < 2 or 0 in array.shape):
            raise InputError(f"{with_verb(name)} shape {array.shape}, not (rows, features)")
        if key == "targets" and (array.ndim not in (1, 2) or 0 in array.shape):
            raise InputError(f"{with_verb(name)} shape {array.shape}, not (rows,) or (rows, outputs)")
    if y is not None and len(x) != len(y):
        raise InputError(f"problem.data: {table.data!r} has {len(x)} rows of inputs but {len(y)} of targets")


def is_classification(table: NetworkTable, y: Any, certain: bool = False) -> bool:
    """Return whether targets are classes: by the kind of problem, by ``task``, or by their type.

    `certain` is set if integers are known to be classes. Raises InputError if ``task`` is auto, and integers
    may be other than classes or other numbers may be classes.
    """
    if y.dtype.kind == "U" and table.classification is False:
        text = f"text, such as {short_repr(str(y.flat[0]))}, not real numbers"
        text += "; for classes take kind 'softmax' or 'logistic', or 'mlp' with problem.task"
        raise InputError(f"problem.targets: {with_verb(quoted_name(table, 'targets'), 'holds')} {text}")
    if table.asks:
        _ensure_numbers(table, y, certain)
    if table.classification is not None or y.dtype.kind in "bU":
        return table.classification is not False
    integer = y.dtype.kind in "ui"
    if table.task == "type" or certain or math.prod(y.shape[1:]) != 1:
        return integer
    targets = y[:]
    values = np.unique(targets)
    few = _are_few(values, targets)
    whole = integer or bool(np.isfinite(values).all() and (values == np.rint(values)).all())
    if whole and few != integer:
        raise InputError(
            f"problem.task: {with_verb(quoted_name(table, 'targets'))} {len(values)} distinct whole numbers "
            f"of type {y.dtype} in {len(targets)} rows; give 'classification' or 'regression'"
        )
    return integer


def _are_few(values: Array, targets: Array) -> bool:
    """Return whether distinct targets are so few that they may be classes."""
    return len(values) <= min(MAX_CLASSES, len(targets) // 2)


def _ensure_numbers(table: NetworkTable, y: Any, certain: bool) -> None:
    """Refuse labels of classes as targets of a regression, unless ``task`` says that they are numbers.

    They are labels if they are `certain` to be, truth values, or integers with few distinct values.
    """
    other = "for classes take problem.kind 'softmax' or 'mlp'"
    if table.task == "classification":
        raise InputError(f"problem.task: 'classification', and kind {table.kind!r} is a regression; {other}")
    if table.task != "auto" or y.dtype.kind not in "bui" or math.prod(y.shape[1:]) != 1:
        return
    targets = y[:]
    values = np.unique(targets)
    if certain or _are_few(values, targets):
        raise InputError(
            f"problem.task: {with_verb(quoted_name(table, 'targets'))} {len(values)} distinct whole numbers "
            f"of type {y.dtype} in {len(targets)} rows, which may be labels of classes, and kind "
            f"{table.kind!r} takes numbers; {other}, for numbers give 'regression'"
        )


def label_column(table: NetworkTable, y: Array) -> Array:
    """Return the labels, int64, bool or text, shape (rows,).

    Raises InputError if targets are not one label per row.
    """
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise InputError(f"problem.targets: labels must have shape (rows,), not {y.shape}, in {table.data!r}")
    if y.dtype.kind in "bU":
        return y
    with np.errstate(invalid="ignore"):
        labels = y.astype(np.int64)
    wrong = np.flatnonzero(labels != y)
    if wrong.size:
        raise InputError(
            f"problem.targets: labels of {table.data!r} must be whole numbers below 2^63, or text, for kind "
            f"{table.kind!r}, but row {wrong[0]} has {y[wrong[0]]}; 'least-squares' and 'mlp' take numbers"
        )
    if table.classes and y.dtype.kind == "f" and (count := len(np.unique(labels))) > max(MANY, len(y) / 4):
        raise InputError(
            f"problem.targets: {with_verb(quoted_name(table, 'targets'))} {count} distinct real numbers in "
            f"{len(y)} rows, and kind {table.kind!r} takes classes; for numbers take kind 'least-squares', "
            "labels of classes are integers or text"
        )
    return labels


def label_values(table: NetworkTable, labels: Array) -> Array:
    """Return the distinct labels, ascending: at least two, and no more than the kind of problem allows."""
    values, _ = np.unique(labels, return_counts=True)  # without counts, NumPy would import numpy.ma
    if values.dtype.kind == "U":
        ensure_no_nul(values.tolist(), f"problem.targets: {quoted_name(table, 'targets')}")
    if len(values) < 2:
        raise InputError(f"problem.targets: {table.data!r} has one class only, {values[0].item()!r}")
    if table.max_classes is not None and len(values) > table.max_classes:
        raise InputError(
            f"problem.kind: '{table.kind}' needs two classes, but {table.data!r} has {len(values)};"
            " take 'softmax'"
        )
    return values


def check_finite(
    name: str, values: Matrix, given: Matrix, place: Place, columns: tuple[str, ...] = ()
) -> None:
    """Refuse NaN and infinity, by a message that begins with `name`, in values converted from `given`.

    `place` names a row, and `columns` are names of the columns.
    """
    before, after = (np.isfinite(each.data if isinstance(each, Csr) else each) for each in (given, values))
    if after.all():
        return
    first = int(np.argmin(after if before.all() else before.reshape(after.shape)))
    if isinstance(values, Csr):
        row, column = values.row_numbers()[first], values.columns[first]
    else:
        row, column = divmod(first, values.shape[1])
    value = (given.data if isinstance(given, Csr) else given).reshape(-1)[first]
    where = f"{place(int(row))}, column {short_repr(columns[column]) if columns else column}"
    cure = '; problem.dtype = "float64" holds it' * bool(np.isfinite(value) and values.dtype == np.float32)
    what = f"a NaN or infinite value in {values.dtype}"
    raise InputError(f"{with_verb(name)} {what}: {where} has {value}{cure}")


def check_counts(table: NetworkTable, targets: Array) -> None:
    """Refuse negative targets where the kind of problem takes counts."""
    if table.counts and targets.size and targets.min() < 0:
        raise InputError(
            f"problem.targets: {with_verb(quoted_name(table, 'targets'))} a negative value, {targets.min():g}"
            f"; kind '{table.kind}' takes counts"
        )


def quoted_name(table: NetworkTable, key: str) -> str:
    """Return the user's name for the inputs or targets, for messages."""
    name = table.array(key)
    if format_of(table) not in ("npz", "hdf5") or not isinstance(name, str):
        return f"the {key} of {table.data!r}"
    return f"{name!r} in {table.data!r}"


def with_verb(name: str, verb: str = "has") -> str:
    """Return a name that ends in a result of `quoted_name`, and the verb in its number."""
    plural = {"has": "have", "holds": "hold"}[verb]
    return f"{name} {plural if ': the ' in f': {name}' else verb}"
