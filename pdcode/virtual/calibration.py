"""What tasks and messages of real runs took: ``[machine]`` and ``[link]`` of the virtual clock by traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from ..config.tables import Config, LinkTable, MachineTable
from ..stragglers.bases import base_ns
from ..trace.reader import Trace
from ..trace.schema import DRAINED
from ..util.errors import InputError

EVENTS = ("dispatch", "start", "compute", "send", "recv", "decoded")
OTHERS = ("task", "status", "bytes_up", "bytes_down", "injected_delay_ns")
Base = Literal["median", "low"]
APART = 2.0  # sizes of messages that tell the bandwidth differ by this factor …
ERRORS = 4.0  # … and their median times by this many standard errors


@dataclass(frozen=True)
class MeasuredTimes:
    """What a run over MPI took for the parts of the model: medians, in seconds.

    Attributes
    ----------
    compute : from the start of a task to its payload.
    nap : by how much injected sleeps last longer than was asked; 0 without any.
    down : from the sending of a task to its start, less the time that rank 0's link was busy: latency.
    up : the same from the sending of a payload to its arrival, for those that rank 0 did not keep waiting.
    arrival : of rank 0, from receiving a payload, or from what it did before if that is later, to its
        decoding.
    dispatch : of rank 0, from the sending of a task to that of the next which leaves together with it; nan if
        none do.
    update : of rank 0, from the last decoding before a step to the first task after it, which may include one
        `dispatch`; nan if not known.
    """

    compute: float
    nap: float
    down: float
    up: float
    arrival: float
    dispatch: float
    update: float


def times(trace: Trace, bandwidth: float, base: Base = "median") -> MeasuredTimes:
    """Measure the parts of a run over MPI.

    Parameters
    ----------
    trace : Trace
        With its arrivals.
    bandwidth : float
        Bytes/s of rank 0's link.
    base : {"median", "low"}
        Compute time: the median; or `stragglers.base_ns`, what is left where a straggler model replays
        the trace's delays, which include all that tasks took longer (and then `nap` is 0).

    Raises
    ------
    InputError
        If the trace has no arrivals before the stop.
    """
    rows = arrived(trace)
    dispatch, start, compute, send, recv, decoded = (rows[f"t_{event}_ns"] for event in EVENTS)
    stepped = trace.updates["t_ns"]
    if base == "low":
        compute_ns, nap = float(base_ns(trace)), 0.0
    else:
        compute_ns, delay = float(np.median(compute - start)), rows["injected_delay_ns"]
        slept = delay > 0
        nap = max(0.0, _median((send - compute - delay)[slept])) if slept.any() else 0.0

    # Rank 0's events: what came before each of them?
    when = np.concatenate((decoded, stepped, dispatch))
    kind = np.repeat([0, 1, 2], [len(decoded), len(stepped), len(dispatch)])
    order = np.lexsort((kind, when))
    when, kind = when[order], kind[order]
    before = np.empty_like(when)
    before[order] = np.concatenate(([0], when[:-1]))
    before = before[: len(decoded)]
    folding = decoded - np.maximum(before, recv)
    complete = trace.config.get("trace", {}).get("arrivals", "all") == "all"
    together = (kind[1:] == 2) & (kind[:-1] == 2)
    gap = np.diff(when)[together] if complete else np.empty(0)
    steps = np.flatnonzero((kind[:-2] == 0) & (kind[1:-1] == 1) & (kind[2:] == 2))
    update = when[steps + 2] - when[steps] if complete else np.empty(0)

    sizes_down, sizes_up = rows["bytes_down"] / bandwidth, rows["bytes_up"] / bandwidth
    by_dispatch = np.argsort(dispatch, kind="stable")
    sent = np.empty(len(dispatch))
    sent[by_dispatch] = _serialised(dispatch[by_dispatch], 1e9 * sizes_down[by_dispatch])
    alone = np.concatenate(([True], np.diff(recv) > 1e9 * sizes_up[1:])) & (recv > before)
    up = (recv - send - 1e9 * sizes_up)[alone if alone.any() else slice(None)]
    seconds = (
        1e-9 * part for part in (compute_ns, nap, *map(_median, (start - sent, up, folding, gap, update)))
    )
    return MeasuredTimes(*seconds)


def fit(trace: Trace, flops: float, base: Base = "median") -> tuple[MachineTable, LinkTable]:
    """``[machine]`` and ``[link]`` from a trace.

    With the medians of `MeasuredTimes` and the trace's own configuration: flops_per_s = flops of a task /
    compute, and task_s = nap, for one size of task cannot tell a fixed part of its compute time from the
    rest; latency_s = (down + up) / 2; arrival_s = arrival; dispatch_s = dispatch, and update_s = update less
    one dispatch. Where no tasks leave together dispatch_s stays as it is.

    The bandwidth is fitted only where tasks differ in size enough to tell it from the latency: the difference
    of sizes over the difference of median times, between the larger and the smaller half of the range. Else
    it stays as the trace's ``[link]`` has it, by which the link's busy time is taken off the latencies.

    A trace of the virtual clock has the tables that it ran with, and these are returned.

    Parameters
    ----------
    trace : Trace
        With its arrivals.
    flops : float
        Of a task of that run, `Scheme.flops`.
    base : {"median", "low"}
        See `times`.

    Returns
    -------
    MachineTable, LinkTable

    Raises
    ------
    InputError
        If the trace has no arrivals before the stop.
    """
    config = config_of(trace)
    if trace.attributes.get("clock") == "virtual":
        return config.machine, config.link
    link = msgspec.structs.replace(
        config.link, broadcast="star", bandwidth=_bandwidth(trace) or config.link.bandwidth
    )
    seen = times(trace, link.bandwidth, base)
    dispatch = _first(seen.dispatch, config.machine.dispatch_s)
    update = _first(seen.update, dispatch + config.machine.update_s)
    dispatch = min(dispatch, update)
    machine = MachineTable(
        flops_per_s=flops / max(seen.compute, 1e-9),
        task_s=seen.nap,
        arrival_s=max(0.0, seen.arrival),
        dispatch_s=dispatch,
        update_s=update - dispatch,
    )
    return machine, msgspec.structs.replace(link, latency_s=max(0.0, (seen.down + seen.up) / 2))


def of_two_sizes(
    seen: Sequence[MeasuredTimes], flops: Sequence[float], sizes: Sequence[float]
) -> tuple[MachineTable, LinkTable]:
    """``[machine]`` and ``[link]`` from a small and a large run, through whose times straight lines go.

    1 / flops_per_s and 1 / bandwidth are the slopes, task_s and latency_s what is left at size 0. What rank 0
    spends is that of the small run.

    Parameters
    ----------
    seen : (MeasuredTimes, MeasuredTimes)
        As `times` measures for an infinite bandwidth.
    flops : (int, int)
        Of a task.
    sizes : (float, float)
        Mean bytes of a message.
    """
    small, large = seen
    ways = [(each.down + each.up) / 2 for each in seen]
    rate = _rate(flops, (small.compute, large.compute))
    bandwidth = _rate(sizes, ways)
    dispatch = min(_first(small.dispatch, 0.0), _first(small.update, np.inf))
    machine = MachineTable(
        flops_per_s=rate,
        task_s=max(0.0, small.compute - flops[0] / rate),
        arrival_s=max(0.0, small.arrival),
        dispatch_s=dispatch,
        update_s=_first(small.update, dispatch) - dispatch,
    )
    latency = max(0.0, ways[0] - sizes[0] / bandwidth)
    return machine, LinkTable(latency_s=latency, bandwidth=bandwidth, broadcast="star")


def arrived(trace: Trace) -> dict[str, np.ndarray]:
    """The arrivals before the stop.

    Raises
    ------
    InputError
        If there are none.
    """
    columns = {name: trace.arrivals[name] for name in (*(f"t_{event}_ns" for event in EVENTS), *OTHERS)}
    before = columns["status"] != DRAINED
    if not before.any():
        raise InputError(f"{trace.path}: no arrivals were recorded, so nothing tells what a task costs")
    return {name: column[before] for name, column in columns.items()}


def config_of(trace: Trace) -> Config:
    """The configuration that a trace's run had.

    Raises
    ------
    InputError
        If it is none of this pdcode.
    """
    try:
        return Config.of(trace.config, old=True)
    except InputError as error:
        raise InputError(f"{trace.path}: its configuration is none of this pdcode: {error}") from None


def _bandwidth(trace: Trace) -> float | None:
    """Bytes/s by tasks that differ in size; None if they do not, or their times do not tell."""
    rows = arrived(trace)
    later = rows["task"] > 0  # the first message to a worker also makes the connection
    sizes, flight = rows["bytes_down"][later], (rows["t_start_ns"] - rows["t_dispatch_ns"])[later]
    if not len(sizes) or sizes.max() < APART * sizes.min():
        return None
    large = sizes > (sizes.min() + sizes.max()) / 2
    halves = flight[~large], flight[large]
    middle = [float(np.median(half)) for half in halves]
    # of a median of normal times whose deviation is 1.48 times the median deviation
    errors = [
        1.2533 * 1.4826 * float(np.median(np.abs(half - m))) / len(half) ** 0.5
        for half, m in zip(halves, middle, strict=True)
    ]
    longer = middle[1] - middle[0]
    if min(map(len, halves)) < 8 or longer <= ERRORS * float(np.hypot(*errors)):
        return None
    return 1e9 * float(sizes[large].mean() - sizes[~large].mean()) / longer


def _serialised(dispatch: np.ndarray, busy_ns: np.ndarray) -> np.ndarray:
    """When the last byte of each message has left: one after the other, each from its dispatch on."""
    ends = np.cumsum(busy_ns)
    return ends + np.maximum.accumulate(dispatch - (ends - busy_ns))


def _rate(amounts: Sequence[float], seconds: Sequence[float]) -> float:
    """Amount a second by two points; where more does not take longer, as if nothing but the amount did."""
    (small, large), (quick, slow) = amounts, seconds
    return (large - small) / (slow - quick) if slow > quick else large / max(slow, 1e-9)


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else np.nan


def _first(value: float, otherwise: float) -> float:
    return otherwise if np.isnan(value) else value
