"""The ranked table of a comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..analysis import printing
from ..util.formats import DASH, duration, number, ranges, ratio, size, span
from .measurement import Measured
from .ranking import Interval, Row, compare, geometric_interval, tied

if TYPE_CHECKING:
    from rich.console import Console

    from .comparison import Comparison

COLUMNS = (
    "", "scheme", "time", "of first", "× oracle", "updates", "samples", "up", "down", "busy", "wasted",
    "stale", "loss", "accuracy", "rank 0 done", "job done",
)  # fmt: skip


def ranked(comparison: Comparison) -> list[tuple[Row[str], list[Measured]]]:
    """Rank the schemes: runs that missed the target, then the geometric mean of the times, then the loss."""
    goal = comparison.goal
    outcomes = [[each.outcome(goal) for each in row] for row in comparison.measured]
    order = sorted(
        range(len(outcomes)),
        key=lambda place: Row("", outcomes[place], compare(outcomes[place], outcomes[0])).key,
    )
    first = outcomes[order[0]]
    return [
        (
            Row(comparison.names[place], outcomes[place], compare(outcomes[place], first)),
            comparison.measured[place],
        )
        for place in order
    ]


def show(comparison: Comparison, console: Console | None = None) -> None:
    """Print the ranked table with its legend."""
    rows = ranked(comparison)
    table = printing.make_table(*COLUMNS, left=("scheme",), fold=False)
    for place, (row, measured) in enumerate(rows, 1):
        table.add_row(str(place), row.candidate, *cells(row, measured))
    texts = [*legend(comparison, [row for row, _ in rows]), *comparison.notes]
    printing.show([(comparison.title, [table]), ("", [printing.note(" ".join(texts))])], console)


def cells(row: Row[str], measured: Sequence[Measured]) -> Iterator[str]:
    """Yield the cells of a line of the table."""
    yield _time(row)
    interval = row.speedup.ratio
    bracket = interval.known and interval.low < interval.high and not row.speedup.bound
    yield f"{row.speedup.bound} {ratio(interval.mean)}".strip() + (
        f" ({span(ratio(interval.low), ratio(interval.high))})" if bracket else ""
    )
    yield ratio(row.oracle)

    def median(key: str, write: Callable[[float], str]) -> str:
        value = float(np.median([getattr(each, key) for each in measured]))
        return write(value) if math.isfinite(value) else DASH

    for key in ("updates", "samples"):
        yield median(key, "{:,.0f}".format)
    for key in ("bytes_up", "bytes_down"):
        yield median(key, size)
    for key in ("busy", "wasted"):
        yield median(key, lambda share: f"{100 * share:.1f} %")
    yield median("staleness", lambda value: f"{value:.1f}")
    yield median("loss", number)
    yield median("accuracy", number)
    for key in ("stop_s", "job_s"):
        mean = geometric_interval([getattr(each, key) for each in measured])
        yield DASH if math.isnan(mean.mean) else duration(1e9 * mean.mean)


def _time(row: Row[str]) -> str:
    time = row.time
    if row.missed:
        return f"{row.reached} in {duration(1e9 * time.mean)}" if time.mean > 0 else row.reached
    shown = duration(1e9 * time.mean)
    return shown + (f" ({_span(time)})" if time.known else "")


def _span(interval: Interval) -> str:
    return span(duration(1e9 * interval.low), duration(1e9 * interval.high))


def legend(comparison: Comparison, rows: Sequence[Row[str]]) -> Iterator[str]:
    """Yield sentences on what was compared, how it is ranked, and which schemes are not told apart."""
    seeds, runs = comparison.seeds, len(comparison.seeds)
    under = f"seed {seeds[0]}" if runs == 1 else f"seeds {seeds[0]} – {seeds[-1]}"
    if comparison.goal:
        ranking = f"how many of the {runs} runs reached the target, then by the geometric mean of the times"
    else:
        ranking = "the geometric mean of the times of the stop"
    yield (
        f"Ranked by {ranking}; {under}, with the same delays for all. In brackets 95 % intervals. "
        "“of first”: geometric mean of the ratio to the first, seed by seed. × oracle: to the time in which "
        "perfectly balanced workers would have done the same tasks. Medians: updates, samples (training rows "
        "that gradients were computed of), bytes, busy (share of the workers' time spent computing), wasted "
        "payloads, mean staleness of used ones, last training loss and test accuracy. rank 0 done: time of "
        "the stop; job done: until the last straggler's payload, had the stop not cut its delay short."
    )
    yield (
        "Delays belong to a worker's time: a task that does the work of several mini-batches meets the sum "
        "of as many delays, and the rounds of an update, parts of a reply, or tasks on parts of a shard, "
        "share one. A task of a data code has one, on however many shards, as in these codes' papers."
    )
    if runs < 2 and len(rows) > 1:
        yield "One seed gives no interval."
    elif places := tied(rows):
        yield f"These seeds do not tell number {ranges(places)} from number 1 at 95 %."
