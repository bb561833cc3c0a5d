"""The timeline of a figure: tasks in an interval of the run, one lane per worker."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..trace.reader import TraceReader
from ..trace.schema import TIME
from ..util.formats import duration, workers_named
from . import description, timing
from .style import BLUE, GREY, INK, LIGHT_BLUE, LIGHT_ORANGE, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LANES = 16  # workers, at most
TASKS = 60  # tasks of a typical worker, at most
LINK = 5  # place of a link's colour in those of charts


def window_ns(
    arrivals: timing.Columns, pace: timing.Pace, length: int, outages: Sequence[timing.Outage] = ()
) -> tuple[int, int]:
    """Return an interval before the stop, at `length` ns, that shows typical tasks.

    Its length is 4.5 tasks of the slowest worker, but between 8 and `TASKS` tasks of a typical worker. It
    begins with a task of the slowest worker in the middle of the run or, if there are outages, is centred on
    the begin of the longest.
    """
    usual, slowest = float(np.nanmedian(pace.median)), int(np.nanargmax(pace.median))
    span = int(np.clip(4.5 * pace.median[slowest], 8 * usual, TASKS * usual)) or 1
    span = max(1, min(span, length))
    if outages:
        begin = outages[0].begin_ns - span // 2
    else:
        starts = np.sort(arrivals["t_start_ns"][arrivals["worker"] == slowest])
        place = int(np.searchsorted(starts, (length - span) // 2))
        begin = int(starts[min(place, len(starts) - 1)]) - span // 50
    begin = max(0, min(begin, length - span))
    return begin, begin + span


def lanes(pace: timing.Pace, out: Sequence[int] = ()) -> list[int]:
    """Return the workers to draw: all, or first those that were `out` or slow, and others evenly spaced."""
    workers = len(pace.arrivals)
    if workers <= LANES:
        return list(range(workers))
    slow = list(dict.fromkeys([*out, *pace.slow()]))[: LANES // 2]
    others = [worker for worker in range(workers) if worker not in slow]
    chosen = np.linspace(0, len(others) - 1, LANES - len(slow)).round().astype(int)
    return sorted([*slow, *(others[place] for place in chosen)])


Kinds = list[tuple[str, tuple[np.ndarray, np.ndarray], int, bool]]
"""What a lane has: names, begins and ends in s, colours and faintness."""


def rank_0(trace: TraceReader, split: np.ndarray, centre_ns: float, most: int) -> Iterator[tuple[str, Kinds]]:
    """Yield the lanes of rank 0's processor and of its link, with what is nearest to a time.

    `split` are the stages of all tasks. Rank 0 steps after a decoding, and sends after either.
    """
    rows, steps = trace.arrivals, trace.updates["t_ns"]

    def near(begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        there = np.flatnonzero(end > begin)
        away = np.maximum(begin[there] - centre_ns, centre_ns - end[there])
        there = there[np.argsort(away, kind="stable")[:most]]
        return 1e-9 * begin[there], 1e-9 * end[there]

    dispatch = rows["t_dispatch_ns"]
    decoded = dispatch + split.sum(axis=0)
    ends = np.append(0, np.sort(decoded))
    last = ends[np.searchsorted(ends[1:], steps, side="right")]
    own = (last >= np.append(0, steps)[:-1]) & (trace.updates["why"] != TIME)
    events, sent = np.sort(np.concatenate((ends, steps))), np.unique(dispatch)
    before = events[np.searchsorted(events, sent, side="right") - 1]
    before = np.where(before > 0, np.maximum(before, np.append(0, sent)[:-1]), sent)
    pauses, up = trace.pauses, dispatch + split[:4].sum(axis=0)
    yield (
        "rank 0",
        [
            ("decoding", near(decoded - split[6], decoded), 2, False),
            ("stepping", near(last[own], steps[own]), 2, True),
            ("sending", near(before, sent), LINK, True),
            ("pauses", near(pauses["t_ns"], pauses["t_ns"] + pauses["spent_ns"]), 4, False),
        ],
    )
    yield "link to rank 0", [("under way (darker: several)", near(up, up + split[4]), LINK, True)]
    yield (
        "link from it",
        [("under way (darker: several)", near(dispatch, dispatch + split[0]), LINK, True)],
    )


def timeline(
    trace: TraceReader, axes: Axes, title: str = "", beside: tuple[int, int] | None = None
) -> tuple[int, int] | None:
    """Draw the workers' tasks in an interval of time; return the interval in ns.

    By default the title says who is slow or was out. The interval `beside`, of another run with a legend, has
    the length of this one.
    """
    axes.grid(False)
    if not trace.arrivals.rows:
        unrecorded = trace.attributes.get("arrivals") == "none"
        axes.set_title("Arrivals were not recorded" if unrecorded else "No arrivals yet")
        axes.set_axis_off()
        return None
    pace, length = timing.pace_of(trace), description.stop_ns(trace)
    outages = timing.outages(trace, pace, length)
    out = list(dict.fromkeys(outage.worker for outage in outages))
    begin, end = window_ns(trace.arrivals, pace, length, outages)
    if beside is not None:
        end = begin + beside[1] - beside[0]
    scale, unit = (1e-9, "s") if end - begin > 5e9 else (1e-6, "ms")
    chosen, marked = lanes(pace, out), {*out, *pace.slow()}
    rows = list(timing.by_worker(trace.arrivals, len(pace.arrivals)))
    injected = False
    for lane, worker in enumerate(chosen):
        injected |= _lane(trace, axes, lane, rows[worker], (begin, end), scale, worker in marked)
    for lane, worker in enumerate(chosen):
        for outage in outages:
            if outage.worker == worker and not outage.ended:
                axes.hlines(
                    lane, (outage.begin_ns - begin) * scale, (end - begin) * scale, GREY, linewidth=1.5
                )
    seconds = 1e-9 * length / trace.scale
    in_time = trace.arrivals["worker"][trace.arrivals["t_recv_ns"] <= length]
    counts = np.bincount(in_time, minlength=len(pace.arrivals))
    _label(axes, chosen, marked, counts[chosen] / max(seconds, 1e-9))
    axes.set_xlim(0, (end - begin) * scale)
    axes.set_xlabel(f"time, {unit} after {begin * 1e-9:.3f} s")
    axes.set_title(
        title or _title(pace, outages, len(chosen)), pad=None if beside else 26
    )  # above the legend
    if beside is None:
        _legend(axes, injected, [name for name, some in (("slow", pace.slow()), ("out", out)) if some])
    return begin, end


def _lane(
    trace: TraceReader,
    axes: Axes,
    lane: int,
    rows: np.ndarray,
    window: tuple[int, int],
    scale: float,
    slow: bool,
) -> bool:
    """Draw one worker's tasks; return whether they had injected delays."""
    begin, end = window
    table = trace.arrivals
    rows = rows[(table["t_recv_ns"][rows] >= begin) & (table["t_dispatch_ns"][rows] <= end)]
    dispatch, start, ready, send, recv = (
        (table[f"t_{event}_ns"][rows] - begin) * scale
        for event in ("dispatch", "start", "compute", "send", "recv")
    )
    delay = timing.injected_ns(send - ready, table["injected_delay_ns"][rows] * scale)
    dark, light = (ORANGE, LIGHT_ORANGE) if slow else (BLUE, LIGHT_BLUE)
    axes.hlines(np.full(len(rows), lane), dispatch, recv, color=GREY, linewidth=1.5, zorder=0.5)
    axes.barh(np.full(len(rows), lane), delay, left=ready, height=0.62, color=light, linewidth=0)
    axes.barh(np.full(len(rows), lane), ready - start, left=start, height=0.62, color=dark, linewidth=0)
    axes.vlines(recv, lane - 0.42, lane + 0.42, color=INK, linewidth=1.1)
    return bool((delay > 0).any())


def _label(axes: Axes, chosen: list[int], slow: Collection[int], rates: np.ndarray) -> None:
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
        rate = f"{rates[lane]:,.0f}" if rates[lane] >= 1000 else f"{rates[lane]:.3g}"
        text = axes.annotate(rate, (1, lane), (5, 0), right, "offset points", va="center")
        text.set(color=colour, fontsize=10)
    axes.annotate("arrivals/s", (1, 1), (5, 4), "axes fraction", "offset points", color=GREY, fontsize=9)


def _title(pace: timing.Pace, outages: Sequence[timing.Outage], lanes: int) -> str:
    slow, workers = pace.slow(), len(pace.arrivals)
    if outages:
        group = timing.group_overlapping(outages)[0]
        out = sorted({outage.worker for outage in group})
        who = "All workers" if len(out) == workers > 1 else _named(out)
        return f"{who} {'was' if len(out) == 1 else 'were'} out for {duration(group[0].length_ns)}"
    if slow:
        return f"{_named(slow)} {'is' if len(slow) == 1 else 'are'} slow"
    return f"Tasks of {lanes} of the {workers:,} workers" if lanes < workers else "Tasks of the workers"


def _named(workers: Sequence[int]) -> str:
    return workers_named(workers, 4).capitalize()


def _legend(axes: Axes, injected: bool, marked: Sequence[str]) -> None:
    """Explain the marks; workers are drawn in orange for the reasons in `marked`."""
    from matplotlib.legend_handler import HandlerTuple
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries: list[tuple[str, Any]] = [
        ("compute", Patch(color=BLUE)),
        *([("injected delay", Patch(color=LIGHT_BLUE))] if injected else []),
        ("in flight", Line2D([], [], color=GREY, linewidth=1.5)),
        ("arrival", Line2D([], [], color=INK, marker="|", linestyle="", markersize=11)),
    ]
    if marked:
        orange = (Patch(color=ORANGE), Patch(color=LIGHT_ORANGE)) if injected else Patch(color=ORANGE)
        entries.append((" or ".join(marked), orange))
    legend = axes.legend(
        [handle for _, handle in entries], [name for name, _ in entries], loc="lower left", frameon=False,
        bbox_to_anchor=(-0.01, 1.0), ncols=len(entries), fontsize=10.3, handlelength=1.4, columnspacing=0.9,
        borderaxespad=0.1, handletextpad=0.5, handler_map={tuple: HandlerTuple(None, 0)},
    )  # fmt: skip
    legend.set_in_layout(False)
