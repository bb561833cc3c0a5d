"""`pdcode watch`: lines in a pipe until the run ends; on a terminal q and Ctrl-C end it and leave it sane."""

import io
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest
import traces

from pdcode.__main__ import main
from pdcode.analysis import diagnosis, live
from pdcode.cli import watch
from pdcode.trace.reader import TraceReader

pytestmark = pytest.mark.slow
WATCH = [sys.executable, "-m", "pdcode", "watch"]
LONG_S = 60.0


def read_until(master: int, wanted: str) -> str:
    """Read from a terminal until a text appears."""
    text, until_s = "", time.monotonic() + LONG_S
    while wanted not in text and time.monotonic() < until_s:
        if select.select([master], [], [], 1.0)[0]:
            text += os.read(master, 1 << 16).decode(errors="replace")
    assert wanted in text
    return text


def test_lines_until_the_run_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    watching = subprocess.Popen(
        [*WATCH, path, "--every", "0.1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert watching.stdout is not None
    assert watching.stdout.readline() == f"{path}: waiting for the run to begin\n"
    writer = traces.writer(path, workers=2, flush_s=1000.0)  # a run is given up long after its last row
    writer.flush(0)
    assert watching.stdout.readline().startswith("0 s  update 0")
    writer.arrival(*traces.row(worker=1, t_start_ns=1, t_compute_ns=2, t_send_ns=3, t_recv_ns=4_000_000))
    writer.progress(7, 5_000_000, 0.25, 0.5, 1.0, 0, float("nan"))
    writer.flush(0)
    line = ""
    while "loss" not in line:
        line = watching.stdout.readline()
        assert line
    assert line.split("  ")[:4] == ["5.00 ms", "loss 0.25", "accuracy 0.5", "update 7"]
    writer.close(counters={"t_stop_ns": 5_000_000})
    rest, errors = watching.communicate(timeout=LONG_S)
    assert rest.splitlines()[-1] == f"{path}: finished after 5.00 ms"
    assert (watching.returncode, errors) == (0, "")


@pytest.mark.parametrize("key", ["q", "\x03"])
def test_a_terminal_is_left_as_it_was(tmp_path: Path, key: str) -> None:
    traces.simulate(tmp_path / "a.h5", seconds=0.5, close=False, flush_s=1000.0)
    child, master = pty.fork()
    if child == 0:
        os.environ["COLUMNS"] = "80"
        os.execv(sys.executable, [*WATCH, str(tmp_path / "a.h5")])
    before = termios.tcgetattr(master)
    shown = read_until(master, "q quits")
    assert "7" in shown
    assert " slow" in shown
    assert not termios.tcgetattr(master)[3] & termios.ECHO
    os.write(master, key.encode())
    read_until(master, "\x1b[?25h")  # the cursor is shown again
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert termios.tcgetattr(master)[3] == before[3]
    os.close(master)


def test_an_ended_run_and_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traces.simulate(tmp_path / "a.h5", seconds=0.5)
    assert main(["watch", str(tmp_path / "a.h5")]) == 0
    missed, line, outcome = capsys.readouterr().out.splitlines()
    assert missed.startswith("warning: target missed: loss ")
    assert "slowest: worker 7" in line
    assert outcome.startswith(f"{tmp_path / 'a.h5'}: finished after ")
    assert main(["watch", str(tmp_path)]) == 2
    assert main(["watch", str(tmp_path / "a.h5"), "--every", "0"]) == 2
    (tmp_path / "b.h5").write_text("no trace")
    assert main(["watch", str(tmp_path / "b.h5")]) == 2
    assert "b.h5" in capsys.readouterr().err


def test_the_first_readings_are_judged_again_and_no_line_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = traces.writer(tmp_path / "begun.h5", flush_s=1000.0)
    writer.flush(0)
    begun = live.Reading(TraceReader(writer.path))
    later = live.Reading(traces.simulate(tmp_path / "a.h5", seconds=0.5, close=False, flush_s=1000.0))
    monkeypatch.setattr(watch, "readings", lambda *_: iter([begun, later]))
    monkeypatch.setattr(sys, "__stdout__", screen := io.StringIO())
    monkeypatch.setenv("COLUMNS", "80")
    watch.draw(writer.path, 1.0, None)
    text = " ".join(screen.getvalue().split())  # the last view, as there is no terminal
    assert re.search(r"a\.h5: running for .* of 20\.0 s requested; last written .* ago", text)
    assert "; nobody waits for it" in text


def test_a_file_that_does_not_come_is_said_to_be_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    traces.simulate(tmp_path / "there.h5", seconds=0.1)
    (tmp_path / "other.h5").write_text("no trace")
    monkeypatch.setattr(watch, "PATIENCE_S", 0.0)
    for name, said in (("their.h5", f"traces in {tmp_path}: there.h5"), ("no/a.h5", "there is no folder")):
        waits, told = iter([False, True]), list[str]()
        assert not [*watch.readings(tmp_path / name, lambda s, given=waits: next(given), 1.0, told.append)]
        (line,) = told
        assert line.startswith(f"{tmp_path / name}: still no such file; {said}")


def test_of_a_long_run_the_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    traces.simulate(path, seconds=1.0)
    whole, part = (live.Reading(TraceReader(path, window=window)) for window in (None, 150))
    assert whole.trace.arrivals.rows > 300
    assert (part.trace.arrivals.rows, part.trace.updates.rows) == (150, 150)
    for table in ("arrivals", "updates"):
        for key, column in getattr(whole.trace, table).items():
            np.testing.assert_array_equal(getattr(part.trace, table)[key], column[-150:])
    shown = np.isfinite(part.recent_ns)
    np.testing.assert_array_equal(part.tasks[shown], whole.tasks[shown])
    assert part.line(None).partition("slowest: ")[0] == whole.line(None).partition("slowest: ")[0]
    assert "slowest: worker 7" in part.line(None)
    assert part.trace.summed.shape == (150,)
    assert any("worker" in text for _, text in diagnosis.diagnose(part.trace).lines())
