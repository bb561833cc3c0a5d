"""Progress on stderr: bars on a terminal, which leave nothing behind; else a line now and then."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from shell import environment

from pdcode.util import progress

JOB = """
[problem]
kind = "softmax"
data = "digits"
[workers]
count = 3
[stop]
updates = 9
"""
WORDS = ["--schemes=uncoded:all,uncoded:async", "--seeds=4", "--processes=1", "-ocompared.h5"]
CONTROL = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|(.)", re.DOTALL)


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "job.toml").write_text(JOB)
    return [sys.executable, "-P", "-m", "pdcode", "compare", "job.toml", *WORDS]


def on_terminal(command: list[str], folder: Path, columns: int, until: bytes = b"", **extra: str) -> str:
    """Run a command on a terminal of this width; once it has written `until`, press Ctrl-C every 5 s."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("4H", 30, columns, 0, 0))
    settings = termios.tcgetattr(its)
    settings[3] |= termios.NOFLSH  # else Ctrl-C drops what the terminal has not shown yet, anything
    termios.tcsetattr(its, termios.TCSANOW, settings)
    variables = environment() | {"TERM": "xterm", progress.VARIABLE: "on"} | extra
    variables.pop("COLUMNS", None)  # of pytest-xdist: it hides the terminal's own width
    with subprocess.Popen(
        command, cwd=folder, env=variables, stdin=its, stdout=its, stderr=its, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:  # fmt: skip
        os.close(its)
        written, next_s = b"", 0.0
        while True:
            try:
                written += os.read(ours, 1 << 16)
            except OSError:  # the terminal's last process has ended
                break
            if until and until in written and time.monotonic() > next_s:
                os.write(ours, b"\x03")
                next_s = time.monotonic() + 5
    os.close(ours)
    assert process.returncode == (b"^C" in written)
    return written.decode()


def screen(written: str, columns: int) -> list[str]:
    """Rows of text that a terminal shows after this output."""
    rows, row, column = [""], 0, 0
    for argument, letter, text in CONTROL.findall(written):
        if letter == "A":
            row -= int(argument or 1)
        elif letter == "K":
            rows[row] = ""
        elif letter:
            assert letter in "mhl", letter  # colours, and whether the cursor is shown
        elif text == "\r":
            column = 0
        elif text == "\n" or column == columns:
            row, column = row + 1, 0 if text == "\n" else 1
            rows += [""] * (row + 1 - len(rows))
            rows[row] += text.strip("\n")
        else:
            rows[row] = rows[row][:column].ljust(column) + text + rows[row][column + 1 :]
            column += 1
    return rows


@pytest.mark.every(2)
@pytest.mark.parametrize(("columns", "extra"), [(80, {}), (40, {"NO_COLOR": "1"})])
def test_bars_on_a_terminal_vanish(command, tmp_path, columns, extra) -> None:
    written = on_terminal(command, tmp_path, columns, **extra)
    assert re.search(r"runs .*━.* \d of 8 .*\d s left", written)
    assert bool(re.search(r"\x1b\[([\d;]*;)?[39]\d", written)) == ("NO_COLOR" not in extra)
    assert written.count("\x1b[?25h") == written.count("\x1b[?25l") > 1  # the cursor is back
    shown = "\n".join(screen(written, columns))
    assert "━" not in shown.partition("repeat a run")[2]
    assert len(re.findall(r"^\d of 8: uncoded", shown, re.MULTILINE)) == 8
    assert not re.search(r"of 8 +\d+ s left", shown)


def test_an_interrupted_bar_vanishes(command, tmp_path) -> None:
    written = on_terminal([*command, "--seeds=900"], tmp_path, 40, until=b"left")
    rows = screen(written.replace("^C", ""), 40)  # the terminal's, anywhere, even inside an escape sequence
    assert [row for row in rows if row.strip()][-1] == "pdcode: interrupted"
    assert not any("━" in row for row in rows)
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")


@pytest.mark.every(2)
@pytest.mark.parametrize("dumb", [False, True])
def test_lines_without_a_terminal(command, tmp_path, dumb) -> None:
    """One at the start, and one each ten seconds."""
    if dumb:
        shown = on_terminal(command, tmp_path, 80, TERM="dumb").replace("\r", "")
    else:
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment() | {progress.VARIABLE: "on"},
            capture_output=True,
            text=True,
        )
        assert done.stderr.startswith("pdcode: runs: 0 of 8\n")
        shown = done.stdout + done.stderr
    first, *later = re.findall(r"^pdcode: .*", shown, re.MULTILINE)
    assert first == "pdcode: runs: 0 of 8"
    assert all(re.fullmatch(r"pdcode: runs: \d of 8(, about .* left)?", line) for line in later)
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", shown)


def test_times_left(capsys, monkeypatch) -> None:
    """Lines at most every ten seconds, with the time left at the average pace."""
    monkeypatch.delenv(progress.VARIABLE)
    now_s = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    with progress.shown():
        for _ in progress.track(range(2), 2, "comparisons"):
            for step in progress.track(range(40), 40, "runs"):
                now_s += 4 if step < 20 else 400
        with progress.work("simulation") as work:
            for fraction in (0.5, 0.75):
                now_s += 60
                work.report(fraction)
    with progress.shown((3, 4)), progress.work("simulation") as work:  # a worker's rank
        work.report(1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == [
        "pdcode: comparisons: 0 of 2",
        "pdcode: comparisons: 0 of 2; runs: 3 of 40, about 3 min left",
        "pdcode: comparisons: 0 of 2; runs: 6 of 40, about 3 min left",
    ]
    assert lines[6] == "pdcode: comparisons: 0 of 2; runs: 18 of 40, about 88 s left"
    assert "pdcode: comparisons: 1 of 2, about 2 h 15 min left; runs: 3 of 40, about 3 min left" in lines
    assert lines[-1] == "pdcode: simulation: 75 %, about 60 s left"
