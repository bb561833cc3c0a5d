"""The tables of `pdcode show TRACE`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from ..differences.fit import Fit, fitted
from ..trace.reader import TraceReader
from ..trace.schema import APPLIED, CLIPPED, DRAINED, FATES, LOST, LOST_AT_RANK_0, REFUSED, USED, WASTED
from ..util.formats import (
    DASH,
    bar,
    counted,
    duration,
    number,
    percent,
    percents,
    ratio,
    reached,
    size,
    spark,
    workers_named,
)
from . import critical_path, description, diagnosis, printing, statistics, timing
from .account import PARTS, Account, account
from .diagnosis import Diagnosis
from .gain import Gain
from .printing import make_table, note

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

ROWS = 32  # number of workers up to which all are shown
FEW = 12  # number of slowest workers that are shown otherwise, before the mean of the others
FAULTS, OUTAGES = 5, 3  # number of shown faults, and of described outages
BAR = 14
HOW = (
    "By the critical path, the chain of tasks that the last step had to wait for: a step waits for the last "
    "payload that it uses, a task for what rank 0 did before its dispatch.",
    "Every payload is a step, so no worker waits for another one: the mean of what each worker's tasks took.",
)
"""How an account of one chain, of several, is made."""
LEGEND = (
    "link: a message is in flight; delay: injected; send: ready, but not sent; queue: rank 0 is busy with "
    "other payloads and steps; dispatch: until rank 0 sends the next task; start: before the first task; ±: "
    "95 %, by the differences of 32 parts of the run."
)


def show(
    trace: TraceReader,
    console: Console | None = None,
    diagnose: Callable[[TraceReader], Diagnosis] = diagnosis.diagnose,
    brief: bool = False,
    gain: Gain | None = None,
) -> None:
    """Print a summary of a trace: configuration, diagnosis, loss, time, staleness and bytes.

    A brief one is how the run ended, and the diagnosis; with `gain` both say what waiting would cost.
    """
    shown = sections(trace, diagnose(trace), None if brief else account(trace))
    if brief:
        shown = itertools.takewhile(lambda section: section[0] != "run", shown)
    more: list[RenderableType] = []
    if gain is not None:
        more = [str(gain), note("(waiting is simulated, under the recorded delays)")]
    printing.show(
        ((title, [*parts, *more] if name == "headline" else parts) for name, title, parts in shown), console
    )


def sections(
    trace: TraceReader,
    found: Diagnosis,
    spent: Account | None,
    faults: int = FAULTS,
) -> Iterator[tuple[str, str, Sequence[RenderableType]]]:
    """Yield names, titles and contents of the sections of `show`, with this number of faults."""
    length = description.stop_ns(trace)
    if trace.descent:
        yield "descent", "", [printing.bold(trace.descent.line)]
    yield "headline", description.headline(trace), []
    if trace.arrivals.rows:
        table = make_table("line", "text", left=("line", "text"), header=False)
        for line in found.lines():
            table.add_row(*line)
        yield "diagnosis", "Diagnosis", [table]
    yield "run", "Run", [_description(trace)]
    if trace.progress.rows:
        yield "loss", "Loss and accuracy", _loss(trace)
    if (found_fit := fitted(trace)) is not None:
        yield "fit", "Fit", _fit(found_fit)
    if count := len(description.faults_to_show(trace)):
        yield "faults", f"Faults: {count}", _faults(trace, faults)
    if not trace.arrivals.rows:
        unrecorded = trace.attributes.get("arrivals") == "none"
        text = "No arrival was recorded: trace.arrivals = none." if unrecorded else "No arrival yet."
        if trace.is_script and trace.finished:
            text = "No step was recorded: no sequence of calls repeats."
        if unrecorded and "lost" in trace.counters:
            text = f"{describe_fates(trace.arrivals['status'], trace.counters)}\n{text}"
        yield "fates", text, []
        if unrecorded and trace.counters:
            yield "bytes", "Bytes", _bytes(trace)
        return
    pace = timing.pace_of(trace)
    outages = timing.outages(trace, pace, length)
    sampled = (
        f"of one payload in {trace.sample:,}: " if trace.sample > 1 and "lost" not in trace.counters else ""
    )
    fates = [] if trace.is_script else [sampled + describe_fates(trace.arrivals["status"], trace.counters)]
    silent = [] if trace.is_script else pace.silent()  # as a manager is
    without = [f"no arrival from {workers_named(silent)}, of {trace.worker_count:,}"] if silent else []
    if texts := [*fates, *_goodput(trace), *_shuffles(trace), *describe_outages(outages, pace), *without]:
        yield "fates", "\n".join(texts), []
    until = "until the stop" if trace.finished else "so far"
    out = {outage.worker for outage in outages}
    yield "time", f"Time {until}, in % of {duration(length)}", _time(trace, pace, length, out)
    if not trace.is_script:
        title = "Staleness: updates between a task's dispatch and its arrival"
        yield "staleness", title, [_staleness(trace, pace)]
    yield "latencies", "Latencies of tasks that arrived until the stop", _latencies(trace)
    if spent is not None:
        yield "account", spent.title, _account(spent)
    if not trace.is_script or trace.attributes.get("gradient_bytes"):
        yield "bytes", "Bytes", _bytes(trace)


def describe_fates(status: np.ndarray, counters: Mapping[str, Any]) -> str:
    """Describe the fates of payloads."""
    counts = np.bincount(status, minlength=len(FATES))
    if "lost" in counters:  # totals, also if only a sample was recorded
        counts[:] = [int(counters[name]) for name in FATES]
        counts[USED] -= counts[CLIPPED]
    others = {
        WASTED: "came too late and {were} wasted",
        REFUSED: "{were} not finite, too large or no {answers}, and {were} refused",
        DRAINED: "came after the stop",
        LOST: "{were} lost with {their_workers}",
        LOST_AT_RANK_0: "{were} lost with rank 0",
    }
    one = {"were": "was", "answers": "answer", "their_workers": "its worker"}
    several = {"were": "were", "answers": "answers", "their_workers": "their workers"}
    texts = [
        f"{counts[fate]:,} {text.format_map(one if counts[fate] == 1 else several)}"
        for fate, text in others.items()
        if counts[fate]
    ]
    clipped = f", {counts[CLIPPED]:,} of them clipped to the median norm" if counts[CLIPPED] else ""
    if strays := int(counters.get("strays", 0)):
        texts.append(f"{counted(strays, 'other message')} answered no task")
    used = int(counts[USED] + counts[CLIPPED])
    were = (one if used == 1 else several)["were"]
    return "; ".join([f"{counted(used, 'payload')} {were} used{clipped}", *texts])


def _goodput(trace: TraceReader) -> Iterator[str]:
    """Describe the training rows a second in payloads that were used, and their share of the computation."""
    rows, length = trace.arrivals, description.stop_ns(trace)
    used = np.isin(rows["status"], APPLIED)
    spent = np.maximum(rows["t_compute_ns"] - rows["t_start_ns"], 0)
    if (each := trace.attributes.get("task_rows")) and length:
        useful = trace.scale * np.count_nonzero(used) / statistics.messages(rows) * each
        share = percent(float(spent[used].sum()), float(spent.sum()))
        passes = f"; {useful / all_rows:.1f} epochs" if (all_rows := trace.attributes.get("rows")) else ""
        rate = f"{1e9 * useful / length:,.0f} training rows a second in used payloads"
        idle = f"workers had no task {percent(timing.idle(trace, length), 1)} % of the time"
        yield f"goodput: {rate}, {share} % of the computation{passes}; {idle}"


def _shuffles(trace: TraceReader) -> Iterator[str]:
    """Describe how often the rows were reshuffled, and what that sent."""
    rows = trace.shuffles
    if rows.rows:
        times = counted(int(rows["epoch"].max()), "time")
        sent, others = size(int(rows["bytes"].sum())), int(rows["exchanged"].sum())
        beside = f", and {size(others)} between workers" if others else ""
        messages = counted(rows.rows, "message")
        yield f"rows reshuffled {times}: {sent} from rank 0{beside}, in {messages} to workers"


def _description(trace: TraceReader) -> Table:
    table = make_table("topic", "text", left=("topic", "text"), header=False)
    for topic, text in description.lines(trace).items():
        table.add_row(topic, text)
    return table


def _loss(trace: TraceReader) -> list[RenderableType]:
    times, loss = trace.progress["t_ns"], trace.progress["loss"]
    score_name = description.accuracy_name(trace.table("problem"))
    table = make_table("", "first", "last", "best", "at", left=("",))
    for name, values, best in (
        ("loss", loss, np.nanargmin),
        (score_name, trace.progress["accuracy"], np.nanargmax),
        ("gradient norm", trace.progress["grad_norm"], np.nanargmin),
    ):
        if not np.isnan(values).all():
            place = int(best(values))
            shown = (number(float(value)) for value in (values[0], values[-1], values[place]))
            table.add_row(name, *shown, duration(float(times[place])))
    stop = trace.table("stop")
    target, score = stop.get("loss"), stop.get("accuracy")
    texts = [
        f"{level:g}{' (the target)' if level == target else ''} {reached(*when)}"
        for level, when in statistics.milestones(trace.progress, target)
    ]
    sentences = [f"The loss reached {', '.join(texts)}."] if texts else []
    if target and not (loss <= target).any():
        sentences.append(f"The target {target:g} was not reached.")
    if score:
        when = statistics.reached_ns(trace.progress, -trace.progress["accuracy"], -score)
        found = "was " + "reached " * math.isfinite(when[1]) + reached(*when)
        sentences.append(f"The target {score_name} {score:g} {found}.")
    if not np.isnan(other := trace.progress["other_loss"][-1]):
        averaged = trace.progress["averaged"][-1]
        this, that = ("the average of θ", "θ") if averaged else ("θ", "its average")
        sentences.append(f"The last loss is of {this}; the loss of {that} is {number(float(other))}.")
    versions, updates = trace.progress["version"], int(trace.counters.get("version", trace.updates.rows))
    count, last = len(np.unique(versions)), int(versions[-1])
    sentences.append(
        f"Measured {count:,} time{'s' * (count != 1)}, the last after update {last:,} of {updates:,}."
    )
    return [table, " ".join(sentences)]


def _fit(fit: Fit) -> list[RenderableType]:
    table = make_table("", "value", "± standard error", "95 % interval", "", left=("",), fold=False)
    for name, x, error, ends, held in zip(
        fit.names, fit.x, fit.deviations, fit.intervals, fit.at_bound, strict=True
    ):
        low, high = (number(float(end), 5) for end in ends)
        table.add_row(
            name,
            number(float(x), 6),
            number(float(error), 3),
            f"{low} to {high}",
            "at its bound" * bool(held),
        )
    sentences = [
        f"{counted(len(fit.residuals), 'residual')}, "
        + (f"{len(fit.priors)} of the prior, " if len(fit.priors) else "")
        + f"{fit.freedom} degrees of freedom, s = {number(fit.variance**0.5)}.",
        f"Largest condition index {number(float(fit.conditions[-1]), 3)}.",
    ]
    if fit.undetermined:
        sentences.append(f"Not determined by the residuals: {', '.join(fit.undetermined)}.")
    for index, names in fit.together:
        sentences.append(f"Determined together only (condition index {index:.0f}): {', '.join(names)}.")
    if not fit.undetermined and not fit.together:
        sentences.append("All parameters are determined.")
    return [table, " ".join(sentences)]


def _faults(trace: TraceReader, most: int = FAULTS) -> list[RenderableType]:
    rows = description.faults_to_show(trace)
    table = make_table("at", "worker", "task", "kind", "what happened", left=("kind", "what happened"))
    for i in rows[:most]:
        when, worker, task, kind, what = (
            trace.faults[key][i] for key in ("t_ns", "worker", "task", "kind", "message")
        )
        numbers = (str(number) if number >= 0 else DASH for number in (worker, task))
        table.add_row(duration(float(when)), *numbers, str(kind), str(what))
    more = len(rows) - most
    return [table, *([f"and {more:,} more"] if more > 0 else [])]


def shown_workers(pace: timing.Pace, out: Collection[int] = ()) -> tuple[list[int], list[int]]:
    """Return the workers to show individually (of many, the slowest and those `out`), and the others."""
    workers = len(pace.arrivals)
    if workers <= ROWS:
        return list(range(workers)), []
    slowness = np.nan_to_num(pace.median, nan=np.inf)
    slowness[list(out)] = np.inf
    order = np.argsort(-slowness, kind="stable")
    return sorted(int(worker) for worker in order[:FEW]), sorted(int(worker) for worker in order[FEW:])


def _time(trace: TraceReader, pace: timing.Pace, length: int, out: set[int]) -> list[RenderableType]:
    scale = trace.scale
    split = timing.split(trace.arrivals, len(pace.arrivals), length, scale, trace.faults)
    names = [field.name for field in fields(split)][: None if split.dead.any() else -1]
    parts = [getattr(split, name) for name in names]
    columns = (name.replace("flight", "in\nflight") for name in names)
    table = make_table("worker", "tasks", "median", "ratio", *columns, gap=1)
    marked, (single, rest) = out.union(pace.slow()), shown_workers(pace, out)
    for worker in single:
        style = "bold yellow" if worker in marked else ""
        table.add_row(
            str(worker), str(pace.arrivals[worker]), duration(pace.median[worker]), ratio(pace.ratio[worker]),
            *percents([float(part[worker]) for part in parts], length), style=style,
        )  # fmt: skip
    if rest:
        tasks, median = int(pace.arrivals[rest].sum()), float(np.median(pace.median[rest]))
        means = percents([float(part[rest].mean()) for part in parts], length)
        table.add_row(f"{len(rest)} more", str(tasks), duration(median), "", *means)
    spent = timing.coordinator(trace.arrivals, trace.updates, trace.counters, length, scale)
    received = scale * int(np.count_nonzero(trace.arrivals["t_recv_ns"] <= length))
    labels = {"idle": "idle" if "dispatch" in spent else "idle or sending"}
    if received:
        labels["decode"] = f"decode ({duration(spent['decode'] / received)} an arrival)"
    shares = zip(spent.items(), percents([*spent.values()], length), strict=True)
    loads = (f"{labels.get(name, name)} {share}" for (name, time), share in shares if time)
    legend = (
        "median: of the task times; ratio: to the median of the other workers' medians (a verdict compares "
        "tasks at the same time, while the worker was slow); delay: injected; "
        "send: from the end of the delay to the sending, such as waiting for a processor; in flight: between "
        "the worker and rank 0, or waiting there; decode: from the arrival until it is decoded; idle: from "
        "then to the next task; quiet: after the worker's last arrival."
    )
    if trace.is_script:
        return [table, note("compute: own work; in flight: what all wait for; idle: waiting for others.")]
    if trace.summed.any():
        legend = legend.replace("task times;", "task times, without waiting for the others' payloads;")
    if split.dead.any():
        legend += " dead: after its death."
    if trace.sample > 1:
        legend += f" Estimated from one task of {trace.sample:,} of each worker."
    return [table, f"rank 0: {', '.join(loads)}", note(legend)]


def describe_outages(outages: Sequence[timing.Outage], pace: timing.Pace) -> list[str]:
    """Describe the longest outages."""
    groups, workers = timing.group_overlapping(outages), len(pace.arrivals)
    texts = []
    for group in groups[:OUTAGES]:
        first, names = group[0], {outage.worker for outage in group}
        when = f"for {duration(first.length_ns)}, from {duration(first.begin_ns)} on"
        if len(names) > max(1, workers / 2):
            who = "all" if len(names) == workers else f"{len(names):,} of"
            texts.append(
                f"{who} {workers:,} workers were out at once {when}: rank 0 or the network was stalled"
            )
            continue
        usual_ns = pace.median[first.worker] or np.nan  # 0 in damaged files
        times = f"{ratio(first.length_ns / usual_ns)} its median task time"
        if len(names) > 1:
            texts.append(f"{workers_named(sorted(names))} were out at once {when}")
        elif first.ended:
            texts.append(f"worker {first.worker} was out {when}: its task {first.task} took {times}")
        else:
            texts.append(f"worker {first.worker} has been out {when}: its task {first.task} is outstanding")
    if (more := len(groups) - OUTAGES) > 0:
        texts.append(f"{counted(more, 'more outage')} {'was' if more == 1 else 'were'} shorter")
    return texts


def _staleness(trace: TraceReader, pace: timing.Pace) -> RenderableType:
    from rich.table import Table

    chosen = statistics.in_time(trace.arrivals)
    values, worker = trace.arrivals["staleness"][chosen], trace.arrivals["worker"][chosen]
    if not values.any():
        return "always 0"
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
        shown = map(str, (mine.median, mine.tail, mine.most)) if mine.count else (DASH,) * 3
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


def _latencies(trace: TraceReader) -> list[RenderableType]:
    table = make_table("", "median", "90 %", "99 %", "max", left=("",))
    for name, times in critical_path.latencies(trace).items():
        table.add_row(name, *map(duration, times.tolist()))
    if trace.sample > 1:
        return [table, note("Of a sample, link up has some of the waiting in rank 0's queue.")]
    return [table]


def _account(found: Account) -> list[RenderableType]:
    """Return the table of an account: a row for each worker, and a column for each part that took time."""
    length, spent = found.length_ns, found.spent_ns
    shown = [place for place, time in enumerate(spent.sum(axis=0)) if time >= length / 2000]
    table = make_table("", *(PARTS[place].replace(" ", "\n") for place in shown), "all", "±", gap=1)

    def add(name: str, rows: Sequence[int], deviation: str = "") -> None:
        times = spent[rows].sum(axis=0)
        table.add_row(name, *(percent(each, length) for each in (*times[shown], times.sum())), deviation)

    first, rest, rank_0 = found.workers[:FEW], found.workers[FEW:], found.worker_count
    for worker in first:
        add(f"worker {worker}", [worker], percent(float(found.deviation_ns[worker]), length))
    if rest:
        add(f"{len(rest)} more", rest)
    add("rank 0", [rank_0], percent(float(found.deviation_ns[rank_0]), length))
    add("all", range(rank_0 + 1))
    table.add_row("±", *(percent(each, length) for each in found.part_deviation_ns[shown]), "", "")
    return [table, note(" ".join((HOW[found.chains > 1], LEGEND)))]


def _bytes(trace: TraceReader) -> list[RenderableType]:
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
    less = sent.full_up / sent.up
    fraction = f"1/{number(less, 3)} of" if less >= 1.005 else f"{number(1 / less, 3)}×"
    return [table, f"Up: {fraction} the bytes of full gradients."]
