"""The timeline of a figure: the workers' tasks in an interval of the run, one lane per worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..trace.reader import Trace
from . import description, timing
from .formats import listing, ratio
from .style import BLUE, GREY, INK, LIGHT_BLUE, LIGHT_ORANGE, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LANES = 16  # maximum number of workers
TASKS = 60  # maximum number of tasks of a typical worker


def window_ns(arrivals: timing.Columns, pace: timing.Pace) -> tuple[int, int]:
    """Choose an interval with a few arrivals of the slowest worker, and not too many of the others.

    Its length is 4.5 tasks of the slowest worker, but between 8 and `TASKS` tasks of a typical worker. It
    begins with a task of the slowest worker in the middle of the run.
    """
    usual, slowest = float(np.nanmedian(pace.median)), int(np.nanargmax(pace.median))
    span = int(np.clip(4.5 * pace.median[slowest], 8 * usual, TASKS * usual)) or 1
    starts = np.sort(arrivals["t_start_ns"][arrivals["worker"] == slowest])
    middle = (int(arrivals["t_recv_ns"].max()) - span) // 2
    place = min(int(np.searchsorted(starts, middle)), len(starts) - 1)
    begin = int(starts[place]) if middle > 0 else 0
    return max(0, begin - span // 50), begin + span


def lanes(pace: timing.Pace) -> list[int]:
    """Choose the workers to draw: all, or slow ones (at most half of the lanes) and others evenly spaced."""
    workers = len(pace.arrivals)
    if workers <= LANES:
        return list(range(workers))
    slow = pace.slow()[: LANES // 2]
    others = [worker for worker in range(workers) if worker not in slow]
    chosen = np.linspace(0, len(others) - 1, LANES - len(slow)).round().astype(int)
    return sorted([*slow, *(others[place] for place in chosen)])


def timeline(trace: Trace, axes: Axes) -> tuple[int, int] | None:
    """Draw the workers' tasks in an interval of time; return the interval in ns."""
    axes.grid(False)
    if not trace.arrivals.rows:
        axes.set_title("No arrivals")
        axes.set_axis_off()
        return None
    pace = timing.pace(trace.arrivals, description.workers_of(trace))
    begin, end = window_ns(trace.arrivals, pace)
    scale, unit = (1e-9, "s") if end - begin > 5e9 else (1e-6, "ms")
    chosen, slow = lanes(pace), pace.slow()
    rows = list(timing.by_worker(trace.arrivals, len(pace.arrivals)))
    for lane, worker in enumerate(chosen):
        _lane(trace, axes, lane, rows[worker], (begin, end), scale, worker in slow)
    seconds = 1e-9 * int(trace.arrivals["t_recv_ns"].max()) / int(trace.attributes.get("sample", 1))
    _label(axes, chosen, slow, pace.arrivals[chosen] / max(seconds, 1e-9))
    axes.set_xlim(0, (end - begin) * scale)
    axes.set_xlabel(f"time, {unit} after {begin * 1e-9:.3f} s")
    axes.set_title(_who(pace), pad=26)  # the legend is between
    _legend(axes)
    return begin, end


def _lane(
    trace: Trace, axes: Axes, lane: int, rows: np.ndarray, window: tuple[int, int], scale: float, slow: bool
) -> None:
    """Draw one worker's tasks."""
    begin, end = window
    table = trace.arrivals
    rows = rows[(table["t_recv_ns"][rows] >= begin) & (table["t_start_ns"][rows] <= end)]
    start, ready, send, recv = (
        (table[f"t_{event}_ns"][rows] - begin) * scale for event in ("start", "compute", "send", "recv")
    )
    dark, light = (ORANGE, LIGHT_ORANGE) if slow else (BLUE, LIGHT_BLUE)
    axes.hlines(np.full(len(rows), lane), send, recv, color=GREY, linewidth=1)
    axes.barh(np.full(len(rows), lane), send - ready, left=ready, height=0.62, color=light, linewidth=0)
    axes.barh(np.full(len(rows), lane), ready - start, left=start, height=0.62, color=dark, linewidth=0)
    axes.vlines(recv, lane - 0.42, lane + 0.42, color=INK, linewidth=1.1)


def _label(axes: Axes, chosen: list[int], slow: list[int], rates: np.ndarray) -> None:
    """Label the lanes with workers on the left and arrivals per second on the right."""
    axes.set_ylim(len(chosen) - 0.4, -0.6)
    axes.set_yticks(range(len(chosen)), [f"worker {worker}" for worker in chosen])
    axes.tick_params(axis="y", length=0, labelsize=11 if len(chosen) <= 10 else 9)
    axes.spines["left"].set_visible(False)
    right = axes.get_yaxis_transform()
    for lane, (label, worker) in enumerate(zip(axes.get_yticklabels(), chosen, strict=True)):
        if worker in slow:
            label.set(color=ORANGE, fontweight="bold")
        colour = ORANGE if worker in slow else GREY
        text = axes.annotate(f"{rates[lane]:.3g}/s", (1, lane), (5, 0), right, "offset points", va="center")
        text.set(color=colour, fontsize=10)


def _who(pace: timing.Pace) -> str:
    """Make the title."""
    slow = pace.slow()
    if len(slow) == 1:
        return f"Worker {slow[0]} is slow: {ratio(pace.ratio[slow[0]])} the others' task time"
    names = listing([str(worker) for worker in slow[:4]]) + (" …" if len(slow) > 4 else "")
    return f"Workers {names} are slow" if slow else "The workers' tasks"


def _legend(axes: Axes) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Patch(color=BLUE, label="compute"),
        Patch(color=LIGHT_BLUE, label="injected delay"),
        Line2D([], [], color=INK, marker="|", linestyle="", markersize=11, label="arrival"),
    ]
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=3, frameon=False, fontsize=11,
        handlelength=1.4, columnspacing=1.4, borderaxespad=0.1,
    )  # fmt: skip
