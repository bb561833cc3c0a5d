"""The table and the figure that compare several runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING
from warnings import catch_warnings, simplefilter

import numpy as np

from ..trace.reader import TraceReader
from ..util.formats import DASH, duration, listing, number, percent, ratio, size, span
from . import description, gain, prediction, printing, statistics
from .style import DASHES, GREY, LINES, loss_axis, sheet
from .summary import Summary, summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.table import Table

SIZE = 12, 4.8  # inches
TIMES = "time, s", "virtual time, s"  # labels of the real and the virtual clock's times
FAR = 20  # ratio of the longest to the shortest run above which an axis is logarithmic
DECADES = 1e3  # ratio of the shortest run's length to the earliest start of a logarithmic axis


def names(traces: Sequence[TraceReader]) -> list[str]:
    """Return names of runs, after their files."""
    return stems([trace.path for trace in traces])


def stems(paths: Sequence[str | Path], ending: str = "") -> list[str]:
    """Return the names of files without folder, `ending` and extension; paths where names coincide."""
    names = [Path(path).stem.removesuffix(ending) for path in paths]
    return [stem if names.count(stem) == 1 else str(path) for path, stem in zip(paths, names, strict=True)]


def show(traces: Sequence[TraceReader], console: Console | None = None) -> None:
    """Print a table with a row for each run."""
    section: printing.Section = "", [table(traces), *map(printing.note, notes(traces))]
    printing.show([section], console)


def table(traces: Sequence[TraceReader]) -> Table:
    """Return a table of the headline figures of runs."""
    summaries = [summarise(trace) for trace in traces]
    targets = {summary.target for summary in summaries} - {""}
    target = f"to {targets.pop()}" if len(targets) == 1 else "to target"
    columns = (
        "run", "scheme", "policy", "workers", "updates", "time", target, "loss", "accuracy", "up", "down",
        "wasted", "ended",
    )  # fmt: skip
    rows = printing.make_table(*columns, left=("run", "scheme", "policy", "ended"), fold=False)
    for name, trace, summary in zip(names(traces), traces, summaries, strict=True):
        reached = _reached(summary)
        rows.add_row(
            name,
            summary.scheme or DASH,
            description.policy(trace).split(" of ")[0] or DASH,
            f"{summary.workers:,}",
            f"{summary.updates:,}",
            duration(1e9 * summary.seconds),
            f"{summary.target}: {reached}" if target == "to target" and summary.target else reached,
            number(summary.loss),
            number(summary.accuracy),
            _size(summary.bytes_up),
            _size(summary.bytes_down),
            DASH if math.isnan(summary.wasted) else f"{percent(summary.wasted, 1)} %",
            description.outcome(trace),
        )
    return rows


INTERVALS = (
    "Ratios to the first run, with 95 % intervals: Welch's, of the logarithms of the means in 20 intervals "
    "of each run, as if these were independent."
)
PARTS = 20  # intervals of a run
WRITTEN: dict[str, Callable[[float], str]] = {
    "updates a second": number,
    "payloads a second": number,
    "task time": duration,
}


def changes(traces: Sequence[TraceReader]) -> Table:
    """Return a table with rates and task times of each run, and their ratios to the first run's."""
    found = printing.make_table("run", *chain(*((name, "of the first") for name in WRITTEN)), left=("run",))
    parts = [_in_parts(trace) for trace in traces]
    for name, own in zip(names(traces), parts, strict=True):
        cells = list[str]()
        for what, write in WRITTEN.items():
            known = own[what][own[what] > 0]
            cells += [write(known.mean()) if len(known) else DASH, _ratio(own[what], parts[0][what])]
        found.add_row(name, *cells)
    return found


def _ratio(own: np.ndarray, first: np.ndarray) -> str:
    """Return the ratio of means in intervals of two runs, with its 95 % interval."""
    from scipy.stats import ttest_ind  # takes a second

    new, old = own[own > 0], first[first > 0]
    if own is first or len(old) < 2 or len(new) < 2:
        return DASH
    with np.errstate(divide="ignore", invalid="ignore"), catch_warnings():  # of equal values
        simplefilter("ignore", RuntimeWarning)
        interval = ttest_ind(np.log(new), np.log(old), equal_var=False).confidence_interval()
    low, high = (math.exp(end) if math.isfinite(end) else math.nan for end in interval)
    within = f" ({span(number(low, 3), number(high, 3))})" if low < high else ""
    return ratio(math.exp(np.log(new).mean() - np.log(old).mean())) + within


def headline(traces: Sequence[TraceReader]) -> str:
    """Return which run was first at the loss that all reached, or ended first, and by what factors."""
    problems = [prediction.measured(trace) for trace in traces]
    levels = [level for trace in traces if (level := gain.level_of(trace)) is not None]
    what, times_s = "ends", [1e-9 * description.stop_ns(trace) for trace in traces]
    if levels and all(problem == problems[0] for problem in problems):
        what = f"reaches loss {max(levels):g}"
        times_s = [gain.time_s(trace, max(levels)) for trace in traces]
    labels, order = names(traces), np.argsort(times_s, kind="stable").tolist()
    best, *others = order
    text = f"{labels[best]} {what} first, after {duration(1e9 * times_s[best])}"
    factors = [
        f"{number(times_s[other] / times_s[best], 3)} times as fast as {labels[other]}"
        for other in others
        if times_s[best] > 0 and times_s[other] < math.inf
    ]
    text += f": {listing(factors)}" if factors else ""
    if missed := [labels[other] for other in others if times_s[other] == math.inf]:
        text += f"; {listing(missed)} did not"
    if len(others) == 1:
        rates = [_in_parts(traces[run])["updates a second"] for run in order]
        text += f"; {_ratio(*rates)} the updates a second"
    return text


def _in_parts(trace: TraceReader) -> dict[str, np.ndarray]:
    """Return rates and mean task times (ns) in intervals of a run; nan in intervals without tasks."""
    edges = np.linspace(0, max(description.stop_ns(trace), 1), PARTS + 1)
    rows, scale = trace.arrivals, trace.scale
    each_s = 1e-9 * np.diff(edges)
    arrived = np.histogram(rows["t_recv_ns"], edges)[0]
    taken = np.histogram(rows["t_recv_ns"], edges, weights=rows["t_recv_ns"] - rows["t_dispatch_ns"])[0]
    return {
        "updates a second": np.histogram(trace.updates["t_ns"], edges)[0] / each_s,
        "payloads a second": scale * arrived / each_s,
        "task time": taken / np.maximum(arrived, 1),
    }


def _size(count: float) -> str:
    return DASH if math.isnan(count) else size(count)


def _reached(summary: Summary) -> str:
    if not math.isfinite(summary.target_s):
        return DASH if math.isnan(summary.target_s) else "not reached"
    low, high = duration(1e9 * summary.above_s), duration(1e9 * summary.target_s)
    return high if low == high else span(low, high)


def notes(traces: Sequence[TraceReader]) -> list[str]:
    """Explain the table, and list the limits of the comparison."""
    texts = [
        "time: until the stop; up, down: bytes of payloads and of tasks; wasted: fraction of the payloads"
    ]
    virtual = [
        name for name, trace in zip(names(traces), traces, strict=True) if description.is_virtual(trace)
    ]
    if virtual:
        texts.append(f"virtual time: {'all' if len(virtual) == len(traces) else listing(virtual)}")
    measured = [prediction.measured(trace) for trace in traces if trace.progress.rows]
    if any(problem != measured[0] for problem in measured):
        texts.append("The problems differ, so that losses are not comparable.")
    wrong = [(name, trace.descent) for name, trace in zip(names(traces), traces, strict=True)]
    return [*texts, *(f"{name}: {each.line}" for name, each in wrong if each and not each.missed)]


def draw(traces: Sequence[TraceReader]) -> Figure:
    """Draw the training losses of runs against time and bytes."""
    with sheet(*SIZE) as drawing:
        left, right = drawing.subplots(1, 2, sharey=True)
        labels, virtual = names(traces), [description.is_virtual(trace) for trace in traces]
        one_clock = len({*virtual}) == 1
        measured = [(trace.progress["loss"], 1e-9 * trace.progress["t_ns"], sent(trace)) for trace in traces]
        starts = (
            scale(left, [times for _, times, _ in measured]),
            scale(right, [sizes for *_, sizes in measured]),
        )
        for place, (name, (loss, *positions)) in enumerate(zip(labels, measured, strict=True)):
            label = name if one_clock else f"{name} ({'virtual' if virtual[place] else 'real'} clock)"
            colour, dashes = LINES[place % len(LINES)], DASHES[place // len(LINES) % len(DASHES)]
            for axes, position, start in zip((left, right), positions, starts, strict=True):
                shown = np.maximum(position, start)
                axes.plot(shown, loss, color=colour, linestyle=dashes, linewidth=2, label=label)
                axes.plot(shown[-1:], loss[-1:], "o", color=colour, markersize=6)
        targets = {trace.table("stop").get("loss") for trace in traces}
        target = targets.pop() if len(targets) == 1 else None
        titles = ["Training loss against time", "Training loss against bytes"]
        reached = [
            (times[at[0]], count[at[0]], name)
            for (loss, times, count), name in zip(measured, labels, strict=True)
            if len(at := np.flatnonzero(loss <= (target or -math.inf)))
        ]
        if reached:
            seconds, _, name = min(reached)
            if one_clock:  # times of different clocks are not comparable
                titles[0] = f"{name} reaches loss {target:g} first, after {duration(1e9 * seconds)}"
            count, name = min(each[1:] for each in reached)
            titles[1] = f"{name} needs the fewest bytes: {size(count)}"
        clock = TIMES[virtual[0]] if one_clock else "time of each run's clock, s"
        complete(drawing, [loss for loss, _, _ in measured], target, clock, titles)
    return drawing


def complete(
    figure: Figure, losses: Sequence[np.ndarray], target: float | None, clock: str, titles: Sequence[str]
) -> None:
    """Add labels, titles, target and legend to a figure of losses against time and against bytes.

    `clock` is the label of the axis of time.
    """
    from matplotlib.ticker import EngFormatter

    left, right = figure.axes
    loss_axis(left, losses, target)
    for axes, title in zip((left, right), titles, strict=True):
        axes.set_title(title)
        if target:
            axes.axhline(target, color=GREY, linestyle="--", linewidth=1, label=f"target {target:g}")
    left.set_xlabel(clock)
    right.set_xlabel("bytes up and down")
    right.xaxis.set_major_formatter(EngFormatter("B"))
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=6, frameon=False)


def scale(axes: Axes, positions: Sequence[np.ndarray]) -> float:
    """Scale the horizontal axis, logarithmically if the runs' lengths differ much; return where it begins.

    A logarithmic axis begins before the second measurements. The first ones, at 0, are drawn at its edge.
    """
    ends = [float(position[-1]) for position in positions if len(position) and position[-1] > 0]
    if not ends or max(ends) <= FAR * min(ends):
        axes.set_xlim(0, 1.02 * max(ends, default=1.0))
        return 0.0
    later = np.concatenate([position[1:] for position in positions])
    start = max(float(later[later > 0].min(initial=min(ends))) / 2, min(ends) / DECADES)
    axes.set_xscale("log")
    axes.set_xlim(start, 1.2 * max(ends))
    return start


def sent(trace: TraceReader) -> np.ndarray:
    """Return the bytes up and down until each measurement of the loss.

    A task's bytes count from its arrival. Without recorded arrivals, every update counts the same.
    """
    total = statistics.traffic(trace.arrivals, trace.attributes, trace.counters)
    if trace.arrivals.rows:
        order = np.argsort(trace.arrivals["t_recv_ns"], kind="stable")
        count = (trace.arrivals["bytes_up"] + trace.arrivals["bytes_down"])[order].cumsum()
        places = np.searchsorted(trace.arrivals["t_recv_ns"][order], trace.progress["t_ns"], side="right")
        fraction = np.concatenate(([0], count))[places] / max(count[-1], 1)
    else:
        fraction = trace.progress["version"] / trace.progress["version"].max(initial=1)
    return np.asarray(fraction * (total.up + total.down))
