"""What a report says of runs of every kind; figures; refusals. tests/browser opens its pages."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import traces

from pdcode.__main__ import main
from pdcode.analysis import charts, critical_path, description, figures, report
from pdcode.analysis.diagnosis import diagnose
from pdcode.trace import TraceReader

pytestmark = pytest.mark.slow


def of(*read: TraceReader) -> list[report.Part]:
    return report.parts(read, [diagnose(each) for each in read])


def test_sections_and_charts_of_a_run(tmp_path: Path) -> None:
    trace = traces.simulate(tmp_path / "run.h5", 0.5)
    trace.attributes["task_rows"] = 32
    (part,) = of(trace)
    assert [section.name for section in part.sections] == [
        "run", "loss", "fates", "time", "staleness", "latencies", "path", "bytes", "code", "environment",
    ]  # fmt: skip
    named = report.named_charts([part])
    assert list(named) == [
        "loss-time", "accuracy-time", "loss-updates", "loss-bytes", "timeline", "slow-when", "rate",
        "staleness", "latency", "critical-path", "captured", "gram-16", "energy-16",
    ]  # fmt: skip
    (computing, *_), rows = named["timeline"].bars, trace.arrivals
    assert len(computing.left) == rows.rows
    assert (computing.right - computing.left).sum() == pytest.approx(
        1e-9 * (rows["t_compute_ns"] - rows["t_start_ns"]).sum()
    )
    image = named["slow-when"].image
    assert image is not None
    assert np.nanargmax(np.nanmedian(image.values, axis=1)) == 7  # the slow worker
    assert 4 < np.nanmedian(image.values[7]) < 20
    used = next(curve for curve in named["rate"].curves if curve.name == "used")
    assert (used.y * np.diff(used.x)).sum() == pytest.approx(1e3 * trace.updates.rows)  # in ms
    path = critical_path.of_trace(trace)
    assert path is not None
    assert sum((bars.right - bars.left).sum() for bars in named["critical-path"].bars) == pytest.approx(
        100, abs=1
    )
    rate = 32e9 * trace.updates.rows / description.stop_ns(trace)
    texts = "\n".join(part.sections[2].contents)
    assert f"goodput: {rate:,.0f} training rows a second in used payloads" in texts


def unusual(folder: Path, kind: str) -> TraceReader:
    path = folder / f"{kind}.h5"
    if kind == "running":
        return traces.simulate(path, 0.3, close=False)
    if kind == "many":
        return traces.simulate(path, 0.05, workers=400)
    if kind == "alone":
        return traces.simulate(path, 0.2, workers=1, slow=())
    writer = traces.writer(path, workers=2)
    if kind == "one arrival":
        writer.arrival(*traces.row(worker=1, t_start_ns=1, t_compute_ns=2, t_send_ns=3, t_recv_ns=4))
    writer.close()
    return TraceReader(path)


@pytest.mark.parametrize("kind", ["running", "many", "alone", "one arrival", "empty"])
def test_a_page_of_unusual_runs(tmp_path: Path, kind: str) -> None:
    made = of(unusual(tmp_path, kind))
    page = report.make_page(made)
    assert page.count("<figure ") == len(report.named_charts(made))
    assert len(page) < 2_500_000
    if kind == "many":  # aggregated
        (image,) = (each.image for each in report.named_charts(made).values() if each.name == "slow-when")
        assert image is not None
        assert image.values.shape[0] <= charts.CELLS
        assert page.count("<tr") < 120


def test_texts_of_a_trace_are_escaped(tmp_path: Path) -> None:
    made = of(traces.simulate(tmp_path / "<b>&.h5", 0.1))
    page = report.make_page([part._replace(config="<script>alert()</script>") for part in made])
    assert "<h1>&lt;b&gt;&amp;.h5</h1>" in page
    assert "<script>alert" not in page


def test_changes_from_one_run_to_another(tmp_path: Path) -> None:
    """Without its slow worker a run has 8 / 7.1 times as many updates a second."""
    before = traces.simulate(tmp_path / "a.h5", 2.0)
    after = traces.simulate(tmp_path / "b.h5", 2.0, slow=())
    comparison, first, second = of(before, after)
    assert [name for name, _ in comparison.lines] == ["before", "after"]
    assert (first.title, second.title) == ("Before: a.h5", "After: b.h5")
    changes = comparison.sections[0].contents[1]
    cells = {row[0]: row[1:] for row in zip(*(column.cells for column in changes.columns), strict=True)}
    low, high = map(float, cells["updates a second"][3].split(" – "))
    assert low < 8 / 7.1 < high
    assert set(report.named_charts(of(before, before))) >= {"loss-time", "before-timeline", "after-timeline"}


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_changes_of_equal_steps_are_compared_without_warnings(tmp_path: Path) -> None:
    times_s = np.full((3, 3), 1e-9), np.array([[1.0, 2.0]])
    of(*(traces.script(tmp_path / f"{number}.h5", each, 0.0) for number, each in enumerate(times_s)))


def test_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    traces.simulate(tmp_path / "run.h5", 0.3)
    kinds = "timeline", "gram-16"
    every: Any = report.named_charts
    monkeypatch.setattr(
        report,
        "named_charts",
        lambda made: {name: each for name, each in every(made).items() if name in kinds},
    )
    folder = tmp_path / "figures"
    assert main(["report", "--quick", str(tmp_path / "run.h5"), "--figures", str(folder)]) == 0
    assert capsys.readouterr().out == f"figures: {folder}, 2 as .png, .svg, .pdf\n"
    assert {path.name for path in folder.iterdir()} == {
        f"{name}{ending}" for name in kinds for ending in (".png", ".svg", ".pdf")
    }
    assert "worker 7 (slow)" in (folder / "timeline.svg").read_text(encoding="utf-8")
    assert not (tmp_path / "run.html").exists()
    (folder / "timeline.svg").write_text("mine", encoding="utf-8")
    assert main(["report", "--quick", str(tmp_path / "run.h5"), "--figures", str(folder)]) == 2
    assert "timeline.svg: the existing file is not a figure of pdcode" in capsys.readouterr().err


def test_figures_have_the_page_s_marks(tmp_path: Path) -> None:
    (part,) = of(traces.simulate(tmp_path / "run.h5", 0.3))
    chart = report.named_charts([part])["critical-path"]
    axes = figures.draw(chart).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(chart.lanes)
    assert axes.get_xlim() == chart.x_range


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["a.h5", "a.h5", "a.h5"], "a.h5: expected one trace, or two, before and after a change"),
        (["a.h5", "-o", "mine.html"], "-o mine.html: the existing file is not a report of pdcode"),
        (["none.h5"], "none.h5: no such file"),
    ],
)
def test_refusals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: list[str], complaint: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    traces.simulate(tmp_path / "a.h5", 0.1)
    (tmp_path / "mine.html").write_text("mine", encoding="utf-8")
    assert main(["report", *words]) == 2
    assert complaint in capsys.readouterr().err
