"""The figure of a fit: values and observations, parameters with their intervals, cost over evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..differences.fit import Fit
from ..differences.program import read_observed
from ..trace.reader import TraceReader
from ..util.errors import InputError
from . import description
from .style import BLUE, GREY, LIGHT_BLUE, ORANGE, loss_axis, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 24  # parameters, those with the widest intervals, relative to their values


def draw(trace: TraceReader, fit: Fit) -> Figure:
    """Draw the fit of a search that has ended."""
    with sheet(12, 5.6) as drawing:
        grid = drawing.add_gridspec(1, 2, width_ratios=(1.25, 1))
        left, right = drawing.add_subfigure(grid[0]), drawing.add_subfigure(grid[1])
        drawing.suptitle(description.headline(trace), x=0.01, ha="left", fontsize=12, color=GREY)
        above, below = left.subplots(2, 1, height_ratios=(1.15, 1))
        _values(trace, fit, above)
        cost(trace, below)
        _parameters(fit, right.subplots())
    return drawing


def _values(trace: TraceReader, fit: Fit, axes: Axes) -> None:
    """Draw what was observed and the fit, or, without a file of what was observed, the residuals."""
    path, observed = trace.table("problem").get("observed"), None
    if path is not None:
        try:
            observed = read_observed(path)
        except InputError:  # the file has gone
            observed = None
    places = np.arange(len(fit.residuals))
    if observed is not None and len(observed) == len(places):
        axes.plot(places, observed, ".", color=GREY, markersize=6, label="observed")
        axes.plot(places, observed + fit.residuals, color=BLUE, linewidth=2, label="fit")
        axes.legend(frameon=False)
        axes.set_title("Observed, and the fit")
        axes.set_xlabel("number of the value")
        return
    axes.axhline(0, color=GREY, linewidth=1)
    axes.plot(places, fit.residuals, ".", color=BLUE, markersize=6)
    axes.set_title(f"Residuals, s = {fit.variance**0.5:.3g}")
    axes.set_xlabel("number of the residual")


def _parameters(fit: Fit, axes: Axes) -> None:
    """Draw the parameters' intervals in % of their values."""
    size = np.where(fit.x == 0, 1.0, np.abs(fit.x))
    half = 100 * (fit.intervals[:, 1] - fit.x) / size
    order = np.argsort(-np.where(np.isfinite(half), half, np.inf), kind="stable")[:SHOWN]
    finite = half[order][np.isfinite(half[order])]
    edge = 1.15 * finite.max(initial=0.0) or 1.0
    for row, place in enumerate(order.tolist()):
        known = np.isfinite(half[place])
        reach = half[place] if known else edge
        axes.plot([-reach, reach], [row, row], color=LIGHT_BLUE if known else ORANGE, linewidth=6)
        axes.plot(0, row, "o", color=BLUE, markersize=6)
        error = f" ± {fit.deviations[place]:.2g}" if known else ", not determined"
        held = ", at its bound" if fit.at_bound[place] else ""
        axes.annotate(
            f"{fit.x[place]:.5g}{error}{held}", (1, row), (8, 0), ("axes fraction", "data"), "offset points",
            va="center", fontsize=11,
        )  # fmt: skip
    axes.set_yticks(range(len(order)), [fit.names[place] for place in order])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(-edge, edge)
    axes.set_xlabel("95 % interval, % of the value")
    more = f", {SHOWN} of {len(half)}" if len(half) > SHOWN else ""
    axes.set_title(f"Parameters{more}")


def cost(trace: TraceReader, axes: Axes) -> None:
    """Draw the cost of each evaluation, and the least so far."""
    costs = trace.arrivals["loss"]
    known = np.isfinite(costs)
    numbers, least = np.arange(1, len(costs) + 1), np.fmin.accumulate(np.where(known, costs, np.inf))
    axes.plot(numbers[known], costs[known], ".", color=GREY, markersize=4)
    axes.step(numbers[np.isfinite(least)], least[np.isfinite(least)], where="post", color=BLUE, linewidth=2)
    failed = numbers[~known]
    if len(failed):
        axes.plot(failed, np.full(len(failed), 0.97), "x", color=ORANGE, transform=axes.get_xaxis_transform())
    loss_axis(axes, [least[np.isfinite(least)]], None)
    axes.set_ylabel("cost")
    axes.set_xlabel(f"evaluations{', ×: failed' if len(failed) else ''}")
    axes.set_title("Cost of evaluations, and the least so far")
