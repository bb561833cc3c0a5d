"""Workers that never answer: the run goes on without them, and ends with them."""

from pathlib import Path

import numpy as np
import pytest
from launches import Run, on_ranks, run_all

from pdcode import Trace
from pdcode.trace.schema import DRAINED

COMMON = ["stragglers.kind=slow-set", "stragglers.shift_s=0.001", "stragglers.dead=[1]"]
CASES = {
    "async": [*COMMON, "update.mode=async", "downlink.kind=codewords"],
    "parts": [
        *COMMON,
        "scheme.name=streaming",
        'code={family="uncoded",blocks=3,rotate=false}',
        "memory.kind=none",
    ],
    "all": [*COMMON, "update.mode=all", "stop.seconds=0.3"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    return run_all(tmp_path_factory.mktemp("dead"), 3, CASES)


@pytest.mark.parametrize(("mode", "updates"), [("async", 60), ("all", 0)])
def test_a_dead_worker_holds_its_reply_back_until_the_end(runs, mode, updates):
    assert runs[mode].returncode == 0, runs[mode].stderr
    trace = Trace(runs[mode].path)
    assert trace.finished
    assert trace.updates.rows == updates
    rows = trace.arrivals
    dead = np.flatnonzero(rows["worker"] == 1)
    assert len(dead) == 1
    assert rows["task"][dead] == 0
    assert rows["status"][dead] == DRAINED
    assert rows["injected_delay_ns"][dead] == -1
    stopped = rows["t_recv_ns"][rows["status"] != DRAINED].max(initial=0) if updates else 300_000_000
    # On a busy machine it may have computed after the stop.
    assert rows["t_send_ns"][dead] >= max(stopped, rows["t_compute_ns"][dead].item())
    in_time = rows["status"] != DRAINED
    assert (rows["injected_delay_ns"][in_time] == 1_000_000).all()
    # three workers are told that there is no more, and those with a task besides that they are waited for
    told = (3 + np.count_nonzero(~in_time)) * trace.attributes["header_bytes"]
    sent = rows["bytes_down"].sum() + trace.attributes["setup_bytes_down"]
    assert trace.counters["bytes_down"] == sent + told


def test_the_parts_of_a_dead_worker_come_at_the_end(runs: dict[str, Run]) -> None:
    assert runs["parts"].returncode == 0, runs["parts"].stderr
    rows = Trace(runs["parts"].path).arrivals
    dead = rows["worker"] == 1
    assert rows["part"][dead].tolist() == [0, 1, 2]
    assert (rows["task"][dead] == 0).all()
    assert (rows["status"][dead] == DRAINED).all()
    assert (rows["injected_delay_ns"][dead] == -1).all()
    second = (rows["worker"] == 0) & (rows["task"] == 1)
    assert rows["injected_delay_ns"][second].sum() == pytest.approx(1_000_000, abs=2)  # 1 ms a task
    np.testing.assert_array_equal(rows["bytes_down"] > 0, rows["part"] == 0)


def test_word_that_comes_too_late_is_not_taken_for_a_task() -> None:
    done = on_ranks(2, str(Path(__file__).parent / "programs" / "recall.py"))
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.split(maxsplit=3)[:3] == ["0", "3", "0"]
    assert second.split(maxsplit=3)[:3] == ["1", "3", "-1"]
    assert "7. 7." in first
    assert "8. 8." in second
