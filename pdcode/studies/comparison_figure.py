"""The figure of a comparison: loss against time and bytes, with bands over the seeds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..analysis.comparison import TIMES, complete, scale
from ..analysis.style import BLUE, DASHES, GREY, INK, LIGHT_BLUE, LINES, sheet
from ..util.formats import duration, size
from .measurement import Curves
from .ranking import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE = 13, 5.6  # inches
POINTS = 400  # points of a band
MAX_SCHEMES = 12  # schemes in the figure, the first by rank


def draw(rows: Sequence[Row[str]], clock: str) -> Figure:
    """Draw the median and the range of each scheme's training loss against time and against bytes.

    A run's loss stays at its last value after the end of the run, which is marked by a dot.
    """
    shown = {row.candidate: [run.curves for run in row.runs] for row in rows}
    shown = {name: runs for name, runs in shown.items() if any(len(curves["t_s"]) for curves in runs)}
    shown = dict(itertools.islice(shown.items(), MAX_SCHEMES))
    every = [curves for runs in shown.values() for curves in runs]
    with sheet(*SIZE) as drawing:
        panels = drawing.subplots(1, 2, sharey=True)
        for axes, key in zip(panels, ("t_s", "bytes"), strict=True):
            start = scale(axes, [curves[key] for curves in every])
            for number, (name, runs) in enumerate(shown.items()):
                colour, dashes = LINES[number % len(LINES)], DASHES[number // len(LINES) % len(DASHES)]
                at, low, middle, high = band(runs, key, start, axes.get_xscale() == "log")
                axes.plot(at, middle, color=colour, linestyle=dashes, linewidth=2, label=name)
                if len(runs) > 1:
                    axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
                axes.plot(at[-1:], middle[-1:], "o", color=colour, markersize=5)
        goal = rows[0].goal
        target = goal.level if goal is not None and goal.kind == "loss" else None
        if len(shown) < len(rows):
            note = f"The first {len(shown)} of {len(rows)} schemes"
            drawing.text(0.995, 0.995, note, ha="right", va="top", color=GREY, fontsize=10)
        losses, titles = [curves["loss"] for curves in every], (_fastest(rows[0]), _fewest_bytes(rows))
        complete(drawing, losses, target, TIMES[clock == "virtual"], titles)
    return drawing


def band(
    runs: Sequence[Curves], key: str, start: float, logarithmic: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return positions up to the last run's end, and the runs' least, median and largest losses there."""
    ends = [float(curves[key][-1]) for curves in runs if len(curves[key])]
    end, first = max(ends, default=1.0), max(start, 0.0)
    at = np.geomspace(first, max(end, first), POINTS) if logarithmic else np.linspace(first, end, POINTS)
    losses = np.array([np.interp(at, curves[key], curves["loss"]) for curves in runs if len(curves[key])])
    return at, losses.min(axis=0), np.median(losses, axis=0), losses.max(axis=0)


def _fastest(first: Row[str]) -> str:
    if first.goal is None or first.missed:
        return "Training loss against time"
    target, time = first.goal.format_value(first.goal.bound), duration(1e9 * first.time.mean)
    return f"{first.candidate} reaches {target} first, after {time}"


def _fewest_bytes(rows: Sequence[Row[str]]) -> str:
    sums = {
        row.candidate: float(np.median([run.bytes_up + run.bytes_down for run in row.runs]))
        for row in rows
        if not row.missed
    }
    if rows[0].goal is None or not sums:
        return "… and against bytes"
    name = min(sums, key=sums.__getitem__)
    return f"{name} needs the fewest bytes for it: {size(sums[name])}"


def heat_map(standings: Mapping[str, Sequence[Row[str] | None]], names: Sequence[str]) -> Figure:
    """Draw the time of each scheme, in the order of `standings`, as a multiple of the first's in comparisons.

    A cell is a scheme in a comparison; it is empty where the scheme is missing, or all missed the target.
    """
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    multiples = [[row.speedup.ratio.mean if row else math.nan for row in rows] for rows in standings.values()]
    with sheet(2.6 + 1.5 * len(names), 1.2 + 0.42 * len(standings)) as drawing:
        axes = drawing.subplots()
        colours = LinearSegmentedColormap.from_list("multiples", ["#eef4f8", LIGHT_BLUE, BLUE])
        axes.pcolormesh(
            multiples, cmap=colours, norm=LogNorm(1, 10, clip=True), edgecolor="white", linewidth=2
        )
        for place, rows in enumerate(standings.values()):
            for column, row in enumerate(rows):
                if row is not None and row.speedup.ratio.mean > 0:
                    ink = "white" if row.speedup.ratio.mean > 5 else INK
                    axes.text(
                        column + 0.5, place + 0.5, row.speedup.text, ha="center", va="center", color=ink
                    )
        axes.set_xticks(np.arange(len(names)) + 0.5, names)
        axes.set_yticks(np.arange(len(standings)) + 0.5, standings)
        axes.invert_yaxis()
        axes.tick_params(length=0)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set_title("Time to the target, as a multiple of the first's")
    return drawing
