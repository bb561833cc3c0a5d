"""The figure of a run."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import traces
from matplotlib.figure import Figure
from paths import ROOT

from pdcode import codes
from pdcode.analysis import code_plots, description, plots, timing
from pdcode.analysis.timeline import LANES, TASKS, lanes, window_ns
from pdcode.codes.summary import quality
from pdcode.trace import Trace, TraceWriter
from pdcode.trace.schema import DRAINED, USED
from pdcode.util.errors import InputError


def png_size(path: Path) -> tuple[int, int]:
    """Width and height from the header of a PNG."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])


@pytest.mark.parametrize("workers", [1, 8, 40])
@pytest.mark.filterwarnings("error")
def test_a_png_is_drawn(tmp_path: Path, workers: int) -> None:
    trace = traces.simulate(tmp_path / "a.h5", seconds=0.6, workers=workers)
    plots.figure(trace, tmp_path / "new" / "a.png")
    assert png_size(tmp_path / "new" / "a.png") == (2400, 1120)


@pytest.mark.filterwarnings("error")
def test_runs_with_few_or_no_rows(tmp_path: Path) -> None:
    writer = traces.writer(tmp_path / "a.h5", workers=3)
    plots.figure(Trace(tmp_path / "a.h5"), tmp_path / "a.png")
    writer.arrival(*traces.row(worker=1, t_start_ns=1000, t_compute_ns=2000, t_send_ns=3000, t_recv_ns=4000))
    writer.progress(0, 0, 2.3, float("nan"), 1.0)
    writer.progress(0, 10, float("inf"), float("nan"), 1.0)
    writer.flush(0)
    plots.figure(Trace(tmp_path / "a.h5"), tmp_path / "a.png")
    writer.arrival(*traces.row(worker=1))
    writer.flush(0)
    plots.figure(Trace(tmp_path / "a.h5"), tmp_path / "a.png")


def test_vector_formats_and_bad_paths(tmp_path: Path) -> None:
    trace = traces.simulate(tmp_path / "a.h5", seconds=0.1)
    plots.figure(trace, tmp_path / "a.svg")
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()
    with pytest.raises(InputError, match=r"a\.nonsense: cannot write the figure"):
        plots.figure(trace, tmp_path / "a.nonsense")
    with pytest.raises(InputError, match="cannot write the figure"):
        plots.figure(trace, tmp_path / "a.h5" / "a.png")


def test_the_stretch_shows_the_slow_worker_a_few_times(tmp_path: Path) -> None:
    trace = traces.simulate(tmp_path / "a.h5", seconds=4.0)
    pace = timing.pace(trace.arrivals, 8)
    begin, end = window_ns(trace.arrivals, pace, description.stop_ns(trace))
    assert 0 < begin < end < trace.arrivals["t_recv_ns"].max()
    inside = (trace.arrivals["t_recv_ns"] > begin) & (trace.arrivals["t_recv_ns"] < end)
    counts = np.bincount(trace.arrivals["worker"][inside], minlength=8)
    assert 2 <= counts[7] <= 8
    assert counts[:7].max() <= 1.5 * TASKS


def test_of_many_workers_the_slow_ones_have_a_lane() -> None:
    median = np.full(100, 10.0)
    median[[3, 77]] = 100.0
    pace = timing.Pace(np.full(100, 50), median, median / 10)
    chosen = lanes(pace)
    assert len(chosen) == LANES
    assert chosen == sorted(set(chosen))
    assert {0, 3, 77, 99} <= set(chosen)


def test_importing_the_figure_does_not_import_matplotlib() -> None:
    code = "from pdcode.analysis import plots; import sys; print({'matplotlib'} & {*sys.modules})"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def drawn(trace: Trace) -> dict[str, Any]:
    """The axes of the figure of a run, by the first word of their title."""
    return {axes.get_title("left").split()[0].strip(","): axes for axes in plots.draw(trace).axes}


def drained(path: Path, **stop: Any) -> Trace:
    """Write a run that stops after 1 s, of whose 2 workers the last payload comes after 40 s."""
    config = traces.CONFIG | {"stop": stop or {"loss": 0.1}}
    metadata = {**traces.METADATA, "config": config, "workers": 2}
    writer = TraceWriter(path, traces.TEXT, [traces.code()], metadata, traces.members(2))
    for task in range(100):
        now = 10_000_000 * task
        for worker in range(2):
            recv = 40_000_000_000 if worker and task == 99 else now + 9_000_000
            writer.arrival(*traces.row(
                worker=worker, task=task, t_dispatch_ns=now, t_start_ns=now + 1_000_000,
                t_compute_ns=now + 5_000_000, t_send_ns=now + 7_000_000, t_recv_ns=recv,
                t_decoded_ns=recv, status=DRAINED if task == 99 else USED,
            ))  # fmt: skip
        writer.update(task + 1, now + 9_000_000, 2, 1.0, 0.1)
        accuracy = 0.1 if task < 5 else 0.96 + 0.03 * task / 99
        writer.progress(task + 1, now + 9_000_000, 2.0 * 0.97**task, accuracy, 1.0)
    writer.close(counters={"t_stop_ns": 1_000_000_000})
    return Trace(path)


def test_axes_of_time_end_with_the_stop(tmp_path: Path) -> None:
    axes = drawn(drained(tmp_path / "a.h5"))
    for name in ("Training", "Test", "Arrivals"):
        assert axes[name].get_xlim() == (0, 1)


def test_the_interval_lies_before_the_stop(tmp_path: Path) -> None:
    trace = drained(tmp_path / "a.h5")
    begin, end = window_ns(trace.arrivals, timing.pace(trace.arrivals, 2), 1_000_000_000)
    assert 0.3e9 < begin < end < 0.7e9


def test_the_accuracy_is_zoomed_to_what_comes_after_the_first_rise(tmp_path: Path) -> None:
    low, high = drawn(drained(tmp_path / "a.h5"))["Test"].get_ylim()
    assert 0.955 < low < 0.967
    assert 0.99 < high < 1.0


@pytest.mark.parametrize("stop", [{"loss": 0.1}, {"accuracy": 0.99}])
def test_the_name_of_the_target_is_off_the_curve(tmp_path: Path, stop: dict[str, float]) -> None:
    axes = drawn(drained(tmp_path / "a.h5", **stop))["Training" if "loss" in stop else "Test"]
    (name,) = [text for text in axes.texts if text.get_text() == f"target {next(iter(stop.values())):g}"]
    box = name.get_window_extent()
    points = axes.transData.transform(axes.lines[0].get_xydata())
    between = np.concatenate([np.linspace(a, b, 50) for a, b in pairwise(points)])
    assert not any(box.contains(x, y) for x, y in between)
    assert axes.bbox.contains(*box.min)
    assert axes.bbox.contains(*box.max)


def test_the_legend_names_what_is_drawn(tmp_path: Path) -> None:
    def legend(trace: Trace) -> list[str]:
        (axes,) = [axes for axes in plots.draw(trace).axes if axes.get_legend()]
        return [text.get_text() for text in axes.get_legend().get_texts()]

    assert legend(drained(tmp_path / "a.h5")) == ["compute", "in flight", "arrival"]
    everything = ["compute", "injected delay", "in flight", "arrival", "slow"]
    assert legend(traces.simulate(tmp_path / "b.h5", seconds=1.0)) == everything


def test_inner_products_that_are_all_0_have_no_colour_bar() -> None:
    for workers, count in ((16, 3), (32, 4)):
        code = codes.design("net", workers=workers, blocks=16, weight=4)
        drawing = Figure()
        code_plots._draw(code, quality(code), drawing)
        assert len(drawing.axes) == count
