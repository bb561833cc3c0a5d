"""What `pdcode plan` prints: the finalists, ranked, and those that were left out."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..analysis.formats import NOTHING, SIZES, duration, listing, size
from .halving import Ranking, Rung
from .ranking import Interval, Line, alike
from .space import DRAWN, Candidate, in_words
from .trials import Score

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

HEADS = "", "candidate", "time to it", "of yours", "× genie", "updates", "up", "down", "wasted"
WIDTHS = 3, 14, 16, 13, 8, 10, 16, 16, 13  # of the columns
BYTES = 6, 7  # columns that a narrow table gives a line of their own
WIDTH = 110
NARROW = 80
FAR = 100  # times what a descent was given: an extrapolation beyond tells nothing


def seconds(value: float) -> str:
    """A time in seconds."""
    return duration(1e9 * value) if math.isfinite(value) else NOTHING


def span(of: Interval, shown: Callable[[float], str] = seconds) -> str:
    """The bounds of an interval, with one unit if they have the same; empty if there are none."""
    if not of.known:
        return ""
    low, high = shown(of.low), shown(of.high)
    unit = high.rpartition(" ")[2]
    return f"{low.removesuffix(f' {unit}')} – {high}"


def byte_span(of: Interval) -> str:
    """The bounds of an interval of bytes, both in the unit of the upper one."""
    if not of.known:
        return ""
    unit = size(of.high).rpartition(" ")[2]
    if size(of.low).endswith(f" {unit}"):
        return span(of, size)
    scale = next(scale for scale, name in SIZES if name == unit)
    return f"{of.low / scale:.2f} – {size(of.high)}"


def count(value: float) -> str:
    """A number of updates with three digits: 1.23k."""
    return f"{value:.0f}" if value < 999.5 else size(value).removesuffix("B").replace(" ", "")


def share(value: float) -> str:
    """A share in percent; one digit behind the point of what is less than 10."""
    return f"{100 * value:.{1 if value < 0.0995 else 0}f} %"


def times(value: float) -> str:
    """How many times, with three digits, or two of what is less than 1."""
    if not math.isfinite(value):
        return NOTHING
    if value < 0.0995:
        return f"{value:.2g}×"
    return f"{value:.2f}×" if value < 9.995 else f"{value:.1f}×" if value < 99.95 else f"{value:,.0f}×"


def name_of(candidate: Candidate) -> str:
    """Its name, and the multiple of the step size if that is another than the user's."""
    if candidate.name == DRAWN or candidate.own:
        return candidate.name
    return candidate.name + (f", rate ×{candidate.multiple:g}" if candidate.multiple != 1 else "")


def describe(candidate: Candidate) -> str:
    """Name and words, in one line."""
    return f"{name_of(candidate)}: {', '.join(in_words(candidate))}"


def finalists(lines: Sequence[Line], width: int) -> Iterator[tuple[str, str]]:
    """The rows of the table with their styles: numbers, their intervals, and the candidate in words.

    Where the table is too narrow for all columns, bytes stand in a line between.
    """
    wide = width >= WIDTH
    sure = "95 %" if len(lines[0].outcomes) > 1 else ""
    yield row(wide, *HEADS), "dim"
    if sure:
        yield row(wide, "", "", sure, sure, "", sure, sure, sure, sure), "dim"
    for place, line in enumerate(lines, 1):
        name, _, rate = name_of(line.candidate).partition(", ")
        if line.missed:
            done = len(line.outcomes) - line.missed
            at = f"{line.median('value'):.3g}" if math.isfinite(line.median("value")) else "diverged"
            when = f"> {seconds(line.time.mean)}", f"{done} of {len(line.outcomes)}: {at}"
        else:
            when = seconds(line.time.mean), span(line.time)
        between, sign = line.ratio.interval, line.ratio.sign
        ratio = f"{sign} {times(between.mean)}".strip() if not line.candidate.own else "1"
        known = between.known and not sign and not line.candidate.own
        up, down = size(line.median("bytes_up")), size(line.median("bytes_down"))
        yield row(
            wide, str(place), name, when[0], ratio, times(line.genie), f"{line.median('updates'):,.0f}",
            up, down, f"{100 * line.median('wasted'):.1f} %",
        ), "bold" if place == 1 else ""  # fmt: skip
        ratios = f"{times(between.low)[:-1]} – {times(between.high)[:-1]}" if known else ""
        ups, downs = byte_span(line.between("bytes_up")), byte_span(line.between("bytes_down"))
        bounds = when[1], ratios, "", span(line.between("updates"), count), ups, downs
        second = row(wide, "", rate, *bounds, span(line.wasted, share))
        if second.strip():
            yield second, ""
        if not wide:
            both = (f"{name} {value}{f' ({each})' * bool(each)}" for name, value, each in
                    (("up", up, ups), ("down", down, downs)))  # fmt: skip
            yield " " * WIDTHS[0] + ", ".join(both), ""
        for text in textwrap.wrap(", ".join(in_words(line.candidate)), width - WIDTHS[0]):
            yield " " * WIDTHS[0] + text, "dim"


def row(wide: bool, *cells: str) -> str:
    """A row: place and name flush left, the rest flush right; without bytes if it is not a wide one.

    A cell that is too long takes what is free to the left of it.
    """
    shown, edge = "", 0
    for number, (cell, width) in enumerate(zip(cells, WIDTHS, strict=True)):
        if number in BYTES and not wide:
            continue
        edge += width
        if number < 2:
            shown += f"{cell:{width}}"
        elif cell:
            shown = shown.rstrip()
            shown += cell.rjust(max(edge - len(shown), len(cell) + 1))
    return shown


def legend(lines: Sequence[Line], seeds: Sequence[int]) -> Iterator[str]:
    """How the table is ranked, and what it does not tell apart."""
    over = " over the 95 % intervals of their means (geometric but for shares)" if len(seeds) > 1 else ""
    yield (
        f"Ranked by how many of the {len(seeds)} descents reached the target, then by the geometric mean of "
        f"their times (seeds {seeds[0]} – {seeds[-1]}); “of yours” is the ratio to your own configuration "
        "under the same seed, so with the same delays and batches. Updates, bytes and wasted payloads are "
        f"medians{over}. The genie knows all delays and balances as many tasks perfectly."
    )
    if any(line.missed for line in lines):
        yield (
            "Of those that did not always reach it, the median of what there was at the end is given (loss, "
            "or 1 - accuracy), and no interval of what it takes; for their order, times are extrapolated."
        )
    if len(lines) > 1:
        yield "The same descents chose number 1, so its own times flatter it a little."
    unsure = alike(lines)
    if lines[0].candidate.own:
        yield "Your own configuration is the first."
    if len(seeds) < 2:
        yield "One seed tells no interval."
    elif unsure:
        some = listing([str(place) for place in unsure])
        yield (
            f"Intervals overlap: these seeds do not tell number {some} from number 1 (the 95 % interval of "
            "the ratio, seed by seed, is not above 1)."
        )
    elif len(lines) > 1:
        yield "Number 1 is told from every other at 95 %."


def rung_line(ranking: Ranking[Candidate, Score], rungs: int) -> str:
    """One line about a rung, once it is done."""
    rung = ranking.rung
    reached = sum(score.reached for _, score in ranking.ranked[: rung.keep])
    best, score = ranking.ranked[0]
    return (
        f"rung {rung.number} of {rungs}: {rung.candidates} candidates × {seconds(rung.seconds)}, seed "
        f"{', '.join(map(str, rung.seeds))}; {rung.keep} go on, {reached} of which reached it\n"
        f"  first: {name_of(best)}, {verdict(score, rung, math.inf)}"
    )


def verdict(score: Score, rung: Rung, bar: float) -> str:
    """What a rung says of a candidate; beyond the bar it was cut off."""
    if score.mean > bar:
        return f"over {seconds(bar)}"
    if score.reached:
        return seconds(score.mean)
    if score.mean < FAR * rung.seconds:
        return f"extrapolated to {seconds(score.mean)}"
    return f"far off: {score.value:.3g} at the end" if math.isfinite(score.value) else "diverged"


def left_out(rankings: Sequence[Ranking[Candidate, Score]], kept: Sequence[Candidate]) -> RenderableType:
    """Candidates that a rung dropped, the later ones first."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("rung", justify="right")
    table.add_column("time to it", no_wrap=True)
    table.add_column("candidate")
    for ranking in reversed(rankings):
        sure = all(score.reached for _, score in ranking.ranked[: ranking.rung.keep])
        bar = ranking.bar if sure else math.inf
        for candidate, score in ranking.ranked[ranking.rung.keep :]:
            if not any(candidate is each for each in kept):
                table.add_row(
                    str(ranking.rung.number), verdict(score, ranking.rung, bar), describe(candidate)
                )
    return table


def show(
    lines: Sequence[Line],
    seeds: Sequence[int],
    rankings: Sequence[Ranking[Candidate, Score]],
    console: Console | None = None,
) -> None:
    """Print the ranked table."""
    from rich.console import Console

    console = console or Console(highlight=False, markup=False, emoji=False)
    console.width = min(max(console.width, NARROW), WIDTH)
    with console.capture() as capture:
        for text, style in finalists(lines, console.width):
            console.print(text, style=style)
        for text in legend(lines, seeds):
            console.print(text, style="dim")
        if any(len(ranking.ranked) > ranking.rung.keep for ranking in rankings):
            console.print("\nLeft out", style="bold")
            console.print(left_out(rankings, [line.candidate for line in lines]))
    for text in capture.get().splitlines():
        console.file.write(text.rstrip() + "\n")  # rich fills lines up with blanks
