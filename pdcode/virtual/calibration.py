"""Calibration of the virtual clock: ``[machine]`` and ``[link]`` fitted to traces of real runs."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec
import numpy as np

from ..config import Config, LinkTable, MachineTable, legacy
from ..schemes.common import saved
from ..stragglers.bases import base_ns
from ..trace.reader import TraceReader
from ..trace.schema import DRAINED
from ..util.errors import InputError

EVENTS = tuple(f"t_{event}_ns" for event in ("dispatch", "start", "compute", "send", "recv", "decoded"))
COLUMNS = (*EVENTS, "task", "version", "status", "bytes_up", "bytes_down", "injected_delay_ns")
Base = Literal["median", "low"]
# The bandwidth is fitted if message sizes, and their median times, differ by at least:
MIN_SIZE_RATIO = 2.0
MIN_STANDARD_ERRORS = 4.0
MOST_MESSAGES = 10_000  # by which a bandwidth is fitted
MESSAGES = "bytes_down", "bytes_up", "version", "t_dispatch_ns", "t_start_ns", "t_send_ns", "t_recv_ns"


@dataclass(frozen=True)
class MeasuredTimes:
    """Median times in seconds of the model's components in a run over MPI."""

    compute: float  # from the start of a task to its payload
    oversleep: float  # time by which injected delays, which are slept, last longer; 0 without any
    down: float  # latency of a task: from its sending to its start, less the time that rank 0's link was busy
    up: float  # latency of a payload: likewise to its arrival, for those that did not wait for rank 0
    # Rank 0's time per arrival: from receiving a payload, or rank 0's previous action if that is later, to
    # the end of decoding.
    arrival: float
    dispatch: float  # rank 0's time per dispatch: between sends of consecutive tasks; nan if there are none
    # Rank 0's time per update: from the last decoding before a step to the first task after it, which may
    # include one `dispatch`; nan if unknown.
    update: float


def times(trace: TraceReader, bandwidth: float, base: Base = "median") -> MeasuredTimes:
    """Measure the components of a run over MPI, given the bandwidth of rank 0's link in bytes/s.

    The compute time is the median, or with `base` "low" the time of `stragglers.base_ns`, for use with a
    straggler model that replays the trace's delays: these include all variation of task times, and the
    oversleep is then 0.
    """
    rows = arrivals_before_stop(trace)
    dispatch, start, compute, send, recv, decoded = (rows[event] for event in EVENTS)
    stepped = trace.updates["t_ns"]
    if base == "low":
        compute_ns, oversleep = float(base_ns(trace)), 0.0
    else:
        compute_ns, delay = float(np.median(compute - start)), rows["injected_delay_ns"]
        slept = delay > 0
        oversleep = max(0.0, _median((send - compute - delay)[slept])) if slept.any() else 0.0

    # Rank 0's events in order of time, to find the predecessor of each.
    when = np.concatenate((decoded, stepped, dispatch))
    kind = np.repeat([0, 1, 2], [len(decoded), len(stepped), len(dispatch)])
    order = np.lexsort((kind, when))
    when, kind = when[order], kind[order]
    before = np.empty_like(when)
    before[order] = np.concatenate(([0], when[:-1]))
    before = before[: len(decoded)]
    folding = decoded - np.maximum(before, recv)
    complete = trace.table("trace").get("arrivals", "all") == "all"
    consecutive = (kind[1:] == 2) & (kind[:-1] == 2)
    gap = np.diff(when)[consecutive] if complete else np.empty(0)
    steps = np.flatnonzero((kind[:-2] == 0) & (kind[1:-1] == 1) & (kind[2:] == 2))
    update = when[steps + 2] - when[steps] if complete else np.empty(0)

    sizes_down, sizes_up = rows["bytes_down"] / bandwidth, rows["bytes_up"] / bandwidth
    by_dispatch = np.argsort(dispatch, kind="stable")
    sent = np.empty(len(dispatch))
    sent[by_dispatch] = _serialised(dispatch[by_dispatch], 1e9 * sizes_down[by_dispatch])
    unqueued = np.concatenate(([True], np.diff(recv) > 1e9 * sizes_up[1:])) & (recv > before)
    up = (recv - send - 1e9 * sizes_up)[unqueued if unqueued.any() else slice(None)]
    seconds = (
        1e-9 * part
        for part in (compute_ns, oversleep, *map(_median, (start - sent, up, folding, gap, update)))
    )
    return MeasuredTimes(*seconds)


def fit(
    trace: TraceReader, flops: float, base: Base = "median", computed: Mapping[str, float] | None = None
) -> tuple[MachineTable, LinkTable]:
    """Fit ``[machine]`` and ``[link]`` to a trace, for a task of `flops`, see `schemes.Work`; `base` as for
    `times`, `computed` the flops of rank 0, see `Components.coordinator_flops`, by default as recorded.

    From the medians of `MeasuredTimes`: flops_per_s = flops of a task / compute; task_s = 0, as one task
    size does not separate a fixed part of the compute time; oversleep_s = oversleep; latency_s =
    (down + up) / 2; arrival_s = arrival; dispatch_s = dispatch (unchanged if there are no consecutive
    dispatches); update_s = update - dispatch. Of the last three the clock charges a part as flops:
    coordinator_speed is the least with which no part is more than the time that was measured, and they are
    the rest.

    The bandwidth is fitted only if task sizes differ enough to separate it from the latency: the difference
    of sizes over the difference of median times, between the larger and the smaller half of the range. Else
    it is by how much longer tasks are under way than payloads that are smaller, and the latency is that of
    these. Else it stays as in the trace's ``[link]``, with which the link's busy time is subtracted from the
    latencies; if messages took less than that, it is their bytes over their times, and the latency is 0.

    For a trace of the virtual clock, the tables of its own configuration are returned. Where workers add up
    their payloads, only flops_per_s, task_s and oversleep_s are fitted.
    """
    config = config_of(trace)
    if trace.attributes.get("clock") == "virtual":
        return config.machine, config.link
    by_size, known = _bandwidth(trace), config.link.bandwidth
    by_way = None if by_size else _bandwidth_down(trace, known)
    link = msgspec.structs.replace(config.link, broadcast="star", bandwidth=by_size or by_way or known)
    measured = times(trace, link.bandwidth, base)
    if by_way:  # tasks that share a link arrive at once, not in turn: only the last one says how late
        measured = replace(measured, down=measured.up)
    if measured.down + measured.up < 0:
        rows, free = arrivals_before_stop(trace), times(trace, np.inf, base)
        both_ways = float(rows["bytes_down"].mean() + rows["bytes_up"].mean())
        link = msgspec.structs.replace(link, bandwidth=both_ways / max(free.down + free.up, 1e-9))
        measured = times(trace, link.bandwidth, base)
    dispatch = _first(measured.dispatch, config.machine.dispatch_s)
    update = _first(measured.update, dispatch + config.machine.update_s)
    dispatch = min(dispatch, update)
    spent = {"arrival": max(0.0, measured.arrival), "dispatch": dispatch, "step": update - dispatch}
    source = trace.attributes if computed is None else computed
    parts = {name: source.get(f"{name}_flops", 0.0) for name in spent}
    flops_per_s = flops / max(measured.compute, 1e-9)
    computing = {"flops_per_s": flops_per_s, "task_s": 0.0, "oversleep_s": measured.oversleep}
    if config.reduction.workers_step:
        return msgspec.structs.replace(config.machine, **computing), config.link
    speed = max(parts[name] / (max(spent[name], 1e-9) * flops_per_s) for name in spent) or 1.0
    rest = {name: max(0.0, spent[name] - parts[name] / (speed * flops_per_s)) for name in spent}
    machine = msgspec.structs.replace(
        MachineTable(),
        **computing,
        arrival_s=rest["arrival"],
        dispatch_s=rest["dispatch"],
        update_s=rest["step"],
        coordinator_speed=speed,
    )
    return machine, msgspec.structs.replace(link, latency_s=max(0.0, (measured.down + measured.up) / 2))


def fit_two_sizes(
    measured: Sequence[MeasuredTimes],
    flops: Sequence[float],
    sizes: Sequence[float],
    replies: Sequence[int],
    computed: Sequence[Mapping[str, float]] = ({}, {}),
) -> tuple[MachineTable, LinkTable]:
    """Fit ``[machine]`` and ``[link]`` to a small and a large run, linearly in size.

    `measured` are results of `times` for an infinite bandwidth; `flops` the flops of a task, `sizes` the mean
    bytes of a message, `replies` the bytes of a reply, `computed` the flops of rank 0, see
    `Components.coordinator_flops`, which the clock charges besides. 1 / flops_per_s, 1 / bandwidth and 1 /
    decode_bandwidth are the slopes, task_s, latency_s and arrival_s the intercepts. Rank 0's other times are
    taken from the small run.
    """
    small, large = measured
    rate = _rate(flops, (small.compute, large.compute))
    read = [each.get("arrival_flops", 0.0) / rate for each in computed]
    longer = large.arrival - read[1] - (small.arrival - read[0])
    decode = (replies[1] - replies[0]) / longer if longer > 0 else None
    one_way = [(run.down + run.up) / 2 for run in measured]
    bandwidth = _rate(sizes, one_way)
    dispatch = min(_first(small.dispatch, 0.0), _first(small.update, np.inf))
    copied, stepped = (computed[0].get(f"{name}_flops", 0.0) / rate for name in ("dispatch", "step"))
    machine = MachineTable(
        flops_per_s=rate,
        task_s=max(0.0, small.compute - flops[0] / rate),
        arrival_s=max(0.0, small.arrival - read[0] - (replies[0] / decode if decode else 0.0)),
        decode_bandwidth=decode,
        dispatch_s=max(0.0, dispatch - copied),
        update_s=max(0.0, _first(small.update, dispatch) - dispatch - stepped),
    )
    latency = max(0.0, one_way[0] - sizes[0] / bandwidth)
    return machine, LinkTable(latency_s=latency, bandwidth=bandwidth, broadcast="star")


def arrivals_before_stop(trace: TraceReader) -> dict[str, np.ndarray]:
    """Return the arrivals before the stop, with the last preset; refuse none, and replies in parts."""
    columns = {name: trace.arrivals[name] for name in COLUMNS}
    before = columns["status"] != DRAINED
    before[: int((trace.segments["arrivals"] * trace.segments["preset"]).max())] = False
    if not before.any():
        raise InputError(f"{trace.path}: no arrivals were recorded, so costs cannot be fitted")
    if trace.arrivals["part"].any():
        raise InputError(f"{trace.path}: costs are fitted to whole tasks, and this run has replies in parts")
    return {name: column[before] for name, column in columns.items()}


def config_of(trace: TraceReader, resolved: dict[str, Any] | None = None) -> Config:
    """Return the configuration of a trace's run, checked by this version and against the trace's workers.

    `resolved` is the configuration of an earlier preset; default: the last one.
    """
    try:
        tables = trace.config if resolved is None else resolved
        config = saved.of_trace(legacy.read(tables, trace.plugin_digests), trace)
        if config.workers.count != (count := trace.worker_count):
            raise InputError(f"workers.count: {config.workers.count}, and {count} workers are listed")
        config.stragglers.check_config(config)
    except InputError as error:
        raise InputError(f"{trace.path}: config_resolved: {error}") from None
    return config


def _bandwidth(trace: TraceReader) -> float | None:
    """Fit the bandwidth (bytes/s) to tasks of different sizes; None if sizes or times differ too little."""
    rows = arrivals_before_stop(trace)
    later = rows["task"] > 0  # the first message to a worker also opens the connection
    sizes, flight = rows["bytes_down"][later], (rows["t_start_ns"] - rows["t_dispatch_ns"])[later]
    if not len(sizes) or sizes.max() < MIN_SIZE_RATIO * sizes.min():
        return None
    large = sizes > (sizes.min() + sizes.max()) / 2
    halves = flight[~large], flight[large]
    if min(map(len, halves)) < 8:
        return None
    medians = [float(np.median(half)) for half in halves]
    # standard errors of the medians of normal times, with σ = 1.48 × the median absolute deviation
    errors = [
        1.2533 * 1.4826 * float(np.median(np.abs(half - median))) / len(half) ** 0.5
        for half, median in zip(halves, medians, strict=True)
    ]
    longer = medians[1] - medians[0]
    if longer <= MIN_STANDARD_ERRORS * float(np.hypot(*errors)):
        return None
    return 1e9 * float(sizes[large].mean() - sizes[~large].mean()) / longer


def _bandwidth_down(trace: TraceReader, known: float) -> float | None:
    """Fit the bandwidth to tasks larger than payloads; None if the `known` one explains their times.

    With it the last task of each version of θ has the latency of payloads, behind those sent before.
    """
    rows = arrivals_before_stop(trace)
    order = np.argsort(rows["t_dispatch_ns"], kind="stable")[:MOST_MESSAGES]
    down, up, version, dispatch, start, send, recv = (rows[name][order] for name in MESSAGES)
    if len(down) < 8 or np.median(down) < MIN_SIZE_RATIO * np.median(up):
        return None
    by_version = np.argsort(version, kind="stable")
    begins = np.flatnonzero(np.diff(version[by_version], prepend=-1))

    def longer_ns(bandwidth: float) -> float:
        sent = _serialised(dispatch, 1e9 * down / bandwidth)
        last = [np.maximum.reduceat(each[by_version], begins) for each in (start, sent)]
        return float(np.median(last[0] - last[1]) - np.median(recv - send - 1e9 * up / bandwidth))

    unsure = trace.workers["clock_error_ns"].max(initial=0) + np.median(recv - send)
    if longer_ns(known) <= MIN_STANDARD_ERRORS * unsure:
        return None
    tried = known * np.geomspace(1e-6, 1, 1000)
    return float(tried[bisect_left(tried, 0.0, key=longer_ns)])


def _serialised(dispatch: np.ndarray, busy_ns: np.ndarray) -> np.ndarray:
    """Return when the last byte of each message has left a serial link, given their dispatch times."""
    ends = np.cumsum(busy_ns)
    return ends + np.maximum.accumulate(dispatch - (ends - busy_ns))


def _rate(amounts: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the amount per second through two points, or through the origin if that is not positive."""
    (small, large), (quick, slow) = amounts, seconds
    return (large - small) / (slow - quick) if slow > quick else large / max(slow, 1e-9)


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else np.nan


def _first(value: float, otherwise: float) -> float:
    return otherwise if np.isnan(value) else value
