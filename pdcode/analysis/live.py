"""The view of `pdcode watch`: a run so far, on one screen of 80 columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..trace.reader import TraceReader
from ..util.errors import escape
from ..util.formats import bar, counted, duration, number, ratio, spark
from ..util.output import LINES
from . import description, diagnosis, timing
from .printing import make_table
from .tables import shown_workers

if TYPE_CHECKING:
    from rich.console import RenderableType

RECENT = 8  # last tasks of a worker whose time is shown
WINDOW = 1 << 16  # last payloads, and last updates, of a long run that are read
CURVE, BAR, FAULTS = 40, 30, 3
LEVELS = 7  # heights of the curve


class Reading:
    """What a trace holds so far: of a long run, read with a `window`, its end.

    Attributes
    ----------
    t_ns : int
        Time of the last event, or of the stop.
    updates : int
    recent_ns : ndarray of float64, shape (n,)
        Mean time of each worker's last tasks; nan without any.
    """

    def __init__(self, trace: TraceReader) -> None:
        self.trace, self.t_ns = trace, description.stop_ns(trace)
        progress, rows = trace.progress, timing.own_tasks(trace)
        made, number = trace.updates.first + trace.updates.rows, trace.arrivals["task"]
        self.updates = int(trace.counters.get("version", made))
        if not trace.updates.rows and progress.rows:
            self.updates = int(progress["version"][-1])
        self.recent_ns, self.tasks = np.full(trace.worker_count, np.nan), np.zeros(trace.worker_count, int)
        for worker, mine in enumerate(timing.by_worker(rows, trace.worker_count)):
            self.tasks[worker] = number[mine[-1]] + 1 if trace.arrivals.first and len(mine) else len(mine)
            if len(last := mine[-RECENT - 1 :]):
                self.recent_ns[worker] = timing.task_times(rows, last)[-RECENT:].mean()

    @property
    def ended(self) -> bool:
        """Whether the run has ended, or is lost."""
        return description.outcome(self.trace) != "running"

    def rate(self, before: Reading | None) -> str:
        """Describe the updates a second since an earlier reading, else since the start."""
        updates, t_ns = (before.updates, before.t_ns) if before else (0, 0)
        if self.t_ns <= t_ns:
            return ""
        return f"{number(1e9 * (self.updates - updates) / (self.t_ns - t_ns), 3)} updates/s"

    @property
    def results(self) -> list[str]:
        """The last loss and score, and the number of updates."""
        progress, texts = self.trace.progress, []
        if progress.rows:
            texts.append(f"loss {number(float(progress['loss'][-1]))}")
            score = float(progress["accuracy"][-1])
            if not math.isnan(score):
                name = description.accuracy_name(self.trace.table("problem"))
                texts.append(f"{name} {number(score)}")
        return [*texts, f"update {self.updates:,}"]

    @property
    def slowest(self) -> str:
        """The worker whose last tasks took longest, beside the others'."""
        known = np.flatnonzero(np.isfinite(self.recent_ns))
        if len(known) < 2:
            return ""
        worst = int(known[np.argmax(self.recent_ns[known])])
        others = float(np.median(np.delete(self.recent_ns[known], np.searchsorted(known, worst))))
        return f"slowest: worker {worst} ({ratio(self.recent_ns[worst] / max(others, 1.0))})"

    def line(self, before: Reading | None) -> str:
        """Describe the run in a line."""
        count = len(description.faults_to_show(self.trace))
        faults = counted(count, "fault") if count else ""
        parts = (duration(self.t_ns), *self.results, self.rate(before), self.slowest, faults)
        return "  ".join(filter(None, parts))


def screen(
    now: Reading, before: Reading | None, found: diagnosis.Diagnosis | None
) -> Sequence[RenderableType]:
    """Return the parts of the view."""
    from rich.text import Text

    trace = now.trace
    parts: list[RenderableType] = []
    if trace.descent:
        parts.append(Text(escape(trace.descent.line), style="bold red"))
    parts.append(Text(description.headline(trace), style="bold"))
    parts.append("  ".join(filter(None, (*now.results, now.rate(before)))))
    if trace.progress.rows > 1:
        parts.append(f"loss {curve(trace.progress['t_ns'], trace.progress['loss'])}")
    slow = {part.worker for part in found.slow} if found else set()
    pace = timing.Pace(now.tasks, now.recent_ns, np.full(len(now.tasks), np.nan))
    most = float(np.nanmax(now.recent_ns)) if np.isfinite(now.recent_ns).any() else 1.0
    table = make_table("worker", "tasks", "last", "", left=("",))
    single, rest = shown_workers(pace, slow)
    for worker in single:
        time_ns = float(now.recent_ns[worker])
        known = math.isfinite(time_ns)
        drawn = bar(time_ns, most, BAR) if known else ""
        mark = f"{drawn} slow" if worker in slow else drawn
        shown = duration(time_ns) if known else "–"
        table.add_row(
            str(worker), f"{now.tasks[worker]:,}", shown, mark, style="yellow" if worker in slow else ""
        )
    parts.append(table)
    if rest:
        parts.append(f"and {counted(len(rest), 'quicker worker')}")
    for i in description.faults_to_show(trace)[-FAULTS:]:
        when, what = (trace.faults[key][i] for key in ("t_ns", "message"))
        parts.append(Text(escape(f"{duration(float(when))}: {what}"), style="red"))
    if found:
        parts.append(escape("\n".join(text for _, text in found.lines()), LINES))
    return parts


def curve(t_ns: np.ndarray, loss: np.ndarray) -> str:
    """Return a small curve of the loss on a logarithmic scale, evenly spaced in time."""
    finite = np.isfinite(loss) & (loss > 0)
    if finite.sum() < 2:
        return ""
    places = np.linspace(t_ns[finite][0], t_ns[finite][-1], CURVE)
    logs = np.interp(places, t_ns[finite], np.log(loss[finite]))
    low, high = float(logs.min()), float(logs.max())
    heights = np.rint(LEVELS * (logs - low) / max(high - low, 1e-12)).astype(int) + 1
    return spark([int(height) for height in heights])
