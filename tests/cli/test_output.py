"""Standard output that fails, and Python files of the user that have names of others."""

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from paths import ROOT

from pdcode import Trace
from pdcode.__main__ import main
from pdcode.launch import launcher

FULL = "pdcode: cannot write to standard output: No space left on device"
JOB = str(ROOT / "jobs" / "digits.toml")


def main_on_a_full_disk(words: Sequence[str]) -> int:
    """The command, its standard output redirected to a disk that is full."""
    with open("/dev/full", "w") as stdout, redirect_stdout(stdout):
        return main(words)


def test_a_descent_outlives_its_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trace.h5"
    words = ["simulate", JOB, "-o", str(path), "--set", "stop={updates=20}"]
    assert main_on_a_full_disk(words) == 0
    assert capsys.readouterr().err == f"{FULL}; continuing without output\n"
    trace = Trace(path)
    assert trace.finished
    assert trace.updates["version"][-1] == 20


@pytest.mark.parametrize(
    "words", [("codes", "list"), ("run", JOB, "--dry-run"), ("codes", "design", "net", "-n", "4", "-k", "4")]
)
def test_a_command_that_only_prints_fails_with_one_line(words, capsys):
    assert main_on_a_full_disk(words) == 1
    assert capsys.readouterr().err == f"{FULL}\n"


@pytest.mark.parametrize(
    "words",
    [
        ("simulate", JOB), ("run", JOB, "--dry-run"), ("run", JOB), ("show", "t.h5"), ("replay", "t.h5"),
        ("plan", JOB), ("compare", JOB, "--schemes", "yours"), ("chaos", JOB), ("submit", JOB),
        ("codes", "list"), ("bench", "machine"),
    ],
)  # fmt: skip
def test_a_folder_that_is_gone_is_one_line(tmp_path, monkeypatch, capsys, words):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(words) == 2
    line = "the current folder: No such file or directory; it was removed or cannot be read"
    assert capsys.readouterr() == ("", f"pdcode: {line}\n")


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&-"])
def test_closed_standard_output_is_one_that_fails(closed: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -P -m pdcode codes list {closed}', sys.executable],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    line = "pdcode: cannot write to standard output: Bad file descriptor\n"
    assert (done.returncode, done.stderr) == (1, "" if "2>" in closed else line)


def test_files_of_the_user_hide_nothing(tmp_path: Path) -> None:
    """A rank, as mpirun starts it, in a folder with a clone named pdcode and a random.py."""
    (tmp_path / "pdcode" / "pdcode").mkdir(parents=True)
    for name in ("random", "signal", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the wrong one')")
    mpirun, _ = launcher.command(2, ["codes", "list"])
    rank = mpirun[mpirun.index(sys.executable) :]
    done = subprocess.run(rank, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("how", ["script", "-c", "-m"])
def test_a_clone_in_the_current_folder_does_not_hide_the_package(tmp_path: Path, how: str) -> None:
    (tmp_path / "pdcode" / "pdcode").mkdir(parents=True)
    script = tmp_path / "script.py"
    script.write_text("from pdcode import Trace")
    words = {"script": [str(script)], "-c": ["-c", "from pdcode import Trace"], "-m": ["-m", "script"]}[how]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=200,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_processes_of_a_pool_import_nothing_of_the_users(tmp_path: Path) -> None:
    """Started by a program of another folder, as the command is."""
    program = tmp_path / "bin" / "program.py"
    program.parent.mkdir()
    program.write_text(
        "import os\nfrom pdcode.util import processes\nif __name__ == '__main__':\n"
        "    with processes.start(1) as executor:\n"
        "        processes.submit(executor, os.getpid).result()\n"
    )
    for name in ("random", "signal", "socket"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the wrong one')")
    done = subprocess.run(
        [sys.executable, str(program)], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_name_with_a_nul_byte_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", JOB, "--set", 'trace.path="a\\u0000b.h5"']) == 2
    assert capsys.readouterr().err == (
        f"pdcode: {JOB}: trace.path: 'a\\x00b.h5': a file's name has no NUL byte\n"
    )
