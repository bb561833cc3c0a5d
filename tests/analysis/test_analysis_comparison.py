"""The comparison of several runs, as `pdcode show A B C` prints and draws it."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import traces

from pdcode.__main__ import main
from pdcode.analysis import comparison, style
from pdcode.trace.reader import TraceReader
from pdcode.util.formats import duration

pytestmark = pytest.mark.usefixtures("read_at_once")

JOB = """
[problem]
standardise = false
[update]
mode = "{mode}"
[workers]
count = 4
[stragglers]
kind = "shifted-exponential"
mean_s = 0.005
[optimizer]
rate = {rate}
[stop]
loss = 1.5
updates = 60
[trace]
progress_s = 0.01
arrivals = "{arrivals}"
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three runs on the virtual clock: one reaches its target, one does not record arrivals, one is slow."""
    folder, paths = tmp_path_factory.mktemp("runs"), []
    for name, mode, rate, arrivals in (
        ("sync", "all", 1.0, "all"),
        ("eager", "first", 1.0, "none"),
        ("slow", "all", 1e-4, "all"),
    ):
        job = folder / f"{name}.toml"
        job.write_text(JOB.format(mode=mode, rate=rate, arrivals=arrivals), encoding="utf-8")
        paths.append(str(folder / f"{name}.h5"))
        assert main(["simulate", str(job), "-o", paths[-1]]) == 0
    return paths


def test_several_traces_are_a_line_each(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", *runs]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "to loss 1.5" in lines[0]
    rows = {line.split()[0]: line for line in lines[1:4]}
    sync, slow = TraceReader(runs[0]), TraceReader(runs[2])
    stop = duration(sync.counters["t_stop_ns"])
    assert rows["sync"].count(stop) == 2  # the time, and the time to the target
    assert f" {sync.counters['version']} " in rows["sync"]
    assert "first 3" in rows["eager"]
    assert "not reached" in rows["slow"]
    assert f"{slow.progress['loss'][-1]:.4g}" in rows["slow"]
    assert all(line.endswith("finished") for line in rows.values())
    assert "virtual time: all" in lines


def test_one_that_cannot_be_read_is_named_after_the_others(runs, tmp_path, capsys):
    (bad := tmp_path / "bad.h5").write_text("no trace")
    assert main(["show", runs[0], str(bad), runs[1]]) == 2
    shown = capsys.readouterr()
    assert [line.split()[0] for line in shown.out.splitlines()[1:3]] == ["sync", "eager"]
    assert shown.err.startswith(f"pdcode: {bad}: ")
    assert shown.err.count("\n") == 1


def test_a_single_trace_is_shown_in_full(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", runs[0]]) == 0
    assert f"{runs[0]}: finished after" in capsys.readouterr().out


def test_equal_names_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    paths = [tmp_path / "a.h5", tmp_path / "b" / "a.h5", tmp_path / "c.h5"]
    made = [traces.simulate(path, seconds=0.05) for path in paths]
    assert comparison.names(made) == [str(paths[0]), str(paths[1]), "c"]


def test_the_figure_compares_over_time_and_bytes(runs: list[str], tmp_path: Path) -> None:
    opened = [TraceReader(path) for path in runs]
    drawing = comparison.draw(opened)
    left, right = drawing.axes
    for place, trace in enumerate(opened):
        lines = [axes.lines[2 * place] for axes in (left, right)]
        assert lines[0].get_label() == Path(runs[place]).stem
        np.testing.assert_allclose(lines[0].get_xdata(), trace.progress["t_ns"] / 1e9)
        for line in lines:
            np.testing.assert_array_equal(line.get_ydata(), trace.progress["loss"])
    fastest = min((t.counters["t_stop_ns"], n) for t, n in zip(opened[:2], ("sync", "eager"), strict=True))
    assert left.get_title("left").startswith(f"{fastest[1]} reaches loss 1.5 first, after ")
    assert "target 1.5" in [text.get_text() for text in drawing.legends[0].get_texts()]
    assert main(["show", *runs, "--figure", str(tmp_path / "a.png")]) == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_times_of_different_clocks_are_not_ranked(runs: list[str], tmp_path: Path) -> None:
    shutil.copy(runs[1], real := tmp_path / "real.h5")
    with h5py.File(real, "a") as file:
        file.attrs["clock"] = "real"
    drawing = comparison.draw([TraceReader(runs[0]), TraceReader(real)])
    left, right = drawing.axes
    assert left.get_title("left") == "Training loss against time"
    assert left.get_xlabel() == "time of each run's clock, s"
    assert right.get_title("left").partition(" needs")[0] in ("sync", "real")  # bytes are those of any clock
    labels = [text.get_text() for text in drawing.legends[0].get_texts()]
    assert labels[:2] == ["sync (virtual clock)", "real (real clock)"]
    alone = comparison.draw([TraceReader(real)]).axes[0]
    assert alone.get_xlabel() == "time, s"


@pytest.mark.filterwarnings("error")
def test_names_and_bytes_are_shown_as_they_are(runs: list[str], tmp_path: Path) -> None:
    """No mathematics, no character without a glyph, and no two numbers of bytes that look alike."""
    known = style._characters()
    for ending in ("png", "svg", "pdf"):
        paths = [shutil.copy(runs[0], tmp_path / f"{name}.h5") for name in ("国际试验", "$x_", "a$\\frac$")]
        drawing = comparison.draw([TraceReader(path) for path in paths])
        style.save(drawing, tmp_path / f"figure.{ending}")
        shown = [text.get_text() for text in drawing.legends[0].get_texts()]
        assert shown[:3] == [
            "".join(c if c in known else ascii(c)[1:-1] for c in "国际试验"),
            "$x_",
            "a$\\frac$",
        ]
    right = drawing.axes[1]
    for end in (3e3, 4.4e5, 2.6e6, 1.7e9):
        right.set_xlim(0, end)
        drawing.draw_without_rendering()
        ticks = [label.get_text() for label in right.get_xticklabels()]
        assert len({*ticks}) == len(ticks) > 2


def test_runs_of_which_nothing_is_recorded_are_compared(tmp_path: Path) -> None:
    paths = [tmp_path / "a.h5", tmp_path / "b.h5"]
    traces.writer(paths[0]).close()
    traces.simulate(paths[1], seconds=0.2, arrivals="none")
    assert main(["show", *map(str, paths), "--figure", str(tmp_path / "a.svg")]) == 0
    assert len(comparison.sent(TraceReader(paths[0]))) == 0


def test_bytes_count_from_the_arrival_on(tmp_path: Path) -> None:
    trace = traces.simulate(tmp_path / "a.h5", seconds=1.0)
    sent = comparison.sent(trace)
    for place in (0, 3, 9):
        heard = trace.arrivals["t_recv_ns"] <= trace.progress["t_ns"][place]
        assert sent[place] == pytest.approx(heard.sum() * (3904 + 19304))


def test_bytes_without_recorded_arrivals_are_shared_by_the_updates(runs: list[str]) -> None:
    trace = TraceReader(runs[1])
    sent, counters = comparison.sent(trace), trace.counters
    assert sent[0] == 0
    assert sent[-1] == pytest.approx(counters["bytes_up"] + counters["bytes_down"])
