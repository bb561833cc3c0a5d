"""Text with a line for each event, with names of columns or without."""

import re
from collections.abc import Iterator

import numpy as np

from ...util.errors import InputError, short_repr
from ..stream import Events
from .recording import Recording

COLUMNS = ("t", "timestamp"), ("x",), ("y",), ("p", "on", "polarity")
SEPARATOR = re.compile(r"\s*[,;\t]\s*|\s+")
NUMBER = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?$", re.I)


def read(name: str, data: bytes) -> Events:
    """Read columns t, x, y and p, found by their names, or in this order without names.

    Without names t is in seconds if it has a decimal point in the first line, and a line of two numbers
    before the events is the camera's size.
    """
    text = data.decode(errors="replace").removeprefix("\ufeff").splitlines()
    lines = [(number, _split(line)) for number, line in enumerate(text, 1) if line.strip()]
    first = lines[0][1] if lines else []
    if named := not (first and all(NUMBER.match(each) for each in first)):
        names = [each.strip('"').lower().partition("@")[0] for each in first]  # x@640: of a size
        del lines[:1]
    else:
        names = [each[0] for each in COLUMNS]
        del lines[: len(first) == 2]
    places = [next((names.index(each) for each in wanted if each in names), -1) for wanted in COLUMNS]
    if -1 in places:
        missing = " or ".join(COLUMNS[places.index(-1)])
        raise InputError(
            f"{name}: no column {missing} in {short_repr(','.join(first))}, the names of the columns"
        )
    columns = np.array([*_rows(name, lines, len(names))], np.float64).reshape(-1, len(names))[:, places].T
    if not named and lines and "." in lines[0][1][0]:
        with np.errstate(over="ignore"):  # infinite times are refused below
            columns[0] = np.rint(1e6 * columns[0])
    wrong = np.flatnonzero(
        (columns[:3] != np.rint(columns[:3])).any(axis=0) | (abs(columns) > 2**53).any(axis=0)
    )
    if len(wrong):
        raise InputError(f"{name}, event {wrong[0]}: t [µs], x and y must be whole numbers")
    t, x, y = columns[:3].astype(np.int64)
    return Events(t, x, y, columns[3] > 0)


def _split(line: str) -> list[str]:
    return SEPARATOR.split(line.strip())


def _rows(name: str, lines: list[tuple[int, list[str]]], width: int) -> Iterator[list[float]]:
    """Yield the numbers of each line; truth values are 1 and 0."""
    words = {"true": "1", "false": "0"}
    for number, fields in lines:
        try:
            row = [float(words.get(each.lower(), each)) for each in fields]
        except ValueError:
            raise InputError(
                f"{name}, line {number}: {short_repr(','.join(fields))} has more than numbers"
            ) from None
        if len(row) != width:
            raise InputError(f"{name}, line {number}: {len(row)} values, but {width} columns")
        yield row


def fits(data: bytes, name: str) -> bool:
    """Return whether this is text, and no AEDAT of another version."""
    return b"\0" not in data[:1000] and not data.startswith(b"#!AER-DAT")


TEXT = Recording("text", "text", fits, read)
