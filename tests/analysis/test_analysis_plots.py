"""The figure of a run."""

import re
from pathlib import Path

import numpy as np
import pytest
import traces
from outcomes import png_size

from pdcode.analysis import description, plots, style, timing
from pdcode.analysis.timeline import LANES, TASKS, lanes, window_ns
from pdcode.trace.reader import TraceReader
from pdcode.util.errors import InputError

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("workers", [1, 40])
@pytest.mark.filterwarnings("error")
def test_a_png_is_drawn(tmp_path: Path, workers: int) -> None:
    trace = traces.simulate(tmp_path / "a.h5", seconds=0.6, workers=workers)
    style.save(plots.draw(trace), tmp_path / "new" / "a.png")
    assert png_size(tmp_path / "new" / "a.png") == (2400, 1120)


@pytest.mark.filterwarnings("error")
def test_runs_with_few_or_no_rows(tmp_path: Path) -> None:
    writer = traces.writer(tmp_path / "a.h5", workers=3)
    style.save(plots.draw(TraceReader(tmp_path / "a.h5")), tmp_path / "a.png")
    writer.arrival(*traces.row(worker=1, t_start_ns=1000, t_compute_ns=2000, t_send_ns=3000, t_recv_ns=4000))
    writer.progress(0, 0, 2.3, float("nan"), 1.0, 0, float("nan"))
    writer.progress(0, 10, float("inf"), float("nan"), 1.0, 0, float("nan"))
    writer.flush(0)
    style.save(plots.draw(TraceReader(tmp_path / "a.h5")), tmp_path / "a.png")
    writer.arrival(*traces.row(worker=1))
    writer.flush(0)
    style.save(plots.draw(TraceReader(tmp_path / "a.h5")), tmp_path / "a.png")


@pytest.mark.filterwarnings("error")
def test_every_format_and_bad_paths(tmp_path: Path) -> None:
    drawing = plots.draw(traces.simulate(tmp_path / "a.h5", seconds=4.0))
    style.save(drawing, tmp_path / "a.png")
    assert png_size(tmp_path / "a.png") == (2400, 1120)
    assert all(axes.yaxis.label.get_window_extent().x0 >= 0 for axes in drawing.axes)  # none is cut
    style.save(drawing, tmp_path / "a.svg")
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()
    with pytest.raises(InputError, match=r"a\.nonsense: cannot write the figure"):
        style.save(drawing, tmp_path / "a.nonsense")
    with pytest.raises(InputError, match="cannot write the figure"):
        style.save(drawing, tmp_path / "a.h5" / "a.png")


def test_the_stretch_shows_the_slow_worker_a_few_times(tmp_path: Path) -> None:
    trace = traces.simulate(tmp_path / "a.h5", seconds=4.0)
    pace = timing.pace(trace.arrivals, 8)
    begin, end = window_ns(trace.arrivals, pace, description.stop_ns(trace))
    assert 0 < begin < end < trace.arrivals["t_recv_ns"].max()
    inside = (trace.arrivals["t_recv_ns"] > begin) & (trace.arrivals["t_recv_ns"] < end)
    counts = np.bincount(trace.arrivals["worker"][inside], minlength=8)
    assert 2 <= counts[7] <= 8
    assert counts[:7].max() <= 1.5 * TASKS


def test_the_rates_of_a_sample_are_those_of_all_arrivals(tmp_path: Path) -> None:
    rates = []
    for sample in (1, 300):  # of 300: one or two tasks of a worker, of 420
        trace = traces.simulate(tmp_path / f"{sample}.h5", slow=(), arrivals="sampled", sample=sample)
        drawing = plots.draw(trace)
        labels = [text.get_text() for axes in drawing.axes for text in axes.texts]
        rates.append(np.mean([float(label) for label in labels if re.fullmatch(r"[\d.]+", label)]))
    assert rates[1] == pytest.approx(rates[0], rel=0.1)


def test_of_many_workers_the_slow_ones_have_a_lane() -> None:
    median = np.full(100, 10.0)
    median[[3, 77]] = 100.0
    pace = timing.Pace(np.full(100, 50), median, median / 10)
    chosen = lanes(pace)
    assert len(chosen) == LANES
    assert chosen == sorted(set(chosen))
    assert {0, 3, 77, 99} <= set(chosen)
