"""Traces that another process is writing, or was when it was killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import traces
from paths import ROOT, SUPPORT

from pdcode.trace.reader import TraceReader
from pdcode.trace.schema import ARRIVALS

RUN = """
import sys, time, traces
from pathlib import Path
writer = traces.writer(Path(sys.argv[1]), workers=2, flush_s=0.05)
start = time.perf_counter_ns()
print("ready", flush=True)
task = 0
while True:
    now = time.perf_counter_ns() - start
    writer.arrival(task % 2, *[task] * 9, now, now, *[task] * 3, float(task), 0, float(task), 0, 0)
    writer.update(task, now, 1, 1.0, 1.0, 0, -1, 0, 0)
    task += 1
    if writer.due(now):
        writer.flush(now)
        print(task, flush=True)
    if task % 64 == 0:
        time.sleep(0.001)
"""


@pytest.fixture
def run(tmp_path: Path):
    """A process that writes a trace, and says after each flush how many rows it has written."""
    path = os.pathsep.join([str(SUPPORT), str(ROOT)])
    command = [sys.executable, "-c", RUN, str(tmp_path / "a.h5")]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()


def check(trace: TraceReader) -> int:
    """All columns are whole and agree; number of rows."""
    rows = trace.arrivals.rows
    for name in ARRIVALS:
        column = trace.arrivals[name]
        if name in ("t_recv_ns", "t_decoded_ns"):
            assert (np.diff(column) >= 0).all()
        elif name not in ("worker", "status", "round", "part"):
            np.testing.assert_array_equal(column, np.arange(rows))
    np.testing.assert_array_equal(trace.updates["version"], np.arange(trace.updates.rows))
    return rows


def test_a_running_file_is_read_from_another_process(tmp_path: Path, run: subprocess.Popen[str]) -> None:
    assert run.stdout is not None
    seen = 0
    for _ in range(8):
        flushed = int(run.stdout.readline())
        trace = TraceReader(tmp_path / "a.h5")
        assert not trace.finished
        rows = check(trace)
        assert rows >= flushed > seen
        seen = flushed
    assert run.poll() is None


def test_a_file_that_a_resumed_run_replaces_is_not_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    traces.simulate(path, 0.05)
    trace = TraceReader(path)
    assert trace.finished
    path.unlink()
    traces.simulate(path, 0.05, close=False)
    with h5py.File(path, "r+") as file:
        file.attrs["run"] = trace.attributes["run"]
        group = file["arrivals"]
        rows = len(group["task"])
        group["worker"].resize(rows - 1, 0)  # a batch is being written
    assert trace.arrivals.rows == rows - 1


def test_a_killed_file_holds_all_but_the_last_flush(tmp_path: Path, run: subprocess.Popen[str]) -> None:
    assert run.stdout is not None
    for _ in range(6):
        run.stdout.readline()
    time.sleep(0.02)  # somewhere between two flushes
    run.send_signal(signal.SIGKILL)
    said = run.stdout.read().split()
    run.wait()
    with pytest.raises(OSError, match="already open for write"):
        h5py.File(tmp_path / "a.h5")  # the mark of the kill, which the reader must get over
    trace = TraceReader(tmp_path / "a.h5")
    assert not trace.finished
    assert trace.theta is None
    assert trace.counters == {}
    assert trace.config == traces.CONFIG
    assert check(trace) >= (int(said[-1]) if said else 1)


def test_a_kill_while_the_results_are_written_loses_no_row(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    program = """
import os, signal, sys, traces
from pdcode.trace import header

def killed(*arguments):
    written(*arguments)
    arguments[0].flush()
    os.kill(os.getpid(), signal.SIGKILL)

written, header.write_checkpoint = header.write_checkpoint, killed
traces.simulate(sys.argv[1], seconds=0.2)
"""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SUPPORT), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", program, str(path)], env=environ, timeout=200, check=False)
    assert done.returncode == -signal.SIGKILL
    trace = TraceReader(path)
    assert not trace.finished
    assert len(trace.arrivals["task"]) == trace.arrivals.rows > 100
