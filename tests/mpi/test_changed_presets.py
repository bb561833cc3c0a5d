"""Runs over MPI with preset "auto" that wait for all workers until one turns slow for good."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from grids import with_system
from shell import environment
from test_faults import ranks_of, wait_for
from test_resume import RESUME, wait_for_checkpoint

from pdcode import Trace

JOB = """
plugins = ["./patient.py"]
seed = 3
[scheme]
name = "patient"
[problem]
data = "digits"
hidden = [16]
batch = 16
[workers]
count = 3
[faults]
events = [{ kind = "slow", worker = 1, at_s = 1.0, factor = 1000.0 }]
[stop]
updates = 2000
[trace]
progress_s = 0.05
flush_s = 0.1
"""
PLUGIN = """
from pdcode.schemes.lwpd import LWPD
from pdcode.choice import preset, review

preset.HELD = float("-inf")  # begin with what waits for as few as possible
review.EVEN = review.LATE = 1e6  # on a busy machine, too, the change comes before the slow worker


class Patient(LWPD):
    name = "patient"
    candidates = {{{waits!r}: 1.0, {then!r}: 20.0}}
"""
ENDLESS = ("stop.updates=10000000",)


@pytest.fixture
def among(tmp_path):
    """Have `waits` win as long as no worker is slow, and `then` else, with which a run begins if it waits
    for nobody."""

    def among(waits: str, then: str) -> None:
        (tmp_path / "patient.py").write_text(PLUGIN.format(waits=waits, then=then))

    return among


def assert_replays(path) -> None:
    """Replay in another process, as a scheme of a name can be defined but once."""
    command = [sys.executable, "-m", "pdcode", "replay", str(path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stderr) == (0, "")
    assert "bit-identical" in done.stdout


def changed(trace_path, changes: int = 2) -> bool:
    return trace_path.exists() and Trace(trace_path).segments["preset"].sum() >= changes


def presets(trace: Trace) -> list[str]:
    configs = [*(each["config"] for each in trace.earlier_presets), trace.config]
    return [config["scheme"]["preset"] for config in configs]


@pytest.mark.parametrize("then", with_system("default", system=["first", "sharded-first"]))
def test_workers_are_set_up_for_another_preset(then, among, start, trace_path) -> None:
    among("sharded", then)
    begins = [then] * (then == "default")  # which waits for nobody
    # Of a linear model these two presets store weights along different axes.
    linear = JOB.replace("hidden = [16]", 'kind = "softmax"') if begins else JOB
    process = start(*ENDLESS, job=linear)
    wait_for(lambda: changed(trace_path, 1 + len(begins)), 250)
    after = len(Trace(trace_path).segments["t_ns"]) - 1
    rows = int(Trace(trace_path).segments["arrivals"][after])
    wait_for(lambda: Trace(trace_path).arrivals.rows > rows + 40, 100)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=200)
    assert (process.returncode, err) == (1, "")
    assert (f"preset 'sharded' in place of '{then}' would take" in out) == bool(begins)
    assert f"preset '{then}' in place of 'sharded' would take" in out
    trace = Trace(trace_path)
    first, further = np.split(presets(trace), [2 + len(begins)])  # further changes on a busy machine
    assert (first.tolist(), {*further} - {"sharded", then}) == ([*begins, "sharded", then], set())
    assert (np.diff(trace.updates["version"]) == 1).all()
    assert trace.counters["arrivals"] == trace.arrivals.rows
    assert trace.arrivals["t_dispatch_ns"][rows:].min() >= trace.segments["t_ns"][after]
    assert_replays(trace_path)


@pytest.mark.system
def test_a_checkpoint_after_the_change_can_be_resumed(among, start, run, trace_path) -> None:
    among("sharded", "default")
    keys = (*ENDLESS, "trace.checkpoint_s=0.1", "scheme.preset=auto", "optimizer.average=true")
    first = start(*keys, job=JOB, options=RESUME)
    wait_for(lambda: changed(trace_path), 250)
    wait_for_checkpoint(first, trace_path)
    first.send_signal(signal.SIGTERM)
    assert (first.wait(200), changed(trace_path)) == (75, True)
    last = int(Trace(trace_path).updates["version"][-1])
    done = run(*keys, f"stop.updates={last + 20}", "stop.drain_s=60", job=JOB, options=RESUME, alone=True)
    assert done.returncode == 0, done.stderr
    trace = Trace(trace_path)
    begun, *changes, resumed = trace.segments["preset"].tolist()
    assert (begun, {*changes}, resumed) == (0, {1}, 0)
    names = presets(trace)  # on a busy machine it changes more than once
    assert (names[:2], names[-1]) == (["default", "sharded"], "default")
    assert trace.config["optimizer"]["average"]
    assert_replays(trace_path)


@pytest.mark.system
def test_the_wait_for_the_slow_worker_can_be_interrupted(among, start, run, trace_path) -> None:
    """Even if that worker has stopped meanwhile; the last checkpoint remains."""
    among("sharded", "default")
    keys = (*ENDLESS, "trace.checkpoint_s=0.1", "stop.drain_s=1.0")
    slow = 'faults={events=[{kind="slow",worker=1,at_s=2.0,factor=4000.0}]}'  # after checkpoints
    process = start(*keys, slow, job=JOB, options=RESUME)
    wait_for(lambda: trace_path.exists() and (Trace(trace_path).faults["kind"] == "preset").sum() == 2, 250)
    os.kill(ranks_of(trace_path)[2], signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=100)
    assert (process.returncode, err) == (75, "")
    assert "stopped: interrupted" in out
    assert Trace(trace_path).finished
    assert_replays(trace_path)
    done = run(*keys, "stop.updates=1", job=JOB, options=RESUME, alone=True)
    assert done.returncode == 0, done.stderr
    trace = Trace(trace_path)
    assert trace.counters["t_stop_ns"] >= trace.segments["t_ns"][-1] > 0
