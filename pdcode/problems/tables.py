"""Readers of tables, whose columns have names: CSV and Parquet files."""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import islice
from typing import Any

import numpy as np

from ..config import NetworkTable
from ..util.errors import InputError, did_you_mean, short_repr
from ..util.memory import ensure_fits
from .formats import existing_path
from .matrix import Array
from .samples import Samples

SEPARATORS = ",;\t|"
HEAD = 1 << 20  # bytes that the first line may have
INDEX = re.compile(r"__index_level_\d+__")  # columns of Parquet files in which pandas keeps a frame's index

Place = Callable[[int], str]
"""Row of a table -> its name for messages."""


def read_csv(table: NetworkTable, required: bool = True) -> Samples:
    """Read columns of a CSV file, whose first line has their names; separators are commas, ; | or tabs."""
    pyarrow, path = _import(table, "csv"), existing_path("data", table.data)
    with _refused(table, pyarrow, "CSV"), pyarrow.input_stream(str(path), compression="detect") as stream:
        text = stream.read(HEAD).decode("utf-8-sig", "replace")
        headers = [
            next(filter(None, csv.reader(io.StringIO(text), delimiter=each)), []) for each in SEPARATORS
        ]
    names = max(headers, key=len)
    separator = SEPARATORS[headers.index(names)]

    def line_of(record: int) -> str:
        """Return the line of a record, counted from 0, the names being the first."""
        with pyarrow.input_stream(str(path), compression="detect") as stream:
            lines = csv.reader(
                io.TextIOWrapper(stream, "utf-8-sig", "replace", newline=""), delimiter=separator
            )
            numbers = (lines.line_num for fields in lines if fields)
            return f"line {next(islice(numbers, record, None))}"

    inputs, targets = choose_columns(table, names, required)
    with _refused(table, pyarrow, "CSV", line_of):
        content = pyarrow.csv.read_csv(
            str(path),
            pyarrow.csv.ReadOptions(use_threads=False),  # which makes its messages name a row
            pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            pyarrow.csv.ConvertOptions(include_columns=[*inputs, *targets]),
        )
    return from_columns(table, inputs, targets, _arrays(content), lambda row: line_of(row + 1))


def read_parquet(table: NetworkTable, required: bool = True) -> Samples:
    """Read columns of a Parquet file, without the index of a frame."""
    pyarrow, path = _import(table, "parquet"), existing_path("data", table.data)
    with _refused(table, pyarrow, "Parquet"), pyarrow.parquet.ParquetFile(path) as file:
        names = [name for name in file.schema_arrow.names if not INDEX.fullmatch(name)]
        inputs, targets = choose_columns(table, names, required)
        size = 16 * file.metadata.num_rows * len([*inputs, *targets])  # they are copied
        ensure_fits("problem.data", f"{file.metadata.num_rows} rows of {table.data!r}", size)
        columns = _arrays(file.read([*inputs, *targets]))
    return from_columns(table, inputs, targets, columns, "row {}".format)


def choose_columns(
    table: NetworkTable, names: Sequence[str], required: bool = True
) -> tuple[list[str], list[str]]:
    """Return the names of the inputs and targets among the columns of a table.

    By default the target is `y`, and the inputs are all other columns. Targets may be missing unless they are
    `required`.
    """
    present = _distinct(names, f"problem.data: {table.data!r} has")
    targets = as_list(table.targets, "y")
    if not required and not {*targets} <= present:
        targets = []
    inputs = as_list(table.inputs) or [name for name in names if name not in targets]
    for key, chosen in (("inputs", inputs), ("targets", targets)):
        if missing := [name for name in chosen if name not in present]:
            raise missing_name(key, missing[0], table, names)
    if "" in inputs:
        raise InputError(
            f"problem.inputs: column {names.index('') + 1} of {table.data!r} has no name, as the index of a "
            "frame that pandas wrote; name the inputs, or write the file without its index"
        )
    if both := [name for name in inputs if name in targets]:
        raise InputError(f"problem.inputs: {both[0]!r} is one of problem.targets, too")
    if not inputs:
        raise InputError(f"problem.inputs: {table.data!r} has no columns but those of problem.targets")
    return inputs, targets


def from_columns(
    table: NetworkTable,
    inputs: Sequence[str],
    targets: Sequence[str],
    columns: Mapping[str, Array],
    place: Place,
) -> Samples:
    """Return samples of the named columns; refuse other values than numbers, except for labels of classes."""
    x = stack({name: columns[name] for name in inputs}, f"problem.inputs: {table.data!r}", place)
    where, y = f"problem.targets: {table.data!r}", None
    if len(targets) == 1:
        y = labels_or_numbers(columns[targets[0]], where, targets[0], place)
    elif targets:
        y = stack({name: columns[name] for name in targets}, where, place)
    return Samples(x, y, columns=tuple(inputs))


def stack(columns: Mapping[str, Array], where: str, place: Place = "row {}".format) -> Array:
    """Return columns of numbers as an array of shape (rows, columns); see `numbers`."""
    return np.column_stack([numbers(column, where, name, place) for name, column in columns.items()])


def numbers(column: Array, where: str, name: str, place: Place = "row {}".format) -> Array:
    """Return a column as real numbers; refuse text, and missing and infinite values.

    The message begins with `where`, and names the column and the row.
    """
    values = column
    if column.ndim != 1:
        raise InputError(f"{where}: {short_repr(name)} has shape {column.shape}, not that of a column")
    if column.dtype.kind not in "buif":
        readable = column.dtype.kind in "OU"  # not dates, which would be read as their ns
        for row, each in enumerate(column):
            if not (readable and _is_number(each)):
                raise _refusal(where, name, place(row), each, "a number")
        values = column.astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise _refusal(where, name, place(wrong[0]), column[wrong[0]], "a finite number")
    return values


def labels_or_numbers(column: Array, where: str, name: str, place: Place = "row {}".format) -> Array:
    """Return a column of targets: text and truth values as they are, others as for `numbers`."""
    if column.dtype.kind not in "OU":
        return numbers(column, where, name, place)
    values = column.tolist()
    kind = next((each for each in (str, bool) if values and isinstance(values[0], each)), None)
    if kind is None:
        return numbers(column, where, name, place)
    for row, each in enumerate(values):
        if not isinstance(each, kind) or each == "":
            what = "text, as the values before it" if kind is str else "true or false"
            raise _refusal(where, name, place(row), each, what)
    return np.array(values, kind)


def frame_columns(frame: Any, where: str) -> dict[str, Any]:
    """Return the names of a data frame's columns, as text -> as the frame has them; refuse equal ones."""
    _distinct([*map(str, frame.columns)], f"{where}:")
    return {str(name): name for name in frame.columns}


def _distinct(names: Sequence[str], where: str) -> set[str]:
    """Return the set of names; refuse two that are equal."""
    name, number = Counter(names).most_common(1)[0] if names else ("", 1)
    if number > 1:
        raise InputError(f"{where} two columns {short_repr(name)}")
    return {*names}


def as_list(names: str | list[str] | None, default: str | None = None) -> list[str]:
    """Return the value of the key `inputs` or `targets` as a list."""
    names = default if names is None else names
    return [names] if isinstance(names, str) else list(names or ())


def missing_name(key: str, name: str, table: NetworkTable, names: Sequence[str]) -> InputError:
    """Return the InputError for an array or column that is missing in a file."""
    present = ", ".join([*map(str, names[:20])] + ["…"] * (len(names) > 20)) or "nothing"
    headless = any(map(_is_number, names))
    hint = "; its first line must have the names of the columns" if headless else did_you_mean(name, names)
    return InputError(f"problem.{key}: no {name!r} in {table.data!r}, which holds {present}{hint}")


def _refusal(where: str, name: str, place: str, value: Any, needed: str) -> InputError:
    value = value.item() if isinstance(value, np.generic) else value
    missing = value is None or value == "" or str(value) in ("nan", "NaT", "<NA>")
    shown = short_repr(value) if isinstance(value, str | bytes | int | float) else str(value)
    text = "is missing" if missing else f"{shown} is not {needed}"
    return InputError(f"{where}, {place}, column {short_repr(name)}: {text}")


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _arrays(content: Any) -> dict[str, Array]:
    """Return the columns of a table of pyarrow; integers with missing values become float64."""
    return {name: content.column(name).to_numpy() for name in content.schema.names}


def _import(table: NetworkTable, module: str) -> Any:
    """Import pyarrow, with one of its modules."""
    try:
        import_module(f"pyarrow.{module}")
    except ImportError:
        raise InputError(
            f"problem.data: {table.data!r} is read by the package pyarrow: pip install 'pdcode[tables]'"
        ) from None
    import pyarrow

    return pyarrow


@contextmanager
def _refused(table: NetworkTable, pyarrow: Any, what: str, line_of: Place | None = None) -> Iterator[None]:
    """Report errors of pyarrow by a line; `line_of` names a record, counted from 0."""
    try:
        yield
    except InputError:
        raise
    except (pyarrow.ArrowException, OSError, EOFError, ValueError, csv.Error) as error:
        text = " ".join(str(error).split())
        if line_of and (row := re.search(r"Row #(\d+): (.*)", text)):
            raise InputError(f"problem.data: {table.data!r}, {line_of(int(row[1]) - 1)}: {row[2]}") from None
        raise InputError(f"problem.data: {table.data!r} cannot be read as {what}: {text}") from None
