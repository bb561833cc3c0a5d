"""Faults that a configuration asks for, carried out over MPI."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grids import with_system
from launches import JOB, run_all
from outcomes import assert_replays, faults_of

from pdcode import Trace
from pdcode.__main__ import main

SLOW = "stragglers.kind=slow-set", "stragglers.shift_s=0.01", "update.mode=async", "stop.updates=1000000"
QUIET = {  # kinds by which a worker answers nothing for a while, each of another worker
    "stop": "at_s=0.3, for_s=0.3",
    "hang": "at_s=0.3, for_s=0.3",
    "cut": "task=10, for_s=0.3",
    "drop": "at_s=0.3, timeout_s=0.3, for_s=0.0",
}
SPELLS = {  # kinds that every rank survives, in one start of mpirun
    "quiet": [f"{{kind='{kind}', worker={n}, {keys}}}" for n, (kind, keys) in enumerate(QUIET.items())],
    "duplicate": ["{kind='duplicate', worker=1, task=5}"],
    "lie": ["{kind='lie', worker=1, task=5, for_s=0.2}", "{kind='slow', worker=1, at_s=0.2, factor=100.0}"],
    "corrupt": ["{kind='corrupt', worker=1, task=5, for_s=0.0, bits=64}"],
    "audit": ["{kind='corrupt', worker=1, task=0, share=0.5}"],
}


@pytest.fixture(scope="module")
def traces(tmp_path_factory: Any) -> dict[str, Trace]:
    # The repeated reply is that of a task, which a loaded machine may reach late.
    ends = {
        "quiet": ["stop.seconds=1.2"],
        "duplicate": ["stop.updates=100", "stop.seconds=60"],
        "audit": ["faults.audit=0.2", "update.clip=median", "stop.seconds=1"],
    }
    cases = {
        name: [*SLOW, *ends.get(name, ["stop.seconds=0.6"]), f"faults.events=[{', '.join(events)}]"]
        for name, events in SPELLS.items()
    }
    done = run_all(tmp_path_factory.mktemp("faults"), 4, cases)
    # Bits of an exponent make numbers huge, and the run may diverge.
    assert all(run.returncode == 0 for name, run in done.items() if name != "corrupt"), done
    return {name: Trace(run.path) for name, run in done.items()}


@pytest.mark.parametrize("kind", QUIET)
def test_a_worker_answers_nothing_meanwhile(traces: dict[str, Trace], kind: str) -> None:
    arrivals = traces["quiet"].arrivals
    recv_ns = arrivals["t_recv_ns"][arrivals["worker"] == list(QUIET).index(kind)]
    assert np.diff(recv_ns).max() > 0.29e9
    assert recv_ns.max() > 0.8e9


def test_a_reply_that_comes_again_is_refused(traces: dict[str, Trace]) -> None:
    trace = traces["duplicate"]
    assert faults_of(trace) == ["stray"]
    pairs = set(zip(trace.arrivals["worker"].tolist(), trace.arrivals["task"].tolist(), strict=True))
    assert len(pairs) == trace.arrivals.rows  # each counts once


def test_an_audit_names_the_worker_whose_bits_flip(traces: dict[str, Trace]) -> None:
    faults, counters = traces["audit"].faults, traces["audit"].counters
    assert faults["worker"][faults["kind"] == "wrong"].tolist() == [1]
    assert 0 < counters["wrong"] < counters["audited"] / 2


@pytest.mark.parametrize("kind", ["lie", "duplicate", "corrupt", "audit"])
def test_a_replay_knows_when_payloads_were_false(traces: dict[str, Trace], kind: str, capsys: Any) -> None:
    assert_replays(traces[kind].path, capsys)


@pytest.mark.parametrize(("mode", "workers", "count"), with_system(("first", 4, 2), system=[("async", 8, 7)]))
def test_workers_reach_the_target_though_some_are_killed(run, trace_path, mode, workers, count):
    kills = ", ".join(f"{{worker={worker}, at_s={0.2 + 0.05 * worker}}}" for worker in range(count))
    sets = *SLOW, f"update.mode={mode}", "stop.loss=1.0", f"faults.events=[{kills}]"
    done = run(*sets, alone=True, options=("-n", str(workers)))
    assert done.returncode == 0, done.stderr
    trace = Trace(trace_path)
    assert trace.finished
    assert np.isfinite(trace.summary()["target_s"])
    assert set(faults_of(trace)) <= {"dead"}


def test_rank_0_can_be_killed_and_its_disk_can_be_full(run: Any, trace_path: Path) -> None:
    killed = run(*SLOW, "faults.events=[{kind='kill-rank-0', at_s=0.3}]", alone=True)
    assert killed.returncode == 1
    assert "rank 0 died; the run cannot continue without" in killed.stderr
    assert not Trace(trace_path).finished
    # With checkpoints it goes on, to what happens next.
    both = "faults.events=[{kind='full-disk', at_s=1.0}, {kind='kill-rank-0', at_s=0.5}]"
    full = run(*SLOW, "trace.checkpoint_s=0.05", both, alone=True)
    assert full.returncode == 1
    assert "cannot write the trace: No space left on device" in full.stderr
    assert Trace(trace_path).segments.rows == 2


@pytest.mark.system
def test_chaos_makes_pairs(tmp_path: Path, capsys: Any) -> None:
    job = tmp_path / "job.toml"
    job.write_text(JOB, encoding="utf-8")
    early = "seed=3"  # the kill falls in the first twentieth of the run
    settings = [f"--set={each}" for each in (*SLOW[:3], "stop.updates=300", early)]
    real = ["--clock", "mpi", "--trials", "1", "--kill", "1", "--seconds", "20", "--target", "1.5"]
    assert main(["chaos", str(job), *settings, *real]) == 0, capsys.readouterr()
    out = capsys.readouterr().out
    assert "1 of 1 trials reached training loss 1.5 (mpi clock)" in out
    assert "mpirun --with-ft ulfm" in " ".join(out.split())
