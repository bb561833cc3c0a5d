"""A run in a notebook: its verdict, where its time went and its loss; live while `pdcode.run` goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from ..trace.reader import TraceReader
from ..util import html
from ..util.errors import InputError
from ..util.formats import counted, duration, number, percent, size
from . import charts, description, diagnosis, style
from .account import account
from .charts import Chart
from .live import WINDOW
from .summary import summarise

WIDTH, BAR, CURVE = 520, 14, 110  # pixels of the pictures
SHARE = 10  # a picture of a run that goes on takes at most one part in so many of the time
SVG = (
    f"<svg width='{WIDTH}' height='{{height}}' role='img' aria-label='{{told}}' style='display: block'>"
    "{drawn}</svg>"
)
KEY = "<small style='white-space: nowrap'><span style='color: {}; opacity: {}'>■</span> {}</small> "


def as_html(trace: TraceReader) -> str:
    """Return a description of the run, with the diagnosis but for its costs, and pictures."""
    run = summarise(trace)
    result = (
        f"loss {number(run.loss)}, accuracy {number(run.accuracy)} after "
        f"{counted(run.updates, 'update')} in {duration(1e9 * run.seconds)}; {size(run.bytes_up)} up, "
        f"{size(run.bytes_down)} down"
    )
    judged = dict(diagnosis.diagnose(trace).lines()) if trace.arrivals.rows or trace.descent else {}
    return pictures(trace) + html.named(
        description.headline(trace), {**judged, "result": result, **description.lines(trace)}
    )


def pictures(trace: TraceReader) -> str:
    """Return where the time went as a bar, and the curve of the loss."""
    spent = account(trace)
    drawn = chain(islice(charts.accounts(spent), 1) if spent else (), islice(charts.losses([trace]), 1))
    return "".join("".join(_picture(chart)) for chart in drawn)


def _picture(chart: Chart) -> Iterator[str]:
    """Yield a chart as SVG, below its title, and the names of its bars."""
    yield html.paragraph(chart.title, "b")
    low, high = chart.x_range
    marks, told = list[str](), html.text(chart.alternative).replace("'", "&#39;")
    for bars in chart.bars:
        left, right = ((float(end[0]) - low) * WIDTH / (high - low) for end in (bars.left, bars.right))
        opacity, colour = style.FAINT if bars.faint else 1, style.coloured(style.PAGE, bars.colour)
        share = f"{bars.name} {percent(float(bars.right[0] - bars.left[0]), 100)} %"
        yield KEY.format(colour, opacity, share)
        shape = f"<rect x='{left:.1f}' width='{right - left:.1f}' height='{BAR}'"
        marks.append(f"{shape} fill='{colour}' fill-opacity='{opacity}'><title>{share}</title></rect>")
    for curve in chart.curves:
        at, values = curve.points
        shown = np.isfinite(values)
        at, values = at[shown], np.log(values[shown]) if chart.logarithmic else values[shown]
        across = (at - low) * WIDTH / (high - low)
        up = CURVE - 2 - (values - values.min()) * (CURVE - 4) / max(float(np.ptp(values)), 1e-12)
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, up, strict=True))
        marks.append(f"<polyline points='{points}' fill='none' stroke='{style.PAGE[0]}' stroke-width='1.8'/>")
    yield SVG.format(height=CURVE if chart.curves else BAR, told=told, drawn="".join(marks))
    if chart.curves:
        first, last = (number(float(end)) for end in chart.curves[0].y[[0, -1]])
        yield f"<small>{html.text(f'{chart.y} {first} to {last}; {chart.x}, 0 to {number(high, 3)}')}</small>"


class Live:
    """The display of a run that goes on, which each line of its command brings up to date."""

    def __init__(self, path: Path) -> None:
        from IPython.display import HTML, display

        self._path, self._begun_s, self._wait_until_s = path, time.time(), 0.0
        self._html: Any = HTML
        self._shown, self._handle = "", display(HTML(""), display_id=True)

    def __call__(self, line: str) -> None:
        now_s = time.monotonic()
        if now_s >= self._wait_until_s:
            try:
                if self._path.stat().st_mtime >= math.floor(self._begun_s):  # not of an earlier run
                    trace = TraceReader(self._path, window=WINDOW)
                    found = diagnosis.diagnose(trace) if trace.arrivals.rows else None
                    self._shown = pictures(trace) + html.paragraph(found.verdict if found else "")
            except (OSError, InputError):  # not written yet
                pass
            self._wait_until_s = time.monotonic() + SHARE * (time.monotonic() - now_s)
        self._handle.update(self._html(f"{html.paragraph(line)}{self._shown}"))
