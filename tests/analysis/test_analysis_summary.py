"""The headline figures of a run."""

import math
from pathlib import Path

import numpy as np
import pytest
import traces

from pdcode.analysis.statistics import Staleness
from pdcode.analysis.summary import summarise
from pdcode.trace.reader import TraceReader
from pdcode.trace.schema import DRAINED, WASTED


def test_the_figures_are_those_of_the_columns(tmp_path: Path) -> None:
    trace = traces.simulate(tmp_path / "a.h5")
    summary, rows, measured = summarise(trace), trace.arrivals, trace.progress
    in_time = rows["status"] != DRAINED
    assert summary.workers == 8
    assert summary.finished
    assert summary.failure == ""
    assert summary.clock == "real"
    assert summary.seconds == max(rows["t_recv_ns"][in_time].max(), trace.updates["t_ns"].max()) / 1e9
    assert summary.seconds < rows["t_recv_ns"].max() / 1e9  # the slow worker's last payload came later
    assert summary.target == "loss 0.07"
    assert summary.target_s == min(measured["t_ns"][measured["loss"] <= 0.07]) / 1e9
    assert (summary.updates, summary.arrivals) == (trace.updates.rows, rows.rows)
    assert (summary.loss, summary.accuracy) == (measured["loss"][-1], measured["accuracy"][-1])
    assert summary.wasted == np.mean(rows["status"] == WASTED)
    assert summary.staleness == Staleness.of(rows["staleness"][in_time]).median
    assert (summary.bytes_up, summary.bytes_down) == (rows["bytes_up"].sum(), rows["bytes_down"].sum())


def test_another_target(tmp_path: Path) -> None:
    trace = traces.simulate(tmp_path / "a.h5")
    assert summarise(trace, loss=0.01).target_s == math.inf
    accurate = summarise(trace, accuracy=0.9)
    assert accurate.target == "accuracy 0.9"
    assert accurate.target_s == min(trace.progress["t_ns"][trace.progress["accuracy"] >= 0.9]) / 1e9


def test_a_run_of_which_no_arrival_is_recorded(tmp_path: Path) -> None:
    running = summarise(traces.simulate(tmp_path / "a.h5", arrivals="none", close=False))
    assert math.isnan(running.arrivals)
    assert math.isnan(running.bytes_up)
    assert math.isnan(running.wasted)
    assert not running.finished
    assert running.updates > 1000


@pytest.mark.parametrize(
    ("kind", "message"),
    [("stop", "interrupted"), ("stop", "diverged: loss is nan at update 3"), ("exception", "KeyError: 'x'")],
)
def test_why_a_run_failed(tmp_path: Path, kind: str, message: str) -> None:
    writer = traces.writer(tmp_path / "a.h5")
    writer.fault(1, 2, 3, "refused", "worker 2 sent a payload that is not finite")
    writer.fault(1, -1, -1, kind, message)
    writer.close()
    assert summarise(TraceReader(tmp_path / "a.h5")).failure == message
