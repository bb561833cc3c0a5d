"""Tables, whose columns have names: Parquet files, data frames, and what all of them share with CSV files."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from ..config import NetworkTable
from ..util.errors import InputError, did_you_mean, short_repr
from ..util.memory import ensure_fits
from ..util.packages import pip_install
from .coding import COMMA, FEW, TRUTH, Place, Samples, as_number, canonical, ensure_no_nul, leave_out
from .formats import existing_path
from .matrix import Array
from .samples import MAX_CLASSES

INDEX = re.compile(r"__index_level_\d+__")  # columns of Parquet files in which pandas keeps a frame's index
MISSING = {
    *("", "?", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("<NA>", "N/A", "NA", "NULL", "NaN", "NaT", "None", "n/a", "nan", "null"),
}
"""Cells that hold no value: the ones of pandas, and the question mark of UCI's data sets."""


class Text(NamedTuple):
    """A column with text: the distinct cells, and the number of each row's."""

    codes: Array  # (rows,), of elements of `cells`
    cells: list[str]


def read_parquet(table: NetworkTable, required: bool = True) -> Samples:
    """Read columns of a Parquet file, without the index of a frame."""
    pyarrow, path = import_pyarrow(table, "parquet"), existing_path("data", table.data)
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = [name for name in file.schema_arrow.names if not INDEX.fullmatch(name)]
            inputs, targets = choose_columns(table, names, required)
            size = 16 * file.metadata.num_rows * len([*inputs, *targets])  # they are copied
            ensure_fits("problem.data", f"{file.metadata.num_rows} rows of {table.data!r}", size)
            integers = {each.name for each in file.schema_arrow if pyarrow.types.is_integer(each.type)}
            columns = _arrays(file.read([*inputs, *targets]))
    except InputError:
        raise
    except (pyarrow.ArrowException, OSError, EOFError, ValueError) as error:
        raise cannot_read(table, "Parquet", error) from None
    return from_columns(table, inputs, targets, columns, "row {}".format, integers)


def cannot_read(table: NetworkTable, what: str, error: Exception) -> InputError:
    """Return the InputError for a file that its reader refuses."""
    return InputError(
        f"problem.data: {table.data!r} cannot be read as {what}: {' '.join(str(error).split())}"
    )


def choose_columns(
    table: NetworkTable, names: Sequence[str], required: bool = True
) -> tuple[list[str], list[str]]:
    """Return the names of the inputs and targets among the columns of a table.

    By default the target is `y`, and the inputs are the other columns without `exclude`. Targets may be
    missing unless they are `required`.
    """
    present = _distinct(names, f"problem.data: {table.data!r} has")
    targets = as_list(table.targets, "y")
    if not required and not {*targets} <= present:
        targets = []
    ensure_no_nul(names, f"problem.data: {table.data!r}")
    exclude = [] if table.inputs else as_list(table.exclude)
    inputs = as_list(table.inputs) or [name for name in names if name not in (*targets, *exclude)]
    for key, chosen in (("inputs", inputs), ("targets", targets), ("exclude", exclude)):
        if missing := [name for name in chosen if name not in present]:
            raise missing_name(key, missing[0], table, names)
    if "" in inputs:
        raise InputError(
            f"problem.inputs: column {names.index('') + 1} of {table.data!r} has no name, as the index of a "
            'frame that pandas wrote; problem.exclude = [""] leaves it out'
        )
    if both := [name for name in inputs if name in targets]:
        raise InputError(f"problem.inputs: {both[0]!r} is one of problem.targets, too")
    if not inputs:
        raise InputError(
            f"problem.inputs: {table.data!r} has no columns but those of problem.targets"
            f"{' and problem.exclude' * bool(exclude)}"
        )
    return inputs, targets


def from_columns(
    table: NetworkTable,
    inputs: Sequence[str],
    targets: Sequence[str],
    columns: Mapping[str, Array | Text],
    place: Place,
    integers: Collection[str],
) -> Samples:
    """Return samples of the named columns; columns with text are categories, or labels of classes.

    Numbers in the columns `integers` are integers, although some may be missing.
    """
    chosen = {name: columns[name] for name in inputs}
    x, categories = coded_inputs(chosen, f"problem.inputs: {table.data!r}", place)
    where = f"problem.targets: {table.data!r}"
    y: Array | None = None
    absent: Array | None = None
    if len(targets) == 1 and not _meant_as_numbers(table, columns[targets[0]]):
        name = targets[0]
        y, absent = labels_or_numbers(columns[name], where, name, place, name in integers)
    elif targets:
        y = np.column_stack([numbers(columns[name], where, name, place) for name in targets])
        absent = np.asarray(np.isnan(y).any(axis=1))
    return Samples(x, y, None, tuple(inputs), categories, absent, place)


def _meant_as_numbers(table: NetworkTable, column: Array | Text) -> bool:
    """Return whether targets with text are numbers with errors, not names of classes."""
    if not isinstance(column, Text) or table.classification is not None:
        return isinstance(column, Text) and table.classification is False
    points = (cell.replace(",", ".") if COMMA.fullmatch(cell.strip()) else cell for cell in column.cells)
    found = [number for cell in points if (number := as_number(cell)) is not None]
    return len(found) > MAX_CLASSES or (len(found) > FEW and any(number % 1 for number in found))


def coded_inputs(
    columns: Mapping[str, Array | Text], where: str, place: Place = "row {}".format
) -> tuple[Array, dict[int, Array]]:
    """Return columns as an array (rows, columns), and the texts that it numbers, for each column of text.

    Missing values are NaN. A message begins with `where`, and names the column and the row.
    """
    found, categories = list[Array](), dict[int, Array]()
    for number, (name, column) in enumerate(columns.items()):
        column = _as_text(column, where, name, place, leave_out(name))
        if not isinstance(column, Text):
            found.append(_finite(column, where, name, place))
            continue
        texts = [None if cell.strip() in MISSING else canonical(cell) for cell in column.cells]
        values = sorted({text for text in texts if text is not None})
        ensure_no_nul(values, f"{where}, column {short_repr(name)}")  # NumPy drops one at the end
        order = {text: code for code, text in enumerate(values)}
        codes = np.array([np.nan if text is None else order[text] for text in texts])[column.codes]
        if values:
            categories[number] = np.array(values)
        found.append(codes)
    return np.column_stack(found), categories


def frame_inputs(
    frame: Any, where: str, names: Sequence[str] = ()
) -> tuple[Array, dict[int, Array], tuple[str, ...]]:
    """Return the inputs and categories of a data frame's columns, by default all, as `coded_inputs`."""
    given, columns = frame_columns(frame, where), dict[str, Array | Text]()
    for name in names or given:
        if name not in given:
            raise InputError(f"{where}: no column {short_repr(name)}{did_you_mean(name, given)}")
        column = frame[given[name]]
        columns[name] = np.asarray(column)
        if str(column.dtype) == "category":  # of numbers, too
            cells = ["" if _is_missing(each) else str(each) for each in column.cat.categories.tolist()]
            columns[name] = Text(np.asarray(column.cat.codes, np.int64), [*cells, ""])  # -1 is missing
    return *coded_inputs(columns, where), tuple(columns)


def numbers(column: Array | Text, where: str, name: str, place: Place = "row {}".format) -> Array:
    """Return a column as real numbers, NaN where they are missing; refuse text and infinite values."""
    column = _as_text(column, where, name, place)
    if isinstance(column, Text):
        meant = [np.nan if cell.strip() in MISSING else as_number(cell) for cell in column.cells]
        if wrong := [code for code, each in enumerate(meant) if each is None]:
            row = int(np.flatnonzero(np.isin(column.codes, wrong))[0])
            needed = 'a number; for classes take a kind for these, or problem.task = "classification"'
            if COMMA.fullmatch(column.cells[column.codes[row]].strip()):
                needed = "a number; numbers have a point, and no comma"
            raise _refusal(where, name, place(row), column.cells[column.codes[row]], needed)
        column = np.array(meant, np.float64)[column.codes]
    return _finite(column, where, name, place)


def labels_or_numbers(
    column: Array | Text, where: str, name: str, place: Place = "row {}".format, integers: bool = False
) -> tuple[Array, Array | None]:
    """Return a column of targets, and which of them are missing: None if they are not known to be.

    Text and truth values stay as they are, others become numbers as by `numbers`, or int64 if all are
    `integers` or missing. Of text only an empty cell is missing, as "NA" or "None" may be a class.
    """
    known = f"{where}, column {short_repr(name)}"
    if isinstance(column, Text):
        ensure_no_nul(column.cells, known)
        texts = np.array([cell.strip().lower() for cell in column.cells])
        lacks = np.array([cell.strip() in MISSING for cell in column.cells])
        if (present := {*texts[~lacks].tolist()}) and present <= {*TRUTH}:
            return (texts == "true")[column.codes], lacks[column.codes]
        return np.array(column.cells)[column.codes], (texts == "")[column.codes]
    if column.ndim == 1 and column.dtype.kind in "OU":
        values = column.tolist()
        absent = [_is_missing(each) for each in values]
        first = next((each for each in values if not _is_missing(each)), None)
        kind = next((each for each in (str, bool) if isinstance(first, each)), None)
        if kind is not None:
            for row, each in enumerate(values):
                if not (absent[row] or isinstance(each, kind)):
                    what = "text, as the values before it" if kind is str else "true or false"
                    raise _refusal(where, name, place(row), each, what)
            filled = [kind() if _is_missing(each) else each for each in values]
            ensure_no_nul([each for each in filled if isinstance(each, str)], known)
            return np.array(filled, kind), np.array(absent)
        integers = all(isinstance(each, int | np.integer) or _is_missing(each) for each in values)
    found = numbers(column, where, name, place)
    if found.dtype.kind != "f":
        return found, None
    lacks = np.isnan(found)
    whole = np.where(lacks, 0, found)
    exact = integers and not lacks.all() and np.abs(whole).max() <= 2**53
    return whole.astype(np.int64) if exact else found, lacks


def _as_text(column: Array | Text, where: str, name: str, place: Place, cure: str = "") -> Array | Text:
    """Return a column of numbers as it is, and one of objects as numbers if all are, else as text."""
    if isinstance(column, Text) or (column.dtype.kind in "buif" and column.ndim == 1):
        return column
    if column.ndim != 1:
        raise InputError(f"{where}: {short_repr(name)} has shape {column.shape}, not the shape of a column")
    order, codes = dict[str, int](), np.empty(len(column), np.int64)
    readable = column.dtype.kind in "OU"  # not dates, which would be read as their ns
    for row, each in enumerate(column):
        missing = _is_missing(each)
        if not (readable and (missing or isinstance(each, str) or as_number(each) is not None)):
            raise _refusal(where, name, place(row), each, f"a number{cure}")
        codes[row] = order.setdefault("" if missing else str(each), len(order))
    meant = [np.nan if cell.strip() in MISSING else as_number(cell) for cell in order]
    return Text(codes, [*order]) if None in meant else np.array(meant, np.float64)[codes]


def _finite(column: Array, where: str, name: str, place: Place) -> Array:
    """Refuse infinite values of a column."""
    if column.dtype.kind == "f" and len(wrong := np.flatnonzero(np.isinf(column))):
        raise _refusal(where, name, place(wrong[0]), column[wrong[0]], "a finite number")
    return column


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
    headless = any(as_number(name) is not None for name in names)
    hint = did_you_mean(name, names)
    if headless:
        hint = "; its first line must have the names of the columns"
    elif key == "targets" and table.targets is None and not hint:
        hint = "; give the name of what is to be predicted"
    return InputError(f"problem.{key}: no {name!r} in {table.data!r}, which holds {present}{hint}")


def _refusal(where: str, name: str, place: str, value: Any, needed: str) -> InputError:
    if isinstance(value, np.generic) and value.dtype.kind not in "mM":
        value = value.item()
    shown = short_repr(value) if isinstance(value, str | bytes | int | float) else str(value)
    return InputError(f"{where}, {place}, column {short_repr(name)}: {shown} is not {needed}")


def _is_missing(value: Any) -> bool:
    """Return whether an element of an array of Python objects stands for no value."""
    return not value if isinstance(value, str) else str(value) in ("None", "nan", "NaT", "<NA>")


def _arrays(content: Any) -> dict[str, Array]:
    """Return the columns of a table of pyarrow; integers with missing values become float64."""
    return {name: content.column(name).to_numpy() for name in content.schema.names}


def import_pyarrow(table: NetworkTable, module: str) -> Any:
    """Import pyarrow, with one of its modules."""
    try:
        import_module(f"pyarrow.{module}")
    except ImportError:
        raise InputError(
            f"problem.data: {table.data!r} is read by the package pyarrow: {pip_install('pyarrow')}"
        ) from None
    import pyarrow

    return pyarrow
