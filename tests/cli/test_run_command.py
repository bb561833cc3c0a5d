"""`pdcode run` until it would start mpirun: what it refuses, and the dry run."""

import tomllib
from pathlib import Path

import pytest
from launches import INVALID, JOB
from outcomes import error_line

from pdcode.__main__ import main


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small job, which no command may start."""
    monkeypatch.setattr("pdcode.launch.supervisor.Supervisor", None)
    path = tmp_path / "job.toml"
    path.write_text(JOB, encoding="utf-8")
    return path


@pytest.mark.parametrize(("override", "words"), INVALID)
def test_bad_input_is_one_line_and_exit_code_2(job, capsys, override, words):
    trace = job.with_suffix(".h5")
    assert main(["run", str(job), "-o", str(trace), "--set", override]) == 2
    error = error_line(capsys)
    assert error.startswith(f"pdcode: {job}: ")
    assert words in error
    assert not trace.exists()


@pytest.mark.parametrize("path", ["/proc/nowhere/x.h5", "/proc", "/dev/null"])
def test_a_trace_that_cannot_be_written_is_refused(job, capsys, path):
    assert main(["run", str(job), "-o", path]) == 2
    assert f"job.toml: trace.path: cannot write '{path}'" in error_line(capsys)


def test_a_file_that_is_no_trace_is_not_overwritten(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = job.with_suffix(".h5")
    trace.write_text("precious")
    assert main(["run", str(job), "-o", str(trace)]) == 2
    assert "trace.path" in capsys.readouterr().err
    assert trace.read_text() == "precious"


def test_a_run_without_an_end_is_refused(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job.write_text("seed = 1")
    assert main(["run", str(job)]) == 2
    assert "stop: nothing ends the run" in capsys.readouterr().err


def test_the_dry_run_starts_nothing(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = job.with_suffix(".h5")
    assert main(["run", str(job), "-o", str(trace), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert not trace.exists()
    for words in ("[code]", "coherence", "reply", "frame bounds"):
        assert words in out


def test_a_name_with_a_control_character_stays_as_it_is(job, capsys, monkeypatch):
    assert main(["run", str(job), "-o", "a\x7fb.h5", "--dry-run"]) == 0
    assert tomllib.loads(capsys.readouterr().out)["trace"]["path"] == "a\x7fb.h5"
    monkeypatch.chdir(job.parent)
    Path("d\x7f.csv").write_text("0.001,0.002\n")
    assert main(["simulate", str(job), "-o", "a.h5", "--stragglers", "d\x7f.csv"]) == 0
