"""The end of a run: injected delays are cut short, and a worker that hangs is not waited for."""

import os
import signal
from pathlib import Path

import pytest
from launches import launcher, run_all
from outcomes import assert_replays, faults_of
from test_faults import ranks_of

from pdcode import Trace

SLOW = "stragglers.kind=slow-set", "stragglers.shift_s=0.02", "update.mode=async", "stop.updates=1000000"


@pytest.mark.system
def test_a_stopped_worker_is_named_and_does_not_keep_a_run_from_ending(start, trace_path, capsys):
    """Not even where it hears from other workers that the run has ended, once it goes on."""
    process, stopped = start(*SLOW, "downlink.kind=exchange", "stop.seconds=100", "stop.drain_s=1.5"), False
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "update" in line and not stopped:
            os.kill(ranks_of(trace_path)[2], signal.SIGSTOP)
            stopped = True
        if "no answer from worker 1 for" in line:
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=200)
    lines += out.splitlines()
    assert process.returncode == 1, err
    assert any("stopped; waiting for worker 1, " in line for line in lines)
    assert "not waited for any longer: worker 1" in out
    assert lines[-1] == f"trace: {trace_path}"
    assert err == ""
    trace = Trace(trace_path)
    assert trace.finished
    kinds = trace.faults["kind"][trace.faults["worker"] == 1].tolist()
    assert (kinds[0], kinds[-1]) == ("overdue", "missing")
    assert trace.faults["t_ns"][trace.faults["kind"] == "missing"][0] >= 1.5e9 + trace.counters["t_stop_ns"]
    assert_replays(trace_path, capsys)


@pytest.mark.every(2)
@pytest.mark.parametrize("launched", [False, True])
def test_ctrl_c_ends_the_wait_for_a_stopped_worker(launched: bool, start: object, trace_path: Path) -> None:
    """Under `pdcode run` as under a launcher of the user's, the run is whole, and its exit code 0."""
    command, environment = launcher(3) if launched else ((), {})
    process = start(*SLOW, "stop.seconds=1.5", "stop.drain_s=60", launcher=tuple(command), **environment)
    for line in process.stdout:
        if "update" in line:
            os.kill(ranks_of(trace_path)[2], signal.SIGSTOP)
        if "stopped; waiting for worker 1, " in line:
            os.kill(ranks_of(trace_path)[0] if launched else process.pid, signal.SIGINT)
            break
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "not waited for any longer: worker 1\n" in out
    trace = Trace(trace_path)
    assert trace.finished
    assert trace.faults["kind"][-1] == "missing"


def test_the_end_of_a_run_cuts_delays_short(tmp_path: Path) -> None:
    """Worker 1 sleeps for 10 min, or keeps its core busy for as long; drains take no time to speak of."""
    slow = ["stragglers.kind=slow-set", "stragglers.slow=[1]", "stragglers.shift_s=0.001"]
    slow += ["stragglers.slowdown=600000", "update.mode=async"]
    cases = {how: [*slow, f"stragglers.how={how}"] for how in ("sleep", "spin")}
    for done in run_all(tmp_path, 3, cases).values():
        assert done.returncode == 0, done.stderr
        trace = Trace(done.path)
        assert faults_of(trace) == []
        late = trace.arrivals["worker"] == 1
        assert late.sum() == 1
        assert 0 < trace.arrivals["injected_delay_ns"][late][0] < 60e9
