"""Programs of mpi4py whose calls are recorded."""

import math
import subprocess
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from launches import on_ranks
from paths import ROOT

from pdcode import Trace
from pdcode.mpi.recording import ALL, PLACE, RANK, CallRecording
from pdcode.trace.steps import CLOSE_S, StepWriter

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
    # On a busy machine the reduction takes time, too, and may cost more.
    assert (2,) in [each.workers for each in found.causes]
    assert "pdcode plan --trace" in found.next


def of_calls(ranks: int) -> CallRecording:
    """A recording at rank 0, without messages."""
    recording = object.__new__(CallRecording)
    recording.reset(ranks)
    return recording


def rows_of(calls: list[tuple[int, int]], begin_ms: int = 0) -> np.ndarray:
    """Rows of calls of which the code and the work before them in ms are given."""
    code, work_ms = np.array(calls).T
    described = [(each, each, PLACE) for each in sorted({*code.tolist()})]
    rows = np.stack((code, 10**6 * work_ms, 10**6 * (begin_ms + np.cumsum(work_ms))), axis=1)
    return np.concatenate((described, [(0, 0, 10**6 * begin_ms)], rows))


def test_calls_that_come_seldom_belong_to_steps() -> None:
    """A start of 30 s, then steps of 10 ms, and 5 s before another operation after each 50."""
    calls = rows_of([(1, 30_000), *3 * [*50 * [(2, 10)], (3, 5_000)]])
    for steps in of_calls(2).steps_of([calls, calls], last=True):
        assert len(steps) == 150
        assert steps[0, :3].tolist() == [30_000_000_000, 30_010_000_000, 30_010_000_000]
        assert np.unique(steps[:, 1] - steps[:, 0]).tolist() == [10**7, 10**7 + 5 * 10**9]


def test_steps_that_come_later_are_found_with_those_before() -> None:
    first, later = [(1, 10), (2, 1)], [(3, 20)]
    recording, parts = of_calls(2), [rows_of(200 * first), rows_of(400 * later, 2_200)]
    found = [recording.steps_of([part, part], last=True) for part in parts]
    assert [len(steps) for steps in found[0]] == [200, 200]
    assert [len(steps) for steps in found[1]] == [400, 400]
    assert np.unique(found[1][0][:, 1] - found[1][0][:, 0]).tolist() == [2 * 10**7]


def centres(busy_ms: float, slow_ms: float, shares: bool) -> tuple[list[np.ndarray], float]:
    """Rows of 4 ranks that get centres of clusters and return sums, and the time of a step in ms.

    Rank 0 is busy with the sums, beside its share of the work if it `shares`; rank 2 is slow.
    """
    random, steps = np.random.default_rng(7), 60
    own_ms = 40 + random.exponential(1.0, (4, steps)) + np.array([0, 0, slow_ms, 0])[:, None]
    own_ms[0] *= shares
    after_ms = np.where(np.arange(4) == 0, busy_ms, 0.01)[:, None] + random.exponential(0.05, (4, steps))
    work_ms = np.stack((after_ms, own_ms, np.full_like(own_ms, 0.01)), axis=2)  # broadcast, reduce, reduce
    end_ms = np.cumsum(work_ms.max(axis=0) + 0.2).reshape(steps, 3)
    described = [(code, what, kind) for code in (1, 2, 3) for what, kind in ((code, PLACE), (ALL, RANK))]
    begin, codes = [(0, 0, 0)], np.tile([1, 2, 3], steps)
    calls = [np.stack((codes, 1e6 * each.ravel(), 1e6 * end_ms.ravel()), axis=1) for each in work_ms]
    return [np.concatenate((described, begin, each)).astype(np.int64) for each in calls], end_ms[
        -1, -1
    ] / steps


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize(("busy_ms", "slow_ms", "late"), [(20, 0, [0]), (0.1, 25, [2]), (15, 25, [0, 2])])
def test_steps_that_wait_several_times_have_their_costs(
    busy_ms: float, slow_ms: float, late: list[int], shares: bool, tmp_path: Path
) -> None:
    rows, took_ms = centres(busy_ms, slow_ms, shares)
    _, clean_ms = centres(0.1, 0, shares)
    recording, writer = of_calls(4), StepWriter(tmp_path / "job.h5", "", 4 * [{"host": "a"}], {})
    steps = np.stack(recording.steps_of(rows, last=True), axis=1)
    writer.write(recording.times_of(steps))
    writer.close()
    trace = Trace(tmp_path / "job.h5")
    link_ns = trace.arrivals["t_recv_ns"] - trace.arrivals["t_send_ns"]
    assert np.median(link_ns) == pytest.approx(3 * 0.2e6, abs=0.2e6)
    found = trace.diagnose()
    assert sorted(each.worker for each in found.slow) == late
    without_ms = took_ms * (1 - found.causes[0].share)
    assert found.causes[0].name == "workers"
    assert without_ms == pytest.approx(clean_ms, rel=0.05)


@pytest.mark.every(3)
@pytest.mark.parametrize("kind", ["sendrecv", "waitall", "manager"])
def test_a_program_without_operations_of_all_names_its_slow_rank(kind: str, tmp_path: Path) -> None:
    path, program = tmp_path / "job.h5", str(ROOT / "tests" / "mpi" / "programs" / "patterns.py")
    done = on_ranks(4, "-m", "pdcode", "record", "-o", str(path), program, kind, "2", timeout_s=200)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    trace = Trace(path)
    found = trace.diagnose()
    assert found.slow[0].worker == 2
    assert found.slow[0].cause == "computing"
    assert "workers" in [cause.name for cause in found.causes]  # a manager may cost more on a busy machine
    account = trace.account()
    assert account is not None
    counts = np.bincount(trace.arrivals["worker"], minlength=4).tolist()
    if kind == "manager":
        assert counts[0] == 0
        assert sum(counts) == trace.updates.rows == 180
        assert counts[2] < min(counts[1], counts[3])
        assert "nobody waits for" in found.verdict
    else:
        assert counts == 4 * [counts[0]]
        assert counts[0] in (39, 40)  # the first one may belong to the start
        assert (trace.updates["waited_for"] == 2).sum() >= 30
        assert account.by_part["start"] >= 0.3e9
        assert "all wait for" in found.verdict


def test_a_busy_rank_0_is_no_link(tmp_path: Path) -> None:
    path, program = tmp_path / "job.h5", str(ROOT / "tests" / "mpi" / "programs" / "patterns.py")
    done = on_ranks(4, "-m", "pdcode", "record", "-o", str(path), program, "centres", "0", timeout_s=200)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    found = Trace(path).diagnose()
    assert found.slow[0].worker == 0
    assert found.causes[0].name == "workers"
    assert 0.4 <= found.causes[0].share <= 0.8  # of 60 ms beside 20 ms


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


@pytest.mark.system
def test_the_death_of_a_rank_loses_seconds_at_most(tmp_path: Path) -> None:
    path = tmp_path / "job.h5"
    # Open MPI's prterun, whose ranks are gone, now and then waits for itself in its PMIx server.
    with suppress(subprocess.TimeoutExpired):
        assert on_ranks(4, PROGRAM, "dies", str(path), timeout_s=60).returncode != 0
    trace = Trace(path)
    assert not trace.finished
    # Nearly all of the 20 slow steps: seconds were lost. On a busy machine other causes may come first.
    rows = trace.arrivals
    own_s = 1e-9 * (rows["t_send_ns"] - rows["t_start_ns"]).astype(float)
    assert np.count_nonzero(own_s[rows["worker"] == 2] >= 0.2) >= SLOW
    assert trace.updates.rows >= STEPS - SLOW


def test_bad_input_has_its_line_and_exit_code(tmp_path: Path) -> None:
    for words, complaint in (
        (["nowhere.py"], "nowhere.py: no such file"),
        ([PROGRAM], "pdcode record: a communicator of two or more ranks is needed: only they wait"),
    ):
        done = on_ranks(1, "-m", "pdcode", "record", "-o", str(tmp_path / "job.h5"), *words)
        assert (done.returncode, done.stderr) == (2, f"pdcode: {complaint}\n")
