"""Export to Prometheus: totals and goodput of a run as text, for the textfile collector of node exporters."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..analysis import statistics, summary, timing
from ..trace.schema import APPLIED, CLIPPED, FATES, USED
from .request import Format, Request, clock_error_ns

PARTS = "compute", "delay", "send", "flight", "decode", "idle", "quiet", "dead"  # of `timing.Split`


def write(request: Request) -> str:
    """Write gauges, whose label `run` is the name of the trace's file; return a description."""
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    trace, registry = request.trace, CollectorRegistry()
    table, totals, scale = trace.arrivals, trace.counters, trace.scale
    run, errors = summary.summarise(trace), 1e-9 * clock_error_ns(trace)
    fates = scale * np.bincount(table["status"], minlength=len(FATES))
    if "lost" in totals:  # also of arrivals without rows
        fates = np.array([totals.get(name, 0.0) for name in FATES])
        fates[USED] -= fates[CLIPPED]
    used = fates[[*APPLIED]].sum()
    useful = used / statistics.messages(table) * trace.attributes.get("task_rows", math.nan)
    split = timing.split(table, trace.worker_count, round(1e9 * run.seconds), scale, trace.faults)
    sent = statistics.traffic(table, trace.attributes, totals)
    count = 0

    def gauge(name: str, text: str, value: float | Mapping[Any, float], *labels: str) -> None:
        nonlocal count
        made = Gauge(f"pdcode_{name}", text, ("run", *labels), registry=registry)
        for where, each in (value if isinstance(value, Mapping) else {(): value}).items():
            made.labels(request.name.removesuffix(".h5"), *where).set(float(each))
            count += 1

    gauge("finished", "1 if the run has ended, else 0.", trace.finished)
    gauge("run_seconds", "Time from the start to the stop.", run.seconds)
    gauge("updates", "Steps of the optimizer.", run.updates)
    gauge("loss", "Last training loss.", run.loss)
    gauge("accuracy", "Last test accuracy, R squared for regression.", run.accuracy)
    gauge("payloads", "Payloads by fate.", {(name,): fates[i] for i, name in enumerate(FATES)}, "fate")
    gauge(
        "bytes",
        "Bytes of payloads (up) and of tasks (down).",
        {("up",): sent.up, ("down",): sent.down},
        "way",
    )
    gauge("goodput_ratio", "Share of the payloads that were used.", used / max(fates.sum(), 1))
    text = "Training rows per second whose gradients were used."
    gauge("goodput_rows_per_second", text, useful / run.seconds if run.seconds else math.nan)
    times = {(w, part): 1e-9 * t for part in PARTS for w, t in enumerate(getattr(split, part).tolist())}
    gauge("worker_seconds", "Time of a worker by what it did.", times, "worker", "part")
    text = "Bound on the error of a worker's times on the clock of rank 0."
    gauge("clock_error_seconds", text, {(w,): error for w, error in enumerate(errors.tolist())}, "worker")
    write_to_textfile(str(request.path), registry)
    return f"{count:,} values"


ABOUT, BEGIN = "goodput, for the textfile collector", b"# HELP pdcode_"
PROMETHEUS = Format("prometheus", ABOUT, write, ".prom", "prometheus_client", replaces=BEGIN)
