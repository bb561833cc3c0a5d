"""Errors of a user's code: one line with their file and line, and an exit code that says so."""

from pathlib import Path

import pytest
from midrun import FILE
from outcomes import error_line, refused

import pdcode
from pdcode.__main__ import main
from pdcode.config import kinds
from pdcode.trace.reader import TraceReader
from pdcode.util.errors import InputError, explained, place_of_user

JOB = """
problem = {kind = "function", function = "mine.py:function", start = "mine.py:START", data = "mine.py:data"}
stop = {updates = 1000}
workers = {count = 2}
"""
FAILS = {
    "error": ('raise KeyError("no such luck")', 1, "KeyError: 'no such luck'"),
    "library": ("np.linalg.inv(np.zeros((2, 2)))", 1, "LinAlgError: Singular matrix"),
    "end": ("sys.exit(0)", 2, "SystemExit: it ends the program, with exit code 0"),
    "end without code": ("sys.exit()", 2, "SystemExit: it ends the program"),
}


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.toml").write_text(JOB, encoding="utf-8")
    return tmp_path / "mine.py"


@pytest.mark.parametrize("case", FAILS)
def test_an_error_in_mid_run_is_one_line(case: str, job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails, code, text = FAILS[case]
    job.write_text(FILE.format(fails=fails), encoding="utf-8")
    assert main(["simulate", "job.toml", "-o", "a.h5"]) == code
    told = f"{text}, in {job}, line 18"
    assert error_line(capsys) == f"pdcode: {told}; PDCODE_TRACEBACK=1 shows the traceback\n"
    assert told in TraceReader("a.h5").faults["message"].tolist()


def test_a_variable_shows_the_traceback(
    job: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PDCODE_TRACEBACK", "1")
    job.write_text(FILE.format(fails=FAILS["error"][0]), encoding="utf-8")
    assert main(["simulate", "job.toml", "-o", "a.h5"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("pdcode: Traceback")
    assert error.endswith("KeyError: 'no such luck'\n")


def test_a_python_program_gets_its_own_exception_but_is_not_ended(job: Path) -> None:
    job.write_text(FILE.format(fails=FAILS["error"][0]), encoding="utf-8")
    with pytest.raises(KeyError, match="no such luck"):
        pdcode.simulate("job.toml", output="a.h5", progress=False)
    kinds.sys.modules.pop(kinds._module_name(str(job)))
    job.write_text(FILE.format(fails=FAILS["end"][0]), encoding="utf-8")
    with refused(FAILS["end"][2], "mine.py, line 18"):
        pdcode.simulate("job.toml", output="a.h5", progress=False)


def test_a_bug_of_ours_stays_a_traceback() -> None:
    """Also if a user's code has called ours."""
    with pytest.raises(InputError) as caught:
        kinds.referenced("key", "name")
    assert not place_of_user(caught.value)
    assert place_of_user(caught.value, within=True).startswith(__file__)
    assert explained(caught.value, "rank 1 failed:").startswith("rank 1 failed:\nTraceback")


def test_a_script_that_needs_arguments_is_told_where_to_parse_them(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parses = "import argparse\np = argparse.ArgumentParser()\np.add_argument('name')\np.parse_args()\n"
    job.write_text(parses + FILE.format(fails="pass"), encoding="utf-8")
    assert main(["simulate", "job.toml", "-o", "a.h5"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert (
        "line 4: SystemExit: it ends the program, with exit code 2; what a script does when it is run" in told
    )


def test_a_script_that_parses_arguments_is_imported_without_any(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["pdcode", "run", "job.toml"])
    parses = "import argparse\noptions = argparse.ArgumentParser().parse_args()\n"
    job.write_text(parses + FILE.format(fails="pass"), encoding="utf-8")
    assert main(["simulate", "job.toml", "-o", "a.h5", "--set", "stop.updates=3"]) == 0
    assert kinds.sys.argv == ["pdcode", "run", "job.toml"]
