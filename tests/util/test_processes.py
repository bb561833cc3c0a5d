"""Processes that share work: they end with the one that started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from grids import with_system
from shell import environment

from pdcode.util.errors import Failure
from pdcode.util.processes import Pool

PROGRAM = """
import os, sys, time
from pdcode.util.processes import Pool

def work(seconds):
    os.write(1, f"{os.getpid()}\\n".encode())  # at once, for the others print too
    time.sleep(seconds)
    return os.getpid()

if __name__ == "__main__":
    with Pool(2) as pool:
        for _ in pool.results(work, ((0, float(sys.argv[1])) for _ in range(4))):
            pass
        if sys.argv[2:]:
            raise SystemExit(sys.argv[2])
"""
PLAN = """
[problem]
hidden = [16]
[workers]
count = 4
[stop]
loss = 1e-9
seconds = 1e6
"""


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def gone(pids: list[int]) -> bool:
    until = time.monotonic() + 30
    while any(map(alive, pids)):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_they_end_when_the_one_that_started_them_is_killed(tmp_path: Path, number: int) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py"), "100"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    pids = [int(process.stdout.readline()) for _ in range(2)]
    os.kill(process.pid, number)
    process.communicate(timeout=60)  # less than they take by themselves
    assert process.returncode == -number
    assert gone(pids)


def test_a_failure_ends_them_too(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py"), "0.01", "over"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stderr) == (1, "over\n")
    assert gone([int(line) for line in done.stdout.splitlines()])


def test_one_that_is_killed_is_a_failure_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(PLAN)
    process = planning(tmp_path)
    workers = [child for child in children(process.pid) if b"spawn_main" in command_of(child)]
    os.kill(workers[0], signal.SIGKILL)
    _, err = process.communicate(timeout=200)
    assert (process.returncode, err) == (1, "pdcode: a process that shared the work was killed\n")
    assert gone(workers)


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


def planning(folder: Path) -> subprocess.Popen[str]:
    """A plan whose processes are at work."""
    command = [sys.executable, "-m", "pdcode", "plan", "job.toml", "--processes", "2", "--seconds", "0.05"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.startswith("your own configuration"):
            break
    until = time.monotonic() + 100
    while len(children(process.pid)) < 3:  # two, and Python's tracker of their semaphores
        assert time.monotonic() < until
        time.sleep(0.02)
    return process


@pytest.mark.system
@pytest.mark.parametrize("number", with_system(signal.SIGKILL, system=[signal.SIGINT, signal.SIGTERM]))
def test_a_plan_that_is_ended_leaves_nothing_behind(tmp_path: Path, number: int) -> None:
    (tmp_path / "job.toml").write_text(PLAN)
    process = planning(tmp_path)
    found = children(process.pid)
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=200)
    assert gone(found)
    if number != signal.SIGKILL:
        assert (process.returncode, err) == (1, "pdcode: interrupted\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.toml", "results"]
    assert not list((tmp_path / "results").iterdir())


def slow_square(value: float) -> float:
    time.sleep(0.002 * (value % 3))
    return value * value


def test_work_is_spread_over_processes_as_they_get_free() -> None:
    drawn = []

    def items():
        for number in range(7):
            drawn.append(number)
            yield f"item {number}", float(number)

    with Pool(2) as pool:
        found = {}
        for key, value in pool.results(slow_square, items()):
            assert len(drawn) <= len(found) + 2
            found[key] = value
        assert found == {f"item {number}": float(number) ** 2 for number in range(7)}
        assert list(pool.results(slow_square, [])) == []
        with pytest.raises(TypeError):
            list(pool.results(slow_square, [(0, "x")]))
    with Pool(1) as pool:
        assert list(pool.results(slow_square, [(0, 3.0), (1, 2.0)])) == [(0, 9.0), (1, 4.0)]


def killed_or_deaf(killed: bool) -> None:
    """Die, or be a run that takes the signal to end for its own, and then waits for more work."""
    if killed:
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(100)


def test_processes_beside_a_killed_one_end_even_if_deaf() -> None:
    with pytest.raises(Failure, match="was killed"), Pool(2) as pool:
        list(pool.results(killed_or_deaf, [(0, False), (1, True)]))
    assert gone([child for child in children(os.getpid()) if b"spawn_main" in command_of(child)])


def test_processes_that_are_killed_while_the_caller_works_are_a_failure() -> None:
    def killing() -> None:
        with Pool(2) as pool:
            for _ in pool.results(slow_square, ((number, 1.0) for number in range(100))):
                for child in children(os.getpid()):
                    if b"spawn_main" in command_of(child):
                        os.kill(child, signal.SIGKILL)
                time.sleep(0.1)

    with pytest.raises(Failure, match="a process that shared the work was killed"):
        killing()
