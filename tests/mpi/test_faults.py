"""What happens when something goes wrong: exit codes, messages, traces that stay readable, no process
left."""

import os
import re
import resource
import signal
import time
from pathlib import Path

import pytest
from grids import with_system
from launches import INVALID, JOB, launcher

from pdcode import Trace
from pdcode.__main__ import main
from pdcode.analysis.description import failure
from pdcode.util import progress


def processes_of(group: int) -> list[int]:
    """Live processes of a session, by its leader; zombies do not count."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == group and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def ranks_of(path: Path) -> dict[int, int]:
    """Process ids of the ranks that run this job, by rank."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
                environ = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(path).encode() in command:
                found |= {
                    int(name[21:]): int(entry.name)
                    for name in environ
                    if name.startswith(b"OMPI_COMM_WORLD_RANK=")
                }
    return found


def wait_for(condition: object, timeout_s: float) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until:
            pytest.fail(f"not within {timeout_s} s")
        time.sleep(0.05)


def rows(path: Path) -> int:
    try:
        return len(Trace(path).arrivals["worker"])
    except ValueError:  # not there yet
        return 0


def last_ns(path: Path) -> int:
    return int(Trace(path).arrivals["t_recv_ns"][-1])


def test_an_exception_in_a_worker_ends_the_job(start: object, trace_path: Path) -> None:
    process = start(
        'faults.events=[{kind="raise", worker=1, task=150}]',
        "stop.updates=1000000",
        "stragglers.kind=slow-set",
        "stragglers.shift_s=0.01",
    )
    wait_for(lambda: rows(trace_path) > 0, 100)
    err = ""
    for line in process.stderr:
        err += line
        if "InjectedFault: " in line:
            break
    assert len(processes_of(process.pid)) >= 2
    err += process.stderr.read()
    assert process.wait() == 1, err
    wait_for(lambda: not processes_of(process.pid), 30)
    assert "worker 1" in err
    assert "InjectedFault: worker 1 raises at task 150" in err
    assert "Traceback" in err
    trace = Trace(trace_path)
    assert not trace.finished
    assert trace.arrivals["task"][trace.arrivals["worker"] == 1].max() >= 100
    assert last_ns(trace_path) > 1e9
    assert failure(trace) == "another rank has ended the job, and has printed why"


def test_rank_0_killed_in_mid_run_leaves_its_trace(start: object, trace_path: Path) -> None:
    process = start(
        "stop.updates=100000000", "stragglers.kind=slow-set", "stragglers.shift_s=0.005", "trace.flush_s=0.5"
    )
    wait_for(lambda: rows(trace_path) > 300, 100)
    seen_ns = last_ns(trace_path) + 2_000_000_000
    wait_for(lambda: last_ns(trace_path) >= seen_ns, 100)
    os.kill(ranks_of(trace_path)[0], signal.SIGKILL)
    process.communicate(timeout=200)
    assert process.returncode != 0
    wait_for(lambda: not processes_of(process.pid), 30)
    trace = Trace(trace_path)
    assert not trace.finished
    assert last_ns(trace_path) >= seen_ns
    assert main(["show", str(trace_path)]) == 0


def test_a_disk_that_fills_up_ends_the_job_with_one_line(start: object, trace_path: Path) -> None:
    process = start("stop.updates=100000000", "stragglers.kind=slow-set", "stragglers.shift_s=0.005")
    wait_for(lambda: rows(trace_path) > 300, 100)
    seen, full = rows(trace_path), trace_path.stat().st_size
    resource.prlimit(ranks_of(trace_path)[0], resource.RLIMIT_FSIZE, (full, full))  # takes no more
    _, err = process.communicate(timeout=200)
    assert process.returncode == 1
    assert err == f"pdcode: {trace_path}: cannot write the trace: File too large\n"
    wait_for(lambda: not processes_of(process.pid), 30)
    trace = Trace(trace_path)
    assert not trace.finished
    assert trace.arrivals.rows >= seen


@pytest.mark.parametrize("number", with_system(signal.SIGINT, system=[signal.SIGTERM]), ids=str)
def test_an_interrupted_run_ends_with_a_whole_trace(start: object, trace_path: Path, number: int) -> None:
    process = start(
        "stop.updates=100000000",
        "trace.flush_s=1000.0",
        "stragglers.kind=slow-set",
        "stragglers.shift_s=0.01",
        **{progress.VARIABLE: "on"},
    )
    for line in process.stdout:
        if " update " in line and " update 0 " not in line:
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 1
    stopped, path = out.splitlines()[-2:]
    assert stopped.startswith("stopped: interrupted")
    assert path == f"trace: {trace_path}"
    loading, *starting = err.splitlines()  # nobody else reports progress
    assert re.fullmatch(r"pdcode: .*/job\.toml: 2 workers, loading digits", loading)
    assert starting == ["pdcode: starting 3 processes by mpirun"]
    trace = Trace(trace_path)
    assert trace.finished
    assert trace.theta is not None
    assert len(trace.arrivals["worker"]) > 50
    wait_for(lambda: not processes_of(process.pid), 30)


@pytest.mark.parametrize(
    ("override", "words"),
    with_system(
        *INVALID[1:3],
        system=[
            ("stragglers.slow=[99]", "stragglers.slow") if pair[0].startswith("workers") else pair
            for pair in (INVALID[0], *INVALID[3:])
        ],
    ),
)
def test_bad_input_under_a_launcher_is_one_line_and_exit_code_2(run, trace_path, tmp_path, override, words):
    mpirun, extra = launcher(2)
    done = run(override, timeout_s=200, launcher=tuple(mpirun), **extra)
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "pdcode: " in line]
    assert str(tmp_path / "job.toml") in line
    assert words in line
    assert "Traceback" not in done.stderr
    assert not trace_path.exists()


def test_an_older_trace_is_kept_and_its_path_may_have_odd_characters(run: object, tmp_path: Path) -> None:
    job, path = tmp_path / "job.toml", tmp_path / 'it\'s a "trace" of θ.h5'
    job.write_text(JOB, encoding="utf-8")
    assert main(["simulate", str(job), "-o", str(path), "--set", "stop.updates=5"]) == 0
    assert run("stop.updates=6", options=("-o", str(path)), workers=1).returncode == 0
    trace = Trace(path)
    assert trace.finished
    assert trace.updates["version"][-1] == 6
    assert Trace(path.with_name(f"{path.stem}.previous.h5")).updates["version"][-1] == 5
