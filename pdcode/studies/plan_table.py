"""The report of `pdcode plan`: ranked finalists, and the candidates eliminated before."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..analysis import printing
from ..util.formats import duration, listing, ratio, size, span
from .halving import RungResult
from .ranking import Interval, Row, tied
from .search_space import Candidate, summary
from .trial import Score

if TYPE_CHECKING:
    from rich.console import Console


def seconds(value: float) -> str:
    """Format a time in s."""
    return duration(1e9 * value)


def show(
    rows: Sequence[Row[Candidate]],
    seeds: Sequence[int],
    rungs: Sequence[RungResult[Candidate]],
    console: Console | None = None,
) -> None:
    """Print the ranked finalists side by side, and the candidates eliminated at each rung."""
    columns = "", *(str(place) for place in range(1, len(rows) + 1))
    table = printing.make_table(*columns, left=columns)
    for name, cells in quantities(rows):
        table.add_row(name, *cells)
    table.columns[1].style = "bold"
    sections: list[printing.Section] = [("", [table]), ("", [printing.note(" ".join(legend(rows, seeds)))])]
    if any(len(result.ranked) > result.rung.keep for result in rungs):
        rest = printing.make_table("rung", "time", "candidate", left=("time", "candidate"))
        finalists = [row.candidate for row in rows]
        for result in reversed(rungs):
            for candidate, score in result.ranked[result.rung.keep :]:
                if not any(candidate is each for each in finalists):
                    rest.add_row(str(result.rung.number), verdict(score, result.cut_off_s), str(candidate))
        sections.append(("Left out", [rest]))
    printing.show(sections, console)


def quantities(rows: Sequence[Row[Candidate]]) -> Iterator[tuple[str, list[str]]]:
    """Yield the rows of the table: a name, and a cell for each finalist."""
    yield "candidate", [row.candidate.title for row in rows]
    yield "time", [_time(row) for row in rows]
    yield "of yours", [_speedup(row) for row in rows]
    yield "× oracle", [ratio(row.oracle) for row in rows]
    yield "updates", [_cell(row.median("updates"), row.interval("updates"), "{:,.0f}".format) for row in rows]
    yield "up", [_cell(row.median("bytes_up"), row.interval("bytes_up"), size) for row in rows]
    yield "down", [_cell(row.median("bytes_down"), row.interval("bytes_down"), size) for row in rows]
    yield "wasted", [_cell(row.median("wasted"), row.wasted, _percent) for row in rows]
    yield "scheme", [summary(row.candidate.config) for row in rows]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _cell(value: float, interval: Interval, write: Callable[[float], str]) -> str:
    return write(value) + (f"\n{span(write(interval.low), write(interval.high))}" if interval.known else "")


def _time(row: Row[Candidate]) -> str:
    if not row.missed:
        return _cell(row.time.mean, row.time, seconds)
    value = row.median("value")
    return f"> {seconds(row.time.mean)}\n{row.reached}: " + (
        f"{value:.3g}" if math.isfinite(value) else "diverged"
    )


def _speedup(row: Row[Candidate]) -> str:
    if row.candidate.own:
        return "1"
    interval = Interval() if row.speedup.bound else row.speedup.ratio
    return f"{row.speedup.bound} {_cell(row.speedup.ratio.mean, interval, ratio)}".lstrip()


def legend(rows: Sequence[Row[Candidate]], seeds: Sequence[int]) -> Iterator[str]:
    """Yield sentences on the ranking, and on finalists that are not significantly different."""
    yield (
        f"Ranked by how many of the {len(seeds)} descents (seeds {seeds[0]} – {seeds[-1]}) reached the "
        "target, then by the geometric mean of their times. “of yours”: time over your own configuration's "
        "under the same seed, with the same delays and batches. Updates, bytes and wasted payloads: medians. "
        "The oracle knows all delays and balances as many tasks perfectly."
    )
    if len(seeds) > 1:
        yield "Under them 95 % intervals of the means (geometric but for shares)."
    if any(row.missed for row in rows):
        yield "Where a descent missed the target: its median loss, or 1 - accuracy, at the end."
    if len(rows) > 1:
        yield "The same descents chose number 1, which flatters its own times a little."
    places = tied(rows)
    if len(seeds) < 2:
        yield "One seed gives no interval."
    elif places:
        yield f"These seeds do not tell number {listing([*map(str, places)])} from number 1 at 95 %."
    elif len(rows) > 1:
        yield "Number 1 is told from every other at 95 %."


def describe_rung(result: RungResult[Candidate], rungs: int) -> str:
    """Describe a finished rung."""
    rung = result.rung
    reached = sum(score.reached for _, score in result.ranked[: rung.keep])
    best, score = result.ranked[0]
    return (
        f"rung {rung.number} of {rungs}: {rung.candidates} candidates × {seconds(rung.seconds)}, seed "
        f"{', '.join(map(str, rung.seeds))}; {rung.keep} go on, {reached} of which reached it\n"
        f"  first: {best.title}, {verdict(score)}"
    )


def verdict(score: Score, cut_off_s: float = math.inf) -> str:
    """Describe a candidate's time on a rung, or its final value."""
    if score.seconds > cut_off_s:
        return f"over {seconds(cut_off_s)}"
    if score.reached:
        return seconds(score.seconds)
    return f"{score.value:.3g} at the end" if math.isfinite(score.value) else "diverged"
