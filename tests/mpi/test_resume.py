"""Runs over MPI that are ended or killed, and resume from a checkpoint."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from grids import with_system
from outcomes import assert_replays
from paths import SUPPORT
from test_faults import processes_of, ranks_of, wait_for

from pdcode import Trace
from pdcode.__main__ import main
from pdcode.trace.schema import CHECKPOINT, EVALUATION

ENDLESS = (
    "stop.updates=1000000", "trace.checkpoint_s=0.1", "stragglers.kind=slow-set", "stragglers.shift_s=0.02",
)  # fmt: skip
RESUME = ("--resume",)
NAMES = {"function": "loss_and_gradient", "start": "start", "data": "rows", "score": "score"}
KEYS = (f'{key} = "{SUPPORT / "functions.py"}:{name}"' for key, name in NAMES.items())
FUNCTION = f'{{kind = "function", {", ".join(KEYS)}}}'
KINDS = {
    "async": ("memory.kind=worker", "wire.dtype=int8", "problem.batch=8"),
    "first, relayed": ("update.mode=first", "update.count=1", "update.late=waste", "downlink.kind=codewords"),
    "function": (
        f"problem={FUNCTION}",
        "code.blocks=4",
        "memory.kind=worker",
        "wire.dtype=int2",
        "downlink.kind=exchange",
    ),
    "exchanged": (
        "downlink.kind=exchange",
        "optimizer.momentum=0.5",
        "optimizer.average=true",
        "optimizer.plateau=true",
    ),
    "reshuffled": ("shuffle.kind=coded", "shuffle.every=5", "link.broadcast=chain", "problem.batch=8"),
    "streamed": (
        "problem.kind=softmax",
        'code={family="uncoded",blocks=1,rotate=false}',
        "scheme={name='byzantine',options={liars=0,start=0.1,arriving=1}}",
    ),
    "summed": (
        "scheme.name=powersgd",
        "reduce.kind=allreduce",
        "memory.kind=worker",
        "optimizer.momentum=0.5",
        "optimizer.average=true",
        'code={family="uncoded",blocks=1,rotate=false}',
        "problem.batch=0",
    ),
    "averaged": (
        "scheme.preset=sharded",
        "memory={kind='worker',lookahead=0.2}",
        "optimizer.momentum=0.6",
        "optimizer.rate=1.2",
        "wire.dtype=int8",
        'code={family="uncoded",blocks="units",share=0.5,rotate=true,whiten="gram"}',
    ),
    "integers": (
        "scheme.preset=sharded",
        "memory={kind='worker',lookahead=0.2}",
        "optimizer.momentum=0.6",
        "optimizer.rate=1.2",
        "wire.dtype=float32",
        'code={family="uncoded",blocks="units",share=0.5,rotate=true,whiten="gram"}',
        "reduce.kind=tree",
        "reduce.bits=8",
    ),
    "first, averaged": (
        "scheme.preset=sharded-first",
        "memory={kind='worker',lookahead=0.2}",
        "optimizer.momentum=0.6",
        "optimizer.rate=1.2",
        "optimizer.average=true",
        "update.count=1",
        "wire.dtype=int8",
    ),
}


KILLED = "exchanged", "reshuffled", "integers"  # kinds whose ranks are killed in `make test`, too
WAYS = with_system(
    *((kind, kind in KILLED) for kind in KINDS),
    system=[(kind, True) for kind in KINDS if kind not in KILLED],
)
LACKING = {"dead": "async", "gone": "exchanged", "damaged": "first, averaged"}


def wait_for_checkpoint(process: subprocess.Popen[str], path: Path, within_s: float = 100) -> None:
    """Wait until three more have been written."""
    newest, written = path.with_name(path.name + ".checkpoint") / "coordinator", set()

    def look() -> bool:
        assert process.poll() is None, process.communicate()
        with suppress(FileNotFoundError):  # between two renames
            written.add(newest.stat().st_ino)
        return len(written) > 3

    wait_for(look, within_s)


@pytest.mark.every(3)
@pytest.mark.parametrize(("kind", "killed"), WAYS)
def test_a_run_goes_on_after_its_end_and_after_its_death(kind, killed, begin, start, run, trace_path, capsys):
    first = begin(*ENDLESS, *KINDS[kind], options=RESUME)
    wait_for_checkpoint(first, trace_path)
    first.send_signal(signal.SIGTERM)
    out, err = first.communicate(timeout=200)
    assert (first.returncode, err) == (75, "")
    assert "--resume continues the run" in out
    if killed:
        second = start(*ENDLESS, *KINDS[kind], options=RESUME)
        wait_for(lambda: Trace(trace_path).segments.rows == 2, 100)
        wait_for_checkpoint(second, trace_path)
        # The command first: it would start them again.
        for pid in (second.pid, *ranks_of(trace_path).values()):
            with suppress(ProcessLookupError):  # mpirun ends them with the first
                os.kill(pid, signal.SIGKILL)
        second.communicate(timeout=200)
        wait_for(lambda: not processes_of(second.pid), 30)
    cut = Trace(trace_path)
    last = int(cut.updates["version"][-1])
    done = run(*ENDLESS, *KINDS[kind], f"stop.updates={last + 20}", options=RESUME)
    assert done.returncode == 0, done.stderr
    trace = Trace(trace_path)
    assert trace.finished
    assert trace.segments.rows == 2 + killed
    assert (np.diff(trace.updates["version"]) == 1).all()
    assert (np.diff(trace.segments["t_ns"]) > 0).all()
    assert trace.segments["version"][-1] <= last
    kept = trace.segments["arrivals"][-1]
    for key in ("worker", "task", "version", "t_recv_ns"):
        assert np.array_equal(trace.arrivals[key][:kept], cut.arrivals[key][:kept])
    assert not trace_path.with_name(trace_path.name + ".checkpoint").exists()
    assert {EVALUATION, CHECKPOINT} <= {*trace.pauses["what"]}
    assert (np.diff(trace.pauses["t_ns"]) >= trace.pauses["spent_ns"][:-1]).all()
    if kind == "summed":  # a trace has not the order of MPI's additions, but those of two workers commute
        path = trace_path.with_name("uncut.h5")
        uncut = run(*KINDS[kind], f"stop.updates={last + 20}", options=("-o", str(path)))
        assert uncut.returncode == 0, uncut.stderr
        whole = Trace(path).checkpoint
        assert {"other_theta", "theta", "velocity"} == {*whole}
        for name, array in whole.items():
            assert np.array_equal(array, trace.checkpoint[name])
    else:
        assert_replays(trace_path, capsys)
    sets = [f"--set={override}" for override in (*ENDLESS, *KINDS[kind])]
    assert main(["run", str(trace_path.with_name("job.toml")), "-o", str(trace_path), *sets, *RESUME]) == 0
    assert "the run has ended" in capsys.readouterr().out


@pytest.mark.every(3)
@pytest.mark.parametrize("how", LACKING)
def test_a_worker_without_its_part_begins_anew_in_the_replay_too(how, begin, start, run, trace_path, capsys):
    """It has died right before the only checkpoint, or its files are not there, or not whole."""
    job, parts = [*ENDLESS, *KINDS[LACKING[how]]], trace_path.with_name(trace_path.name + ".checkpoint")
    if how == "dead":
        job += ["stragglers.shift_s=0.5", "trace.checkpoint_s=1000"]
    first = (start if how == "dead" else begin)(*job, options=RESUME)
    if how == "dead":
        wait_for(lambda: trace_path.exists() and Trace(trace_path).arrivals.rows > 2, 100)
        os.kill(ranks_of(trace_path)[2], signal.SIGKILL)
        wait_for(lambda: "dead" in Trace(trace_path).faults["kind"], 100)
    else:
        wait_for_checkpoint(first, trace_path)
    first.send_signal(signal.SIGTERM)
    assert first.wait(100) == 75
    for part in parts.glob("worker-1*"):
        content = part.read_bytes()
        part.unlink()
        if how == "damaged":
            part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    last = int(Trace(trace_path).updates["version"][-1])
    done = run(*job, f"stop.updates={last + 5}", options=RESUME)
    assert done.returncode == 0, done.stderr
    faults = Trace(trace_path).faults
    assert faults["worker"][faults["kind"] == "reset"].tolist() == [1]
    assert_replays(trace_path, capsys)


def test_what_a_checkpoint_is_of_is_compared(begin: object, run: object, trace_path: Path, capsys) -> None:
    first = begin(*ENDLESS, options=RESUME)
    wait_for_checkpoint(first, trace_path)
    first.send_signal(signal.SIGUSR1)
    assert first.wait(100) == 75
    folder = trace_path.with_name(trace_path.name + ".checkpoint")
    sets = [f"--set={override}" for override in (*ENDLESS, "optimizer.rate=0.3")]
    assert main(["run", str(trace_path.with_name("job.toml")), "-o", str(trace_path), *sets, *RESUME]) == 2
    assert "optimizer.rate: 0.3, and 0.2 in the checkpoint" in capsys.readouterr().err
    newest = folder / "coordinator"
    content = newest.read_bytes()
    newest.write_bytes(content[:-1])
    torn = run(*ENDLESS, "stop.updates=1", options=RESUME)
    assert torn.returncode == 0, torn.stderr
    assert "coordinator: it is not whole" in torn.stdout
    assert Trace(trace_path).segments.rows == 2


@pytest.mark.system
def test_fewer_workers_go_on_with_what_they_can(start: object, run: object, trace_path: Path) -> None:
    keys = (*ENDLESS, "memory.kind=worker", "optimizer.average=true")
    first = start(*keys, options=RESUME)
    wait_for_checkpoint(first, trace_path)
    for _, pid in sorted(ranks_of(trace_path).items()):  # as launchers do: workers do not leave then
        os.kill(pid, signal.SIGTERM)
    assert first.wait(100) == 75
    assert "left" not in Trace(trace_path).faults["kind"]
    version = int(Trace(trace_path).updates["version"][-1])
    done = run(*keys, f"stop.updates={version + 20}", options=RESUME, workers=1)
    assert done.returncode == 0, done.stderr
    assert "workers.count: 1, before 2" in done.stdout
    trace = Trace(trace_path)
    assert trace.updates["version"][0] > 1
    assert trace.updates["version"][-1] == version + 20
    assert Trace(trace_path.with_name("trace.previous.h5")).updates["version"][0] == 1


@pytest.mark.system
def test_a_spare_rank_begins_anew_in_a_resumed_run(start, trace_path, capsys) -> None:
    """The part of the worker that it replaces is still in the checkpoint."""
    job = *ENDLESS, *KINDS["async"]
    first = start(*job, options=RESUME)
    wait_for_checkpoint(first, trace_path)
    first.send_signal(signal.SIGTERM)
    assert first.wait(100) == 75
    rows = Trace(trace_path).arrivals
    dies = f"{{worker=1, task={rows['task'][rows['worker'] == 1].max() + 5}}}"
    more = "workers.spares=1", f"faults.events=[{dies}]", "trace.checkpoint_s=1000"
    second = start(*job, *more, options=RESUME)

    def has_replied() -> bool:
        trace = Trace(trace_path)
        joined_ns = trace.faults["t_ns"][trace.faults["kind"] == "joined"]
        last_ns = trace.arrivals["t_recv_ns"][trace.arrivals["worker"] == 1].max(initial=0)
        return bool((joined_ns < last_ns).any())

    wait_for(has_replied, 100)
    second.send_signal(signal.SIGINT)
    assert second.wait(100) == 1
    assert_replays(trace_path, capsys)
