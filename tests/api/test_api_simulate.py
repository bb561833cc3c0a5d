"""`pdcode.simulate`, and what `pdcode.Trace` adds to a trace."""

import math
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from matplotlib.figure import Figure

import pdcode
from pdcode.__main__ import main
from pdcode.config.write import to_toml

CONFIG: dict[str, Any] = {
    "problem": {"kind": "softmax", "data": "digits", "batch": 16},
    "workers": {"count": 4},
    "scheme": {"preset": "default"},
    "stragglers": {"kind": "shifted-exponential", "shift_s": 0.001, "mean_s": 0.002},
    "stop": {"updates": 60, "loss": 2.2},
    "trace": {"progress_s": 0.01},
}


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> pdcode.Trace:
    output = tmp_path_factory.mktemp("simulate") / "a.h5"
    return pdcode.simulate(CONFIG, output=output, progress=False)


def test_a_dict_a_file_and_the_command_give_the_same(trace, tmp_path, capfd):
    path = tmp_path / "job.toml"
    path.write_text(to_toml(CONFIG), encoding="utf-8")
    again = pdcode.simulate(path, output=tmp_path / "b.h5")
    printed = capfd.readouterr().out
    assert main(["simulate", str(path), "-o", str(tmp_path / "c.h5")]) == 0
    command = pdcode.Trace(tmp_path / "c.h5")
    assert capfd.readouterr().out.replace("c.h5", "b.h5") == printed
    for other in (again, command):
        assert other.theta.tobytes() == trace.theta.tobytes()
        assert other.config_text == trace.config_text
    assert trace.config_text == path.read_text(encoding="utf-8")


def test_a_trace_is_a_configuration(tmp_path: Path) -> None:
    trace = pdcode.simulate(CONFIG, output=tmp_path / "a.h5", progress=False)
    for number, config in enumerate((trace, trace.config)):
        again = pdcode.simulate(config, output=tmp_path / f"{number}.h5", progress=False)
        assert again.theta.tobytes() == trace.theta.tobytes()


def test_overrides_of_any_form(trace: pdcode.Trace, tmp_path: Path) -> None:
    given = {"update.mode": "first", "update.count": np.int64(2), "stop.loss": 1e-3, "optimizer.rate": 0.05}
    forms = given, [f"{key}={value}" for key, value in given.items()]
    for number, form in enumerate(forms):
        other = pdcode.simulate(trace, workers=3, set=form, output=tmp_path / f"{number}.h5", progress=False)
        assert other.config["update"]["count"] == 2
        assert other.config["stop"]["loss"] == 1e-3
        assert other.config["workers"]["count"] == 3
        assert set(other.updates["n_used"]) == {2}


def test_delays_and_costs_of_a_recorded_run(trace: pdcode.Trace, tmp_path: Path) -> None:
    paths = [tmp_path / "a.h5", tmp_path / "b.h5"]
    for recorded, path in zip((trace, str(trace.path)), paths, strict=True):
        pdcode.simulate(CONFIG, stragglers=recorded, cost=recorded, output=path, progress=False)
    first, second = map(pdcode.Trace, paths)
    assert first.config["stragglers"]["kind"] == "trace"
    np.testing.assert_array_equal(first.arrivals["t_recv_ns"], second.arrivals["t_recv_ns"])


def test_timing_only(tmp_path: Path) -> None:
    trace = pdcode.simulate(CONFIG, timing_only=True, output=tmp_path / "a.h5", progress=False)
    assert trace.updates.rows == 60
    assert math.isnan(trace.summary()["loss"])


def test_a_scheme_can_be_set_as_a_table(tmp_path: Path) -> None:
    settings = {"scheme": {"name": "uncoded"}}
    trace = pdcode.simulate(CONFIG, set=settings, output=tmp_path / "a.h5", progress=False)
    assert (trace.config["scheme"]["name"], trace.config["code"]["family"]) == ("uncoded", "uncoded")


def test_without_output_the_extension_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trace = pdcode.simulate(CONFIG, set={"trace.path": "x.h5"}, progress=False)
    assert trace.path == Path("x.virtual.h5")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**CONFIG, "problem": {"kind": "x"}}, "problem.kind: "),
        ({**CONFIG, "stop": {"loss": "low"}}, "stop.loss: "),
        ({**CONFIG, "sotp": {}}, "sotp: "),
        ({**CONFIG, "seed": object()}, "seed: object <object"),
        ({1: 2}, "1: expected text as a key"),
        ("absent.toml", "absent.toml: No such file"),
        (3, "config: 3: expected a dict, the path of a TOML file, or a Trace"),
    ],
)
def test_bad_input_has_the_words_of_the_command(config: Any, message: str, tmp_path: Path) -> None:
    for function in (pdcode.simulate, pdcode.run):
        with pytest.raises(pdcode.InputError) as raised:
            function(config, output=tmp_path / "a.h5", progress=False)
        assert str(raised.value).startswith(message)
    assert not list(tmp_path.iterdir())


def test_a_run_that_diverges_leaves_its_trace(tmp_path: Path) -> None:
    settings = {"optimizer.rate": 1e9, "problem.dtype": "float32", "problem.kind": "least-squares"}
    settings["problem.task"] = "regression"
    with pytest.raises(pdcode.Failure, match="diverged") as raised:
        pdcode.simulate(CONFIG, set=settings, output=tmp_path / "a.h5", progress=False)
    assert raised.value.trace.path == tmp_path / "a.h5"
    assert str(raised.value).startswith(raised.value.trace.summary()["failure"])


@pytest.mark.parametrize("timing_only", [False, True])
def test_ctrl_c_closes_the_trace(timing_only, tmp_path, capsys):
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    path = tmp_path / "a.h5"

    def interrupt() -> None:
        while not path.exists():
            time.sleep(0.01)
        time.sleep(0.2)  # of a run without an end
        signal.pthread_kill(main_thread, signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    settings = {"stop": {"seconds": 1e6}}
    with pytest.raises(KeyboardInterrupt):
        pdcode.simulate(CONFIG, set=settings, output=path, timing_only=timing_only)
    thread.join()
    assert "stopped: interrupted" in capsys.readouterr().out
    trace = pdcode.Trace(path)
    assert trace.finished
    assert trace.summary()["failure"] == "interrupted"


def test_the_headline_figures(trace: pdcode.Trace) -> None:
    summary = trace.summary()
    assert summary["updates"] == trace.updates.rows
    assert summary["loss"] == trace.progress["loss"][-1]
    assert summary["target"] == "loss 2.2"
    assert trace.summary(loss=1e-9)["target_s"] == math.inf


def test_the_figures(trace: pdcode.Trace, tmp_path: Path) -> None:
    for kind in ("run", "loss", "accuracy", "timeline", "rate", "code"):
        figure = trace.plot(kind)
        assert isinstance(figure, Figure)
        assert callable(figure._repr_png_)
        assert figure.get_axes()
    assert figure._repr_png_().startswith(b"\x89PNG")  # what a notebook shows: all are of one class
    with pytest.raises(pdcode.InputError, match="kind: expected one of run, loss, "):
        trace.plot("x")


def test_what_a_notebook_shows_of_a_trace(trace: pdcode.Trace) -> None:
    html = trace._repr_html_()
    assert "softmax on digits" in html
    assert f"after {trace.updates.rows} updates" in html


def test_replay(trace: pdcode.Trace, tmp_path: Path) -> None:
    assert trace.replay(progress=False).tobytes() == trace.theta.tobytes()
    copy = tmp_path / "copy.h5"
    copy.write_bytes(trace.path.read_bytes())
    with h5py.File(copy, "r+") as file:
        file["checkpoint/theta"][3] += 1e-3
    with pytest.raises(pdcode.Failure, match=r"copy.h5: not the same: checkpoint: theta\[3\]"):
        pdcode.Trace(copy).replay(progress=False)


def test_importing_the_package_imports_no_library() -> None:
    code = (
        "import sys, pdcode; pdcode.run, pdcode.InputError; "
        "print({'mpi4py', 'h5py', 'matplotlib', 'pandas', 'xarray'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_without_progress_nothing_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for timing_only in (False, False, True):  # the second renames the trace of the first
        pdcode.simulate(CONFIG, output=tmp_path / "a.h5", timing_only=timing_only, progress=False)
    assert (tmp_path / "a.previous.h5").exists()
    assert capsys.readouterr() == ("", "")
    pdcode.simulate(CONFIG, output=tmp_path / "a.h5")
    assert "the trace that was there is kept as" in capsys.readouterr().out
