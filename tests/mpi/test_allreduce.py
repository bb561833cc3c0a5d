"""Workers that add up their payloads among themselves: the same θ everywhere, that of a star, and the end."""

import os
import re
import signal
import time
from itertools import pairwise
from pathlib import Path

import extending
import numpy as np
import pytest
from grids import with_system
from launches import Run, monitored, monitoring, on_ranks, run_all
from outcomes import assert_replays, faults_of
from test_faults import processes_of, ranks_of, wait_for

from pdcode import Trace
from pdcode.__main__ import main
from pdcode.coding.replica import digest
from pdcode.config import load as configfile
from pdcode.session.setup import prepare
from pdcode.trace.schema import DRAINED, REFUSED, USED
from pdcode.virtual.simulation import Simulation

PROGRAM = Path(__file__).parent / "programs" / "ring.py"
SUMMED = ["reduce.kind=allreduce", "reduce.check=1"]
COMMON = [
    "problem.hidden=[16]", "problem.batch=8", "problem.dtype=float64", "update.mode=all", "update.late=waste",
    "optimizer.rate=0.2", "optimizer.average=false", "problem.standardise=false", "stop.updates=80",
]  # fmt: skip
PAIRS = {
    "uncoded": ["scheme.name=uncoded", "optimizer.momentum=0.5", "optimizer.schedule=cosine"],
    "difference": ["scheme.name=uncoded", "memory.kind=difference", "problem.batch=0"],
    "powersgd": ["scheme.name=powersgd", "scheme.options.rank=2"],
    "proximal": [
        "scheme.name=uncoded", "optimizer.momentum=0.5", "optimizer.nesterov=true",
        "optimizer.proximal={kind='group-lasso', weight=0.001}",
    ],
    "proximal powersgd": ["scheme.name=powersgd", "optimizer.proximal={kind='l1', weight=0.001}"],
    "proximal memory": [
        "scheme.name=uncoded", "memory.kind=worker", "optimizer.proximal={kind='l1', weight=0.001}",
    ],
    "local": ["scheme.name=local", "scheme.options.steps=3", "optimizer.rate=1.0", "wire.dtype=float64"],
}  # fmt: skip
FEEDBACK = "memory={kind='worker',lookahead=0.2}"
LWPD = [
    "scheme.name=lwpd", "scheme.preset=sharded", FEEDBACK, "optimizer.kind=sgd", "reduce.check=1",
    "problem.dtype=float32",
]  # fmt: skip
BLOCKS = ["code.family=uncoded", "code.blocks=units", "code.share=0.5", "code.rotate=true"]
AVERAGED = {
    "sharded": ["scheme.name=lwpd", "scheme.preset=sharded", "reduce.check=1"],
    "sharded with feedback": [*LWPD, "optimizer.schedule=linear", "optimizer.warmup=9"],
    "sharded blocks": [*LWPD, *BLOCKS, "wire.dtype=int8", "optimizer.momentum=0.6"],
    "sharded local": [
        "scheme.name=local", "scheme.options.steps=3", "wire.dtype=float16", *SUMMED, "optimizer.rate=1.0",
    ],
}  # fmt: skip
BITS = ["memory.kind=worker", "reduce.bits=8", "wire.dtype=float32", "problem.dtype=float32"]
STAR = ["scheme.name=uncoded", "optimizer.momentum=0.5", *BITS]
TREE = ["reduce.kind=tree", "reduce.fanout=2", "reduce.check=1"]
INTEGERS = {
    "bits star": STAR,
    "bits": [*STAR, *SUMMED],
    "bits tree": [*STAR, *TREE],
    "bits blocks": [*LWPD, *BLOCKS, *BITS, *TREE],
    "too few bits": [*STAR, *SUMMED, "reduce.bits=3"],
}
SHARED = [*LWPD, *BLOCKS, "wire.dtype=float32"]
FIRST = [
    *LWPD, *BLOCKS, "update.mode=first", "update.count=2", "stragglers.kind=slow-set",
    "stragglers.slow=[0, 3]", "stragglers.shift_s=0.002", "stragglers.slowdown=10000",
]  # fmt: skip
LATE = ["stragglers.kind=shifted-exponential", "stragglers.mean_s=0.002", "stragglers.slow=[1]"]
ENDS = {
    "late": [*SUMMED, *LATE, "scheme.name=uncoded", "stragglers.slowdown=5"],
    "nan": [*SUMMED, "scheme.name=uncoded", 'faults.events=[{kind="nan", worker=1, task=30}]'],
    "nan sharded": [*LWPD, 'faults.events=[{kind="nan", worker=1, task=30}]'],
    "dead": [
        *SUMMED, "scheme.name=uncoded", "stragglers.kind=slow-set", "stragglers.dead=[2]", "stop.seconds=0.3",
    ],
    "long": [
        *SUMMED, "scheme.name=uncoded", "stragglers.kind=slow-set", "stragglers.shift_s=1.5",
        "stop.updates=1",
    ],
    "time": [*SUMMED, *LATE, "scheme.name=uncoded", "stop.seconds=0.3", "stop.updates=1000000"],
    "at-once": [*SUMMED, "scheme.name=uncoded", "stop.loss=1000"],
    "loss": [*SUMMED, "scheme.name=powersgd", "stop.loss=1.5", "stop.updates=5000", "trace.progress_s=0.02"],
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    stars = {f"{name} star": [*COMMON, *how] for name, how in PAIRS.items()}
    sums = {name: [*COMMON, *how, *SUMMED] for name, how in PAIRS.items()}
    ends = {name: [*COMMON, *how] for name, how in (ENDS | {"first": FIRST}).items()}
    means = {name: [*COMMON, *how] for name, how in AVERAGED.items()}
    return run_all(tmp_path_factory.mktemp("sums"), 4, stars | sums | means | ends, job="")


@pytest.fixture(scope="module")
def integers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    cases = {name: [*COMMON, *how] for name, how in (INTEGERS | {"shared": SHARED}).items()}
    folder = tmp_path_factory.mktemp("integers")
    return run_all(folder, 4, cases | {"plug-in": [*COMMON, *in_order(folder)]}, job="")


def in_order(folder: Path) -> list[str]:
    """The all-reduce of docs/extending.md, by a name of its own, as other tests read it, too."""
    extending.paste(folder)
    plugin = folder / "ring.py"
    plugin.write_text(plugin.read_text().replace('"ring"', '"in-order"'))
    return [f'plugins=["{plugin}"]', "scheme.name=uncoded", "reduce.kind=in-order", "reduce.check=1"]


@pytest.mark.parametrize("how", PAIRS)
def test_theta_is_that_of_rank_0s_sums_to_rounding_on_every_rank(runs, how, capsys):
    """After each update rank 0 compares the digests of all workers' θ with its own."""
    assert runs[how].returncode == runs[f"{how} star"].returncode == 0, runs[how].stderr
    star, summed = Trace(runs[f"{how} star"].path), Trace(runs[how].path)
    np.testing.assert_allclose(summed.theta, star.theta, rtol=1e-8, atol=1e-8)
    digests = summed.updates["digest"]
    assert len(set(digests)) == len(digests) == 80
    assert digests[-1] == digest(summed.theta)
    assert not star.updates["digest"].any()
    assert main(["replay", str(runs[how].path)]) == 2
    assert "MPI adds payloads in an order of its own" in capsys.readouterr().err


@pytest.mark.parametrize("how", AVERAGED)
def test_means_of_rounded_payloads_are_those_of_the_virtual_clock_and_of_the_replay(runs, how, capsys):
    assert runs[how].returncode == 0, runs[how].stderr
    trace = Trace(runs[how].path)
    simulation = Simulation(prepare(configfile.resolve({}, [*COMMON, *AVERAGED[how], "workers.count=4"])))
    assert simulation.run()[0].coordinator.theta.tobytes() == trace.theta.tobytes()
    assert trace.updates["digest"][-1] == digest(trace.theta)
    assert main(["replay", str(runs[how].path)]) == 0
    assert "bit-identical: 320 arrivals, 80 updates" in capsys.readouterr().out


@pytest.mark.parametrize("how", INTEGERS)
def test_sums_of_integers_are_those_of_the_virtual_clock_and_of_the_replay(integers, how, capsys):
    assert integers[how].returncode == 0, integers[how].stderr
    trace = Trace(integers[how].path)
    simulation = Simulation(prepare(configfile.resolve({}, [*COMMON, *INTEGERS[how], "workers.count=4"])))
    assert simulation.run()[0].coordinator.theta.tobytes() == trace.theta.tobytes()
    if how == "too few bits":
        assert "wrapped" in trace.faults["kind"]
    elif how != "bits blocks":
        assert trace.theta.tobytes() == Trace(integers["bits"].path).theta.tobytes()
    if how != "bits star":
        assert trace.updates["digest"][-1] == digest(trace.theta)
    assert main(["replay", str(integers[how].path)]) == 0
    assert "bit-identical: 324 arrivals, 80 updates" in capsys.readouterr().out  # 4 that begin


def test_an_all_reduce_of_a_plug_in_is_that_of_the_virtual_clock_and_of_the_replay(integers, capsys):
    assert integers["plug-in"].returncode == 0, integers["plug-in"].stderr
    trace = Trace(integers["plug-in"].path)
    assert trace.updates["digest"][-1] == digest(trace.theta)
    job = [*COMMON, *in_order(integers["plug-in"].path.parent), "workers.count=4"]
    descent, _ = Simulation(prepare(configfile.resolve({}, job))).run()
    assert descent.coordinator.theta.tobytes() == trace.theta.tobytes()
    assert_replays(integers["plug-in"].path, capsys)


def test_shared_codewords_add_up_to_rounding(integers):
    trace = Trace(integers["shared"].path)
    simulation = Simulation(prepare(configfile.resolve({}, [*COMMON, *SHARED, "workers.count=4"])))
    theta = simulation.run()[0].coordinator.theta
    np.testing.assert_allclose(trace.theta, theta, rtol=1e-3, atol=1e-3)
    assert trace.updates["digest"][-1] == digest(trace.theta)


@pytest.mark.system
@pytest.mark.parametrize("algorithm", [1, 4])  # a ring, recursive doubling
def test_sums_of_integers_are_exact_by_any_algorithm(integers, algorithm, tmp_path):
    """MPI_SUM wraps or, vectorised by Open MPI, saturates; the operation of ours wraps."""
    extra = {"OMPI_MCA_coll_libnbc_iallreduce_algorithm": str(algorithm)}
    done = on_ranks(5, str(PROGRAM.with_name("modular.py")), **extra)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == ["exact"]
    other = run_all(tmp_path, 4, {"bits": [*COMMON, *INTEGERS["bits"]]}, job="", **extra)["bits"]
    assert other.returncode == 0, other.stderr
    assert Trace(other.path).theta.tobytes() == Trace(integers["bits"].path).theta.tobytes()


def test_means_of_the_first_payloads_are_those_of_the_virtual_clock_and_of_the_replay(runs, capsys):
    assert runs["first"].returncode == 0, runs["first"].stderr
    trace = Trace(runs["first"].path)
    descent, result = Simulation(prepare(configfile.resolve({}, [*COMMON, *FIRST, "workers.count=4"]))).run()
    assert descent.coordinator.theta.tobytes() == trace.theta.tobytes()
    assert set(trace.arrivals["worker"][trace.arrivals["status"] == USED]) == {1, 2}
    for way in ("up", "down"):
        moved = trace.counters[f"bytes_{way}"] - trace.attributes[f"setup_bytes_{way}"]
        assert moved == pytest.approx(getattr(result, f"bytes_{way}"), abs=1000), way  # notices of the end
    assert main(["replay", str(runs["first"].path)]) == 0
    assert "bit-identical: 162 arrivals, 80 updates" in capsys.readouterr().out


@pytest.mark.parametrize("how", [*PAIRS, *AVERAGED, "late"])
def test_times_and_bytes_are_those_of_the_sums(runs: dict[str, Run], how: str) -> None:
    trace = Trace(runs[how].path, correct_clocks=False)
    rows = trace.arrivals
    used = rows["status"] == USED
    rounds = 2 if "powersgd" in how else 1
    assert np.count_nonzero(used) == 4 * 80 * rounds
    np.testing.assert_array_equal(rows["bytes_up"], rows["bytes_down"])
    if rounds == 1 and how not in AVERAGED:
        assert set(rows["bytes_up"]) == {round(1.5 * trace.attributes["payload_bytes"])}
    names = [f"t_{name}_ns" for name in ("dispatch", "start", "compute", "send", "recv", "decoded")]
    for before, after in pairwise(names):
        assert (rows[after] >= rows[before]).all(), (before, after)
    for worker in range(4):
        own = rows["worker"] == worker
        np.testing.assert_array_equal(rows["t_dispatch_ns"][own][1:], rows["t_recv_ns"][own][:-1])
    starts = rows["t_send_ns"][used].reshape(-1, 4).max(axis=1)  # nobody has the sum before all take part
    assert (rows["t_recv_ns"][used].reshape(-1, 4).min(axis=1) >= starts).all()


@pytest.mark.parametrize("how", ["nan", "nan sharded"])
def test_a_payload_that_is_not_finite_ends_the_run(runs: dict[str, Run], how: str) -> None:
    assert runs[how].returncode == 1
    assert "stopped: diverged: every payload of update 30 was refused" in runs[how].stdout
    trace = Trace(runs[how].path)
    assert trace.finished
    assert trace.counters["version"] == 30
    assert (trace.arrivals["status"] == REFUSED).sum() == 4
    assert np.isfinite(trace.theta).all()


def test_a_dead_worker_holds_all_up_until_the_end(runs: dict[str, Run]) -> None:
    assert runs["dead"].returncode == 0, runs["dead"].stderr
    trace = Trace(runs["dead"].path)
    assert trace.updates.rows == 0
    assert trace.arrivals["status"].tolist() == [DRAINED] * 4


def test_workers_that_do_not_answer_for_long_are_waited_for(runs: dict[str, Run]) -> None:
    assert runs["long"].returncode == 0, runs["long"].stderr
    assert Trace(runs["long"].path).counters["version"] == 1


def test_a_run_ends_where_rank_0_says(runs: dict[str, Run]) -> None:
    assert runs["at-once"].returncode == runs["loss"].returncode == 0
    assert Trace(runs["at-once"].path).arrivals.rows == 0
    trace = Trace(runs["loss"].path)
    assert trace.progress["loss"][-1] <= 1.5 < trace.progress["loss"][0]
    assert trace.progress["version"][-1] == trace.counters["version"]
    assert digest(trace.theta) == trace.updates["digest"][-1]


@pytest.mark.parametrize("end", ["time", "late", "loss"])
def test_arrivals_keep_their_version_when_the_run_ends_among_them(runs: dict[str, Run], end: str) -> None:
    """The first arrival of a round may end the run, while workers have begun the next round."""
    assert runs[end].returncode == 0, runs[end].stderr
    assert set(Trace(runs[end].path).arrivals["staleness"]) == {0}


JOB = """
[scheme]
name = "allreduce"
[reduce]
kind = "allreduce"
check = 16
[workers]
count = 3
[stop]
updates = 3000
"""


def test_workers_wait_for_a_rank_0_that_is_far_behind(tmp_path: Path, trace_path: Path) -> None:
    """Here with long messages, after two; and all the same rank 0 is told of all."""
    job = tmp_path / "job.toml"
    job.write_text(JOB + "[problem]\nhidden = [300]\n[trace]\nprogress_s = 0.01\n", encoding="utf-8")
    done = on_ranks(
        4, str(PROGRAM), "good", "run", str(job), "-o", str(trace_path), "--set", "stop.updates=60"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    trace = Trace(trace_path)
    assert trace.counters["version"] == 60
    assert np.count_nonzero(trace.updates["digest"]) == 3


def test_a_worker_with_another_theta_ends_the_job_and_is_named(tmp_path: Path, trace_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text(JOB, encoding="utf-8")
    done = on_ranks(4, str(PROGRAM), "bad", "run", str(job), "-o", str(trace_path))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "ReplicaError: reduce.kind: worker 1's θ differs from rank 0's at version 32" in done.stderr
    assert not Trace(trace_path).finished


def test_an_exception_in_a_worker_ends_the_job(start: object) -> None:
    process = start(
        'faults.events=[{kind="raise", worker=1, task=50}]',
        "stop.updates=1000000",
        job=JOB,
        options=("-n", "2"),
    )
    _, err = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "InjectedFault: worker 1 raises at task 50" in err
    wait_for(lambda: not processes_of(process.pid), 30)


def test_a_signal_ends_a_run_with_a_whole_trace(start: object, trace_path: Path) -> None:
    """One worker sleeps for minutes at every task, out of which the end wakes it."""
    slow = ["stragglers.kind=slow-set", "stragglers.shift_s=0.001", "stragglers.slow=[1]"]
    ends = "stragglers.slowdown=600000", "stop.updates=1000000"
    process = start(*slow, *ends, job=JOB, options=("-n", "2"))
    for line in process.stdout:
        if "update" in line:
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "stopped: interrupted" in out
    assert Trace(trace_path).finished
    wait_for(lambda: not processes_of(process.pid), 30)


def test_workers_that_do_not_go_on_are_not_waited_for(start: object, trace_path: Path) -> None:
    process = start("stop.updates=1000000", "stop.drain_s=0.5", job=JOB)
    for line in process.stdout:
        if re.search(r"update +[1-9]", line):
            os.kill(ranks_of(trace_path)[2], signal.SIGSTOP)
            break
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "stopped: interrupted" in out
    assert "not waited for any longer: workers 0" in out
    trace = Trace(trace_path)
    assert trace.finished
    assert set(faults_of(trace)) == {"stop", "missing"}


@pytest.mark.parametrize(
    ("end", "lost"), with_system(("stop.updates=30", 0), system=[("stop.seconds=1.5", 3)])
)
def test_a_run_that_has_given_all_workers_up_replays(end, lost, run, trace_path, capsys):
    """One is stopped after update 30, for good; the others have told of their last task, or have another."""
    stopped = 'faults.events=[{kind="stop", worker=1, task=31}]'
    ends = "stop.drain_s=0.5", end, stopped
    done = run(*COMMON, *INTEGERS["bits tree"], *ends, job="", options=("-n", "3"), alone=True)
    assert done.returncode == 0, done.stderr
    trace = Trace(trace_path)
    assert faults_of(trace) == ["missing"] * 3
    assert (trace.counters["version"], trace.counters["lost"]) == (30, lost)
    assert_replays(trace_path, capsys)


@pytest.mark.parametrize("how", with_system([], system=[(["wire.dtype=float16"],)]))
def test_a_worker_exchanges_as_many_bytes_as_open_mpi_says(how, run, trace_path, tmp_path):
    done = run("stop.updates=1000", *how, job=JOB, **monitoring(tmp_path))
    assert done.returncode == 0, done.stderr
    sizes, means = monitored(tmp_path), monitored(tmp_path, mean=True)
    among = sum(size for ranks, size in sizes.items() if 0 not in ranks)
    # Workers run ahead of rank 0, which ends the run late on a busy machine; each reports all of its sums.
    reports = sum(size / means[ranks] for ranks, size in sizes.items() if ranks[1] == 0)
    trace = Trace(trace_path)
    assert trace.counters["version"] == 1000
    assert 0.97 < among / (trace.arrivals["bytes_up"].mean() * reports) < 1.03


@pytest.mark.system
def test_a_root_gets_as_many_payloads_as_it_has_children(run, tmp_path):
    """By the monitoring of Open MPI: with fan-out 4 at most 1/15 of the star's bytes of 64 workers.

    Sums that workers begin before they get the end add bytes, and as many messages.
    """
    workers, fanout, into = 4, 2, {}
    star = ["scheme.name=uncoded", "update.mode=all", "wire.dtype=int8"]
    for root, how in enumerate((star, [*STAR, *TREE, "update.mode=all"])):  # rank 0, worker 0
        folder = tmp_path / str(root)
        folder.mkdir()
        done = run(*how, "stop.updates=150", job="", options=("-n", str(workers)), **monitoring(folder))
        assert done.returncode == 0, done.stderr
        sizes = monitored(folder, mean=True).items()
        into[root] = sum(size for (source, target), size in sizes if source and target == root)
    payload = Trace(tmp_path / "trace.h5").attributes["payload_bytes"]
    assert 0.9 * fanout * payload < into[1] <= into[0] * 16 / 15 * fanout / workers
