"""The tables that `pdcode show TRACE` prints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from ..trace.reader import Trace
from ..trace.schema import REFUSED, USED, WASTED
from . import description, printing, statistics, timing
from .formats import NOTHING, bar, duration, listing, number, percent, ratio, size, spark
from .printing import Section, make_table, note

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

ROWS = 32  # number of workers up to which all are shown
FEW = 12  # number of slowest workers shown if there are more, before the mean of the others
FAULTS = 5
BAR = 14
SPLIT = ("compute", "delay", "in\nflight", "decode", "idle", "quiet")  # in the order of timing.Split


def show(trace: Trace, console: Console | None = None) -> None:
    """Print a summary of a trace: configuration, loss, time, slow workers, staleness and bytes.

    Parameters
    ----------
    trace : Trace
        Trace of a finished, running or killed run.
    console : rich.console.Console, optional
        Console to print on; by default stdout.
    """
    printing.show(sections(trace), console)


def sections(trace: Trace) -> Iterator[Section]:
    """Yield the titles and contents of the sections that `show` prints."""
    length = timing.length_ns([trace.arrivals, trace.updates, trace.progress, trace.faults])
    yield description.headline(trace, length), [_what(trace)]
    if trace.progress.rows:
        yield "Loss and accuracy", _loss(trace)
    if trace.faults.rows:
        yield f"Faults: {trace.faults.rows}", [_faults(trace)]
    if not trace.arrivals.rows:
        none = trace.attributes.get("arrivals") == "none"
        yield "No arrival was recorded: trace.arrivals = none." if none else "No arrival yet.", []
        if none and trace.counters:
            yield "Bytes", _bytes(trace)
        return
    pace = timing.pace(trace.arrivals, description.workers_of(trace))
    if sentences := [*outcomes(trace.arrivals["status"]), *slow_sentences(pace)]:
        yield "\n".join(sentences), []
    yield f"Time, in % of {duration(length)}", _time(trace, pace, length)
    yield "Staleness: updates between a task's dispatch and its arrival", [_staleness(trace, pace)]
    yield "Bytes", _bytes(trace)


def outcomes(status: np.ndarray) -> list[str]:
    """Describe the fate of payloads before the stop, if not all were used."""
    used, wasted, refused = (int(np.count_nonzero(status == outcome)) for outcome in (USED, WASTED, REFUSED))
    lost = [f"{wasted:,} came too late and were wasted"] if wasted else []
    lost += [f"{refused:,} were not finite and were refused"] if refused else []
    return [f"{used:,} payloads were used; {'; '.join(lost)}"] if lost else []


def _what(trace: Trace) -> Table:
    table = make_table("topic", "text", left=("topic", "text"), header=False)
    for topic, text in description.lines(trace).items():
        table.add_row(topic, text)
    return table


def _loss(trace: Trace) -> list[RenderableType]:
    times, loss = trace.progress["t_ns"], trace.progress["loss"]
    table = make_table("", "first", "last", "best", "at", left=("",))
    for name, values, best in (
        ("loss", loss, np.nanargmin),
        (
            description.accuracy_name(trace.config.get("problem") or {}),
            trace.progress["accuracy"],
            np.nanargmax,
        ),
        ("gradient norm", trace.progress["grad_norm"], np.nanargmin),
    ):
        if not np.isnan(values).all():
            place = int(best(values))
            shown = (number(float(value)) for value in (values[0], values[-1], values[place]))
            table.add_row(name, *shown, duration(float(times[place])))
    target = (trace.config.get("stop") or {}).get("loss")
    wanted = sorted({*statistics.levels(loss), *([target] if target else [])}, reverse=True)
    if not wanted:
        return [table]
    reached = [(level, statistics.time_to(times, loss, level)) for level in wanted]
    texts = [
        f"{level:g}{' (the target)' if level == target else ''} "
        + (f"after {duration(time)}" if not np.isnan(time) else "not reached")
        for level, time in reached
    ]
    return [table, f"Loss {', '.join(texts)}."]


def _faults(trace: Trace) -> Table:
    table = make_table("at", "worker", "task", "kind", "what happened", left=("kind", "what happened"))
    for i in range(min(trace.faults.rows, FAULTS)):
        when, *rest = (trace.faults[key][i] for key in ("t_ns", "worker", "task", "kind", "message"))
        table.add_row(duration(float(when)), *map(str, rest))
    return table


def shown_workers(pace: timing.Pace) -> tuple[list[int], list[int]]:
    """Choose the workers to show individually (all, or the slowest of many), and those to show as one row."""
    workers = len(pace.arrivals)
    if workers <= ROWS:
        return list(range(workers)), []
    order = np.argsort(-np.nan_to_num(pace.median, nan=np.inf), kind="stable")
    return sorted(int(worker) for worker in order[:FEW]), sorted(int(worker) for worker in order[FEW:])


def _time(trace: Trace, pace: timing.Pace, length: int) -> list[RenderableType]:
    sample = int(trace.attributes.get("sample", 1))
    split = timing.split(trace.arrivals, len(pace.arrivals), length, sample)
    parts = [getattr(split, field.name) for field in fields(split)]
    table = make_table("worker", "tasks", "median", "ratio", *SPLIT)
    slow, (single, rest) = pace.slow(), shown_workers(pace)
    for worker in single:
        table.add_row(
            str(worker), str(pace.arrivals[worker]), duration(pace.median[worker]), ratio(pace.ratio[worker]),
            *(percent(part[worker], length) for part in parts), style="bold yellow" if worker in slow else "",
        )  # fmt: skip
    if rest:
        tasks, median = int(pace.arrivals[rest].sum()), float(np.median(pace.median[rest]))
        means = (percent(float(part[rest].mean()), length) for part in parts)
        table.add_row(f"{len(rest)} more", str(tasks), duration(median), "", *means)
    spent = timing.coordinator(trace.arrivals, trace.updates, trace.counters, length, sample)
    mean = duration(spent["decode"] / (sample * trace.arrivals.rows))
    shares = ", ".join(f"{what} {percent(time, length)}" for what, time in spent.items())
    legend = (
        "median: of the task times; ratio: to the median of the other workers' medians; delay: the injected "
        "one; decode: from an arrival until rank 0 has decoded it; quiet: after the worker's last one."
    )
    if sample > 1:
        legend += f" Estimated from every {sample}th task of each worker."
    coordinator = f"rank 0: {shares} (decoding takes {mean} an arrival)"
    return [table, coordinator, note(legend)]


def slow_sentences(pace: timing.Pace) -> list[str]:
    """Describe which workers are slow, and by how much."""
    total = int(pace.arrivals.sum())
    texts = [
        f"worker {worker} is slow: {ratio(pace.ratio[worker])} the median task time of the others; "
        f"{100 * pace.arrivals[worker] / total:.2g} % of the arrivals"
        for worker in pace.slow()[:FEW]
    ]
    if len(pace.slow()) > FEW:
        texts.append(f"{len(pace.slow()) - FEW} more workers are slow")
    if silent := pace.silent():
        names = listing([str(worker) for worker in silent[:FEW]]) + (" …" if len(silent) > FEW else "")
        texts.append(f"no arrival from {len(silent)} of {len(pace.arrivals)} workers: {names}")
    if not texts and np.isfinite(pace.ratio).any():
        worst = int(np.nanargmax(pace.ratio))
        most = ratio(pace.ratio[worst])
        texts.append(f"no worker is slow: the slowest, {worst}, has {most} the median task time of others")
    return texts


def _staleness(trace: Trace, pace: timing.Pace) -> RenderableType:
    from rich.table import Table

    chosen = statistics.in_time(trace.arrivals)
    values, worker = trace.arrivals["staleness"][chosen], trace.arrivals["worker"][chosen]
    bins = statistics.histogram(values)
    most = max(count for _, _, count in bins)
    left = make_table("updates", "arrivals in %", left=("arrivals in %",))
    for first, last, count in bins:
        name = str(first) if first == last else f"{first}-{last}"
        left.add_row(name, f"{percent(count, len(values)):>5} {bar(count, most, BAR)}")
    right = make_table("worker", "median", "90 %", "max", "spread", left=("spread",))

    def add(name: str, part: np.ndarray) -> None:
        mine = statistics.Staleness.of(part)
        counts = [int(((part >= first) & (part <= last)).sum()) for first, last, _ in bins]
        shown = map(str, (mine.median, mine.tail, mine.most)) if mine.count else (NOTHING,) * 3
        right.add_row(name, *shown, spark(counts))

    single, rest = shown_workers(pace)
    add("all", values)
    for one in single:
        add(str(one), values[worker == one])
    if rest:
        add(f"{len(rest)} more", values[np.isin(worker, rest)])
    both = Table.grid(padding=(0, 3))
    both.add_row(left, right)
    return both


def _bytes(trace: Trace) -> list[RenderableType]:
    sent = statistics.traffic(trace.arrivals, trace.attributes, trace.counters)
    about = "" if sent.exact else "about "
    table = make_table("", "up", "down", left=("",))
    tasks, some = f"{sent.arrivals:,} task{'s' if sent.arrivals != 1 else ''}", max(sent.arrivals, 1)
    table.add_row(about + tasks, size(sent.up), size(sent.down))
    table.add_row("a task", size(sent.up / some), size(sent.down / some))
    table.add_row("set-up", size(sent.setup_up), size(sent.setup_down))
    if not sent.up or not trace.attributes.get("gradient_bytes"):
        return [table]
    table.add_row("as many full gradients", size(sent.full_up), size(sent.full_up))
    return [table, f"Up: 1/{number(sent.full_up / sent.up, 3)} of the bytes of full gradients."]
