"""Reader of CSV files, by the standard library."""

import bz2
import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from math import isfinite, nan
from typing import Any, TextIO

import numpy as np

from ..config import NetworkTable
from ..util.errors import InputError, short_repr
from ..util.memory import ensure_fits
from .coding import Samples, as_number
from .formats import existing_path
from .matrix import Array
from .tables import MISSING, Text, cannot_read, choose_columns, from_columns, import_pyarrow

SEPARATORS = ",;\t|"
HEAD = 1 << 20  # characters among which the names of the columns tell the separator
RECORD = 1 << 24  # characters of a row, as a row of a damaged file may never end
ROWS, CELLS = 4096, 1 << 18  # that are read at a time, at most
SPECTRUM = 8  # ascending numbers that are names, of wavelengths or times
BOMS = b"\xff\xfe", b"\xfe\xff"  # of UTF-16, as spreadsheets write it
ESCAPED = "surrogateescape"  # bytes that are no UTF-8 matter only in the columns that are read


def read_csv(table: NetworkTable, required: bool = True) -> Samples:
    """Read columns of a CSV file, whose first line has their names; separators are commas, ; | or tabs.

    A column is text if a cell of it is neither a number nor missing.
    """
    file = _File(table)
    inputs, targets = choose_columns(table, file.names, required)
    columns = file.columns([*inputs, *targets])
    if late := [name for name, column in columns.items() if column is None]:  # text after the first rows
        columns |= file.columns(late, text=True)
    for name, column in columns.items():
        if isinstance(column, Text):
            file.check_encoding(name, column)
    return from_columns(table, inputs, targets, columns, file.line, file.integers)


class _File:
    """A CSV file, which is read from its start for every purpose."""

    def __init__(self, table: NetworkTable) -> None:
        self._table, self._path = table, existing_path("data", table.data)
        with self._opened() as file:
            head = file.read(HEAD)
            starts = [csv.reader(io.StringIO(head, newline=""), delimiter=each) for each in SEPARATORS]
            headers = [next(filter(None, start), []) for start in starts]
        self.names = max(headers, key=len)
        self._separator = SEPARATORS[headers.index(self.names)]
        self.integers = set[str]()  # names of the columns that were read and have integers, or no value
        if wrong := [name for name in self.names if not _is_utf8(name)]:
            raise self._not_utf8(wrong[0], self.line(-1))
        if not self.names:
            raise InputError(f"problem.data: {table.data!r} is empty")
        if why := _why_no_names(self.names):
            cure = "add a line with the names of the columns above it"
            raise InputError(
                f"problem.data: {self._table.data!r}, {self.line(-1)}: {why}, so it is a row; {cure}"
            )

    def line(self, row: int) -> str:
        """Return the line of a row, as text for messages."""
        line, _ = next(islice(self._records(), row + 1, None))
        return f"line {line}"

    def columns(self, names: Sequence[str], text: bool = False) -> dict[str, Any]:
        """Read columns: an array of numbers, NaN where they are missing, or `Text`.

        A column whose first rows were numbers is None if it is text, unless all are known to be `text`.
        """
        found, count, rows = {name: _Column(self.names.index(name), text) for name in names}, 0, self._rows()
        while columns := [*zip(*islice(rows, max(1, min(ROWS, CELLS // len(self.names)))), strict=True)]:
            for column in found.values():
                column.add(columns[column.place])
            count += len(columns[0])
            size = 24 * count * len(names)  # they are copied
            ensure_fits("problem.data", f"{count} rows of {self._table.data!r}", size)
        self.integers |= {name for name, column in found.items() if column.integers}
        return {name: column.values() for name, column in found.items()}

    def check_encoding(self, name: str, column: Text) -> None:
        """Refuse a column of text with bytes that are not UTF-8."""
        for code, cell in enumerate(column.cells):
            if not _is_utf8(cell):
                row = int(np.argmax(column.codes == code))
                raise self._not_utf8(cell, f"{self.line(row)}, column {short_repr(name)}")

    def _not_utf8(self, text: str, where: str) -> InputError:
        """Return the InputError for a text with bytes that are not UTF-8."""
        what = f"{short_repr(text.encode(errors=ESCAPED))} is not UTF-8; save the file as UTF-8"
        return InputError(f"problem.data: {self._table.data!r}, {where}: {what}")

    def _rows(self) -> Iterator[list[str]]:
        """Read the rows; refuse one of more or fewer cells than there are names."""
        width = len(self.names)
        for line, fields in islice(self._records(), 1, None):
            if len(fields) != width:
                found = f"expected {width} columns, got {len(fields)}: {short_repr(','.join(fields))}"
                if self._separator == "," and len(fields) > width:
                    found += "; a cell with a comma is quoted, and numbers have a point"
                raise InputError(f"problem.data: {self._table.data!r}, line {line}: {found}")
            yield fields

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Read the lines at which records begin, and the records; the first one has the names."""
        first, length = 1, 0  # line and characters of the record that is read

        def lines() -> Iterator[str]:
            nonlocal length
            while line := file.readline(RECORD + 1):
                length += len(line)
                if length > RECORD:
                    raise csv.Error(f"the row has more than {RECORD} characters")
                yield line

        with self._opened() as file:
            records = csv.reader(lines(), delimiter=self._separator)
            try:
                for fields in records:
                    if fields:
                        yield first, fields
                    first, length = records.line_num + 1, 0
            except csv.Error as error:
                raise InputError(f"problem.data: {self._table.data!r}, line {first}: {error}") from None

    @contextmanager
    def _opened(self) -> Iterator[TextIO]:
        """Open the file as text, decompressed; errors while it is read are errors of the user's file."""
        openers: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open}
        errors: tuple[type[Exception], ...] = (OSError, EOFError, ValueError, zlib.error, csv.Error)
        if self._path.suffix == ".zst":  # which the standard library does not know
            openers[".zst"] = lambda path, mode: import_pyarrow(self._table, "csv").input_stream(path)
        try:
            with openers.get(self._path.suffix, open)(str(self._path), "rb") as file:
                start = file.read(2)
            encoding = "utf-16" if start in BOMS else "utf-8-sig"
            with (
                openers.get(self._path.suffix, open)(str(self._path), "rb") as file,
                io.TextIOWrapper(file, encoding, ESCAPED, newline="") as text,
            ):
                yield text
        except InputError:
            raise
        except errors as error:
            raise cannot_read(self._table, "CSV", error) from None


def _why_no_names(cells: Sequence[str]) -> str:
    """Return why the first line of a file has no names of columns; empty if it may have.

    Whole numbers may be names, such as pixels' names, and others if many ascend or descend, as in spectra.
    """
    numbers = {cell: number for cell in cells if isfinite(number := _number(cell))}
    counts = Counter(cells)
    if twice := [cell for cell in numbers if counts[cell] > 1]:
        return f"it has {twice[0]} twice"
    values, real = [*numbers.values()], [cell for cell in numbers if not cell.strip().lstrip("+-").isdigit()]
    if not real or (len(values) >= SPECTRUM and sorted(values) in (values, values[::-1])):
        return ""
    return f"it has the number {real[0]}"


def _number(cell: str) -> float:
    number = as_number(cell)
    return nan if number is None else number


def _is_utf8(text: str) -> bool:
    """Return whether a text has no bytes that were escaped."""
    with suppress(UnicodeEncodeError):
        text.encode()
        return True
    return False


class _Column:
    """A column while it is read."""

    def __init__(self, place: int, text: bool) -> None:
        self.place, self._parts, self._late = place, list[Array](), False
        self._codes: dict[str, int] | None = {} if text else None  # of cells; None: numbers so far
        self.integers = True  # of all numbers so far

    def add(self, cells: Sequence[str]) -> None:
        """Add the cells of some rows."""
        part = as_numbers(cells) if self._codes is None else None
        if part is None and self._codes is None:
            self._late, self._codes = bool(self._parts), {}
        if self._codes is not None and not self._late:
            codes = self._codes
            part = np.fromiter((codes.setdefault(cell, len(codes)) for cell in cells), np.int64, len(cells))
        if part is not None:
            self._parts.append(part)
        if self.integers and part is not None and part.dtype.kind == "f":
            present = as_numbers([cell for cell in cells if cell.strip() not in MISSING])
            self.integers = present is not None and present.dtype.kind == "i"

    def values(self) -> Array | Text | None:
        """Return the column; None if it is text and began with numbers."""
        if self._late:
            return None
        values = np.concatenate(self._parts or [np.empty(0)])
        return values if self._codes is None else Text(values, [*self._codes])


def as_numbers(cells: Sequence[str]) -> Array | None:
    """Return cells as integers, or real numbers with NaN for missing ones; None: some are text."""
    if "_" in "".join(cells):  # Python's own 1_000
        return None
    with suppress(ValueError, OverflowError):
        return np.fromiter(map(int, cells), np.int64, len(cells))
    with suppress(ValueError):
        return np.fromiter(map(float, cells), np.float64, len(cells))
    with suppress(ValueError):
        known = ("nan" if cell.strip() in MISSING else cell for cell in cells)
        return np.fromiter(map(float, known), np.float64, len(cells))
    return None
