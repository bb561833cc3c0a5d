"""The page of `pdcode report`: what `pdcode show` prints, with charts, in one HTML file without a network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..trace.reader import TraceReader
from ..util.formats import counted
from ..util.version import __version__
from . import charts, comparison, critical_path, description, printing, style, tables
from .account import account
from .charts import Chart
from .diagnosis import Cause, Diagnosis
from .gain import Gain
from .printing import make_table, note

if TYPE_CHECKING:
    from rich.console import RenderableType

FAULTS = 1000  # in the table, at most
HEIGHT, LOW, LANE = 230, 150, 22  # pixels of a chart, of the chart of rates, and of a lane
NUMBER = "{0.[0000]}"
LEVELS = re.compile("critical|warning|insufficient|diverg")
PLAIN = "why", "cost", "next", "certainty", "seeds"  # lines that are no verdict
URGENT = {"diverg": "critical"}
TITLES = {
    "run": "What ran", "fates": "Payloads and goodput", "time": "Workers", "staleness": "Staleness",
    "latencies": "Latencies", "account": "Where the time went, by worker", "faults": "Faults",
}  # fmt: skip
"""Short titles of sections of `show`."""
ORDER = (
    "time",
    "account",
    "loss",
    "fit",
    "faults",
    "fates",
    "staleness",
    "latencies",
    "bytes",
    "code",
    "run",
    "environment",
)
"""Sections of `show`, and more, in the order of the page; the page begins with the results of others."""
FIRST = "slow-when", "loss-time", "account"
"""Charts below the verdict, on the first screen."""
WIDE = "timeline", "rate", "account", "account-workers"
"""Charts as wide as the page."""
ALWAYS_0 = "staleness: always 0"
BLOCKS = re.compile("[▁-█▏▎▍▌▋▊▉]")


class Section(NamedTuple):
    """A section of the page, with contents of `printing.Section`."""

    name: str
    title: str
    contents: Sequence[Any]
    charts: Sequence[Chart] = ()


class Part(NamedTuple):
    """A part of the page: a run, or a comparison."""

    title: str
    headline: str
    lines: Sequence[tuple[str, str]]  # of the diagnosis
    charts: Sequence[Chart]  # on the first screen
    sections: Sequence[Section]
    config: str = ""
    causes: Sequence[Cause] = ()  # the most costly first


def parts(traces: Sequence[TraceReader], found: Sequence[Diagnosis], gain: Gain | None = None) -> list[Part]:
    """Return the parts of the report on a run, or on several, which begins with their comparison.

    With `gain` the loss of a run is drawn beside the loss of the same job waiting for all workers.
    """
    runs = [_run(*each) for each in zip(traces, found, strict=True)]
    if len(runs) == 1:
        return runs if gain is None else [_beside_waiting(runs[0], gain)]
    names, notes = comparison.names(traces), map(note, [*comparison.notes(traces), comparison.INTERVALS])
    contents = [comparison.table(traces), comparison.changes(traces), *notes]
    verdicts = [(name, each.verdict) for name, each in zip(names, found, strict=True)]
    drawn = [*charts.losses(traces, names)]
    sections = [Section("comparison", "The runs side by side", contents)]
    sections += [Section("loss", "Accuracy", [], drawn[1:])] if drawn[1:] else []
    about = f"{counted(len(traces), 'run')}: {', '.join(run.title for run in runs)}"
    return [Part(comparison.headline(traces), about, verdicts, drawn[:1], sections), *runs]


def _run(trace: TraceReader, found: Diagnosis) -> Part:
    path, spent = critical_path.of_trace(trace), account(trace)
    drawn, sections = charts.run(trace, path, spent), list[Section]()
    for name, title, contents in [*tables.sections(trace, found, spent, FAULTS), *_more(trace)]:
        if name == "fates":
            contents = title.split("\n")
        elif name == "staleness" and name not in drawn:
            fates = next(each for each in sections if each.name == "fates")
            sections[sections.index(fates)] = fates._replace(contents=[*fates.contents, ALWAYS_0])
            continue
        elif name in ("time", "account", "staleness", "latencies"):
            contents = [note(title), *contents]
        shown = [chart for chart in drawn.get(name, ()) if chart.name not in FIRST]
        if name in ORDER and (contents or shown):
            sections.append(Section(name, TITLES.get(name, title), contents, shown))
    sections.sort(key=lambda section: ORDER.index(section.name))
    every = {chart.name: chart for several in drawn.values() for chart in several}
    first = [every[name] for name in FIRST if name in every]
    headline = description.headline(trace).removeprefix(f"{trace.path}: ")
    lines = [(name, _portable(text, trace.path)) for name, text in found.lines()]
    return Part(trace.path.name, headline, lines, first, sections, trace.config_text, found.causes)


def _beside_waiting(part: Part, gain: Gain) -> Part:
    """Return the part with the loss of the job that waits for all, up to the end of the longer descent."""
    names = "as it ran", "waiting for all, simulated"
    both = next(charts.losses((gain.run, gain.waiting), names))
    own, waiting = both.curves
    loss = replace(both, curves=(own, replace(waiting, colour=charts.GREY)))
    drawn = [loss if chart.name == loss.name else chart for chart in part.charts]
    return part._replace(headline=f"{part.headline}. {gain}.", charts=drawn)


def _portable(text: str, path: Path) -> str:
    """Return a text in which the path of a file is relative to this folder, if the file is below it."""
    with suppress(ValueError):
        return text.replace(str(path), str(path.resolve().relative_to(Path.cwd())))
    return text.replace(str(path), path.name)


def _more(trace: TraceReader) -> Iterator[tuple[str, str, Sequence[RenderableType]]]:
    """Yield the sections that `show` does not print."""
    yield "code", "Code and captured energy", []
    table = make_table("name", "value", left=("name", "value"), header=False)
    hosts = dict.fromkeys(str(host) for host in trace.workers["host"]) if trace.workers.rows else {}
    for name, value in [*sorted(trace.environment.items()), ("hosts", ", ".join(hosts))]:
        if str(value):
            table.add_row(name, str(value))
    yield "environment", "Environment", [table]


def named_charts(report: Sequence[Part]) -> dict[str, Chart]:
    """Return the charts of a report by names of figures; of several runs with the number of each before."""
    return {
        f"{number or ''}{'-' if number else ''}{chart.name}": chart
        for number, part in enumerate(report)
        for chart in chain(part.charts, *(section.charts for section in part.sections))
    }


def make_page(report: Sequence[Part]) -> str:
    """Return the page, which needs no other file."""
    from bokeh.document import Document
    from bokeh.embed import components
    from bokeh.resources import Resources
    from jinja2 import Environment, PackageLoader

    drawn = named_charts(report)
    figures, document = {name: _figure(chart) for name, chart in drawn.items()}, Document()
    with document.models.freeze():  # else each figure has all earlier ones read again
        for each in figures.values():
            document.add_root(each)
    script, places = components(figures) if drawn else ("", {})
    templates = Environment(loader=PackageLoader("pdcode.analysis"), autoescape=True, trim_blocks=True)
    names = {id(chart): name for name, chart in drawn.items()}
    templates.globals |= {
        "content": printing.content, "level": _level, "legend": _legend, "worker": _worker, "about": _about,
        "name": lambda chart: names[id(chart)], "wide": WIDE, "blocks": BLOCKS.search, "colours": style.PAGE,
    }  # fmt: skip
    return templates.get_template("report.html").render(
        report=report, places=places, script=script, version=__version__,
        bokeh=Resources("inline", components=["bokeh"]).render_js() if drawn else "",
    )  # fmt: skip


def _level(name: str, text: str) -> str:
    """Return how urgent a line of a diagnosis is; empty if it is no verdict."""
    found = LEVELS.match(text)
    other = "calm" if text.startswith("no worker is slow") else "insufficient"
    level = found[0] if found else other
    return "" if name in PLAIN else URGENT.get(level, level)


def _legend(chart: Chart) -> list[tuple[str, str, bool]]:
    """Return names, colours and faintness of what a chart shows."""
    if len(chart.curves) == 1:
        return []
    marks = [(each.name, each.colour, False) for each in chart.curves]
    marks += [(each.name, each.colour, each.faint) for each in chart.bars]
    return [(name, style.coloured(style.PAGE, colour), faint) for name, colour, faint in dict.fromkeys(marks)]


def _worker(header: Sequence[str], cells: Sequence[Any]) -> tuple[int, int]:
    """Return the worker that a row of a table is about, and in which column it is; -1 for none."""
    place = header.index("worker") if "worker" in header else 0
    number = str(cells[place]).removeprefix("worker ")
    named = "worker" in header or number != str(cells[place])
    return (int(number), place) if named and number.isdecimal() else (-1, -1)


def _about(chart: Chart) -> str:
    """Return what the page's script needs to know of a chart, as JSON."""
    axes = [[each.x, *each.x_range, each.seconds] for each in (chart, *chart.others)]
    rows = None
    if chart.image is not None and chart.y == "worker":
        rows = [*chart.image.values.shape, round(chart.image.extent[3] + 0.5)]
    return json.dumps({"axes": axes, "workers": chart.workers, "lanes": chart.lanes, "cells": rows})


def _figure(chart: Chart) -> Any:
    """Draw a chart with Bokeh."""
    from bokeh.models import (
        BasicTicker,
        BasicTickFormatter,
        BoxAnnotation,
        BoxSelectTool,
        FixedTicker,
        HoverTool,
        NoOverlap,
        PanTool,
        WheelZoomTool,
    )
    from bokeh.plotting import figure

    wide, height = chart.name in WIDE, LOW if chart.name == "rate" else HEIGHT
    options: dict[str, Any] = {"y_axis_type": "log"} if chart.logarithmic else {}
    if chart.y_range is not None:
        options["y_range"] = chart.y_range
    plot = figure(
        height=LANE * len(chart.lanes) + 50 if chart.lanes else height, sizing_mode="stretch_width",
        x_range=chart.view or chart.x_range, x_axis_label=chart.x, y_axis_label=chart.y or None,
        min_border_left=64 if wide else 48, min_border_right=14, toolbar_location=None, tools="", **options,
    )  # fmt: skip
    plot.outline_line_color = None
    along: Any = "width" if chart.lanes else "both"
    drag: Any = PanTool(dimensions="width")
    if chart.seconds and not chart.lanes:
        drag = BoxSelectTool(dimensions="both" if chart.image else "width", renderers=[])
    plot.add_tools(drag, WheelZoomTool(dimensions=along, modifiers={"ctrl": True}))
    chosen = BoxAnnotation(name="selection", visible=False, fill_color=style.PAGE[4], fill_alpha=0.16)
    chosen.line_color, chosen.line_alpha = style.PAGE[4], 1.0
    plot.add_layout(chosen)
    plot.axis.axis_label_text_font_style = "normal"
    plot.axis.minor_tick_line_color = None
    plot.xgrid.visible, plot.ygrid.visible = False, not (chart.lanes or chart.image)
    plot.xaxis.formatter = BasicTickFormatter(power_limit_high=6)
    plot.xaxis.major_label_policy = NoOverlap(min_distance=8)
    if not wide:
        plot.xaxis.ticker = BasicTicker(desired_num_ticks=4)
    if chart.logarithmic:
        plot.yaxis.ticker = FixedTicker(ticks=chart.decades)
        plot.yaxis.formatter = BasicTickFormatter(power_limit_low=-4, power_limit_high=6)
    if chart.target:
        ends = [each.x_range[1] for each in (chart, *chart.others)]
        plot.line([0, max(ends)], [chart.target] * 2, color=style.PAGE[-1], line_dash="dashed")
    for drawn, tips in _glyphs(plot, chart):
        plot.add_tools(HoverTool(renderers=[drawn], tooltips=tips))
    if chart.image:
        plot.yaxis.ticker = BasicTicker(min_interval=1)
    if chart.columns:
        plot.xaxis.ticker = FixedTicker(ticks=[*range(len(chart.columns))])
        plot.xaxis.major_label_overrides = dict(enumerate(chart.columns))
    if chart.lanes:
        plot.yaxis.ticker = FixedTicker(ticks=[*range(len(chart.lanes))])
        plot.yaxis.major_label_overrides = dict(enumerate(chart.lanes))
        plot.yaxis.major_tick_line_color = None
    return plot


def _glyphs(plot: Any, chart: Chart) -> Iterator[tuple[Any, list[tuple[str, str]]]]:
    """Draw what a chart shows; yield glyphs with their tips."""
    from bokeh.models import ColumnDataSource, LinearColorMapper, LogColorMapper

    for number, curve in enumerate(chart.curves):
        data, colour = dict[str, np.ndarray](), style.coloured(style.PAGE, curve.colour)
        for axis, each in enumerate((chart, *chart.others)):
            against = each.curves[number]
            data |= dict(zip((f"x{axis}", f"y{axis}"), against.points, strict=True))
            data |= dict(zip((f"low{axis}", f"high{axis}"), against.band or (), strict=False))
        source = ColumnDataSource(data)
        line = plot.line("x0", "y0", source=source, color=colour, line_width=1.8, name="curve")
        if curve.band:
            plot.varea("x0", "low0", "high0", source=source, color=colour, fill_alpha=0.15, name="band")
        yield line, [("", f"$snap_x{NUMBER}"), (curve.name, f"$snap_y{NUMBER}")]
    for bars in chart.bars:
        colour, half = style.coloured(style.PAGE, bars.colour), bars.height / 2
        if bars.marks:
            marks = plot.segment(bars.left, bars.lane - half, bars.left, bars.lane + half, color=colour)
            yield marks, [(bars.name, f"@x0{NUMBER}")]
        else:
            width = bars.right - bars.left
            columns = {"x": bars.left + width / 2, "width": width, "lane": bars.lane}
            if bars.task is not None:
                columns["task"] = bars.task.astype(np.int32)
            drawn = plot.rect(
                "x", "lane", "width", bars.height, source=ColumnDataSource(columns), fill_color=colour,
                line_color=None, fill_alpha=style.FAINT if bars.faint else 1.0, name=bars.name,
            )  # fmt: skip
            yield drawn, [(bars.name, f"@width{NUMBER} around @x{NUMBER}")]
    if (image := chart.image) is not None:
        left, right, top, bottom = image.extent
        mapper = LogColorMapper if image.low > 0 else LinearColorMapper
        colours = mapper(
            palette=style.ramp(image.colour), low=image.low, high=image.high, nan_color="#00000000"
        )
        drawn = plot.image(
            [image.values.astype(np.float32)], left, top, right - left, bottom - top, color_mapper=colours
        )
        yield drawn, [(chart.x, f"$x{NUMBER}"), (chart.y, "$y{0}"), ("value", f"@image{NUMBER}")]
