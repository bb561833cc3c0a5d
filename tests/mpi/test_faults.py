"""What happens when something goes wrong: exit codes, messages, traces that stay readable, no process
left."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pdcode import Trace
from pdcode.mpi import launch


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
        "faults.raise_worker=1",
        "faults.raise_task=150",
        "stop.updates=1000000",
        "stragglers.kind=slow-set",
        "stragglers.shift_s=0.01",
    )
    wait_for(lambda: rows(trace_path) > 0, 30)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, (out, err)
    assert "worker 1" in err
    assert "InjectedFault: worker 1 raises at task 150" in err
    assert "Traceback" in err
    wait_for(lambda: not processes_of(process.pid), 5)
    trace = Trace(trace_path)
    assert not trace.finished
    assert trace.arrivals["task"][trace.arrivals["worker"] == 1].max() >= 100
    assert last_ns(trace_path) > 1e9


def test_it_ends_within_five_seconds(start: object) -> None:
    process = start("faults.raise_worker=0", "faults.raise_task=20", "stop.updates=1000000")
    for line in process.stderr:
        if "InjectedFault" in line:
            break
    raised_s = time.monotonic()
    assert len(processes_of(process.pid)) >= 2
    process.communicate(timeout=30)
    assert process.returncode == 1
    wait_for(lambda: not processes_of(process.pid), 5)
    assert time.monotonic() - raised_s < 5


def test_rank_0_killed_in_mid_run_leaves_its_trace(start: object, trace_path: Path) -> None:
    process = start(
        "stop.updates=100000000", "stragglers.kind=slow-set", "stragglers.shift_s=0.005", "trace.flush_s=0.5"
    )
    wait_for(lambda: rows(trace_path) > 300, 40)
    seen_ns, seen_s = last_ns(trace_path), time.monotonic()
    time.sleep(2)
    os.kill(ranks_of(trace_path)[0], signal.SIGKILL)
    lived_s = time.monotonic() - seen_s
    process.communicate(timeout=60)
    assert process.returncode != 0
    wait_for(lambda: not processes_of(process.pid), 10)
    trace = Trace(trace_path)
    assert not trace.finished
    assert last_ns(trace_path) >= seen_ns + 1e9 * (lived_s - 1)  # all but the last second
    done = subprocess.run(
        [sys.executable, "-m", "pdcode", "show", str(trace_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_disk_that_fills_up_ends_the_job_with_one_line(start: object, trace_path: Path) -> None:
    process = start("stop.updates=100000000", "stragglers.kind=slow-set", "stragglers.shift_s=0.005")
    wait_for(lambda: rows(trace_path) > 300, 40)
    seen, full = rows(trace_path), trace_path.stat().st_size
    resource.prlimit(ranks_of(trace_path)[0], resource.RLIMIT_FSIZE, (full, full))  # takes no more
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == f"pdcode: {trace_path}: cannot write the trace: File too large\n"
    wait_for(lambda: not processes_of(process.pid), 5)
    trace = Trace(trace_path)
    assert not trace.finished
    assert trace.arrivals.rows >= seen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_an_interrupted_run_ends_with_a_whole_trace(start: object, trace_path: Path, number: int) -> None:
    process = start(
        "stop.updates=100000000",
        "trace.flush_s=1000.0",
        "stragglers.kind=slow-set",
        "stragglers.shift_s=0.005",
    )
    for line in process.stdout:
        if line.lstrip().startswith("2.0 s"):
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    stopped, path = out.splitlines()[-2:]
    assert stopped.startswith("stopped: interrupted")
    assert path == f"trace: {trace_path}"
    assert err == ""
    trace = Trace(trace_path)
    assert trace.finished
    assert trace.theta is not None
    assert len(trace.arrivals["worker"]) > 50
    wait_for(lambda: not processes_of(process.pid), 5)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("code.blocks=[8, 1, 1]", "code.blocks"),
        ("code.weight=9", "weight"),
        ("problem.data=nowhere.npz", "problem.data"),
        ("update.mode=never", "update.mode: expected one of async, all, first, captured (got 'never')"),
        ("stop.updates=0", "stop.updates"),
        ("workers.count=5000", "workers.count"),
        ("code.rows_per_task=1000", "code.rows_per_task"),
        ("code.family=nett", "code.family: 'nett' is not one of"),
    ],
)
@pytest.mark.parametrize("launched", [False, True], ids=["alone", "launched"])
def test_bad_input_is_one_line_and_exit_code_2(
    run: object, trace_path: Path, tmp_path: Path, override: str, words: str, launched: bool
) -> None:
    options = {}
    if launched:
        if override.startswith("workers"):
            override, words = "stragglers.slow=[99]", "stragglers.slow"
        command, extra = launch.command(2, [])
        options = {
            "launcher": tuple(command[:3]),
            **{name: value for name, value in extra.items() if name.startswith(("OMPI", "PRTE"))},
        }
    done = run(override, timeout_s=30, **options)
    assert done.returncode == 2, done.stderr
    ours = [line for line in done.stderr.splitlines() if "pdcode: " in line]
    assert len(ours) == 1
    assert str(tmp_path / "job.toml") in ours[0]
    assert words in ours[0]
    assert "Traceback" not in done.stderr
    if not launched:
        assert done.stderr.count("\n") == 1
    assert not trace_path.exists()


@pytest.mark.parametrize("path", ["/proc/nowhere/x.h5", "/proc", "/dev/null"])
def test_a_trace_that_cannot_be_written_is_refused_before_mpi_starts(run: object, path: str) -> None:
    done = run(options=("-o", path), timeout_s=30)
    assert done.returncode == 2
    assert f"job.toml: trace.path: cannot write '{path}'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_odd_characters_in_the_trace_path(run: object, tmp_path: Path) -> None:
    path = tmp_path / 'it\'s a "trace" of θ.h5'
    assert run(options=("-o", str(path))).returncode == 0
    assert Trace(path).finished


def test_a_file_that_is_no_trace_is_not_overwritten(run: object, trace_path: Path) -> None:
    trace_path.write_text("precious")
    done = run()
    assert done.returncode == 2
    assert "trace.path" in done.stderr
    assert trace_path.read_text() == "precious"


def test_a_run_without_an_end_is_refused(run: object, trace_path: Path) -> None:
    done = run(job="seed = 1")
    assert done.returncode == 2
    assert "stop: nothing ends the run" in done.stderr


def test_an_older_trace_is_kept(run: object, trace_path: Path) -> None:
    assert run("stop.updates=5").returncode == 0
    assert run("stop.updates=6").returncode == 0
    assert Trace(trace_path).updates["version"][-1] == 6
    assert Trace(trace_path.with_name("trace.previous.h5")).updates["version"][-1] == 5
