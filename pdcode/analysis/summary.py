"""Headline figures of a run, for comparisons."""

import math
from dataclasses import dataclass

import numpy as np

from ..trace.reader import TraceReader
from ..trace.schema import WASTED
from . import description, statistics


@dataclass(frozen=True)
class Summary:
    """Headline figures of a run; nan if unknown or not measured."""

    trace: str  # the file
    scheme: str
    workers: int
    clock: str  # real or virtual
    finished: bool  # False for a running or killed run; the figures are then those so far
    failure: str  # why the run failed, such as "interrupted"; empty if it did not
    seconds: float  # from the start to the stop; outstanding payloads may have arrived later
    target: str  # loss or accuracy to reach, such as "loss 0.05"; empty without one
    target_s: float  # time of the first measurement that reached the target; infinite if none did
    above_s: float  # time until which it was not reached: `target_s`, if exact, or the time of the one before
    updates: int
    loss: float  # the last training loss
    accuracy: float  # the last test accuracy (R² for regression)
    arrivals: float  # payloads that reached rank 0
    wasted: float  # fraction of the arrivals that were too late to be used
    staleness: float  # median number of updates between a task's θ and the arrival of its payload
    bytes_up: float  # of payloads with headers, without set-up
    bytes_down: float  # of tasks


def summarise(trace: TraceReader, loss: float | None = None, accuracy: float | None = None) -> Summary:
    """Return the headline figures of a run.

    The target is `loss` or `accuracy`, by default the target of ``[stop]``: its loss if it has both.
    """
    if loss is None and accuracy is None:
        stop = trace.table("stop")
        loss, accuracy = stop.get("loss"), stop.get("accuracy")
    name, level, sign = ("loss", loss, 1) if loss is not None else ("accuracy", accuracy, -1)
    measured, counters, rows = trace.progress, trace.counters, trace.arrivals
    above_s = target_s = math.nan
    if level is not None:
        when = statistics.reached_ns(measured, sign * measured[name], sign * level)
        above_s, target_s = (each / 1e9 for each in when)
    sent = statistics.traffic(rows, trace.attributes, counters)
    known = sent.exact or rows.rows > 0
    status, stale = rows["status"], rows["staleness"][statistics.in_time(rows)]
    wasted = math.nan
    if "wasted" in counters and sent.arrivals:
        wasted = counters["wasted"] / sent.arrivals
    elif rows.rows:
        wasted = float(np.mean(status == WASTED))
    return Summary(
        trace=str(trace.path),
        scheme=str(trace.table("scheme").get("name", "")),
        workers=trace.worker_count,
        clock="virtual" if description.is_virtual(trace) else "real",
        finished=trace.finished,
        failure=description.failure(trace),
        seconds=description.stop_ns(trace) / 1e9,
        target="" if level is None else f"{name} {level:g}",
        target_s=target_s,
        above_s=above_s,
        updates=int(counters.get("version", trace.updates.rows)),
        loss=_last(measured["loss"]),
        accuracy=_last(measured["accuracy"]),
        arrivals=sent.arrivals if known else math.nan,
        wasted=wasted,
        staleness=statistics.Staleness.of(stale).median if len(stale) else math.nan,
        bytes_up=sent.up if known else math.nan,
        bytes_down=sent.down if known else math.nan,
    )


def _last(values: np.ndarray) -> float:
    return float(values[-1]) if len(values) else math.nan
