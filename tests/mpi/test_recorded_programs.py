"""Programs of mpi4py whose calls are recorded."""

import math
import subprocess
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from launches import on_ranks
from paths import ROOT

from pdcode import Trace
from pdcode.mpi.recording import CallRecording
from pdcode.trace.steps import CLOSE_S

PROGRAM = str(ROOT / "tests" / "mpi" / "programs" / "recorded.py")
STEPS, SLOW = 30, 10
pytestmark = pytest.mark.slow


def test_an_untouched_program_names_its_slow_rank(tmp_path: Path) -> None:
    path = tmp_path / "job.h5"
    done = on_ranks(4, "-m", "pdcode", "record", "-o", str(path), PROGRAM, "--its", "own", timeout_s=200)
    assert (done.returncode, done.stdout, done.stderr) == (0, "--its own __main__ 1\n", "")
    trace = Trace(path)
    assert trace.finished
    assert trace.worker_count == 4
    # One a loop, but for those before it is known which line ends it, and pauses of a busy machine.
    assert STEPS - 8 <= trace.updates.rows <= STEPS + 8
    rows = trace.arrivals
    own_s = 1e-9 * (rows["t_send_ns"] - rows["t_start_ns"]).astype(float)
    slow_s, other_s = (own_s[rows["worker"] == rank] for rank in (2, 3))
    assert np.count_nonzero(slow_s >= 0.2) >= STEPS - SLOW - 8
    assert np.median(other_s) < np.median(slow_s)  # it waits for its neighbour
    found = trace.diagnose()
    assert found.slow[0].worker == 2
    assert found.slow[0].cause == "computing"
    assert "if worker 2 were as the others" in found.cost
    assert "pdcode plan --trace" in found.next


def test_long_times_that_come_seldom_do_not_hide_steps() -> None:
    """A start of 30 s, then steps of 10 ms, and 5 s of another operation after each 50."""
    recording = object.__new__(CallRecording)
    recording._weights, recording._last_ns = defaultdict(float), defaultdict(float)
    recording._begun, recording._work = np.zeros(2, np.int64), np.zeros(2, np.int64)
    times = [(1, 30_000), *3 * [*50 * [(2, 10)], (3, 5_000)]]
    left = 10**6 * np.cumsum([work_ms for _, work_ms in times])
    rows = [[(10**6 * ms, end, line)] * 2 for (line, ms), end in zip(times, left.tolist(), strict=True)]
    steps = recording.steps_of(np.array(rows))
    ends = np.array([line for line, _ in times])[np.searchsorted(left, steps[:, 0, 2])]
    assert ends.tolist() == [1] + 150 * [2]


@pytest.mark.parametrize("ended", ["normally", "by an exception", "by an abort"])
def test_rank_0_waits_without_limit_if_the_others_come(ended: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recording, closed = object.__new__(CallRecording), []
    recording._rows, recording.closed, recording.aborts = [], False, ended == "by an abort"
    monkeypatch.setattr(recording, "close", lambda rows, error, wait_s: closed.append((error, wait_s)))
    monkeypatch.delattr("sys.last_value", raising=False)
    if ended == "by an exception":
        monkeypatch.setattr("sys.last_value", ValueError(), raising=False)
    for _ in range(2):
        recording.end_with_process()
    error = "ValueError()" if ended == "by an exception" else ""
    assert closed == [(error, math.inf if ended == "normally" else CLOSE_S)]


def test_the_death_of_a_rank_loses_seconds_at_most(tmp_path: Path) -> None:
    path = tmp_path / "job.h5"
    # Open MPI's prterun, whose ranks are gone, now and then waits for itself in its PMIx server.
    with suppress(subprocess.TimeoutExpired):
        assert on_ranks(4, PROGRAM, "dies", str(path), timeout_s=60).returncode != 0
    trace = Trace(path)
    assert not trace.finished
    assert trace.diagnose(what_if=False).slow[0].worker == 2


def test_bad_input_has_its_line_and_exit_code(tmp_path: Path) -> None:
    for words, complaint in (
        (["nowhere.py"], "nowhere.py: no such file"),
        ([PROGRAM], "pdcode record: a communicator of two or more ranks is needed: only they wait"),
    ):
        done = on_ranks(1, "-m", "pdcode", "record", "-o", str(tmp_path / "job.h5"), *words)
        assert (done.returncode, done.stderr) == (2, f"pdcode: {complaint}\n")
