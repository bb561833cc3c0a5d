"""What of a trace is determined, and where two versions of it differ."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from ..trace.reader import Trace
from ..trace.rows import FORMATS
from ..trace.schema import DRAINED, REFUSED, TABLES, USED, WASTED

BLOCK = 4096  # rows that are unpacked at a time
STATUS = {USED: "used", WASTED: "wasted", DRAINED: "drained", REFUSED: "refused"}

Line = tuple[str, Any, Any]
"""Column, what is recorded, what it should be."""


class Determined:
    """The columns of a table that must be the same to the last bit, and its rows as bytes of them.

    Parameters
    ----------
    trace : Trace
    name : str
        Of the table.
    timed : bool
        Whether times are determined, too.
    """

    def __init__(self, trace: Trace, name: str, timed: bool) -> None:
        self.columns = {
            key: column for key, column in TABLES[name].items() if timed or not key.startswith("t_")
        }
        self.table = getattr(trace, name)
        self.rows = self.table.rows
        self._pick = itemgetter(*(list(TABLES[name]).index(key) for key in self.columns))
        self._struct = struct.Struct("<" + "".join(FORMATS[c.dtype[1:]] for c in self.columns.values()))
        self._dtype = np.dtype([(key, column.dtype) for key, column in self.columns.items()])
        self._block, self._bytes = -1, b""

    def compare(self, row: int, values: Sequence[float]) -> list[Line]:
        """The columns of a row in which its values, all of them in the order of the schema, differ."""
        packed = self._struct.pack(*self._pick(values))
        block, place = divmod(row, BLOCK)
        if block != self._block:
            part = slice(block * BLOCK, (block + 1) * BLOCK)
            batch = np.empty(min(self.rows - part.start, BLOCK), self._dtype)
            for key in self.columns:
                batch[key] = self.table[key][part]
            self._block, self._bytes = block, batch.tobytes()
        if self._bytes.startswith(packed, place * len(packed)):
            return []
        made = self._struct.unpack(packed)
        return [
            (key, old, new)
            for key, new in zip(self.columns, made, strict=True)
            if (old := self.table[key][row].item()) != new and (old == old or new == new)
        ]


def unequal(name: str, recorded: Any, made: Any) -> list[Line]:
    """Where an array, or a number, is not the same to the last bit."""
    new = np.asarray(made)
    if recorded is None:
        return [(name, "not there", f"{new.dtype} {new.shape}")]
    old = np.asarray(recorded)
    if (old.dtype, old.shape) != (new.dtype, new.shape):
        return [(name, f"{old.dtype} {old.shape}", f"{new.dtype} {new.shape}")]
    if old.tobytes() == new.tobytes():
        return []
    sides = [np.frombuffer(side.tobytes(), np.uint8).reshape(side.size, -1) for side in (old, new)]
    where = np.flatnonzero((sides[0] != sides[1]).any(axis=1))
    at = int(where[0])
    label = f"{name}[{at}]" if len(where) == 1 else f"{name}[{at}], the first of {len(where)}"
    return [(label, old.reshape(-1)[at].item(), new.reshape(-1)[at].item())]


def table(lines: list[Line]) -> list[str]:
    """Lines under a head."""
    if not lines:
        return []
    texts = [["column", "recorded", "recomputed"]]
    for key, *values in lines:
        if key == "status":
            values = [f"{value} ({STATUS.get(value, 'unknown')})" for value in values]
        texts.append([key, *(value if isinstance(value, str) else repr(value) for value in values)])
    widths = [max(len(text[column]) for text in texts) for column in range(2)]
    return [f"  {a:{widths[0]}}  {b:{widths[1]}}  {c}" for a, b, c in texts]


def some(numbers: Sequence[int]) -> str:
    """Numbers in words, no more than a line of them."""
    shown = ", ".join(map(str, numbers[:10]))
    return f"{shown} and {len(numbers) - 10} more" if len(numbers) > 10 else shown
