"""Ranks that are killed during a run: the others continue without them."""

import os
import platform
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from grids import with_system
from launches import JOB, launcher, on_ranks
from outcomes import assert_replays, faults_of
from test_faults import processes_of, ranks_of, wait_for

from pdcode import Trace

SLOW = "stragglers.kind=slow-set", "stragglers.shift_s=0.02"  # few arrivals to compute, and to replay
ENDLESS = "stop.updates=1000000", "stop.seconds=100"
SUMMED = JOB.replace("[code]\nblocks = [8, 1]\nweight = 4", "[scheme]\nname = 'allreduce'")
FIRST = (
    'code={family="uncoded",blocks=1,rotate=false}', "memory.kind=worker", "wire.dtype=int8",
    "reduce.kind=allreduce", "update.mode=first", "update.late=waste",
)  # fmt: skip
KINDS = {
    "async": ("update.mode=async",),
    "all": ("update.mode=all",),
    "first": ("update.mode=first", "update.count=3"),
    "relayed": ("update.mode=async", "downlink.kind=codewords"),
    "exchanged": ("update.mode=async", "downlink.kind=exchange"),
    "first, relayed": ("update.mode=first", "update.count=3", "downlink.kind=codewords"),
    "averaged": (*FIRST, "update.count=3"),
    "rows in a chain": ("shuffle.kind=coded", "link.broadcast=chain", "shuffle.every=3"),
    "rows exchanged": ("shuffle.kind=exchange", "shuffle.every=3", "update.mode=all"),
}
PROGRAM = Path(__file__).parent / "programs" / "first.py"


def kill_workers(
    process: subprocess.Popen[str],
    path: Path,
    *workers: int,
    number: int = signal.SIGKILL,
    until: Sequence[str] = (),
) -> list[str]:
    """Send workers a signal, one after another, each at a further line of progress; return all lines.

    With `until` the next one gets it after a line with these words, one of each worker; and the run is
    interrupted some lines of progress after the last.
    """
    lines, left, told, more = [], list(workers), list(until), 3
    for line in process.stdout:
        lines.append(line)
        told = [words for words in told if words not in line]
        if " update " not in line or " update 0 " in line:
            continue
        if left and len(told) <= len(left):
            os.kill(ranks_of(path)[1 + left.pop(0)], number)
        elif until and not (left or told):
            more -= 1
            if more == 0:
                os.kill(ranks_of(path)[0], signal.SIGINT)
    return lines


def died(*workers: int) -> list[str]:
    return [f"worker {worker} has died" for worker in workers]


FEW = "exchanged", "first, relayed", "averaged", "rows exchanged"  # each mode and each way of messages


@pytest.mark.every(2)
@pytest.mark.parametrize("kind", with_system(*FEW, system=[kind for kind in KINDS if kind not in FEW]))
def test_a_run_goes_on_without_workers_that_are_killed(kind, start, trace_path, capsys):
    process = start(*SLOW, *KINDS[kind], *ENDLESS, options=("-n", "4"))
    lines = kill_workers(process, trace_path, 2, 0, until=died(2, 0))
    err = process.stderr.read()
    assert process.wait() == 1, err
    assert err == ""
    assert any(line.startswith("stopped: interrupted") for line in lines)
    assert next(line for line in lines if "has died" in line).endswith("worker 2 has died; 3 continue\n")
    assert "died: workers 0 and 2\n" in lines
    wait_for(lambda: not processes_of(process.pid), 30)
    trace = Trace(trace_path)
    assert trace.finished
    dead = trace.faults["kind"] == "dead"
    assert sorted(trace.faults["worker"][dead].tolist()) == [0, 2]
    # By load and moment: a worker that waits for a dead one's rows has no answer when the run is interrupted.
    others = {"averaged": {"dead", "omitted"}, "rows in a chain": {"dead", "missing"}}.get(kind, {"dead"})
    assert set(faults_of(trace)) <= others | {"stop"}
    last = trace.arrivals["worker"][trace.arrivals["t_recv_ns"] > trace.faults["t_ns"][dead].max()]
    assert set(last) == {1, 3}
    assert_replays(trace_path, capsys)


@pytest.mark.every(2)
@pytest.mark.parametrize("when", with_system("scatter", "stop", system=["gather"]))
def test_an_update_is_made_without_a_member_that_fails_in_its_exchange(when, tmp_path, trace_path, capsys):
    """A mean of a member that then dies is used. After a stop its payload returns to the memory."""
    job = tmp_path / "job.toml"
    job.write_text(JOB, encoding="utf-8")
    more = *SLOW, *FIRST, "update.count=4", "stop.updates=40", "workers.count=4", "reduce.check=1"
    sets = [word for each in more for word in ("--set", each)]
    words = str(PROGRAM), when, "run", str(job), "-o", str(trace_path), *sets
    done = on_ranks(5, *words, survives=True)
    assert done.returncode == 0, done.stdout + done.stderr
    trace = Trace(trace_path)
    assert trace.finished
    assert trace.counters["version"] == 40
    kinds = trace.faults["kind"].tolist()
    assert kinds.count("omitted") == (when != "gather")
    assert kinds.count("dead") == (when != "stop")
    rows = trace.arrivals
    at_end = rows["worker"][rows["applied_version"] == 39]
    assert sorted(at_end) == ([0, 1, 2, 3] if when == "stop" else [0, 2, 3])
    assert_replays(trace_path, capsys)


@pytest.mark.parametrize(
    "own",
    with_system(
        ["downlink.kind=codewords", *KINDS["rows exchanged"][:2]], system=[(["downlink.kind=full"],)]
    ),
)
def test_spare_ranks_take_the_places_of_the_dead(own, start, trace_path, capsys):
    more = "workers.spares=2", *own, "memory.kind=worker", "wire.dtype=int8"
    process = start(*SLOW, *more, *ENDLESS, options=("-n", "3"))
    lines = kill_workers(process, trace_path, 2, 0, until=["worker 2 is rank 4", "worker 0 is rank 5"])
    assert (process.wait(), process.stderr.read()) == (1, "")
    assert any(line.startswith("stopped: interrupted") for line in lines)
    assert not any(line.startswith("died") for line in lines)
    wait_for(lambda: not processes_of(process.pid), 30)
    trace = Trace(trace_path)
    faults = trace.faults
    joined = faults["kind"] == "joined"
    assert faults["worker"][joined].tolist() == [2, 0]
    said = [text.partition(" of ")[0] for text in faults["message"][joined]]
    assert said == ["worker 2 is rank 4", "worker 0 is rank 5"]
    last = trace.arrivals["worker"][trace.arrivals["t_recv_ns"] > faults["t_ns"][joined].max()]
    assert set(last) == {0, 1, 2}
    assert_replays(trace_path, capsys)


@pytest.mark.every(2)
@pytest.mark.parametrize(
    ("spares", "number"),
    with_system((1, signal.SIGKILL), (0, signal.SIGTERM), system=[(1, signal.SIGTERM)]),
)
def test_the_only_worker_goes(spares: int, number: int, start: object, trace_path: Path) -> None:
    more = f"workers.spares={spares}", "downlink.kind=full", *ENDLESS
    process = start(*SLOW, *more, options=("-n", "1"))
    lines = kill_workers(process, trace_path, 0, number=number, until=["worker 0 is rank 2"])
    assert process.wait() == 1, process.stderr.read()
    why = "interrupted" if spares else "no worker is left"
    assert any(line.startswith(f"stopped: {why}") for line in lines)
    wait_for(lambda: not processes_of(process.pid), 30)


@pytest.mark.parametrize("kind", with_system("exchanged", system=["first"]))
def test_a_worker_that_is_told_to_go_says_good_bye(kind, start, trace_path, capsys):
    process = start(*SLOW, *KINDS[kind], *ENDLESS, options=("-n", "3"))
    left = ["worker 2 has left; 2 continue\n"]
    lines = kill_workers(process, trace_path, 2, number=signal.SIGTERM, until=left)
    assert (process.wait(), process.stderr.read()) == (1, "")
    assert any(line.endswith(left[0]) for line in lines)
    assert "left: worker 2\n" in lines
    wait_for(lambda: not processes_of(process.pid), 30)
    trace = Trace(trace_path)
    assert faults_of(trace) == ["left", "stop"]
    assert trace.counters["lost"] == 0
    (left_ns,) = trace.faults["t_ns"][trace.faults["kind"] == "left"]
    last = trace.arrivals["worker"][trace.arrivals["t_recv_ns"] > left_ns]
    assert set(last) == {0, 1}
    assert_replays(trace_path, capsys)


def test_it_fails_when_all_have_died(start: object, trace_path: Path) -> None:
    process = start(*SLOW, "update.mode=async", "stop.updates=1000000", options=("-n", "2"))
    lines = kill_workers(process, trace_path, 1, 0)
    assert process.wait() == 1
    assert any(line.startswith("stopped: every worker has died") for line in lines)
    wait_for(lambda: not processes_of(process.pid), 30)
    assert Trace(trace_path).finished


@pytest.mark.system
def test_a_launcher_of_the_users_ends_well_too(start: object, trace_path: Path) -> None:
    command, environment = launcher(3, survives=True)
    updates = *SLOW, "update.mode=async", *ENDLESS
    process = start(*updates, launcher=tuple(command), **environment)
    lines = kill_workers(process, trace_path, 1, until=died(1))
    assert process.wait() == 1, process.stderr.read()
    assert lines[-1] == f"trace: {trace_path}\n"
    wait_for(lambda: not processes_of(process.pid), 30)
    assert Trace(trace_path).faults["kind"].tolist().count("dead") == 1


@pytest.mark.system
def test_a_worker_that_raises_ends_the_users_job_though_another_is_stopped(start, trace_path):
    command, environment = launcher(3, survives=True)
    raises = 'faults.events=[{kind="raise", worker=0, at_s=1.0}]'
    job = *SLOW, "update.mode=async", "stop.updates=1000000", raises
    process = start(*job, launcher=tuple(command), **environment)
    kill_workers(process, trace_path, 1, number=signal.SIGSTOP)
    assert process.wait(20) == 1
    assert "pdcode: rank 1, worker 0, failed:" in process.stderr.read()
    wait_for(lambda: not processes_of(process.pid), 30)


def test_where_nobody_can_be_spared_the_user_is_told_who_could(start: object, trace_path: Path) -> None:
    process = start(*SLOW, "stop.updates=1000000", options=("-n", "2"), OMPI_MCA_pml="ob1")
    kill_workers(process, trace_path, 1)
    assert process.wait() == 1
    err = process.stderr.read()
    assert "under Open MPI 5 or later (mpirun --with-ft ulfm)" in err
    assert f"rank 2 on {platform.node()} has ended" in err or "pdcode: a process of the job has ended" in err
    wait_for(lambda: not processes_of(process.pid), 30)
    assert Trace(trace_path).updates.rows > 0


@pytest.mark.every(2)
@pytest.mark.parametrize("kind", with_system("allreduce", "rank 0", system=["averaged"]))
def test_who_cannot_be_spared_ends_the_run(kind: str, start: object, trace_path: Path) -> None:
    job = JOB if kind == "rank 0" else SUMMED
    how = ["wire.dtype=int2", "memory.kind=worker"] if kind == "averaged" else []
    process = start(*SLOW, *how, "stop.updates=1000000", job=job, options=("-n", "2"))
    kill_workers(process, trace_path, -1 if kind == "rank 0" else 1)
    err = process.stderr.read()
    assert process.wait() == 1
    who = "rank 0" if kind == "rank 0" else "worker 1"
    assert f"pdcode: {who} died; the run cannot continue without" in err
    assert "Traceback" not in err
    wait_for(lambda: not processes_of(process.pid), 30)
    assert len(Trace(trace_path).arrivals["worker"]) > 0


@pytest.mark.system
def test_a_worker_that_hangs_does_not_keep_the_payloads_of_others(start: object, trace_path: Path) -> None:
    """Stopped in the middle of its messages, it may have sent some workers a payload and others not."""
    ends = "stop.seconds=3", "stop.drain_s=1", "stop.updates=1000000"
    process = start(*SLOW, *KINDS["exchanged"], *ends, options=("-n", "4"))
    for line in process.stdout:
        if " update " in line:
            stopped = ranks_of(trace_path)[3]
            os.kill(stopped, signal.SIGSTOP)
            break
    rest = process.stdout.read()
    assert process.wait() == 0, process.stderr.read()
    assert "not waited for any longer: worker 2\n" in rest
    trace = Trace(trace_path)
    assert set(trace.arrivals["worker"][trace.arrivals["t_recv_ns"] > 2e9]) == {0, 1, 3}


def test_a_worker_leaves_though_another_has_died_with_messages_for_it() -> None:
    done = on_ranks(3, str(PROGRAM.with_name("leaving.py")), survives=True)
    assert (done.returncode, done.stdout) == (0, "left\n"), done.stderr
