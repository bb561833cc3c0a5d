"""The figure of a run: loss and accuracy against time, and the workers' timeline."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import numpy as np

from ..trace.reader import Trace
from . import description, timing
from .style import BLUE, GREEN, GREY, INK, LIGHT_BLUE, canvas
from .timeline import timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 120  # bins of the curve of arrivals per second


def figure(trace: Trace, path: str | os.PathLike[str]) -> None:
    """Draw a run, finished or not, to a file: png (2400 pixels wide), svg or pdf."""
    with canvas(path, 12, 5.6) as drawing:
        _draw(trace, drawing)


def _draw(trace: Trace, drawing: Figure) -> None:
    grid = drawing.add_gridspec(1, 2, width_ratios=(1, 1.25))
    left, right = drawing.add_subfigure(grid[0]), drawing.add_subfigure(grid[1])
    drawing.suptitle(_title(trace), x=0.01, ha="left", fontsize=12, color=GREY)
    length = timing.length_ns([trace.arrivals, trace.updates, trace.progress])
    if np.isnan(trace.progress["accuracy"]).all():
        _loss(trace, left.subplots(), length)
    else:
        above, below = left.subplots(2, 1, sharex=True, height_ratios=(2.4, 1))
        _loss(trace, above, length)
        _accuracy(trace, below, length)
        above.set_xlabel("")
    above, below = right.subplots(2, 1, height_ratios=(2.4, 1))
    window = timeline(trace, above)
    _rate(trace, below, length, window)


def _title(trace: Trace) -> str:
    """Describe the run in one line."""
    lines = description.lines(trace)
    topics = ("problem", "workers", "scheme", "code", "update")
    return "   ·   ".join(re.split(r"[,;]| \(", lines[topic])[0] for topic in topics if topic in lines)


def _loss(trace: Trace, axes: Axes, length: int) -> None:
    times, loss = 1e-9 * trace.progress["t_ns"], trace.progress["loss"]
    axes.plot(times, loss, color=BLUE, linewidth=2)
    finite = loss[np.isfinite(loss)]
    if len(finite) and finite.min() > 0 and finite.max() > 5 * finite.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    target = (trace.config.get("stop") or {}).get("loss")
    if target:
        axes.axhline(target, color=GREY, linestyle="--", linewidth=1)
        axes.annotate("target", (1, target), (-2, 3), axes.get_yaxis_transform(), "offset points", ha="right")
    _seconds(axes, length)
    axes.set_title(f"Training loss, {loss[-1]:.3g} at the end" if len(loss) else "Loss is not measured yet")


def _accuracy(trace: Trace, axes: Axes, length: int) -> None:
    times, accuracy = 1e-9 * trace.progress["t_ns"], trace.progress["accuracy"]
    axes.plot(times, accuracy, color=GREEN, linewidth=2)
    name = description.accuracy_name(trace.config.get("problem") or {})
    last = accuracy[~np.isnan(accuracy)][-1]
    axes.set_title(f"Test {name}, {last:.3f} at the end")
    axes.set_ylim(max(-0.05, float(np.nanmin(accuracy)) - 0.05), 1.02)
    _seconds(axes, length)


def _seconds(axes: Axes, length: int) -> None:
    axes.set_xlim(0, max(1e-9 * length, 1e-3))
    axes.set_xlabel("time, s")


def _rate(trace: Trace, axes: Axes, length: int, window: tuple[int, int] | None) -> None:
    """Draw arrivals per second over the whole run."""
    sample = int(trace.attributes.get("sample", 1))
    bins = int(np.clip(trace.arrivals.rows // 20, 1, BINS))
    counts, edges = np.histogram(1e-9 * trace.arrivals["t_recv_ns"], bins, (0, max(1e-9 * length, 1e-3)))
    rate = sample * counts / np.diff(edges)
    axes.stairs(rate, edges, color=LIGHT_BLUE, fill=True)
    axes.stairs(rate, edges, color=BLUE, linewidth=1.5, baseline=None)
    axes.set_ylim(0, 1.15 * max(rate.max(), 1))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_title("Arrivals a second" + (" (grey: the stretch above)" if window else ""))
    _seconds(axes, length)
    if window:
        axes.axvspan(window[0] * 1e-9, window[1] * 1e-9, facecolor=GREY, edgecolor=INK, alpha=0.5)
