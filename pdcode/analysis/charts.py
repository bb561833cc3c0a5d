"""The charts of a report, as data: `report` draws them with Bokeh, `figures` with matplotlib."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..codes.quality.captured import captured_energy
from ..trace.reader import TraceReader
from ..trace.schema import APPLIED
from ..util.formats import SCALES, SIZES, counted, duration, number, ratio
from . import code_plots, comparison, critical_path, description, slowness, statistics, timeline, timing
from .account import PARTS, Account

POINTS = 800  # points of a curve, at most
BINS, PER_BIN = 60, 20  # intervals of a run, at most, and values in each, on average
CELLS = 150  # cells of an image on a side, at most
TASKS = 3000  # tasks of a timeline around what is shown first, and elsewhere, at most
CURVED = 64  # blocks of a code whose curve of captured energy is computed, at most
GREY, QUEUED, LINK = -1, 3, 5  # the last colour, and those of waiting at rank 0 and of links
STAGED = (
    (1, "computing", 0, 0.7, False), (2, "injected delay", 0, 0.7, True),
    (3, "waiting to send", 1, 0.7, True), (0, "in flight", LINK, 0.1, True),
    (4, "in flight", LINK, 0.1, True), (5, "waiting at rank 0", QUEUED, 0.2, True),
)  # fmt: skip
"""Bars of a task in the timeline: place in `critical_path.STAGES`, name, colour, height, faintness."""
LEVELS = {"median": 0.5, "90 %": 0.9, "99 %": 0.99}


@dataclass(frozen=True)
class Curve:
    """A curve through points, or steps; steps have one more edge in `x` than values in `y`."""

    name: str
    x: np.ndarray
    y: np.ndarray
    colour: int = 0
    band: tuple[np.ndarray, np.ndarray] | None = None  # least and largest values at each point

    @property
    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Points to be joined by lines."""
        if len(self.x) == len(self.y):
            return self.x, self.y
        return np.repeat(self.x, 2)[1:-1], np.repeat(self.y, 2)


@dataclass(frozen=True)
class Bars:
    """Horizontal bars in lanes."""

    name: str
    lane: np.ndarray
    left: np.ndarray
    right: np.ndarray
    colour: int
    height: float = 0.7
    faint: bool = False
    task: np.ndarray | None = None  # numbers of the workers' tasks

    @property
    def marks(self) -> bool:
        """Whether the bars are marks at a time."""
        return self.right is self.left


@dataclass(frozen=True)
class Image:
    """A matrix of colours, logarithmic if the least value is positive; nan is left empty."""

    values: np.ndarray  # rows from the top down
    low: float
    high: float
    extent: tuple[float, float, float, float]  # left, right, top, bottom
    legend: tuple[str, str]  # meaning of the lowest and of the highest value
    colour: int = 1


@dataclass(frozen=True)
class Chart:
    """A chart of curves, of bars in lanes or of an image."""

    name: str
    title: str
    x: str  # labels with their units
    y: str
    curves: Sequence[Curve] = ()
    bars: Sequence[Bars] = ()
    image: Image | None = None
    lanes: Sequence[str] = ()
    logarithmic: bool = False
    top: float | None = None  # of a vertical axis from 0
    target: float | None = None
    view: tuple[float, float] | None = None  # part of the horizontal axis that is shown first
    note: str = ""
    workers: Sequence[int] = ()  # of the lanes; -1: none
    columns: Sequence[str] = ()  # names of an image's columns; those of its rows are lanes
    others: Sequence["Chart"] = ()  # the same curves against something else

    @property
    def seconds(self) -> float | None:
        """Seconds in a unit of the horizontal axis; None if that is no time."""
        units = {f"time, {unit}": 1e-9 * scale for scale, unit in SCALES}
        return units.get(self.x)

    @property
    def alternative(self) -> str:
        """What the chart shows, in words."""
        texts = [f"{len(self.lanes)} lanes, {', '.join(self.lanes)}"] if self.lanes else []
        for curve in self.curves:
            if len(values := curve.y[np.isfinite(curve.y)]):
                name = curve.name if len(self.curves) > 1 else self.y
                ends = (
                    number(float(each), 3) for each in (values[0], values[-1], values.min(), values.max())
                )
                texts.append("{} from {} to {}, between {} and {}".format(name, *ends))
        texts += [
            f"{counted(len(bars.left), 'mark' if bars.marks else 'bar')} {bars.name}" for bars in self.bars
        ]
        if self.image is not None:
            values = np.where(np.isfinite(self.image.values), self.image.values, self.image.low)
            texts.append(f"{self.y} by {self.x}, colours from {' to '.join(self.image.legend)}")
            highest = int(np.median(values, axis=1).argmax())
            texts.append(f"the highest median is in row {highest} of {len(values)}")
        return f"{self.title}: {'; '.join(texts)}"

    @property
    def x_range(self) -> tuple[float, float]:
        """Ends of the horizontal axis."""
        if self.image is not None:
            return self.image.extent[:2]
        parts = [curve.x for curve in self.curves]
        parts += [end for bars in self.bars for end in (bars.left, bars.right)]
        values = np.concatenate(parts)
        if not len(values):
            return 0.0, 1.0
        low, high = float(values.min()), float(values.max())
        return low, high if high > low else low + 1

    @property
    def decades(self) -> list[float]:
        """Ticks of a logarithmic axis: powers of ten, of few also their double and fivefold."""
        values = np.concatenate([curve.y[np.isfinite(curve.y) & (curve.y > 0)] for curve in self.curves])
        low, high = (int(np.floor(np.log10(end))) for end in (values.min(), values.max()))
        digits = (1, 2, 5) if high - low < 3 else (1,)
        return [float(f"{digit}e{ten}") for ten in range(low, high + 1) for digit in digits]

    @property
    def y_range(self) -> tuple[float, float] | None:
        """Ends of the vertical axis, from below; None if they follow the values."""
        if self.lanes:
            return len(self.lanes) - 0.3, -0.7
        if self.image is not None:
            return self.image.extent[3], self.image.extent[2]
        return None if self.top is None else (0.0, self.top)


def scaled(most: float, scales: Sequence[tuple[float, str]]) -> tuple[float, str]:
    """Return a factor by which values up to this one become handy numbers, and their unit."""
    scale, unit = next(((scale, unit) for scale, unit in scales if most >= 2 * scale), scales[-1])
    return 1 / scale, unit


def wide(curves: Sequence[Curve]) -> bool:
    """Return whether values span so much that their axis is logarithmic."""
    values = np.concatenate([curve.y[np.isfinite(curve.y)] for curve in curves])
    return len(values) > 0 and values.min() > 0 and values.max() > 5 * values.min()


def thin(curve: Curve) -> Curve:
    """Return a curve of at most `POINTS` points, the first and the last among them."""
    chosen = np.unique(np.linspace(0, len(curve.x) - 1, POINTS).round().astype(int))
    return replace(curve, x=curve.x[chosen], y=curve.y[chosen])


def losses(traces: Sequence[TraceReader], names: Sequence[str] = ("loss",)) -> Iterator[Chart]:
    """Yield loss and score against time, with a curve for each run; where they differ, against the rest, too.

    The rest is updates and bytes.
    """
    runs = [(trace, name) for trace, name in zip(traces, names, strict=True) if trace.progress.rows]
    if not runs:
        return
    targets = {trace.table("stop").get("loss") for trace, _ in runs}
    target = targets.pop() if len(targets) == 1 else None
    score = description.accuracy_name(runs[0][0].table("problem"))
    places = [
        ("time", SCALES, [trace.progress["t_ns"] for trace, _ in runs]),
        ("updates", ((1.0, ""),), [trace.progress["version"] for trace, _ in runs]),
        ("bytes up and down", SIZES, [comparison.sent(trace) for trace, _ in runs]),
    ]
    for column, title, level in (("loss", "Training loss", target), ("accuracy", f"Test {score}", None)):
        drawn = list[Chart]()
        for axis, scales, positions in places:
            if axis != "time" and _alike(positions, places[0][2]):  # the same curves again
                continue
            factor, unit = scaled(max(float(each.max()) for each in positions), scales)
            curves = [
                thin(Curve(name, factor * at, trace.progress[column], colour))
                for colour, ((trace, name), at) in enumerate(zip(runs, positions, strict=True))
            ]
            drawn.append(
                Chart(
                    f"{column}-{axis.partition(' ')[0]}", title, f"{axis}, {unit}" if unit else axis,
                    "loss" if column == "loss" else score, curves,
                    logarithmic=column == "loss" and wide(curves), target=level,
                )
            )  # fmt: skip
        if any(np.isfinite(each.y).sum() > 1 for each in drawn[0].curves):
            yield replace(drawn[0], others=drawn[1:])


def _alike(positions: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
    """Return whether the positions of points on two axes are the same but for the scale, for the eye."""
    first, second = np.concatenate(positions), np.concatenate(others)
    return bool(np.abs(first / max(first.max(), 1) - second / max(second.max(), 1)).max() < 0.02)


def edges_ns(trace: TraceReader, count: int) -> np.ndarray:
    """Return the edges of intervals of a run, for this number of values."""
    bins = int(np.clip(count // PER_BIN, 1, BINS))
    return np.linspace(0, max(description.stop_ns(trace), 1), bins + 1)


def over_time(
    trace: TraceReader, name: str, title: str, label: str, t_ns: np.ndarray, values: np.ndarray,
    levels: dict[str, float] = LEVELS,
) -> Chart:  # fmt: skip
    """Return a chart of quantiles of values in intervals of a run."""
    edges = edges_ns(trace, len(values))
    order = np.argsort(t_ns, kind="stable")
    parts = np.split(values[order], np.searchsorted(t_ns[order], edges[1:-1]))
    found = np.array([
        np.quantile(part, [*levels.values()]) if len(part) else [np.nan] * len(levels) for part in parts
    ])  # fmt: skip
    factor, unit = scaled(edges[-1], SCALES)
    curves = [Curve(level, factor * edges, found[:, place], place) for place, level in enumerate(levels)]
    return Chart(name, title, f"time, {unit}", label, curves, logarithmic=wide(curves))


def rates(trace: TraceReader) -> Chart:
    """Return a chart of arrivals and of used payloads a second."""
    rows, scale = trace.arrivals, trace.scale
    edges = edges_ns(trace, rows.rows)
    factor, unit = scaled(edges[-1], SCALES)
    used = rows["t_recv_ns"][np.isin(rows["status"], APPLIED)]
    curves = [
        Curve(name, factor * edges, scale * np.histogram(t_ns, edges)[0] / np.diff(1e-9 * edges), colour)
        for name, t_ns, colour in (("arrived", rows["t_recv_ns"], GREY), ("used", used, 0))
    ]
    top = 1.05 * max(1.0, *(each.y.max() for each in curves))
    return Chart("rate", "Payloads a second", f"time, {unit}", "payloads/s", curves, top=top)


def tasks(trace: TraceReader, path: critical_path.CriticalPath | None) -> Chart:
    """Return the timeline, of all workers or a choice: tasks around a typical interval, some of others."""
    rows = trace.arrivals
    pace, length = timing.pace_of(trace), description.stop_ns(trace)
    outages = timing.outages(trace, pace, length)
    lanes = timeline.lanes(pace, list(dict.fromkeys(outage.worker for outage in outages)))
    window = timeline.window_ns(rows, pace, length, outages)
    place = np.full(trace.worker_count, -1)
    place[lanes] = np.arange(len(lanes))
    centre, mine = sum(window) / 2, np.flatnonzero(place[rows["worker"]] >= 0)
    chosen = _nearby(trace, mine, centre)
    split, task = critical_path.stages_of(trace), rows["task"][chosen]
    begin_ns = rows["t_dispatch_ns"][chosen]
    edges = 1e-9 * np.vstack((begin_ns, begin_ns + split[:, chosen].cumsum(axis=0)))
    at, recv = place[rows["worker"]][chosen].astype(float), 1e-9 * rows["t_recv_ns"][chosen]
    bars = [
        Bars(name, at, edges[stage], edges[stage + 1], colour, height, faint, task)
        for stage, name, colour, height, faint in STAGED
    ]
    bars.append(Bars("arrival", at, recv, recv, GREY, 0.9))
    if path is not None:
        on = np.isin(chosen, path.rows)
        bars.append(Bars("on the critical path", at[on] + 0.42, edges[0][on], recv[on], 1, 0.12))
    slow, note = set(pace.slow()), ""
    names = [f"worker {worker}{' (slow)' if worker in slow else ''}" for worker in lanes]
    if trace.sample == 1 and not trace.summed.any():
        more = [*timeline.rank_0(trace, split, centre, TASKS)]
        for lane, (_, kinds) in enumerate(more, len(names)):
            for name, (left, right), colour, faint in kinds:
                bars.append(Bars(name, np.full(len(left), float(lane)), left, right, colour, 0.7, faint))
        names += [name for name, _ in more]
        if rows.rows > TASKS:
            note = f"Of rank 0 and its link the {TASKS:,} events nearest to the middle. "
    bars = [each for each in bars if len(each.left) and (each.marks or (each.right > each.left).any())]
    if len(lanes) < trace.worker_count:
        note += f"{len(lanes)} of {trace.worker_count:,} workers: slow ones, and others evenly spaced. "
    if len(chosen) < len(mine):
        note += f"{len(chosen):,} of {len(mine):,} tasks: around what is shown first, and at {CELLS} times."
    view, title = (1e-9 * window[0], 1e-9 * window[1]), "Tasks of the workers"
    workers = [*lanes, *[-1] * (len(names) - len(lanes))]
    return Chart(
        "timeline", title, "time, s", "", bars=bars, lanes=names, view=view, note=note, workers=workers
    )  # fmt: skip


def _nearby(trace: TraceReader, of: np.ndarray, centre_ns: float) -> np.ndarray:
    """Return `TASKS` of some arrivals around a time, and about as many at `CELLS` times of the run."""
    begin, end = (trace.arrivals[f"t_{event}_ns"][of] for event in ("dispatch", "recv"))
    if len(of) <= 2 * TASKS:
        return of
    away = np.argsort(np.maximum(centre_ns - end, begin - centre_ns), kind="stable")[:TASKS]
    cell = max(description.stop_ns(trace), 1) / CELLS
    part = np.clip(end / cell, 0, CELLS - 1).astype(int)
    order = np.lexsort((np.abs(end - (part + 0.5) * cell), part))
    number = np.arange(len(of)) - np.searchsorted(part[order], part[order])
    return of[np.union1d(away, order[number < TASKS // CELLS])]


def slow_when(trace: TraceReader) -> Chart | None:
    """Return each worker's task time over the workers' median at the same time; None for a single worker."""
    found = slowness.tasks_of(trace)
    workers, counts = len(found), [len(each.number) for each in found]
    if workers < 2 or not any(counts):
        return None
    length = max(description.stop_ns(trace), 1)
    columns = int(np.clip(np.median(counts) / 3, 1, CELLS))
    worker = np.repeat(np.arange(workers), counts)
    middle = np.concatenate([(each.begin + each.end) / 2 for each in found])
    column = np.clip((middle * columns / length).astype(int), 0, columns - 1)
    cells = worker * columns + column
    total = np.bincount(cells, np.concatenate([each.total for each in found]), workers * columns)
    with np.errstate(invalid="ignore"):
        mean = (total / np.bincount(cells, minlength=workers * columns)).reshape(workers, columns)
    centres = (np.arange(columns) + 0.5) * length / columns
    for row, each in zip(mean, found, strict=True):  # a long task fills the intervals in which none ends
        if len(each.end):
            under_way = np.minimum(np.searchsorted(each.end, centres), len(each.end) - 1)
            there = np.isnan(row) & (each.begin[under_way] <= centres) & (centres <= each.end[under_way])
            row[there] = each.total[under_way][there]
    known = ~np.isnan(mean).all(axis=0)
    mean[:, known] /= np.nanmedian(mean[:, known], axis=0)
    group = -(-workers // CELLS)
    padded = np.full((-(-workers // group) * group, columns), -np.inf)
    padded[:workers] = np.nan_to_num(mean, nan=-np.inf)
    slowest = padded.reshape(-1, group, columns).max(axis=1)
    slowest[np.isinf(slowest)] = np.nan
    high = max(2.0, float(np.nanquantile(slowest, 0.999)))
    factor, unit = scaled(length, SCALES)
    image = Image(slowest, 1.0, high, (0, factor * length, -0.5, workers - 0.5), ("1×", ratio(high)))
    return Chart(
        "slow-when", "Who is slow when: task time over the workers' median", f"time, {unit}", "worker",
        image=image, note=f"A row is the slowest of {group} workers." if group > 1 else "",
    )  # fmt: skip


def accounts(found: Account) -> Iterator[Chart]:
    """Yield an account as one bar, and by worker, of many the first ones."""
    first = [*found.workers[:12], found.worker_count]
    lanes = [f"worker {worker}" for worker in first[:-1]] + ["rank 0"]
    whole = _stacked("account", "Where the time went", found.spent_ns.sum(axis=0)[None], found, [""])
    yield replace(whole, note=f"In %, with 95 % intervals: {', '.join(found.intervals())}.")
    title, workers = "Where the time went, by worker", [*first[:-1], -1]
    yield replace(_stacked("account-workers", title, found.spent_ns[first], found, lanes), workers=workers)


def _stacked(name: str, title: str, spent_ns: np.ndarray, found: Account, lanes: Sequence[str]) -> Chart:
    share = 100 * spent_ns / found.length_ns
    ends, at = share.cumsum(axis=1), np.arange(len(share), dtype=float)
    # The colours of the timeline, where it has the part.
    colours = LINK, 0, 0, 1, LINK, QUEUED, 2, 2, 1, LINK, 1, QUEUED, 0, 0, 4, 4, LINK, GREY, GREY, GREY
    faint = "delay", "send", "step", "dispatch", "forward", "checkpoint", "rows", "start"
    bars = [
        Bars(part, at, right - width, right, colour, faint=part in faint)
        for part, right, width, colour in zip(PARTS, ends.T, share.T, colours, strict=True)
        if width.max() >= 0.05
    ]
    until = f"the {duration(found.length_ns)} to {found.goal or 'the stop'}"
    return Chart(name, title, f"% of {until}", "", bars=bars, lanes=list(lanes))


def codes(trace: TraceReader) -> Iterator[Chart]:
    """Yield the Gram matrix of each code, and the energy that random arrivals capture."""
    for blocks, matrix in trace.code.items():
        gram = code_plots.gram(matrix[:CELLS])
        count, most = len(gram), float(np.nanmax(gram, initial=0.0))
        extent = (-0.5, count - 0.5, -0.5, count - 0.5)
        note = f"The first {count} of {len(matrix):,} rows. " if count < len(matrix) else ""
        if most < code_plots.ZERO:
            most, note = 1.0, f"{note}All of them are 0."
        title = f"Gram matrix, {blocks} blocks: |inner products| of rows"
        image = Image(gram, 0.0, most, extent, ("0", number(most, 3)), 0)
        yield Chart(f"gram-{blocks}", title, "row", "row", image=image, note=note)
        if blocks <= CURVED:
            mean = captured_energy(matrix, min(len(matrix), 4 * blocks)).mean
            q = np.arange(len(mean))
            curves = [
                Curve("expected", q, mean),
                Curve("bound of any code", q, np.minimum(q / blocks, 1), GREY),
            ]
            title = f"Energy captured by random arrivals, {blocks} blocks"
            yield Chart(f"energy-{blocks}", title, "payloads", "captured fraction", curves, top=1.02)


def run(
    trace: TraceReader, path: critical_path.CriticalPath | None, spent: Account | None
) -> dict[str, list[Chart]]:
    """Return the charts of a run by the name of their section."""
    found = {"loss": [*losses([trace])], "code": [*codes(trace)]}
    if trace.updates.rows and not trace.is_script:
        t_ns, captured = trace.updates["t_ns"], trace.updates["captured"]
        title, levels = "Captured fraction of the gradient at steps", {"median": 0.5, "10 %": 0.1}
        chart = over_time(trace, "captured", title, "captured fraction", t_ns, captured, levels)
        found["code"].insert(0, replace(chart, top=1.02, logarithmic=False))
    if trace.arrivals.rows:
        rows, chosen = trace.arrivals, statistics.in_time(trace.arrivals)
        t_ns, stale = rows["t_recv_ns"][chosen], rows["staleness"][chosen]
        taken = 1e-6 * np.maximum(rows["t_decoded_ns"] - rows["t_dispatch_ns"], 0)[chosen]
        found["time"] = [tasks(trace, path), *filter(None, [slow_when(trace)]), rates(trace)]
    if trace.arrivals.rows and chosen.any():
        title = "Staleness against time"
        if stale.any():
            found["staleness"] = [over_time(trace, "staleness", title, "updates", t_ns, stale)]
        title = "Time from dispatch to decoding"
        found["latencies"] = [over_time(trace, "latency", title, "ms", t_ns, taken)]
    if spent is not None:
        found["account"] = [*accounts(spent)]
    return found
