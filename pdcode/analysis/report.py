"""The page of `pdcode report`: what `pdcode show` prints, with charts, in one HTML file without a network."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..trace.reader import TraceReader
from ..util.version import __version__
from . import charts, comparison, critical_path, description, printing, style, tables
from .account import account
from .charts import Chart
from .diagnosis import Diagnosis
from .gain import Gain
from .printing import make_table, note

if TYPE_CHECKING:
    from rich.console import RenderableType

FAULTS = 1000  # in the table, at most
HEIGHT, LOW, LANE = 230, 150, 22  # pixels of a chart, of the chart of rates, and of a lane
NUMBER = "{0.[0000]}"
LEVELS = re.compile("critical|warning|insufficient|diverg")
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
"""Charts beside the verdict, on the first screen."""
WIDE = "timeline", "rate", "account", "account-workers"
"""Charts as wide as the page."""
BLOCKS = re.compile("[▁-█▏▎▍▌▋▊▉]")
SIDES = "before", "after"


class Section(NamedTuple):
    """A section of the page, with contents of `printing.Section`."""

    name: str
    title: str
    contents: Sequence[Any]
    charts: Sequence[Chart] = ()


class Part(NamedTuple):
    """A part of the page: a run, or the comparison of two."""

    title: str
    headline: str
    lines: Sequence[tuple[str, str]]  # of the diagnosis
    charts: Sequence[Chart]  # on the first screen
    sections: Sequence[Section]
    config: str = ""


def parts(traces: Sequence[TraceReader], found: Sequence[Diagnosis], gain: Gain | None = None) -> list[Part]:
    """Return the parts of the report on a run, or on two, before and after a change.

    With `gain` the loss of a run is drawn beside the loss of the same job waiting for all workers.
    """
    runs = [_run(*each) for each in zip(traces, found, strict=True)]
    if len(runs) == 1:
        return runs if gain is None else [_beside_waiting(runs[0], gain)]
    notes = map(note, [*comparison.notes(traces), comparison.INTERVALS])
    contents = [comparison.table(traces), comparison.changes(*traces), *notes]
    losses, named = [*charts.losses(traces, SIDES)], []
    drawn, others = losses[:1], losses[1:]
    for side, run in zip(SIDES, runs, strict=True):
        title = f"{side.capitalize()}: {run.title}"
        moved = [chart for chart in run.charts if chart.name == "slow-when"]
        drawn += [
            replace(chart, name=f"{side}-{chart.name}", title=f"{side.capitalize()}: who is slow when")
            for chart in moved
        ]
        named.append(run._replace(title=title, charts=[chart for chart in run.charts if chart not in moved]))
    section = Section("comparison", "Before and after", contents, others)
    verdicts = [(side, each.verdict) for side, each in zip(SIDES, found, strict=True)]
    about = f"{' → '.join(run.title for run in runs)}, before and after a change"
    return [Part(comparison.headline(*traces), about, verdicts, drawn, [section]), *named]


def _run(trace: TraceReader, found: Diagnosis) -> Part:
    path, spent = critical_path.of_trace(trace), account(trace)
    drawn, sections = charts.run(trace, path, spent), []
    for name, title, contents in [*tables.sections(trace, found, spent, FAULTS), *_more(trace)]:
        if name == "fates":
            contents = title.split("\n")
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
    return Part(trace.path.name, headline, lines, first, sections, trace.config_text)


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
    """Return the charts of a report by names of figures; of two runs with their sides before them."""
    names = [""] if len(report) == 1 else ["", *(f"{side}-" for side in SIDES)]
    return {
        f"{name}{chart.name}": chart
        for name, part in zip(names, report, strict=True)
        for chart in chain(part.charts, *(section.charts for section in part.sections))
    }


def make_page(report: Sequence[Part]) -> str:
    """Return the page, which needs no other file."""
    from bokeh.embed import components
    from bokeh.resources import Resources
    from jinja2 import Environment, PackageLoader

    drawn = named_charts(report)
    script, places = (
        components({name: _figure(chart) for name, chart in drawn.items()}) if drawn else ("", {})
    )
    templates = Environment(loader=PackageLoader("pdcode.analysis"), autoescape=True, trim_blocks=True)
    names = {id(chart): name for name, chart in drawn.items()}
    templates.globals |= {
        "content": printing.content, "level": _level, "legend": _legend,
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
    return "" if name not in ("verdict", *SIDES) else URGENT.get(level, level)


def _legend(chart: Chart) -> list[tuple[str, str, bool]]:
    """Return names, colours and faintness of what a chart shows."""
    if len(chart.curves) == 1:
        return []
    shown = [(each.name, style.PAGE[each.colour], False) for each in chart.curves]
    return shown + [(each.name, style.PAGE[each.colour], each.faint) for each in chart.bars]


def _figure(chart: Chart) -> Any:
    """Draw a chart with Bokeh."""
    from bokeh.models import (
        BasicTicker,
        BasicTickFormatter,
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
    plot.add_tools(PanTool(dimensions="width"), WheelZoomTool(dimensions=along, modifiers={"ctrl": True}))
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
        plot.line([*chart.x_range], [chart.target] * 2, color=style.PAGE[-1], line_dash="dashed")
    for drawn, tips in _glyphs(plot, chart):
        plot.add_tools(HoverTool(renderers=[drawn], tooltips=tips))
    if chart.image:
        plot.yaxis.ticker = BasicTicker(min_interval=1)
    if chart.lanes:
        plot.yaxis.ticker = FixedTicker(ticks=[*range(len(chart.lanes))])
        plot.yaxis.major_label_overrides = dict(enumerate(chart.lanes))
        plot.yaxis.major_tick_line_color = None
    return plot


def _glyphs(plot: Any, chart: Chart) -> Iterator[tuple[Any, list[tuple[str, str]]]]:
    """Draw what a chart shows; yield glyphs with their tips."""
    from bokeh.models import LinearColorMapper, LogColorMapper

    for curve in chart.curves:
        x, y = curve.points
        line = plot.line(x, y, color=style.PAGE[curve.colour], line_width=1.8)
        yield line, [(chart.x, f"@x{NUMBER}"), (curve.name, f"@y{NUMBER}")]
    for bars in chart.bars:
        colour, half = style.PAGE[bars.colour], bars.height / 2
        if bars.marks:
            marks = plot.segment(bars.left, bars.lane - half, bars.left, bars.lane + half, color=colour)
            yield marks, [(bars.name, f"@x0{NUMBER}")]
        else:
            drawn = plot.rect(
                (bars.left + bars.right) / 2, bars.lane, bars.right - bars.left, bars.height,
                fill_color=colour, line_color=None, fill_alpha=style.FAINT if bars.faint else 1.0,
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
