"""What a report says of runs of every kind; figures; refusals. tests/browser opens its pages."""

import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import traces

import pdcode
from pdcode.__main__ import main
from pdcode.analysis import charts, description, figures, notebook, report, waiting
from pdcode.analysis.diagnosis import Cause, diagnose
from pdcode.trace.reader import TraceReader

pytestmark = pytest.mark.slow


def of(*read: TraceReader) -> list[report.Part]:
    return report.parts(read, [diagnose(each) for each in read])


def test_sections_and_charts_of_a_run(tmp_path: Path) -> None:
    trace = traces.simulate(tmp_path / "run.h5", 0.5)
    trace.attributes["task_rows"] = 32
    (part,) = of(trace)
    assert [section.name for section in part.sections] == [
        "time", "account", "loss", "fates", "staleness", "latencies", "bytes", "code", "run", "environment",
    ]  # fmt: skip
    named = report.named_charts([part])
    assert list(named) == [
        "slow-when", "loss-time", "account", "timeline", "rate", "account-workers", "accuracy-time",
        "staleness", "latency", "captured", "gram-16", "energy-16",
    ]  # fmt: skip
    assert [chart.name for chart in part.charts] == [
        "slow-when",
        "loss-time",
        "account",
    ]  # on the first screen
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
    for name in ("account", "account-workers"):
        assert sum((bars.right - bars.left).sum() for bars in named[name].bars) == pytest.approx(100, abs=1)
    rate = 32e9 * trace.updates.rows / description.stop_ns(trace)
    texts = "\n".join(part.sections[3].contents)
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


@pytest.mark.every(2)
@pytest.mark.parametrize("kind", ["running", "many", "alone", "one arrival", "empty"])
def test_a_page_of_unusual_runs(tmp_path: Path, kind: str) -> None:
    made = of(unusual(tmp_path, kind))
    page = report.make_page(made)
    assert page.count("<figure ") == page.count(' role="img" aria-label="') == len(report.named_charts(made))
    assert len(page) < 2_500_000
    if kind == "many":  # aggregated
        (image,) = (each.image for each in report.named_charts(made).values() if each.name == "slow-when")
        assert image is not None
        assert image.values.shape[0] <= charts.CELLS
        assert page.count("<tr") < 120


def test_the_loss_is_drawn_once_where_other_axes_would_draw_the_same(tmp_path: Path) -> None:
    """Two runs of one speed; and one that has twice as many updates and bytes a second."""
    made = [traces.simulate(tmp_path / f"{name}.h5", 0.5) for name in "ab"]
    assert [(chart.name, chart.others) for chart in charts.losses(made, "ab")] == [
        ("loss-time", []), ("accuracy-time", []),
    ]  # fmt: skip
    made.append(traces.simulate(tmp_path / "c.h5", 0.5, workers=4, slow=()))
    loss, _ = charts.losses(made, "abc")
    assert [each.name for each in loss.others] == ["loss-updates", "loss-bytes"]
    for other in loss.others:  # the same points
        for one, another in zip(loss.curves, other.curves, strict=True):
            assert np.array_equal(one.y, another.y)


def test_charts_are_told_in_words(tmp_path: Path) -> None:
    named = report.named_charts(of(traces.simulate(tmp_path / "run.h5", 0.5)))
    told = {name: chart.alternative for name, chart in named.items()}
    assert told["slow-when"].startswith(
        "Who is slow when: task time over the workers' median: worker by time, "
    )
    assert told["slow-when"].endswith("the highest median is in row 7 of 8")
    loss = named["loss-time"].curves[0].y
    assert told["loss-time"].startswith(f"Training loss: loss from {loss[0]:.3g} to {loss[-1]:.3g}, ")
    assert told["timeline"].startswith("Tasks of the workers: 11 lanes, worker 0, worker 1, ")
    assert "median from " in told["staleness"]


def test_the_page_of_a_run_has_the_gain_and_relative_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = {
        "problem": {"kind": "mlp", "data": "digits", "hidden": [8]},
        "scheme": {"name": "uncoded"},
        "workers": {"count": 4},
        "stragglers": {"kind": "shifted-exponential", "mean_s": 0.01, "slow": [3], "slowdown": 10.0},
        "stop": {"loss": 1.0, "seconds": 20},
        "trace": {"progress_s": 0.01},
    }
    (tmp_path / "results").mkdir()
    trace = pdcode.simulate(job, output=tmp_path / "results" / "run.h5", progress=False)
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(trace.path)]) == 0
    page = trace.path.with_suffix(".html").read_text(encoding="utf-8")
    assert page.count("<h1>") == 1
    with waiting.gain(trace) as gain:
        assert f"of virtual time. {gain}.</p>" in page
    assert "waiting for all, simulated" in page
    found = diagnose(trace)
    lines = dict(report.parts([trace], [replace(found, next=f"plan --trace {trace.path}")])[0].lines)
    assert lines["next"] == "plan --trace results/run.h5"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    lines = dict(report.parts([trace], [replace(found, next=f"plan --trace {trace.path}")])[0].lines)
    assert lines["next"] == "plan --trace run.h5"


def test_causes_are_ranked_beside_the_verdict(tmp_path: Path) -> None:
    trace = traces.simulate(tmp_path / "run.h5", 0.1)
    causes = Cause("workers", "one is slow", 0.3, 0.25, 0.4), Cause("rank 0", "it is busy", 0.125, 0.1, 0.15)
    page = report.make_page(report.parts([trace], [replace(diagnose(trace), causes=causes)]))
    shown = re.findall(r'px"></i>([^<]*)</span>', page)
    assert shown == ["workers 30.0 % (25.0 – 40.0)", "rank 0 12.5 % (10.0 – 15.0)"]


def test_texts_of_a_trace_are_escaped(tmp_path: Path) -> None:
    made = of(traces.simulate(tmp_path / "<b>&.h5", 0.1))
    page = report.make_page([part._replace(config="<script>alert()</script>") for part in made])
    assert "<h1>&lt;b&gt;&amp;.h5</h1>" in page
    assert "<script>alert" not in page


@pytest.mark.system
def test_runs_side_by_side(tmp_path: Path) -> None:
    """Without its slow worker a run has 8 / 7.1 times as many updates a second; a third one is the first."""
    made = [
        traces.simulate(tmp_path / f"{name}.h5", 2.0, slow=slow)
        for name, slow in (("a", (7,)), ("b", ()), ("c", (7,)))
    ]
    comparison, *parts = of(*made)
    assert [name for name, _ in comparison.lines] == ["a", "b", "c"]
    assert [part.title for part in parts] == ["a.h5", "b.h5", "c.h5"]
    assert comparison.headline == "3 runs: a.h5, b.h5, c.h5"
    said = re.fullmatch(
        r"(\w) reaches loss \S+ first, after \S+ \S+: (\S+) times as fast as \w and \S+ .* \w",
        comparison.title,
    )
    assert said is not None
    assert float(said[2]) >= 1
    (loss,) = comparison.charts
    assert [curve.name for curve in loss.curves] == ["a", "b", "c"]
    page = report.make_page([comparison, *parts])
    assert page.count("<h1>") == 1
    assert "<h2>b.h5</h2>" in page
    runs, rates = comparison.sections[0].contents[:2]
    for table in (runs, rates):
        assert list(table.columns[0].cells) == ["a", "b", "c"]
    first, second, third = rates.columns[2].cells
    assert (first, third[:5]) == ("–", "1.00×")
    low, high = map(float, re.fullmatch(r".*× \((\S+) – (\S+)\)", second).groups())
    assert low < 8 / 7.1 < high
    assert set(report.named_charts(of(*made[:2]))) >= {"loss-time", "1-slow-when", "2-timeline"}
    assert of(*made[:2])[0].title.endswith(") the updates a second")


def test_marks_of_rank_0_and_its_link(tmp_path: Path) -> None:
    """Rank 0 decodes one payload after another; what it and the link do adds up as in the account."""
    trace = traces.simulate(tmp_path / "run.h5", 0.3)
    timeline = report.named_charts(of(trace))["timeline"]
    assert timeline.lanes[-3:] == ["rank 0", "link to rank 0", "link from it"]
    assert timeline.workers == [*range(8), -1, -1, -1]
    spent = dict.fromkeys(("decoding", "stepping", "sending"), 0.0)
    for bars in timeline.bars:
        if bars.name in spent:
            assert (bars.lane == 8).all()
            spent[bars.name] += float((bars.right - bars.left).sum())
    rows, steps = trace.arrivals, trace.updates.rows
    assert spent["stepping"] == pytest.approx(8e-6 * steps)
    assert spent["sending"] == pytest.approx(5e-6 * steps, rel=0.02)
    assert spent["decoding"] <= 1e-9 * (rows["t_decoded_ns"] - rows["t_recv_ns"]).sum()


def test_comparisons_have_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    job = {
        "problem": {"kind": "softmax", "data": "digits", "batch": 32},
        "stragglers": {"kind": "shifted-exponential", "mean_s": 0.01, "slow": [3], "slowdown": 10.0},
        "stop": {"loss": 0.5, "seconds": 60.0},
    }
    for name, workers in (("a", 4), ("b", 6)):
        pdcode.compare(
            job, ["uncoded:all", "uncoded:async"], workers=workers, seeds=2, output=f"{name}.compare.h5",
            progress=False,
        )  # fmt: skip
    assert main(["report", "a.compare.h5"]) == 0
    page = Path("a.compare.html").read_text(encoding="utf-8")
    title = re.search(r"<h1>(.*)</h1>", page)
    assert title is not None
    assert re.fullmatch(
        r"uncoded:async reaches loss 0.5 first, after \S+ ms \(.* – .*\): "
        r"uncoded:all takes \S+× as long \(.*\)",
        title[1],
    )
    assert "faster than every other at 95 %" in page or "do not tell it from" in page
    assert main(["report", "a.compare.h5", "b.compare.h5", "-o", "both.html", "--figures", "drawn"]) == 0
    both = Path("both.html").read_text(encoding="utf-8")
    assert "<h1>uncoded:async is the best of 2 schemes in 2 comparisons</h1>" in both
    assert both.count("<figure ") == both.count(' role="img" aria-label="') == 3
    assert len([*Path("drawn").glob("*.svg")]) == 3
    capsys.readouterr()
    traces.simulate(tmp_path / "run.h5", 0.1)
    assert main(["report", "run.h5", "a.compare.h5"]) == 2
    assert "a.compare.h5: a comparison, which cannot be shown together with traces" in capsys.readouterr().err


def test_a_run_in_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pictures are told in words; a display that goes on keeps the line and what could be read."""
    trace = pdcode.Trace(traces.simulate(tmp_path / "a'<b>.h5", 0.5).path)
    page = trace._repr_html_()
    assert page.count("<svg ") == page.count(" role='img' aria-label='") == 2
    assert "worker 7 is " in page
    assert "<b>.h5" not in page
    shown = list[str]()
    display = SimpleNamespace(
        HTML=str, display=lambda *given, **options: SimpleNamespace(update=shown.append)
    )
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    live = notebook.Live(trace.path)
    os.utime(trace.path)  # as if of this run: the pictures above may have taken seconds
    live("update 12")
    assert shown[-1].startswith("<p>update 12</p>")
    assert shown[-1].count("<svg ") == 2
    notebook.Live(tmp_path / "none.h5")("it begins")
    assert shown[-1] == "<p>it begins</p>"


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_changes_of_equal_steps_are_compared_without_warnings(tmp_path: Path) -> None:
    times_s = np.full((3, 3), 1e-9), np.array([[1.0, 2.0]])
    of(*(traces.script(tmp_path / f"{number}.h5", each, 0.0) for number, each in enumerate(times_s)))


def test_a_timeline_of_many_tasks_has_some_of_all_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what is marked elsewhere is there, too: all tasks around one time, and some at 150 others."""
    monkeypatch.setattr(charts, "TASKS", 450)
    trace = traces.simulate(tmp_path / "run.h5", 2.0, slow=())
    chart = charts.tasks(trace, None)
    (computing,) = (each for each in chart.bars if each.name == "computing")
    assert 450 <= len(computing.left) <= 900 < trace.arrivals.rows
    assert np.histogram(computing.left, 40, (0, 2.0))[0].min() >= 5
    assert f"{len(computing.left):,} of {trace.arrivals.rows:,} tasks" in chart.note


def test_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    traces.simulate(tmp_path / "run.h5", 0.1)
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
    chart = report.named_charts([part])["account-workers"]
    axes = figures.draw(chart).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(chart.lanes)
    assert axes.get_xlim() == chart.x_range


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
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
