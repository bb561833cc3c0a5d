"""Payloads that workers send to each other over MPI: the same θ everywhere, whoever is late or dead."""

import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from launches import Run, run_all
from outcomes import assert_replays
from test_faults import ranks_of, wait_for

from pdcode import Trace

EXCHANGE = ["downlink.kind=exchange", "downlink.check=2"]  # digests of θ are compared at every other task
SLOW = ["stragglers.kind=slow-set", "stragglers.shift_s=0.001"]
CASES = {
    "async": [*EXCHANGE, "wire.dtype=int2", "code.whiten=auto", "memory.lookahead=0.1"],
    "long messages": [*EXCHANGE, "problem.hidden=[512]", "code.rows_per_task=8", "stop.updates=40"],
    "first": [*EXCHANGE, "update.mode=first", "update.count=2", "optimizer.momentum=0.5"],
    "all": [*EXCHANGE, "update.mode=all", "optimizer.kind=adam", "optimizer.rate=0.01"],
    "proximal": [*EXCHANGE, "update.mode=async", "optimizer.proximal={kind='elastic-net', l1=0.01, l2=0.1}"],
    "chosen codewords": [*EXCHANGE, "code.family=matched", "code.rows_per_task=2"],
    "topk": [*EXCHANGE, "scheme.name=topk", 'code={family="uncoded",blocks=1,rotate=false}'],
    "slow": [*EXCHANGE, *SLOW, "stragglers.slow=[1]", "stragglers.slowdown=100", "stop.updates=800"],
    "dead": [*EXCHANGE, *SLOW, "stragglers.dead=[1]", "stop.updates=400"],
    "refused": [*EXCHANGE, 'faults.events=[{kind="nan", worker=1, task=5}]', "update.mode=async"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    return run_all(tmp_path_factory.mktemp("exchange"), 3, CASES)


@pytest.mark.parametrize("name", CASES)
def test_runs_end_and_are_replayed_to_the_last_bit(runs, name, capsys):
    run = runs[name]
    assert run.returncode == 0, run.stderr
    trace = Trace(run.path)
    assert trace.finished
    assert set(trace.arrivals["worker"]) == {0, 1, 2}
    assert_replays(run.path, capsys)


def test_rank_0_sends_references_but_what_a_slow_worker_has_missed(runs: dict[str, Run]) -> None:
    trace = Trace(runs["long messages"].path)
    down, up = trace.arrivals["bytes_down"], trace.arrivals["bytes_up"]
    assert np.median(down) < up.mean() / 4
    slow = Trace(runs["slow"].path)
    mine = slow.arrivals["worker"] == 1
    used = slow.arrivals["status"] == 0
    assert (mine & used).sum() >= 3
    assert slow.arrivals["bytes_down"][mine].max() > 5 * np.median(slow.arrivals["bytes_down"][~mine])


def test_long_messages_over_sockets(run, trace_path, capsys):
    """They are too long to be sent without the receiver, and need their sender's calls of MPI."""
    long = ["problem.hidden=[600]", "code.blocks=1", "code.family=uncoded", "code.rotate=false"]
    done = run(*EXCHANGE, *long, OMPI_MCA_btl="tcp,self")
    assert done.returncode == 0, done.stderr
    assert Trace(trace_path).arrivals["bytes_up"].min() > 150_000
    assert_replays(trace_path, capsys)


@pytest.mark.system
def test_the_others_go_on_without_a_stopped_worker(start: object, trace_path: Path) -> None:
    ends = "stop.updates=1000000", "stop.drain_s=0.5"
    process = start(*EXCHANGE, *SLOW, "stragglers.shift_s=0.01", *ends, options=("-n", "3"))
    for line in process.stdout:
        if re.search("update [1-9]", line):
            os.kill(ranks_of(trace_path)[2], signal.SIGSTOP)
            break

    def gone_on() -> bool:
        arrivals = Trace(trace_path).arrivals
        last_ns = [arrivals["t_recv_ns"][arrivals["worker"] == each].max(initial=0) for each in range(3)]
        return last_ns[1] + 0.5e9 < min(last_ns[0], last_ns[2])

    wait_for(gone_on, 100)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 1, err
    assert "stopped: interrupted" in out
    assert 1 in Trace(trace_path).faults["worker"]  # on a busy machine others, too
