"""What the figures show: axes of time, targets, legends and colour bars."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import traces
from matplotlib.figure import Figure

import pdcode
from pdcode import codes
from pdcode.analysis import code_plots, plots, timing
from pdcode.analysis.timeline import window_ns
from pdcode.codes.summary import quality
from pdcode.trace.reader import TraceReader
from pdcode.trace.schema import DRAINED, USED
from pdcode.trace.writer import TraceWriter


def named(figure: Figure) -> dict[str, Any]:
    """The axes of the figure of a run, by the first word of their title."""
    return {axes.get_title("left").split()[0].strip(","): axes for axes in figure.axes}


def drained(path: Path, **stop: Any) -> TraceReader:
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
        writer.update(task + 1, now + 9_000_000, 2, 1.0, 0.1, 0, -1, 0, 0)
        accuracy = 0.1 if task < 5 else 0.96 + 0.03 * task / 99
        writer.progress(task + 1, now + 9_000_000, 2.0 * 0.97**task, accuracy, 1.0, 0, float("nan"))
    writer.close(counters={"t_stop_ns": 1_000_000_000})
    return TraceReader(path)


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> TraceReader:
    return drained(tmp_path_factory.mktemp("figures") / "a.h5")


@pytest.fixture(scope="module")
def figure(trace: TraceReader) -> Figure:
    return plots.draw(trace)


def test_axes_of_time_end_with_the_stop(figure: Figure) -> None:
    axes = named(figure)
    for name in ("Training", "Test", "Arrivals"):
        assert axes[name].get_xlim() == (0, 1)


def test_the_interval_lies_before_the_stop(trace: TraceReader) -> None:
    begin, end = window_ns(trace.arrivals, timing.pace(trace.arrivals, 2), 1_000_000_000)
    assert 0.3e9 < begin < end < 0.7e9


def test_the_accuracy_is_zoomed_to_what_comes_after_the_first_rise(figure: Figure) -> None:
    low, high = named(figure)["Test"].get_ylim()
    assert 0.955 < low < 0.967
    assert 0.99 < high < 1.0


@pytest.mark.parametrize("target", ["loss", "accuracy"])
def test_the_name_of_the_target_is_off_the_curve(figure: Figure, tmp_path: Path, target: str) -> None:
    if target == "accuracy":
        figure = plots.draw(drained(tmp_path / "a.h5", accuracy=0.99))
    axes = named(figure)["Training" if target == "loss" else "Test"]
    words = {"loss": "target 0.1", "accuracy": "target 0.99"}[target]
    (name,) = [text for text in axes.texts if text.get_text() == words]
    box = name.get_window_extent()
    points = axes.transData.transform(axes.lines[0].get_xydata())
    between = np.concatenate([np.linspace(a, b, 50) for a, b in pairwise(points)])
    assert not any(box.contains(x, y) for x, y in between)
    assert axes.bbox.contains(*box.min)
    assert axes.bbox.contains(*box.max)


def test_the_legend_names_what_is_drawn(figure: Figure, tmp_path: Path) -> None:
    def legend(figure: Figure) -> list[str]:
        (axes,) = [axes for axes in figure.axes if axes.get_legend()]
        return [text.get_text() for text in axes.get_legend().get_texts()]

    assert legend(figure) == ["compute", "in flight", "arrival"]
    everything = ["compute", "injected delay", "in flight", "arrival", "slow"]
    delayed = pdcode.Trace(traces.simulate(tmp_path / "b.h5", seconds=1.0).path)
    assert legend(delayed.plot("timeline")) == everything


def test_inner_products_that_are_all_0_have_no_colour_bar() -> None:
    for workers, count in ((16, 3), (32, 4)):
        code = codes.design("net", workers=workers, blocks=16, weight=4)
        drawing = Figure()
        code_plots._draw(code, quality(code), drawing)
        assert len(drawing.axes) == count


def test_a_panel_of_what_was_never_measured_says_so(tmp_path: Path) -> None:
    traces.writer(tmp_path / "a.h5").close()
    for kind in ("loss", "accuracy", "rate", "timeline"):
        (axes,) = pdcode.Trace(tmp_path / "a.h5").plot(kind).axes
        assert not axes.axison
        assert axes.get_title("left")
