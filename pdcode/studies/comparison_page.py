"""The page of `pdcode report` about comparisons: the winner first, the losses, the ranked table."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..analysis import charts
from ..analysis.charts import Chart, Curve, Image
from ..analysis.report import Part, Section
from ..util.formats import SCALES, SIZES, duration, number, ratio, span
from . import comparisons_table
from .comparison import Comparison
from .comparison_figure import MAX_SCHEMES, band
from .ranking import Row, tied


def parts(comparisons: Mapping[str, Comparison]) -> list[Part]:
    """Return the parts of the page, of several comparisons first the schemes' times in all of them."""
    made = [_part(name, each) for name, each in comparisons.items()]
    if len(made) == 1:
        return made
    standings = comparisons_table.standings([*comparisons.values()])
    tables = comparisons_table.sections([*comparisons.values()], [*comparisons])
    sections = [
        Section(f"table-{place}", title or "Time", each) for place, (title, each) in enumerate(tables)
    ]
    about = "Times as multiples of the first's in the same comparison; the order is by their geometric mean."
    title = f"{next(iter(standings))} is the best of {len(standings)} schemes in {len(made)} comparisons"
    return [Part(title, about, [], [_heat_map(standings, [*comparisons])], sections), *made]


def _part(name: str, made: Comparison) -> Part:
    rows = made.rows
    drawn, (table, legend) = [*_losses(rows)], made.sections
    section = Section("schemes", "Schemes", [*table[1], *legend[1]])
    return Part(_headline(rows), f"{name}: {made.title}", [*_lines(rows)], drawn, [section], made.config)


def _headline(rows: Sequence[Row[str]]) -> str:
    """Return who won, with the interval of its time, and by how much, with the interval of the ratio."""
    first, goal = rows[0], rows[0].goal
    if goal is None or first.missed:
        return f"{first.candidate} is the first of {len(rows)} schemes" + (
            ", none reached the target" if goal else ""
        )
    time = first.time
    text = (
        f"{first.candidate} reaches {goal.format_value(goal.bound)} first, after {duration(1e9 * time.mean)}"
    )
    if time.known:
        text += f" ({span(duration(1e9 * time.low), duration(1e9 * time.high))})"
    if len(rows) > 1 and (factor := rows[1].speedup.ratio).mean > 0:
        within = f" ({span(ratio(factor.low), ratio(factor.high))})" if factor.known else ""
        text += f": {rows[1].candidate} takes {rows[1].speedup.text} as long{within}"
    return text


def _lines(rows: Sequence[Row[str]]) -> Iterator[tuple[str, str]]:
    """Yield whether the seeds tell the winner from the others."""
    if len(rows) > 1 and len(rows[0].runs) > 1 and not rows[0].missed:
        names = ", ".join(rows[place - 1].candidate for place in tied(rows))
        yield (
            "certainty",
            (
                f"these seeds do not tell it from {names} at 95 %"
                if names
                else "faster than every other at 95 %"
            ),
        )
    yield "seeds", f"{len(rows[0].runs)}, with the same delays for all schemes"


def _losses(rows: Sequence[Row[str]]) -> Iterator[Chart]:
    """Yield the chart of the median and the range of each scheme's loss, against time and against bytes."""
    shown = {row.candidate: [run.curves for run in row.runs] for row in rows}
    shown = {name: runs for name, runs in shown.items() if any(len(curves["t_s"]) for curves in runs)}
    drawn, goal = list[Chart](), rows[0].goal
    first = dict(itertools.islice(shown.items(), MAX_SCHEMES))
    for key, axis, scales in (("t_s", "time", SCALES), ("bytes", "bytes up and down", SIZES)):
        found = {name: band(runs, key, 0.0, False) for name, runs in first.items()}
        most = max((float(at[-1]) for at, *_ in found.values()), default=1.0)
        factor, unit = charts.scaled(1e9 * most if key == "t_s" else most, scales)
        factor *= 1e9 if key == "t_s" else 1.0
        curves = [
            Curve(name, factor * at, middle, colour, (low, high))
            for colour, (name, (at, low, middle, high)) in enumerate(found.items())
        ]
        target = goal.level if goal is not None and goal.kind == "loss" else None
        note = "Medians and ranges over the seeds"
        note += f", of the first {len(first)} of {len(rows)} schemes." if len(first) < len(rows) else "."
        chart = Chart(
            f"loss-{key[0]}", "Training loss", f"{axis}, {unit}", "loss", curves, target=target, note=note
        )
        drawn.append(replace(chart, logarithmic=charts.wide(curves)) if curves else chart)
    if first:
        yield replace(drawn[0], others=drawn[1:])


def _heat_map(standings: Mapping[str, Sequence[Row[str] | None]], names: Sequence[str]) -> Chart:
    values = np.array(
        [[row.speedup.ratio.mean if row else math.nan for row in rows] for rows in standings.values()]
    )
    high = max(2.0, min(10.0, float(np.nanmax(values, initial=0.0))))
    extent = (-0.5, len(names) - 0.5, -0.5, len(standings) - 0.5)
    image = Image(values, 1.0, high, extent, ("1×", f"{number(high, 2)}×"), 0)
    title = "Time to the target, as a multiple of the first's"
    return Chart("heat-map", title, "comparison", "", image=image, lanes=[*standings], columns=names)
