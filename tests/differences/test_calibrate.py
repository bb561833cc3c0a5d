"""Fits of simulations over MPI and on the virtual clock, by configurations and by a call."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from outcomes import assert_replays, error_line, refused
from scipy.optimize import Bounds

import pdcode
from pdcode import Trace
from pdcode.__main__ import main

PROGRAM = """
import zlib
import numpy as np

t = np.linspace(0, 4, 50)

def misfit(x):
    if zlib.crc32(x.tobytes()) % 10 == 3 and x[0] != 1.0:
        raise ArithmeticError("no convergence")
    return x[0] * np.exp(-x[1] * t) + x[2] - 3.0 * np.exp(-0.7 * t) - 0.5

def number(x):
    return float(np.sum(misfit(x) ** 2)) / 2

def broken(x):
    raise ValueError("no such mesh")
"""
JOB = """
[problem]
kind = "simulation"
function = "mine.py:misfit"
start = [1.0, 0.2, 0.0]
residuals = 50
bounds = [[0, 9], [0, 9], [-1, 1]]
[scheme]
name = "differences"
[workers]
count = 3
[stragglers]
kind = "shifted-exponential"
shift_s = 0.002
mean_s = 0.003
slow = [1]
slowdown = 8
[stop]
updates = 100
"""
TRUTH = [3.0, 0.7, 0.5]


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(PROGRAM, encoding="utf-8")
    path = tmp_path / "job.toml"
    path.write_text(JOB, encoding="utf-8")
    return path


def test_a_job_runs_on_the_virtual_clock_and_replays(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = job.parent / "a.h5"
    assert main(["simulate", str(job), "-o", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "a function of 3 parameters returns 50 residuals" in printed
    assert "stopped: converged: " in printed
    trace = Trace(out)
    np.testing.assert_allclose(trace.theta, TRUTH, atol=1e-6)
    failed = int(np.isnan(trace.arrivals["loss"]).sum())  # evaluations
    assert failed >= 2
    faults = trace.faults
    assert list(faults["kind"]) == ["failed"] * failed
    rows = [*zip(faults["worker"].tolist(), faults["task"].tolist(), faults["message"].tolist(), strict=True)]
    why = "ArithmeticError: no convergence"
    assert rows == [
        (worker, task, f"worker {worker}: evaluation {task} has failed: {why}") for worker, task, _ in rows
    ]
    assert list(trace.progress["version"]) == list(range(1, trace.updates.rows + 1))
    assert_replays(out, capsys)
    assert main(["show", str(out)]) == 0
    assert "simulation of" in capsys.readouterr().out


def test_a_run_over_mpi_replays_whenever_idle_workers_asked_again(job: Path, capsys) -> None:
    out = job.parent / "real.h5"
    trace = pdcode.run(str(job), output=out, progress=False)
    np.testing.assert_allclose(trace.theta, TRUTH, atol=1e-6)
    assert set(trace.arrivals["worker"]) == {0, 1, 2}
    assert_replays(out, capsys)


@pytest.mark.parametrize("design", ["queue", "copies"])
def test_designs_that_repeat_end_with_one_line(design: str, job: Path, capsys) -> None:
    arguments = [
        "simulate",
        str(job),
        "-o",
        str(job.parent / "a.h5"),
        "--set",
        f"scheme.options.design={design}",
    ]
    assert main(arguments) == 1
    assert "stopped: the evaluation of column" in capsys.readouterr().out


def test_a_run_that_is_told_to_stop_goes_on_without_repetition(job: Path, capsys) -> None:
    out, text = job.parent / "a.h5", job.read_text(encoding="utf-8")
    job.write_text(text.replace("shift_s = 0.002", "shift_s = 0.05"), encoding="utf-8")
    settings = ["--set", "trace.checkpoint_s=0.05", "--set", "trace.flush_s=0.05"]
    command = [sys.executable, "-m", "pdcode", "run", str(job), "-o", str(out), "--resume", *settings]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (out.exists() and rows_of(out) > 10):
        assert first.poll() is None, first.communicate()
        time.sleep(0.02)
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 75, first.communicate()
    before = Trace(out).arrivals.rows
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    trace = Trace(out)
    assert trace.arrivals.rows > before
    np.testing.assert_allclose(trace.theta, TRUTH, atol=1e-6)
    assert_replays(out, capsys)
    assert main(["show", str(out)]) == 0
    assert "had not answered" not in capsys.readouterr().out  # tasks that the resumption lost are no faults


def test_points_of_an_earlier_run_are_not_evaluated_again(tmp_path: Path, capsys) -> None:
    asked, t = [], np.linspace(0, 4, 50)

    def misfit(x: np.ndarray) -> np.ndarray:
        asked.append(x.tobytes())
        if len(asked) == 4:
            raise ArithmeticError("no licence")  # this time
        return x[0] * np.exp(-x[1] * t) - 3 * np.exp(-0.7 * t)

    common = {"residuals": 50, "workers": 2, "progress": False}
    first = pdcode.calibrate(misfit, [1.0, 0.2], output=tmp_path / "a.h5", **common)
    points, failed = {*asked}, asked[3]
    asked[:] = [b""] * 4
    again = {"problem": {"earlier": str(tmp_path / "a.h5")}}
    second = pdcode.calibrate(misfit, [1.0, 0.2], config=again, output=tmp_path / "b.h5", **common)
    assert not {*asked[4:]} & (points - {failed})
    assert len(asked) < len(points)
    np.testing.assert_allclose(second.x, first.x, atol=1e-6)
    again["problem"]["prior_sd"] = [1e-6, 1e-6]  # that of this run
    third = pdcode.calibrate(misfit, [1.0, 0.2], config=again, output=tmp_path / "b.h5", **common)
    np.testing.assert_allclose(third.x, [1.0, 0.2], atol=1e-4)
    del again["problem"]["prior_sd"]
    with refused("problem.earlier: ", "2 parameters and 50 values, where this run has 1 and 50"):
        pdcode.calibrate(misfit, [1.0], config=again, output=tmp_path / "b.h5", **common)
    with refused("problem.earlier: ", "is trace.path, which the run writes"):
        pdcode.calibrate(misfit, [1.0, 0.2], config=again, output=tmp_path / "a.h5", **common)


def rows_of(path: Path) -> int:
    """Return the arrivals of a trace that is being written; 0 before it can be read."""
    try:
        return Trace(path).arrivals.rows
    except (pdcode.InputError, OSError):
        return 0


def test_a_worker_that_only_fails_from_some_task_on_is_no_end(job: Path, capsys) -> None:
    sets = ["--set", 'faults.events=[{kind="nan", worker=0, task=1}]']
    assert main(["simulate", str(job), "-o", str(job.parent / "a.h5"), *sets]) == 0
    trace = Trace(job.parent / "a.h5")
    np.testing.assert_allclose(trace.theta, TRUTH, atol=1e-6)
    own = trace.arrivals["worker"] == 0
    assert np.isnan(trace.arrivals["loss"][own][1:]).all()
    assert_replays(job.parent / "a.h5", capsys)


def test_a_design_of_a_plug_in(job: Path, capsys) -> None:
    plugin = job.parent / "first.py"
    plugin.write_text(
        """
from pdcode.differences.designs import Copies

class First(Copies):
    name = "first-again"
    summary = "each column once, and copies of the first"
    repeats = -1

    def spare(self, columns, under_way, keys):
        return None if columns.known[0] else columns.coordinate(0)
""",
        encoding="utf-8",
    )
    sets = ["--set", f'plugins=["{plugin}"]', "--set", "scheme.options.design=first-again"]
    assert main(["simulate", str(job), "-o", str(job.parent / "a.h5"), *sets, "--set", "stop.seconds=9"]) == 0
    assert_replays(job.parent / "a.h5", capsys)


def test_a_call_finds_residuals_numbers_and_limits(job: Path, capsys) -> None:
    t = np.linspace(0, 4, 50)

    def misfit(x: np.ndarray) -> np.ndarray:
        return x[0] * np.exp(-x[1] * t) - 3 * np.exp(-0.7 * t)

    common = {"workers": 4, "output": job.parent / "a.h5", "progress": False}
    found = pdcode.calibrate(misfit, [1.0, 0.2], **common)
    np.testing.assert_allclose(found.x, [3, 0.7], atol=1e-6)
    assert (found.success, found.nfail, found.nit) == (True, 0, found.trace.updates.rows - 1)
    assert found.cost == pytest.approx(0, abs=1e-12)
    number = pdcode.calibrate(lambda x: float(misfit(x) @ misfit(x)), [1.0, 0.2], **common)
    np.testing.assert_allclose(number.x, [3, 0.7], atol=1e-2)
    held = pdcode.calibrate(misfit, [1.0, 0.2], bounds=[(0, 2), (0, 1)], **common)
    assert held.x[0] == 2
    longer = pdcode.calibrate(
        misfit,
        [1.0, 0.3],
        residuals=50,
        config={"problem": {"relative_step": 1e-6}, "scheme": {"options": {"design": "copies"}}},
        **common,
    )
    assert longer.trace.config["scheme"]["options"]["design"] == "copies"
    assert longer.trace.config["problem"]["start"] == [1.0, 0.3]
    np.testing.assert_allclose(longer.x, [3, 0.7], atol=1e-5)
    short = pdcode.calibrate(misfit, [1.0, 0.2], set={"stop.updates": 2}, **common)
    assert (short.success, short.message) == (False, "stopped after 2 updates")


def test_a_call_with_a_file_keeps_its_own_start(job: Path, capsys) -> None:
    common = {"workers": 2, "output": job.parent / "a.h5", "progress": False, "config": str(job)}
    found = pdcode.calibrate(f"{job.parent / 'mine.py'}:misfit", [1.0, 0.3, 0.1], **common)
    assert found.trace.config["problem"]["start"] == [1.0, 0.3, 0.1]
    np.testing.assert_allclose(found.x, TRUTH, atol=1e-5)


def test_a_call_over_mpi_takes_a_name(job: Path, capsys) -> None:
    name = f"{job.parent / 'mine.py'}:misfit"
    found = pdcode.calibrate(
        name, [1.0, 0.2, 0.0], mpi=True, workers=2, output=job.parent / "a.h5", progress=False
    )
    np.testing.assert_allclose(found.x, TRUTH, atol=1e-5)
    failed = int((found.trace.evaluations["what"] == 2).sum())  # two workers may have more after the end
    assert found.nfail <= failed <= found.nfail + 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["problem.residuals=49"], "returns an array of shape (50,); problem.residuals says 49"),
        (["problem.function=mine.py:broken"], "problem.function: ValueError: no such mesh"),
        (["problem.function=mine.py:nothing"], "problem.function"),
        (["problem.bounds=[[0, 9]]"], "problem.bounds: 1 pairs for 3 parameters"),
        (["problem.bounds=[[0, 9], [1, 9], [-1, 1]]"], "of parameter 1"),
        (["scheme.options.design=lottery"], "scheme.options.design: 'lottery'"),
        (["stop.accuracy=0.9"], "stop.accuracy"),
        (["problem.start=[]"], "problem.start"),
        (["scheme.name=lwpd"], "scheme.name"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(settings: list[str], words: str, job: Path, capsys) -> None:
    placed = [each.replace("mine.py", str(job.parent / "mine.py")) for each in settings]
    sets = [word for each in placed for word in ("--set", each)]
    assert main(["simulate", str(job), "-o", str(job.parent / "a.h5"), *sets]) == 2
    assert words in error_line(capsys)


def test_timing_alone_is_refused(job: Path, capsys) -> None:
    assert main(["simulate", str(job), "-o", str(job.parent / "a.h5"), "--timing-only"]) == 2
    assert "--timing-only: what a search evaluates next" in error_line(capsys)


def test_other_problems_refuse_the_scheme() -> None:
    with refused("problem.kind: 'mlp'", "differences"):
        pdcode.simulate({"scheme": {"name": "differences"}, "stop": {"updates": 2}}, progress=False)
    with refused("x0"):
        pdcode.calibrate(lambda x: x, [[1.0]], progress=False)


def bowl(x: np.ndarray) -> float:
    return float((x[0] - 2) ** 2 + 10 * (x[1] - x[0] ** 2) ** 2) + 1.5


def test_minimize_without_rows_takes_a_number_without_a_gradient(tmp_path: Path) -> None:
    out = {"workers": 3, "output": tmp_path / "a.h5", "progress": False}
    found = pdcode.minimize(bowl, [0.5, 0.5], **out)
    assert found.success
    np.testing.assert_allclose(found.x, [2, 4], atol=1e-4)
    np.testing.assert_allclose(found.fun, 1.5, atol=1e-8)
    held = pdcode.minimize(bowl, [0.5, 0.5], bounds=[(None, 1), (0, None)], **out)
    np.testing.assert_allclose(held.x, [1, 1], atol=1e-4)
    same = pdcode.minimize(bowl, [0.5, 0.5], bounds=Bounds([-np.inf, 0], [1, np.inf]), **out)
    np.testing.assert_array_equal(same.x, held.x)
    one = pdcode.minimize(lambda x: float((x[0] - 3) ** 2), 1.0, **out)
    np.testing.assert_allclose(one.x, [3], atol=1e-4)


def test_minimize_names_what_it_cannot_tell() -> None:
    with refused("fun: it returns a tuple: a loss with its gradient needs rows"):
        pdcode.minimize(lambda x: (1.0, x), [1.0], progress=False)
    with refused("fun: it returns an array of shape (2,)", "pdcode.calibrate"):
        pdcode.minimize(lambda x: x, [1.0, 2.0], progress=False)
    with refused("score: has no effect without rows"):
        pdcode.minimize(bowl, [0.5, 0.5], score=bowl, progress=False)
    with refused("bounds: has no effect with rows"):
        pdcode.minimize(bowl, [0.5, 0.5], np.ones(9), bounds=[(0, 1)], progress=False)
    with refused("bounds: shape (2, 3): expected (3, 2)"):
        pdcode.minimize(lambda x: 1.0, [0.5] * 3, bounds=([0] * 3, [1] * 3), progress=False)
    with refused("bounds: no pairs of numbers for 2 parameters"):
        pdcode.minimize(bowl, [0.5, 0.5], bounds=Bounds([0] * 3, [1] * 3), progress=False)
    with refused("x0: no array of numbers"):
        pdcode.minimize(bowl, "start", progress=False)
