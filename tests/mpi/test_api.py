"""`pdcode.run` from Python, and the programs in examples/."""

import doctest
import shutil
import signal
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import ROOT, SUPPORT
from shell import environment

import pdcode

CONFIG: dict[str, Any] = {
    "problem": {"kind": "softmax", "data": "digits", "batch": 16},
    "workers": {"count": 2},
    "stop": {"updates": 40, "seconds": 60.0},
}
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
JOBS = sorted((ROOT / "examples").glob("*/job.toml"))
MODELS = [path.parent for path in JOBS if "simulation" not in path.read_text()]  # which have no target


def test_a_script_without_a_guard(tmp_path: Path) -> None:
    """A dict, relative paths, progress on sys.stdout, and a replay, in a script as a user writes it."""
    script = tmp_path / "script.py"
    script.write_text(
        f"import pdcode\n"
        f"trace = pdcode.run({CONFIG!r}, workers=3, output='sub/a.h5', set={{'optimizer.rate': 0.05}})\n"
        f"print(trace.config['workers']['count'], trace.config['optimizer']['rate'], trace.finished)\n"
        f"print(trace.replay(progress=False).tobytes() == trace.theta.tobytes())\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=tmp_path, env=environment()
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert any(line.startswith("3 workers, 650 parameters") for line in lines)
    assert lines[-3:] == ["trace: sub/a.h5", "3 0.05 True", "True"]
    text = pdcode.Trace(tmp_path / "sub" / "a.h5").config_text
    assert tomllib.loads(text) == CONFIG


def test_ctrl_c_ends_the_run_and_keeps_its_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    path = tmp_path / "a.h5"

    def interrupt_when_it_trains() -> None:
        while not path.exists():
            if stopped.wait(0.05):
                return
        stopped.wait(0.5)
        signal.pthread_kill(main_thread, signal.SIGINT)

    stopped = threading.Event()
    watch = threading.Thread(target=interrupt_when_it_trains)
    watch.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            pdcode.run(CONFIG, workers=1, set={"stop.updates": 10**9}, output=path)
    finally:
        stopped.set()
        watch.join()
    trace = pdcode.Trace(path)
    assert trace.finished
    assert trace.summary()["failure"] == "interrupted"


@pytest.mark.usefixtures("on_pool")
def test_a_run_that_diverges_leaves_its_trace(tmp_path: Path) -> None:
    settings = {"optimizer.rate": 1e9, "problem.kind": "least-squares", "problem.task": "regression"}
    with pytest.raises(pdcode.Failure, match="diverged") as raised:
        pdcode.run(CONFIG, workers=1, set=settings, output=tmp_path / "a.h5", progress=False)
    assert str(raised.value).startswith(raised.value.trace.summary()["failure"])


@pytest.mark.system
@pytest.mark.parametrize("program", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_as_it_is(program: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, env=environment() | {"MPLBACKEND": "agg"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "predicted" in done.stdout
    assert {path.suffix for path in tmp_path.rglob("*.*")} == {".h5", ".png"}


@pytest.mark.system
@pytest.mark.timeout(600)  # imports of JAX take long on a busy machine
@pytest.mark.parametrize("folder", MODELS, ids=lambda path: path.name)
def test_an_example_of_a_model_reaches_its_target(folder: Path, tmp_path: Path) -> None:
    """As a program, by a call on the virtual clock; numpy's over MPI, too."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (program,) = tmp_path.glob("*.py")
    words = {
        "call.h5": (program.name,),
        "run.h5": ("-m", "pdcode", "run", "job.toml", "-n", "2", "-o", "run.h5"),
    }
    for name in ("call.h5", "run.h5") if folder.name == "numpy" else ("call.h5",):
        done = subprocess.run(
            [sys.executable, *words[name]], cwd=tmp_path, env=environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert np.isfinite(pdcode.Trace(tmp_path / name).summary()["target_s"])


@pytest.mark.every(2)
@pytest.mark.parametrize("function", [pdcode.run, pdcode.compare])
@pytest.mark.usefixtures("on_pool")
def test_the_example_in_the_docstring(function, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = doctest.DocTestFinder(recurse=False).find(function)
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0


@pytest.mark.usefixtures("on_pool")
def test_minimize_over_mpi_writes_arrays_and_imports_names(tmp_path: Path) -> None:
    rows, file = np.random.default_rng(0).standard_normal((60, 3)), SUPPORT / "functions.py"
    found = pdcode.minimize(
        f"{file}:flat", np.zeros(3), (rows, rows @ np.arange(3.0)), mpi=True, workers=2,
        config={"scheme": {"name": "uncoded"}, "problem": {"batch": 0}, "optimizer": {"rate": 0.5}},
        set={"stop.updates": 400}, output=tmp_path / "f.h5", progress=False,
    )  # fmt: skip
    np.testing.assert_allclose(found.x, np.arange(3.0), atol=0.01)
    assert {path.name for path in tmp_path.glob("*.npz")} == {"f.start.npz", "f.data.npz"}
    assert np.array_equal(found.trace.replay(progress=False), found.trace.theta)
