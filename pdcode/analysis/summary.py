"""Headline figures of a run, for comparisons."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..trace.reader import Trace
from ..trace.schema import WASTED
from . import description, statistics


@dataclass(frozen=True)
class Summary:
    """Headline figures of a run; nan if unknown or not measured.

    Attributes
    ----------
    trace : str
        The file.
    scheme : str
        Name of the scheme.
    workers : int
        Number of workers.
    clock : {"real", "virtual"}
    finished : bool
        False for a running or killed run; the figures are then those so far.
    failure : str
        Why the run failed, such as "interrupted"; empty if it did not.
    seconds : float
        Time from the start to the stop; outstanding payloads may have arrived later.
    target : str
        Loss or accuracy to reach, such as "loss 0.05"; empty without one.
    target_s : float
        Time of the first measurement that reached the target; infinite if none did.
    updates : int
        Number of updates of θ.
    loss, accuracy : float
        Last training loss, and last test accuracy (R² for regression).
    arrivals : int
        Number of payloads that reached rank 0.
    wasted : float
        Fraction of the arrivals that were too late to be used.
    staleness : float
        Median number of updates between a task's θ and the arrival of its payload, as `Staleness.of`.
    bytes_up, bytes_down : int
        Bytes of payloads and of tasks, with headers, without set-up.
    """

    trace: str
    scheme: str
    workers: int
    clock: str
    finished: bool
    failure: str
    seconds: float
    target: str
    target_s: float
    updates: int
    loss: float
    accuracy: float
    arrivals: float
    wasted: float
    staleness: float
    bytes_up: float
    bytes_down: float


def summarise(trace: Trace, loss: float | None = None, accuracy: float | None = None) -> Summary:
    """Return the headline figures of a run.

    The target is `loss` or `accuracy`, by default that of ``[stop]``: its loss if it has both.
    """
    if loss is None and accuracy is None:
        stop = trace.config.get("stop") or {}
        loss, accuracy = stop.get("loss"), stop.get("accuracy")
    name, level, sign = ("loss", loss, 1) if loss is not None else ("accuracy", accuracy, -1)
    measured, counters, rows = trace.progress, trace.counters, trace.arrivals
    target_s = math.nan
    if level is not None:
        t_ns = statistics.time_to(measured["t_ns"], sign * measured[name], sign * level)
        target_s = math.inf if math.isnan(t_ns) else t_ns / 1e9
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
        scheme=str((trace.config.get("scheme") or {}).get("name", "")),
        workers=trace.worker_count,
        clock="virtual" if description.is_virtual(trace) else "real",
        finished=trace.finished,
        failure=description.failure(trace),
        seconds=description.stop_ns(trace) / 1e9,
        target="" if level is None else f"{name} {level:g}",
        target_s=target_s,
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
