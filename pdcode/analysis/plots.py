"""The figure of a run: loss and accuracy against time, and the workers' timeline."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..trace.reader import TraceReader
from ..util.errors import InputError, expected
from . import description, timing
from .gain import Gain
from .gain import time_s as reached_s
from .style import BLUE, GREEN, GREY, INK, LIGHT_BLUE, loss_axis, mark_target, sheet
from .timeline import LANES, timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = 12, 5.6  # inches
BINS = 120  # bins of the curve of arrivals per second
RISE = 0.2  # first fraction of the time, which does not determine the axis of the accuracy


def draw_kind(trace: TraceReader, kind: str) -> Figure:
    """Draw one of the figures of a run; see `Trace.plot`."""
    from ..codes.code import Code
    from ..codes.summary import quality
    from ..differences.fit import fitted
    from . import code_plots, fit_plots
    from .waiting import gain

    if kind == "run":
        return draw(trace)
    if kind == "gain":
        with gain(trace) as found:
            if found is None:
                raise InputError(
                    "kind: 'gain': the run waits for all, or waiting for all cannot be simulated"
                )
            return draw_gain(found)
    if kind == "fit":
        if (fit := fitted(trace)) is None:
            raise InputError("kind: 'fit': the run is no search with residuals, or has not ended")
        return fit_plots.draw(trace, fit)
    if kind == "code":
        return code_plots.draw([(code, quality(code)) for code in Code.load_all(trace.path).values()])
    panels: dict[str, Callable[[TraceReader, Axes], object]]
    panels = {"loss": loss, "accuracy": accuracy, "timeline": timeline, "rate": rate}
    if kind not in panels:
        raise InputError(f"kind: {expected(kind, ['run', *panels, 'gain', 'fit', 'code'])}")
    with sheet(8, 4.5) as drawing:
        panels[kind](trace, drawing.subplots())
    return drawing


def draw(trace: TraceReader) -> Figure:
    """Draw a run, finished or not."""
    with sheet(*SIZE) as drawing:
        grid = drawing.add_gridspec(1, 2, width_ratios=(1, 1.25))
        left, right = drawing.add_subfigure(grid[0]), drawing.add_subfigure(grid[1])
        drawing.suptitle(_title(trace), x=0.01, ha="left", fontsize=12, color=GREY)
        if np.isnan(trace.progress["accuracy"]).all():
            loss(trace, left.subplots())
        else:
            above, below = left.subplots(2, 1, sharex=True, height_ratios=(2.1, 1))
            loss(trace, above)
            accuracy(trace, below)
            above.set_xlabel("")
        above, below = right.subplots(2, 1, height_ratios=(2.4, 1))
        rate(trace, below, timeline(trace, above))
    return drawing


def draw_gain(gain: Gain) -> Figure:
    """Draw a run beside the same job that waits for all workers: the losses, and both timelines."""
    lanes = min(gain.run.worker_count, LANES)
    with sheet(SIZE[0], SIZE[1] + 0.6 + 0.3 * max(0, lanes - 8)) as drawing:
        grid = drawing.add_gridspec(1, 2, width_ratios=(1, 1.25))
        left, right = drawing.add_subfigure(grid[0]), drawing.add_subfigure(grid[1])
        title = str(gain)
        size = min(15, 1450 / len(title))  # one line
        drawing.suptitle(title, x=0.01, ha="left", fontsize=size, fontweight="bold")
        origin = "waiting for all: simulated under the recorded delays"
        drawing.supxlabel(f"{_title(gain.run)}   ·   {origin}", x=0.01, ha="left", fontsize=10.5, color=GREY)
        _losses(gain, left.subplots())
        above, below = right.subplots(2, 1)
        window = timeline(gain.run, above)
        idle = timing.idle(gain.waiting, description.stop_ns(gain.waiting))
        timeline(
            gain.waiting,
            below,
            f"Waiting for all: workers idle {100 * idle:.0f} % of the time",
            window,
        )
        below.set_xlabel(below.get_xlabel().partition(" after")[0] + ", in the middle of each run")
        above.set_xlabel("")
    return drawing


def _losses(gain: Gain, axes: Axes) -> None:
    """Draw the losses of a run and of the job that waits, and mark when they reach the level."""
    others_s = min(gain.waiting_s, 1e-9 * description.stop_ns(gain.waiting))
    until, low = 1.18 * max(gain.run_s, others_s), axes.get_xaxis_transform()
    names = (
        f"waiting for all {gain.run.worker_count:,} workers, simulated",
        f"as it ran: {description.policy(gain.run)}",
    )
    losses = []
    for place, (trace, name, colour) in enumerate(
        zip((gain.waiting, gain.run), names, (GREY, BLUE), strict=True)
    ):
        shown = trace.progress["t_ns"] <= 1e9 * until
        times, loss = (trace.progress[column][shown] for column in ("t_ns", "loss"))
        axes.plot(1e-9 * times, loss, color=colour, linewidth=2.4)
        axes.text(
            0.98, 0.96 - 0.06 * place, name, color=colour, transform=axes.transAxes, ha="right", va="top"
        )
        losses.append(loss)
        if np.isfinite(time_s := reached_s(trace, gain.level)):
            axes.plot([time_s], [gain.level], "o", color=colour, markersize=7)
            axes.vlines(time_s, 0, gain.level, colour, linestyle=":", linewidth=1.2)
            right = trace is gain.waiting or time_s < 0.15 * until
            axes.annotate(
                gain.time(time_s), (time_s, 0), (4 if right else -4, 5), low, "offset points",
                color=colour, fontweight="bold", ha="left" if right else "right",
            )  # fmt: skip
    loss_axis(axes, losses, gain.level)
    axes.set_xlim(0, until)
    axes.set_xlabel("time, s")
    axes.set_title("Training loss")
    ways = {"arrowstyle": "<->", "color": INK, "shrinkA": 7, "shrinkB": 7}
    axes.annotate("", (others_s, gain.level), (gain.run_s, gain.level), arrowprops=ways)
    if others_s - gain.run_s > 0.2 * until:
        box = {"facecolor": "white", "edgecolor": "none", "pad": 2.5}
        middle = (gain.run_s + others_s) / 2
        axes.text(
            middle, gain.level, f"{gain.factor}×", fontweight="bold", ha="center", va="center", bbox=box
        )


def _title(trace: TraceReader) -> str:
    """Describe the run in one line."""
    lines = description.lines(trace)
    topics = ("problem", "workers", "scheme", "code", "update")
    return "   ·   ".join(re.split(r"[,;] | \(", lines[topic])[0] for topic in topics if topic in lines)


def loss(trace: TraceReader, axes: Axes) -> None:
    """Draw the training loss against time."""
    times, values = 1e-9 * trace.progress["t_ns"], trace.progress["loss"]
    if not len(values):
        without = trace.attributes.get("numerics") is False
        return _empty(
            axes, "No loss: no gradients were computed" if without else "No loss has been measured yet"
        )
    axes.plot(times, values, color=BLUE, linewidth=2)
    target = trace.table("stop").get("loss")
    loss_axis(axes, [values], target)
    if target:
        mark_target(axes, target)
    _seconds(trace, axes)
    axes.set_title(f"Training loss, {values[-1]:.3g} {_end(trace)}")


def accuracy(trace: TraceReader, axes: Axes) -> None:
    """Draw the test accuracy against time; the axis does not show the first rise."""
    times, values = 1e-9 * trace.progress["t_ns"], trace.progress["accuracy"]
    name = description.accuracy_name(trace.table("problem"))
    measured = np.flatnonzero(~np.isnan(values))
    if not len(measured):
        return _empty(axes, f"No {name} has been measured")
    axes.plot(times, values, color=GREEN, linewidth=1.4)
    later = values[measured[times[measured] >= RISE * times[measured[-1]]]]
    low, high = float(later.min()), float(np.nanmax(values))
    if target := trace.table("stop").get("accuracy"):
        mark_target(axes, target, above=True)
        high = max(high, target)
    margin = 0.12 * max(high - low, 0.005)
    axes.set_ylim(low - margin, high + margin * (3 if target else 1))
    axes.set_ylabel(name)
    axes.set_title(f"Test {name}, {values[measured[-1]]:.3f} {_end(trace)}")
    _seconds(trace, axes)


def _empty(axes: Axes, title: str) -> None:
    axes.set_title(title)
    axes.set_axis_off()


def _end(trace: TraceReader) -> str:
    return "at the end" if trace.finished else "so far"


def _seconds(trace: TraceReader, axes: Axes) -> float:
    """Scale the axis of time to the length of the run; return its end in s."""
    end = max(1e-9 * description.stop_ns(trace), 1e-3)
    axes.set_xlim(0, end)
    axes.locator_params(axis="x", nbins=6)  # times of a short run have many digits
    axes.set_xlabel("virtual time, s" if description.is_virtual(trace) else "time, s")
    return end


def rate(trace: TraceReader, axes: Axes, window: tuple[int, int] | None = None) -> None:
    """Draw arrivals per second against time, and mark the interval `window` in ns."""
    if not trace.arrivals.rows:
        return _empty(axes, "No arrivals recorded")
    scale, end = trace.scale, _seconds(trace, axes)
    times = 1e-9 * trace.arrivals["t_recv_ns"]
    bins = int(np.clip(np.count_nonzero(times <= end) // 20, 1, BINS))
    counts, edges = np.histogram(times, bins, (0, end))
    rates = scale * counts / np.diff(edges)
    axes.stairs(rates, edges, color=LIGHT_BLUE, fill=True)
    axes.stairs(rates, edges, color=BLUE, linewidth=1.5, baseline=None)
    axes.set_ylim(0, 1.15 * max(rates.max(), 1))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_title("Arrivals per second" + (" (grey: the interval above)" if window else ""))
    if window:
        axes.axvspan(window[0] * 1e-9, window[1] * 1e-9, facecolor=GREY, edgecolor=INK, alpha=0.5)
