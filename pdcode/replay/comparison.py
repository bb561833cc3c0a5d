"""Bitwise comparison of recorded and recomputed rows and arrays."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from ..trace.reader import TraceReader
from ..trace.recorder import Recorder
from ..trace.schema import TABLES

ABSENT = "none"  # stands for a value that one of the two runs lacks


class Difference(Exception):
    """The first difference between a recomputed run and its trace.

    `table` is the trace's table, or ``attributes``, ``code``, ``checkpoint``; `row` counts from 0, None for
    others than rows; `columns` has the recorded and the recomputed value of each column.
    """

    def __init__(self, table: str, row: int | None, columns: Mapping[str, tuple[Any, Any]]) -> None:
        values = [f"{key}: recorded {old}, recomputed {new}" for key, (old, new) in columns.items()]
        super().__init__(f"{table if row is None else f'{table} row {row}'}: {'; '.join(values)}")
        self.table, self.row, self.columns = table, row, columns


class TableComparison:
    """Comparison of the rows of the table `name`, with times if `timed`; of faults only the kinds in `kinds`.

    There are `rows` recorded rows; `equal` of them have been recomputed and are equal.
    """

    def __init__(self, trace: TraceReader, name: str, timed: bool, kinds: Sequence[str] = ()) -> None:
        table, schema = getattr(trace, name), TABLES[name]
        keys = [key for key in schema if (timed or not key.startswith("t_")) and key in table]
        recorded = np.empty(table.rows, [(key, schema[key].dtype) for key in keys])
        for key in keys:
            text = schema[key].dtype[1] == "S"
            recorded[key] = np.char.encode(table[key], "utf-8") if text else table[key]
        self._recorded = recorded[np.isin(table["kind"], kinds)] if kinds else recorded
        self._select = itemgetter(*(list(schema).index(key) for key in keys))
        self._name, self._finished = name, trace.finished
        self.rows, self.equal = len(self._recorded), 0

    def add(self, *values: Any) -> None:
        """Compare the next row, its values in the order of the schema.

        Rows beyond the end of a killed run's table are ignored.
        """
        if self.equal < self.rows or self._finished:
            row = np.array(self._select(values), self._recorded.dtype)
            if self.equal == self.rows or self._recorded[self.equal].tobytes() != row.tobytes():
                raise self._difference(row)
            self.equal += 1

    def end(self) -> None:
        """Refuse recorded rows that were not recomputed."""
        if self.equal < self.rows:
            raise self._difference(None)

    def _difference(self, row: np.ndarray | None) -> Difference:
        recorded = self._recorded[self.equal] if self.equal < self.rows else None
        if recorded is None or row is None:
            sides = [ABSENT if side is None else str(side.item()) for side in (recorded, row)]
            return Difference(self._name, self.equal, {"row": (sides[0], sides[1])})
        return Difference(
            self._name,
            self.equal,
            {
                key: (recorded[key].item(), row[key].item())
                for key in self._recorded.dtype.names or ()
                if recorded[key].tobytes() != row[key].tobytes()
            },
        )


class RunComparison(Recorder):
    """Recorder that compares the rows of a recomputed run with a trace, with times if `timed`.

    It raises `Difference` at the first row that differs. The trace has uncorrected worker clocks.
    """

    def __init__(self, trace: TraceReader, timed: bool) -> None:
        self.arrivals, self.updates, self.measurements = (
            TableComparison(trace, name, timed) for name in ("arrivals", "updates", "progress")
        )
        # Other faults depend on the machine.
        kinds = "refused", "flagged", "omitted", "wrapped", "wrong", "stop", "missing", "overdue", "returned"
        self._kinds = kinds if timed else kinds[:5]
        self.faults = TableComparison(trace, "faults", timed, self._kinds)

    def arrival(self, *values: float) -> None:
        self.arrivals.add(*values)

    def update(self, *values: float) -> None:
        self.updates.add(*values)

    def progress(self, *values: float) -> None:
        self.measurements.add(*values)

    def fault(self, t_ns: int, worker: int, task: int, kind: str, message: str) -> None:
        if kind in self._kinds:
            self.faults.add(t_ns, worker, task, kind.encode(), message.encode())


def compare(place: str, recorded: Mapping[str, Any], recomputed: Mapping[str, Any]) -> None:
    """Compare arrays and numbers by name, in type, shape and every bit; raise `Difference` if any differs."""
    for key, value in recomputed.items():
        new = np.asarray(value)
        old = np.asarray(recorded[key]) if recorded.get(key) is not None else None
        if old is None or (old.dtype, old.shape) != (new.dtype, new.shape):
            sides = [ABSENT if side is None else f"{side.dtype} {side.shape}" for side in (old, new)]
            raise Difference(place, None, {key: (sides[0], sides[1])})
        if old.tobytes() != new.tobytes():
            bits = [np.frombuffer(side.tobytes(), np.uint8).reshape(side.size, -1) for side in (old, new)]
            at = np.unravel_index(np.argmax((bits[0] != bits[1]).any(axis=1)), new.shape)
            name = f"{key}[{', '.join(map(str, at))}]" if at else key
            raise Difference(place, None, {name: (old[at].item(), new[at].item())})
