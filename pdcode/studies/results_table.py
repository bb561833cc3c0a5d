"""The table of results: lines are the candidates of a comparison, or columns the finalists of a plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..analysis import printing
from ..util.formats import DASH, counted, duration, listing, number, percent, ranges, ratio, size, span
from .candidate import Candidate, summary
from .goal import Goal
from .halving import RungResult, Runs
from .measurement import Measured
from .ranking import Interval, Row, geometric_interval, tied

if TYPE_CHECKING:
    from rich.console import Console


class Cell(NamedTuple):
    """A value, and its 95 % interval, which may be empty."""

    value: str
    interval: str = ""


def format_seconds(value: float) -> str:
    """Format a time in s."""
    return duration(1e9 * value)


def cells(row: Row[Any], base: str) -> dict[str, Cell]:
    """Return the cells of a candidate by heading; its time is compared with the time of `base`."""

    def cell(value: float, write: Callable[[float], str], interval: Interval | None = None) -> Cell:
        known = interval is not None and interval.known
        return Cell(
            write(value) if math.isfinite(value) else DASH,
            span(write(interval.low), write(interval.high)) if interval and known else "",
        )

    def median(name: str, write: Callable[[float], str], interval: Interval | None = None) -> Cell:
        return cell(row.median(name), write, interval)

    def counted(name: str, write: Callable[[float], str]) -> Cell:
        return median(name, write, row.interval(name))

    def mean(name: str) -> Cell:
        return cell(geometric_interval([getattr(run, name) for run in row.runs]).mean, format_seconds)

    time, factor = row.time, row.speedup.ratio
    count = "{:,.0f}".format
    if row.missed:
        to_target = Cell(f"{row.reached} in {format_seconds(time.mean)}" if time.mean > 0 else row.reached)
    else:
        to_target = cell(time.mean, format_seconds, time)
    spread = factor if factor.low < factor.high and not row.speedup.bound else None
    speedup = cell(factor.mean, ratio, spread)
    return {
        "time": to_target,
        f"of {base}": speedup._replace(value=f"{row.speedup.bound} {speedup.value}".strip()),
        "× oracle": Cell(ratio(row.oracle)),
        "updates": counted("updates", count),
        "samples": median("samples", count),
        "up": counted("bytes_up", size),
        "down": counted("bytes_down", size),
        "busy": median("busy", _percent),
        "wasted": median("wasted", _percent, row.wasted),
        "stale": median("staleness", "{:.1f}".format),
        "loss": median("loss", number),
        "accuracy": median("accuracy", number),
        "rank 0 done": mean("stop_s"),
        "job done": mean("job_s"),
    }


def _percent(fraction: float) -> str:
    return f"{percent(fraction, 1)} %"


def comparison_sections(
    rows: Sequence[Row[str]], seeds: Sequence[int], title: str, notes: Sequence[str]
) -> list[printing.Section]:
    """Return a table with a line for each candidate, and the legend."""
    lines = [cells(row, "first") for row in rows]
    table = printing.make_table("", "scheme", *lines[0], left=("scheme",), fold=False)
    for place, (row, line) in enumerate(zip(rows, lines, strict=True), 1):
        shown = []
        for heading, (value, interval) in line.items():
            bracket = interval and heading in ("time", "of first")
            shown.append(f"{value} ({interval})" if bracket else value)
        table.add_row(str(place), row.candidate, *shown)
    texts = [*legend(rows, seeds, "first"), DELAYS, *notes]
    return [(title, [table]), ("", [printing.note(" ".join(texts))])]


def show_plan(
    rows: Sequence[Row[Candidate]],
    seeds: Sequence[int],
    rungs: Sequence[RungResult[Candidate]],
    console: Console | None = None,
) -> None:
    """Print the finalists side by side, the legend, and the candidates eliminated at each rung."""
    columns = "", *(str(place) for place in range(1, len(rows) + 1))
    table = printing.make_table(*columns, left=columns)
    table.add_row("candidate", *(row.candidate.title for row in rows))
    finalists = [cells(row, "yours") for row in rows]
    for heading in finalists[0]:
        line = [each[heading] for each in finalists]
        if any(cell.value != DASH for cell in line):
            table.add_row(heading, *("\n".join(filter(None, cell)) for cell in line))
    table.add_row("scheme", *(summary(row.candidate.config) for row in rows))
    table.columns[1].style = "bold"
    goal, texts = rows[0].goal, [*legend(rows, seeds, "yours")]
    if len(rows) > 1:
        texts.append("Number 1 was chosen before, by runs under other seeds.")
    sections: list[printing.Section] = [("", [table]), ("", [printing.note(" ".join(texts))])]
    left_out = [
        (result, candidate, run)
        for result in reversed(rungs)
        for candidate, run in result.schemes[result.rung.keep :]
        if not any(candidate is row.candidate for row in rows)
    ]
    rest = printing.make_table("rung", "time", "candidate", left=("time", "candidate"))
    early = [candidate.title for result, candidate, _ in left_out if len(rungs) > 1 and result is rungs[0]]
    for result, candidate, run in left_out[: len(left_out) - len(early)]:
        text = describe_run(run, goal, result.cut_off_s)
        rest.add_row(str(result.rung.number), text, str(candidate))
    if left_out:
        parts = [rest] * bool(rest.rows) + [printing.note(f"After rung 1: {listing(early)}.")] * bool(early)
        sections.append(("Left out", parts))
    printing.show(sections, console)


BASES = {"first": "the first", "yours": "your own configuration"}
DELAYS = (
    "Delays belong to a worker's time: a task that does the work of several mini-batches meets the sum of as "
    "many delays, and the rounds of an update, parts of a reply, or tasks on parts of a shard, share one. A "
    "task of a data code has one, on however many shards, as in these codes' papers."
)


def legend(rows: Sequence[Row[Any]], seeds: Sequence[int], base: str) -> Iterator[str]:
    """Yield sentences on the ranking and the figures, and on candidates that the seeds do not distinguish."""
    diverged = {place: sum(run.diverged for run in row.runs) for place, row in enumerate(rows, 1)}
    if counts := [f"number {place} in {count} of {len(seeds)}" for place, count in diverged.items() if count]:
        yield f"Runs diverged, with the loss far above its first: {', '.join(counts)}; try smaller rates."
    under = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} – {seeds[-1]}"
    ranking = "the geometric mean of the times of the stop"
    if rows[0].goal:
        runs = f"the {counted(len(seeds), 'run')}"
        ranking = f"how many of {runs} reached the target, then by the geometric mean of the times"
    yield (
        f"Ranked by {ranking}; {under}, with the same delays and mini-batches for all. With 95 % intervals. "
        f"“of {base}”: geometric mean of the ratio to {BASES[base]}, seed by seed. × oracle: ratio to the "
        "time in which perfectly balanced workers that know all delays would have done the same tasks. Other "
        "figures are medians. wasted: payloads that were not used; loss, accuracy: the last ones; rank 0 "
        "done: time of the stop."
    )
    if any(math.isfinite(run.job_s) for row in rows for run in row.runs):
        yield (
            "samples: training rows that gradients were computed of; busy: fraction of the workers' time "
            "spent computing; stale: mean staleness of used payloads; job done: arrival of the last "
            "straggler's payload, had the stop not cut its delay short."
        )
    if len(rows) < 2:
        return
    if len(seeds) < 2:
        yield "One seed gives no interval."
    elif places := tied(rows):
        yield f"These seeds do not distinguish number {ranges(places)} from number 1 at 95 %."
    else:
        yield "Number 1 is faster than every other at 95 %."


def describe_rung(result: RungResult[Candidate], rungs: int, goal: Goal) -> list[str]:
    """Describe a finished rung of a search, in lines."""
    rung = result.rung
    left, (best, run) = result.schemes[: rung.keep], result.ranked[0]
    reached, many = sum(runs.reached for _, runs in left), counted(len(result.ranked), "candidate")
    return [
        f"rung {rung.number} of {rungs}: {rung.schemes} schemes, {many} × {format_seconds(rung.seconds)}, "
        f"seeds {ranges(rung.seeds)}; {len(left)} continue, {reached} of them reached the target",
        f"  first: {best.title}, {describe_run(run, goal)}",
    ]


def describe_run(run: Measured | Runs, goal: Goal | None, cut_off_s: float = math.inf) -> str:
    """Describe the result of a run in a few words."""
    if run.seconds > cut_off_s:
        return f"over {format_seconds(cut_off_s)}"
    if run.reached:
        return format_seconds(run.seconds) + ("" if goal else f", loss {run.loss:.3g}")
    if run.diverged:
        return f"diverged, loss {run.loss:.3g}"
    if run.failed or not math.isfinite(run.loss):
        return "failed"
    return f"{goal.format_value(run.value(goal)) if goal else ''} at the end"
