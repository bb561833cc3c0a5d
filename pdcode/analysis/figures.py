"""The charts of a report as figures for papers, drawn with matplotlib in the style of all figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import style
from .charts import Chart, Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT, LANE = 7.2, 3.6, 0.28  # inches of a figure, and of a lane
KEYS = 5  # of a line of the legend


def draw(chart: Chart) -> Figure:
    """Draw a chart."""
    height = LANE * len(chart.lanes) + 1.5 if chart.lanes else HEIGHT
    with style.sheet(WIDTH, height) as drawing:
        axes = drawing.subplots()
        for curve in chart.curves:
            colour = style.coloured(style.PAPER, curve.colour)
            axes.plot(*curve.points, color=colour, linewidth=1.8, label=curve.name)
            if curve.band:
                axes.fill_between(curve.x, *curve.band, color=colour, alpha=0.15, linewidth=0)
        _bars(chart, axes)
        if chart.image is not None:
            _image(chart.image, axes)
        if chart.target:
            style.mark_target(axes, chart.target)
        if chart.logarithmic:
            style.loss_axis(axes, [curve.y for curve in chart.curves], chart.target)
        axes.set_xlim(*(chart.view or chart.x_range))
        if chart.y_range is not None:
            axes.set_ylim(*chart.y_range)
        axes.set_xlabel(chart.x)
        axes.set_ylabel(chart.y)
        keys = {name: handle for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)}
        lines = -(-len(keys) // KEYS)
        axes.set_title(chart.title, pad=10 + 16 * lines if len(keys) > 1 else None)  # above the legend
        if len(keys) > 1:
            legend = axes.legend(
                keys.values(), keys.keys(), loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=KEYS,
                frameon=False, fontsize=10, handlelength=1.2, columnspacing=1.0, borderaxespad=0.1,
                handletextpad=0.5,
            )  # fmt: skip
            legend.set_in_layout(False)
    return drawing


def _bars(chart: Chart, axes: Axes) -> None:
    begin, end = chart.view or chart.x_range
    for bars in chart.bars:
        seen, colour = (bars.right >= begin) & (bars.left <= end), style.coloured(style.PAPER, bars.colour)
        lane, left, right = bars.lane[seen], bars.left[seen], bars.right[seen]
        if not len(lane):
            continue
        if bars.marks:
            half = bars.height / 2
            axes.vlines(left, lane - half, lane + half, colour, linewidth=0.8, label=bars.name)
        else:
            axes.barh(
                lane, right - left, bars.height, left, color=colour, linewidth=0,
                alpha=style.FAINT if bars.faint else 1, label=bars.name,
            )  # fmt: skip
    if chart.lanes:
        axes.grid(False)
        axes.set_yticks(np.arange(len(chart.lanes)), chart.lanes, fontsize=10)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)


def _image(image: Image, axes: Axes) -> None:
    from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize

    norm = (LogNorm if image.low > 0 else Normalize)(image.low, image.high)
    left, right, top, bottom = image.extent
    colours = LinearSegmentedColormap.from_list("ramp", ["#f2f2f2", style.PAPER[image.colour]])
    drawn = axes.imshow(
        np.maximum(image.values, image.low), colours.with_extremes(bad="white"), norm=norm, aspect="auto",
        extent=(left, right, bottom, top), interpolation="nearest",
    )  # fmt: skip
    bar = axes.figure.colorbar(drawn, ax=axes, pad=0.02, fraction=0.05, ticks=[image.low, image.high])
    bar.minorticks_off()
    bar.ax.set_yticklabels(image.legend)
    bar.outline.set_visible(False)
    axes.grid(False)
