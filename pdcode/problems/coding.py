"""Coding of columns as inputs: missing values are filled, and text becomes an input for each category."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import numpy as np

from ..config import NetworkTable
from ..util.errors import InputError, short_repr
from ..util.formats import counted
from ..util.memory import ensure_fits
from .matrix import Array, Csr, Matrix

MAX_CATEGORIES = 100  # of a column
FEW = 10  # texts that a column may have although most of its rows differ, and numbers beside text
SHOWN = 8  # columns and categories in a line
TRUTH = {"false": 0.0, "true": 1.0}  # a column with no other values is one input
DATE = re.compile(r"\d{1,4}([-./])\d{1,2}\1\d{1,4}([ T].*)?|\d{1,2}:\d{2}(:\d{2}.*)?")
COMMA = re.compile(r"[-+]?[\d.]*\d,\d[\d,.]*")  # a number with a comma

Place = Callable[[int], str]
"""Row of a table -> its name for messages."""


class Samples(NamedTuple):
    """Inputs (rows, d) without the column of ones, and targets (rows,) or (rows, T).

    Missing inputs are NaN, and texts their numbers in `categories`.
    """

    x: Matrix
    y: Array | None  # None: the data have no targets
    labels: Array | None = None  # of the classes, if integers are known to be classes
    columns: tuple[str, ...] = ()  # names of the inputs
    categories: Mapping[int, Array] = MappingProxyType({})  # column of text -> the texts that x numbers
    absent: Array | None = None  # which rows have no target, (rows,); None: none is known to
    place: Place = "row {}".format  # name of a row for messages


@dataclass(frozen=True, eq=False)
class Coding:
    """How columns become inputs: a column of numbers is one, a column of text one for each category.

    The input of a category is 1 in its rows, and 0 in others; where the text is missing, all of them are 0.
    """

    columns: tuple[str, ...] = ()  # names; empty if they have none
    categories: Mapping[int, Array] = field(default_factory=dict)  # column of text -> its values, ascending
    fill: Array | None = None  # of each column, for missing numbers; None: missing values are refused
    remarks: tuple[str, ...] = ()  # lines on what the training data became

    @classmethod
    def of(cls, table: NetworkTable, samples: Samples, train: Array, where: str) -> Self:
        """Choose the coding of rows; filled-in values come from the training rows, `train`."""
        categories, remarks = dict[int, Array](), list[str]()
        for column, values in samples.categories.items():
            if not {*values.tolist()} <= {*TRUTH}:
                _check_categories(samples, column, where)
                categories[column] = values
        if categories:
            shown = [f"{_name(samples, each)} ({_listed(values)})" for each, values in categories.items()]
            inputs = counted(sum(map(len, categories.values())), "input")
            what = f"{counted(len(categories), 'column')} of text, coded as {inputs} of 0 and 1"
            remarks.append(f"{what}: {_some(shown)}")
        coding = cls(samples.columns, categories, None, tuple(remarks))
        if table.missing not in ("mean", "median"):
            return coding
        x = coding._translated(samples, where)
        fill, absent = np.zeros(x.shape[1]), np.isnan(x)
        for column in range(x.shape[1]):
            present = x[train, column][~absent[train, column]]
            if column not in categories and not len(present):
                raise InputError(
                    f"{where}, column {_name(samples, column)}: no value in any training row"
                    f"{leave_out(samples.columns[column]) if samples.columns else ''}"
                )
            if column not in categories:
                fill[column] = present.mean() if table.missing == "mean" else np.median(present)
        counts = absent.sum(axis=0)
        lacking_some = np.flatnonzero(counts).tolist()
        for of_text, what in (
            (False, f"filled with the {table.missing} of the training rows"),
            (True, "coded as none of the categories"),
        ):
            if columns := [each for each in lacking_some if (each in categories) is of_text]:
                names = _some([_name(samples, each) for each in columns])
                remarks.append(f"{counted(int(counts[columns].sum()), 'missing value')} in {names}, {what}")
        return cls(samples.columns, categories, fill, tuple(remarks))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs; empty if the columns have none."""
        names = list[str]()
        for column, name in enumerate(self.columns):
            values = self.categories.get(column)
            names += [name] if values is None else [f"{name}={value}" for value in values]
        return tuple(names)

    @property
    def binary(self) -> Array:
        """Whether each input stands for a category; shape (inputs,), or empty if columns have no names."""
        counts = [len(self.categories.get(column, (0,))) for column in range(len(self.columns))]
        return np.repeat([column in self.categories for column in range(len(self.columns))], counts)

    def arrays(self) -> dict[str, Array]:
        """Return the arrays that a trace has of the coding, by name."""
        arrays = {"columns": np.array(self.columns)} if self.columns else {}
        if self.categories:
            arrays["categories"] = np.concatenate([*self.categories.values()])
            owners = np.repeat([*self.categories], [*map(len, self.categories.values())])
            arrays["category_columns"] = owners.astype(np.int64)
        return arrays | ({} if self.fill is None else {"fill": self.fill})

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """Rebuild the coding from the result of `arrays`; ValueError if they do not fit together."""
        names, texts = (arrays.get(key, np.empty(0, np.str_)) for key in ("columns", "categories"))
        owners, fill = arrays.get("category_columns", np.empty(0, np.int64)), arrays.get("fill")
        kinds = [each.dtype.kind + str(each.ndim) for each in (names, texts, owners)]
        if kinds != ["U1", "U1", "i1"] or len(texts) != len(owners):
            raise ValueError("arrays of columns have other types or shapes")
        columns = {int(each): texts[owners == each] for each in np.unique(owners)}
        sorted_ones = (np.array_equal(np.unique(each), each) for each in columns.values())
        if not ({*columns} <= {*range(len(names))} and all(sorted_ones) and (np.diff(owners) >= 0).all()):
            raise ValueError("categories do not fit the columns")
        if fill is not None and not np.isfinite(fill).all():
            raise ValueError("a value to fill in is not finite")
        return cls(tuple(names.tolist()), columns, fill)

    def fits(self, x: Array) -> bool:
        """Return whether columns of text have the numbers of their categories, or NaN."""
        if not self.categories or x.dtype.kind != "f":
            return not self.categories
        columns = [(x[:, column], len(values)) for column, values in self.categories.items()]
        return all((np.isin(codes, np.arange(count)) | np.isnan(codes)).all() for codes, count in columns)

    def encode(self, samples: Samples, where: str) -> Matrix:
        """Return the inputs of rows; refuse what is missing without `fill`, and unknown categories.

        A message begins with `where`, and names row and column.
        """
        if isinstance(samples.x, Csr) or not (self.categories or samples.categories or self.fill is not None):
            return samples.x
        x = self._translated(samples, where)
        absent = np.isnan(x)
        if absent.any():
            if self.fill is None:
                cure = 'a model trained with problem.missing = "mean" or "median" fills it'
                raise _missing(samples, absent, where, cure)
            x = np.where(absent, self.fill, x)
        if not self.categories:
            return x
        width = len(self.inputs)
        ensure_fits("problem.inputs", f"{len(x)} rows of {width} inputs, text coded,", 16 * len(x) * width)
        coded, place = np.zeros((len(x), width)), 0
        for column in range(x.shape[1]):
            if column in self.categories:
                rows = np.flatnonzero(~absent[:, column])
                coded[rows, place + x[rows, column].astype(np.int64)] = 1
                place += len(self.categories[column])
            else:
                coded[:, place] = x[:, column]
                place += 1
        return coded

    def _translated(self, samples: Samples, where: str) -> Array:
        """Return the columns, float64: numbers, and numbers of the categories; missing values are NaN."""
        x = np.array(samples.x, np.float64)
        for column in {*samples.categories} | {*self.categories}:
            values, codes = _distinct(samples, column)
            known = self.categories.get(column)
            meanings: dict[str, float | None]
            if known is None:  # a frame may have numbers as categories
                meanings = {text: TRUTH.get(text, as_number(text)) for text in values}
            else:
                meanings = {text: code for code, text in enumerate(known.tolist())}
            meant = [*map(meanings.get, values)]
            if unknown := [code for code, number in enumerate(meant) if number is None]:
                row = int(np.flatnonzero(np.isin(codes, unknown))[0])
                text = short_repr(values[int(codes[row])])
                what = "is not a number"
                if known is not None:
                    what = f"is none of the categories of the training rows: {_listed(known)}"
                raise InputError(
                    f"{where}, {samples.place(row)}, column {_name(samples, column)}: {text} {what}"
                )
            present, numbers = codes >= 0, np.array(meant, np.float64)
            x[present, column] = numbers[codes[present]]
        return x


def rows_of(numbers: Array, place: Place = "row {}".format) -> Place:
    """Return what names a row of a part, whose rows have these numbers in the whole."""
    return lambda row: place(int(numbers[row]))


def canonical(text: str) -> str:
    """Return a text as a category: without spaces around it, numbers and truth values in one form."""
    text = text.strip()
    number = as_number(text)
    return text.lower() if text.lower() in TRUTH else text if number is None else _number_text(number)


def as_number(value: Any) -> float | None:
    """Return the number that a cell is or a text shows; None: none. Python's own 1_000 is text."""
    try:
        return None if isinstance(value, bytes) or "_" in str(value) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def refuse_missing(samples: Samples, inputs: str, targets: str, name: str) -> None:
    """Refuse a missing value of training rows; the message begins with `inputs` or `targets`, of a `name`."""
    if samples.absent is not None and samples.absent.any():
        where = f"{targets}, {samples.place(int(np.argmax(samples.absent)))}, column {short_repr(name)}"
        raise InputError(f'{where}: is missing; problem.missing = "drop" leaves such rows out')
    if (absent := lacking(samples.x)).any():
        cure = 'problem.missing = "mean" or "median" fills it, "drop" leaves the row out'
        raise _missing(samples, absent, inputs, cure)


def lacking(x: Matrix) -> Array:
    """Return which inputs are missing, shape (rows, columns); empty if none can be."""
    return np.zeros((0, 0), bool) if isinstance(x, Csr) or x.dtype.kind != "f" else np.isnan(x)


def _missing(samples: Samples, absent: Array, where: str, cure: str) -> InputError:
    """Return the InputError for the first missing value, `absent` being the mask of all."""
    row, column = map(int, np.argwhere(absent)[0])
    what = "is missing" if samples.columns else "is NaN"
    return InputError(f"{where}, {samples.place(row)}, column {_name(samples, column)}: {what}; {cure}")


def _check_categories(samples: Samples, column: int, where: str) -> None:
    """Refuse text that is no category: numbers with errors, dates, and what differs in most rows."""
    values, codes = _distinct(samples, column)
    name, present, hint = _name(samples, column), int((codes >= 0).sum()), leave_out(samples.columns[column])
    most = min(MAX_CATEGORIES, max(FEW, present // 2))
    wrong = [bool(COMMA.fullmatch(text)) for text in values]
    number = [as_number(text) is not None for text in values]
    if any(wrong):
        hint = "; numbers have a point, and no comma"
    elif sum(number) > FEW or (any(number) and 2 * len(values) > present):
        wrong = [not each for each in number]
    if any(wrong):
        row = int(np.flatnonzero(np.isin(codes, np.flatnonzero(wrong)))[0])
        text = short_repr(values[int(codes[row])])
        raise InputError(f"{where}, {samples.place(row)}, column {name}: {text} is not a number{hint}")
    if all(map(DATE.fullmatch, values)):
        text = f"{short_repr(values[0])} is a date or time"
        raise InputError(f"{where}, {samples.place(int(np.argmax(codes == 0)))}, column {name}: {text}{hint}")
    ensure_no_nul(values, f"{where}, column {name}")
    if len(values) > most:
        what = f"{len(values)} different texts in {len(codes)} rows, more categories than {most}"
        raise InputError(f"{where}, column {name}: {what}{hint}")


def ensure_no_nul(texts: Iterable[str], where: str) -> None:
    """Refuse texts with a NUL, which a trace cannot hold."""
    if wrong := [text for text in texts if "\0" in text]:
        raise InputError(f"{where}: {short_repr(wrong[0])} has a NUL character")


def _distinct(samples: Samples, column: int) -> tuple[list[str], Array]:
    """Return the distinct values of a column as texts, and the number of each row's; -1 is missing."""
    assert not isinstance(samples.x, Csr)
    x = np.asarray(samples.x[:, column], np.float64)
    present, codes = ~np.isnan(x), np.full(len(x), -1)
    if column in samples.categories:
        codes[present] = x[present]
        return samples.categories[column].tolist(), codes
    values, codes[present] = np.unique(x[present], return_inverse=True)
    return [*map(_number_text, values.tolist())], codes


def _number_text(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def _name(samples: Samples, column: int) -> str:
    return short_repr(samples.columns[column]) if samples.columns else str(column)


def leave_out(name: str) -> str:
    """Return the hint how to leave a column out, which ends a message."""
    return f"; problem.exclude = [{json.dumps(name, ensure_ascii=False)}] leaves it out"


def _listed(values: Array) -> str:
    return _some([*map(short_repr, values.tolist())])


def _some(texts: list[str]) -> str:
    """List texts, the first few of many."""
    return ", ".join(texts[:SHOWN]) + (f", … ({len(texts)})" if len(texts) > SHOWN else "")
