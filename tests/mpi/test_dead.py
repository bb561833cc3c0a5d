"""Workers that never answer: the run goes on without them, and ends with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pdcode import Trace
from pdcode.mpi import launch
from pdcode.trace.schema import DRAINED


@pytest.mark.parametrize(
    ("how", "updates"),
    [
        (["update.mode=async", "downlink.kind=codewords"], 60),
        (["update.mode=all", "stop.seconds=0.3"], 0),
    ],
    ids=["async", "all"],
)
def test_a_dead_worker_holds_its_reply_back_until_the_end(
    run: object, trace_path: Path, how: list[str], updates: int
) -> None:
    done = run("stragglers.kind=slow-set", "stragglers.shift_s=0.001", "stragglers.dead=[1]", *how)
    assert done.returncode == 0, done.stderr
    trace = Trace(trace_path)
    assert trace.finished
    assert trace.updates.rows == updates
    rows = trace.arrivals
    dead = np.flatnonzero(rows["worker"] == 1)
    assert len(dead) == 1
    assert rows["task"][dead] == 0
    assert rows["status"][dead] == DRAINED
    assert rows["injected_delay_ns"][dead] == -1
    stopped = rows["t_recv_ns"][rows["status"] != DRAINED].max(initial=0) if updates else 300_000_000
    assert rows["t_send_ns"][dead] >= stopped > rows["t_compute_ns"][dead]
    in_time = rows["status"] != DRAINED
    assert (rows["injected_delay_ns"][in_time] == 1_000_000).all()
    # three workers are told that there is no more, and those with a task besides that they are waited for
    told = (3 + np.count_nonzero(~in_time)) * trace.attributes["header_bytes"]
    sent = rows["bytes_down"].sum() + trace.attributes["setup_bytes_down"]
    assert trace.counters["bytes_down"] == sent + told


def test_word_that_comes_too_late_is_not_taken_for_a_task() -> None:
    command, environment = launch.command(1, [])
    program = Path(__file__).parent / "programs" / "recall.py"
    done = subprocess.run(
        [*command[:3], sys.executable, str(program)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.split(maxsplit=3)[:3] == ["0", "3", "0"]
    assert second.split(maxsplit=3)[:3] == ["1", "3", "-1"]
    assert "7. 7." in first
    assert "8. 8." in second
