"""Times of a real run: they cannot be made again, but some cannot be beside others."""

from __future__ import annotations

import numpy as np

from ..trace.reader import Trace
from ..trace.schema import DRAINED
from .columns import Line

ORDER = (
    ("t_dispatch_ns", "t_recv_ns"),
    ("t_recv_ns", "t_decoded_ns"),
    ("t_start_ns", "t_compute_ns"),
    ("t_compute_ns", "t_send_ns"),
)
"""What cannot be later than what: each pair is of one clock."""

TURNS = (("t_decoded_ns", "t_dispatch_ns"), ("t_send_ns", "t_start_ns"))
"""The same of a worker's task and its next one."""


class Times:
    """Where times cannot be.

    Parameters
    ----------
    trace : Trace
        With the workers' times as they stamped them.
    """

    def __init__(self, trace: Trace) -> None:
        self._trace, self._rows = trace, trace.arrivals.rows
        self._found: dict[int, list[Line]] = {}
        if self._rows:
            self._within()
            self._neighbours()
            self._turns()
            self._updates()
        self._received, self._decoded = trace.arrivals["t_recv_ns"], trace.arrivals["t_decoded_ns"]
        self._drained = np.flatnonzero(trace.arrivals["status"] == DRAINED)[:1].tolist()

    def arrival(self, row: int) -> list[Line]:
        """What cannot be of an arrival."""
        return self._found.get(row, [])

    def update(self, number: int, row: int) -> list[Line]:
        """What cannot be of an update that comes right before arrival `row`, or after the last one."""
        time = int(self._trace.updates["t_ns"][number])
        least = int(self._decoded[row - 1]) if row else 0
        if time < least:
            return [("t_ns", time, f"at least t_decoded_ns, {least}, of arrival {row - 1}")]
        if row < self._rows and least <= (most := int(self._decoded[row])) < time:
            return [("t_ns", time, f"at most t_decoded_ns, {most}, of arrival {row}")]
        return []

    def progress(self, number: int, row: int) -> list[Line]:
        """What cannot be of a measurement of the version that arrival ``row - 1`` led to."""
        times, updates = self._trace.progress["t_ns"], self._trace.updates["t_ns"]
        time, version = int(times[number]), int(self._trace.progress["version"][number])
        least = int(self._received[row - 1]) if row else 0
        if time < least:
            return [("t_ns", time, f"at least t_recv_ns, {least}, of arrival {row - 1}")]
        if number and time < (before := int(times[number - 1])):
            return [("t_ns", time, f"at least {before}, of the row before")]
        if 0 <= version < len(updates):
            if least <= (most := int(updates[version])) < time:
                return [("t_ns", time, f"at most {most}, of update {version + 1}")]
        elif self._drained and least <= (most := int(self._decoded[self._drained[0]])) < time:
            return [("t_ns", time, f"at most t_decoded_ns, {most}, of arrival {self._drained[0]}")]
        return []

    def _note(self, row: int, key: str, limit: str) -> None:
        line = key, self._trace.arrivals[key][row].item(), limit
        self._found.setdefault(row, []).append(line)

    def _within(self) -> None:
        """One arrival's own times. An injected delay, slept or spun, never ends early."""
        arrivals = self._trace.arrivals
        for first, second in ORDER:
            for row in np.flatnonzero(arrivals[first] > arrivals[second]).tolist():
                self._note(row, first, f"at most {second}, {arrivals[second][row]}")
        delays, took = arrivals["injected_delay_ns"], arrivals["t_send_ns"] - arrivals["t_compute_ns"]
        for row in np.flatnonzero((delays > 0) & (took >= 0) & (took < delays)).tolist():
            least = int(arrivals["t_compute_ns"][row]) + int(delays[row])
            self._note(row, "t_send_ns", f"at least t_compute_ns and the injected delay, {least}")

    def _neighbours(self) -> None:
        """Arrivals come one after the other.

        Of two neighbours of which the second is the earlier one, that is blamed which is out of place beside
        the one before them, and else the first.
        """
        for key in ("t_recv_ns", "t_decoded_ns"):
            times = self._trace.arrivals[key]
            for row in np.flatnonzero(times[1:] < times[:-1]).tolist():
                if row and times[row + 1] < times[row - 1]:
                    self._note(row + 1, key, f"at least {times[row]}, of arrival {row}")
                else:
                    self._note(row, key, f"at most {times[row + 1]}, of arrival {row + 1}")

    def _turns(self) -> None:
        """A worker gets its next task when its last reply is in, and begins it when that has been sent."""
        arrivals = self._trace.arrivals
        order = np.argsort(arrivals["worker"], kind="stable")
        same = np.diff(arrivals["worker"][order]) == 0
        before, after = order[:-1][same], order[1:][same]
        for first, second in TURNS:
            early = arrivals[second][after] < arrivals[first][before]
            for last, row in zip(before[early].tolist(), after[early].tolist(), strict=True):
                self._note(row, second, f"at least {first}, {arrivals[first][last]}, of arrival {last}")

    def _updates(self) -> None:
        """A task is sent after the update that its θ comes from."""
        version, updates = self._trace.arrivals["version"], self._trace.updates["t_ns"]
        rows = np.flatnonzero((version > 0) & (version <= len(updates)))
        made = updates[version[rows] - 1]
        early = self._trace.arrivals["t_dispatch_ns"][rows] < made
        for row, least in zip(rows[early].tolist(), made[early].tolist(), strict=True):
            self._note(row, "t_dispatch_ns", f"at least {least}, of update {version[row]}")
