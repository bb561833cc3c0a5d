"""What a trace has recorded, compared row by row with what is computed again from it."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping

import numpy as np

from .. import __version__
from ..coding.replica import State
from ..config.tables import Config
from ..trace import Recorder, opening
from ..trace.reader import Trace
from ..trace.schema import ARRIVALS, USED
from ..training.session import described
from ..training.setup import Parts
from .columns import Determined, Line, some, table, unequal
from .times import Times

STATUS_AT = list(ARRIVALS).index("status")


class Difference(Exception):
    """The trace is not what its run gives.

    Parameters
    ----------
    text : str
        What differs.
    arrival : int
        Number, from 0, of the arrival that shows it; the number of arrivals if all of them agree.
    """

    def __init__(self, text: str, arrival: int) -> None:
        super().__init__(text)
        self.arrival = arrival


class Recorded(Recorder):
    """Takes the rows of a run that is made again; raises at the first that differs.

    Parameters
    ----------
    trace : Trace
        With the workers' times as they stamped them.
    timed : bool
        Whether times are made again, too. If not, only those are found that cannot be.

    Attributes
    ----------
    row, version, measured : int
        Rows of arrivals, updates and progress that agree.
    sources : list of int
        Arrivals since the last update that were used.
    hint : callable
        What else may be said about a difference, or an empty string.
    """

    def __init__(self, trace: Trace, timed: bool) -> None:
        self.trace, self.timed = trace, timed
        self.arrivals, self.updates, self.measurements = (
            Determined(trace, name, timed) for name in ("arrivals", "updates", "progress")
        )
        self.row = self.version = self.measured = 0
        self.sources: list[int] = []
        self.hint: Callable[[], str] = str
        self._faults: list[tuple[object, ...]] = []
        self._times = None if timed else Times(trace)

    def begin(self, config: Config, parts: Parts) -> None:
        """Compare what the file says of the run before its first row: attributes and codes."""
        attributes, codes, designs = self.trace.attributes, self.trace.code, parts.assignment.designs
        lines: list[Line] = [
            (key, old, new)
            for key, new in described(config, parts).items()
            if (old := attributes.get(key, "not there")) != new
        ]
        if codes.keys() != designs.keys():
            lines.append(("codes of so many blocks", sorted(codes), sorted(designs)))
        for blocks in sorted(codes.keys() & designs.keys()):
            lines += unequal(f"code/{blocks}/matrix", codes[blocks], designs[blocks].matrix)
        if lines:
            what = "not even what is kept of the beginning is that of its configuration"
            raise self._difference(0, what, table(lines))

    def arrival(self, *values: float) -> None:
        row = self.row
        lines = self.arrivals.compare(row, values)
        if self._times is not None:
            lines += self._times.arrival(row)
        if lines:
            raise self.differs(lines)
        self.row = row + 1
        if values[STATUS_AT] == USED:
            self.sources.append(row)

    def update(self, *values: float) -> None:
        number = self.version
        what = f"update {number + 1}, by arrivals {some(self.sources)}"
        if number < self.updates.rows:
            if lines := self.updates.compare(number, values):
                raise self.follows(lines, what if self.timed else f"{what}: it may be their order")
            if self._times is not None and (lines := self._times.update(number, self.row)):
                raise self.follows(lines, what)
        elif self.trace.finished:
            raise self.follows([], f"{what}: the trace does not have it")
        self.version += 1
        self.sources.clear()

    def measures(self, version: int) -> bool:
        """Whether loss and accuracy were measured at this version."""
        if self.measured >= self.measurements.rows:
            return False
        recorded = int(self.measurements.table["version"][self.measured])
        if recorded < version:
            raise self.follows(
                [("version", recorded, f"at least {version}")], f"row {self.measured} of progress"
            )
        return recorded == version

    def progress(self, *values: float) -> None:
        number = self.measured
        what = f"row {number} of progress, of version {values[0]}"
        if number < self.measurements.rows:
            lines = self.measurements.compare(number, values)
            if self._times is not None:
                lines += self._times.progress(number, self.row)
            if lines:
                raise self.follows(lines, what)
        elif self.trace.finished:
            raise self.follows([], f"{what}: the trace does not have it")
        self.measured += 1

    def fault(self, t_ns: int, worker: int, task: int, kind: str, message: str) -> None:
        if kind in self._kinds:
            self._faults.append((t_ns, worker, task, kind, message)[not self.timed :])

    @property
    def _kinds(self) -> tuple[str, ...]:
        """Faults that are made again; the others are of the run, not of the descent."""
        return ("refused", "flagged", "stop") if self.timed else ("refused", "flagged")

    def finish(self, state: State, counted: Mapping[str, float]) -> None:
        """Compare what is left once all arrivals agree: faults, and of a finished run its end.

        Parameters
        ----------
        state : State
            As it is now.
        counted : mapping
            Totals as the counters of the trace have them.
        """
        trace, finished = self.trace, self.trace.finished
        keys = ("t_ns", "worker", "task", "kind", "message")[not self.timed :]
        faults = zip(*(trace.faults[key].tolist() for key in keys), strict=True)
        old = [fault for fault in faults if fault[-2] in self._kinds]
        common = None if finished else min(len(old), len(self._faults))
        if old[:common] != self._faults[:common]:
            raise self.ends([("faults", old, self._faults)])
        with opening.read(trace.path) as file:
            kept = {key: data[()] for key, data in file.get("checkpoint", {}).items()}
        if not finished:
            if kept:
                raise self.ends([("finished", False, True)])
            return
        last = int(trace.progress["version"][-1]) if trace.progress.rows else -1
        lines: list[Line] = [
            (key, old, new)
            for key, old, new in (
                ("rows of updates", self.updates.rows, self.version),
                ("rows of progress", self.measurements.rows, self.measured),
                ("version of the last row of progress", last, self.version),
                *((key, trace.counters.get(key, new), new) for key, new in counted.items()),
            )
            if old != new
        ]
        for way in ("bytes_up", "bytes_down"):
            least = trace.attributes.get(f"setup_{way}", 0) + int(trace.arrivals[way].sum())
            if trace.counters.get(way, least) < least:
                lines.append((way, trace.counters[way], f"at least {least}"))
        for key, array in {"theta": state.theta, **state.optimizer.state}.items():
            lines += unequal(key, kept.get(key), array)
        if lines:
            raise self.ends(lines)

    def differs(self, lines: list[Line], why: str = "") -> Difference:
        """What to raise if the next arrival cannot be as it is recorded."""
        row, rows = self.row, self.arrivals.rows
        if row < rows:
            text = f"arrival {row} of {rows}, counted from 0, is the first that differs: {self.name(row)}"
        else:
            text = f"all {rows} arrivals agree, but more must come"
        before = f"The {row} arrivals and {self.version} updates before it agree." if row < rows else ""
        return self._difference(row, text, table(lines), why, self.hint(), before, self._tie(row))

    def follows(self, lines: list[Line], what: str) -> Difference:
        """What to raise if the last arrival agrees, but not what it led to."""
        row = self.row - 1
        if row < 0:
            return self._difference(0, f"{what} differs, before any arrival", table(lines), self.hint())
        text = (
            f"arrival {row} of {self.arrivals.rows}, counted from 0, is the first that leads to a "
            f"difference: {self.name(row)}"
        )
        what = f"It agrees by itself, as all before it; what differs is {what}."
        return self._difference(row, text, table(lines), what, self.hint(), self._tie(self.row))

    def ends(self, lines: list[Line]) -> Difference:
        """What to raise if only the end differs."""
        rows = self.arrivals.rows
        return self._difference(
            rows, f"all {rows} arrivals agree, but not what is kept of the end", table(lines)
        )

    def _difference(self, row: int, *text: str | list[str]) -> Difference:
        lines = [line for part in text for line in ([part] if isinstance(part, str) else part) if line]
        return Difference("\n".join(lines + self._elsewhere()), row)

    def _tie(self, row: int) -> str:
        """What cannot be told of the arrivals before one, if two of them came at the same time."""
        times = [self.trace.arrivals[key][:row] for key in ("t_recv_ns", "t_decoded_ns")]
        same = np.flatnonzero((np.diff(times[0]) == 0) & (np.diff(times[1]) == 0))
        if not len(same):
            return ""
        last = int(same[-1])
        return f"Arrivals {last} and {last + 1} have the same times: their order shows only in what follows."

    def name(self, row: int) -> str:
        """An arrival in words."""
        worker, task, version, t_ns = (
            int(self.trace.arrivals[key][row]) for key in ("worker", "task", "version", "t_recv_ns")
        )
        return f"worker {worker}, task {task}, of version {version}, received at {t_ns * 1e-9:.9f} s"

    def _elsewhere(self) -> list[str]:
        """What to know if the trace was written by other programs."""
        here = {"creator": f"pdcode {__version__}", "numpy": np.__version__, "platform": platform.platform()}
        here["OPENBLAS_CORETYPE"] = os.environ.get("OPENBLAS_CORETYPE", "")
        with opening.read(self.trace.path) as file:
            kept = dict(file["environment"].attrs) if "environment" in file else {}
        kept["creator"] = self.trace.attributes.get("creator", "")
        other = [
            f"{key} {kept[key] or 'not set'} (here {value or 'not set'})"
            for key, value in here.items()
            if kept.get(key, value) != value
        ]
        if not other:
            return []
        return [f"The trace was written with {', '.join(other)}: last bits may differ for that alone."]
