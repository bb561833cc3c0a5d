"""The lock on a trace's name: one run writes it, and what is there is never lost."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import traces
from paths import ROOT, SUPPORT

import pdcode
from pdcode.__main__ import main
from pdcode.trace import lock, opening
from pdcode.trace.reader import TraceReader
from pdcode.util.errors import InputError

HOLD = """
import sys, traces
from pathlib import Path
writer = traces.writer(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
writer.close()
"""
JOB = """
problem = {kind = "least-squares", data = "synthetic", samples = 20, features = 4}
code = {blocks = 2, weight = 2}
workers = {count = 2}
stop = {updates = 3}
"""


def start(path: Path, **more: str) -> subprocess.Popen[str]:
    """Start a process that writes a trace until its standard input ends."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(SUPPORT), str(ROOT)])} | more
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], env=environment, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = start(tmp_path / "a.h5")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def job(tmp_path: Path) -> str:
    path = tmp_path / "job.toml"
    path.write_text(JOB)
    return str(path)


def test_a_trace_that_is_being_written_is_not_taken(tmp_path, holder, job, capsys):
    path = tmp_path / "a.h5"
    for output in (path, tmp_path / "sub" / ".." / "a.h5"):
        for command in ("simulate", "run"):
            assert main([command, job, "-n", "2", "-o", str(output)]) == 2
            assert f"a.h5' is being written by process {holder.pid} on " in capsys.readouterr().err
    assert not TraceReader(path).finished
    assert holder.communicate("", timeout=200) == ("", "")
    assert TraceReader(path).finished
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.h5", "job.toml", "sub"]


def test_the_trace_before_is_not_taken_while_it_is_written(tmp_path, job, capsys):
    traces.writer(tmp_path / "a.h5").close()
    process = start(tmp_path / "a.previous.h5")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert main(["simulate", job, "-o", str(tmp_path / "a.h5")]) == 2
    assert f"a.previous.h5' is being written by process {process.pid} on " in capsys.readouterr().err
    assert process.communicate("", timeout=200) == ("", "")
    assert TraceReader(tmp_path / "a.previous.h5").finished


def test_a_killed_run_locks_nothing(tmp_path: Path, holder: subprocess.Popen[str], job: str) -> None:
    holder.kill()
    holder.wait()
    assert (tmp_path / "a.h5.lock").exists()
    assert main(["simulate", job, "-o", str(tmp_path / "a.h5")]) == 0
    assert TraceReader(tmp_path / "a.h5").finished
    assert not TraceReader(tmp_path / "a.previous.h5").finished
    assert not (tmp_path / "a.h5.lock").exists()


def test_a_process_with_the_key_shares_the_lock(tmp_path: Path) -> None:
    """As rank 0 does, for which `pdcode run` has taken the lock before it starts mpirun."""
    path = tmp_path / "a.h5"
    held = lock.acquire(path)
    stranger = start(path)
    told = stranger.communicate("", timeout=200)[1]
    assert f"a.h5' is being written by process {os.getpid()} on " in told
    assert not path.exists()
    assert start(path, **{lock.KEY: held.key}).communicate("", timeout=200) == ("ready\n", "")
    assert TraceReader(path).finished
    held.cancel()
    assert [each.name for each in tmp_path.iterdir()] == ["a.h5"]


def test_what_becomes_of_older_traces_is_said(tmp_path, job, capsys):
    outputs = []
    for _ in range(3):
        assert main(["simulate", job, "-o", str(tmp_path / "a.h5")]) == 0
        outputs.append(capsys.readouterr().out)
    kept = f"the trace that was there is kept as {tmp_path / 'a.previous.h5'}"
    assert "the trace that was there" not in outputs[0]
    assert f"{kept}\n" in outputs[1]
    assert f"{kept}, in place of an older one\n" in outputs[2]


@pytest.mark.parametrize("name", ["a.h5", "a.previous.h5", "a.h5.lock"])
def test_no_file_of_the_user_is_overwritten_by_a_trace(tmp_path, job, name, capsys):
    if name == "a.previous.h5":
        traces.writer(tmp_path / "a.h5").close()
    with h5py.File(tmp_path / name, "w") as file:
        file["x"] = np.arange(3)
    before = {each: each.read_bytes() for each in tmp_path.iterdir()}
    assert main(["simulate", job, "-o", str(tmp_path / "a.h5")]) == 2
    assert name in capsys.readouterr().err
    with pytest.raises(InputError, match=name):
        traces.writer(tmp_path / "a.h5")
    assert {each: each.read_bytes() for each in tmp_path.iterdir()} == before


def test_a_trace_that_is_read_is_not_renamed(tmp_path, job, capsys):
    traces.simulate(tmp_path / "a.previous.h5", seconds=0.05)
    for option in ("--stragglers", "--cost"):
        read = str(tmp_path / "a.previous.h5")
        assert main(["simulate", job, option, read, "-o", str(tmp_path / "a.h5")]) == 2
        assert "an input file cannot be overwritten" in capsys.readouterr().err


def test_the_key_outlives_a_look_at_the_trace_before(tmp_path: Path, job: str) -> None:
    """`pdcode run` locks the older trace for a moment, and then starts rank 0 with the key of the new one."""
    path = tmp_path / "a.h5"
    for _ in range(2):
        assert main(["simulate", job, "-o", str(path)]) == 0
    held = opening.reserve(path)
    assert start(path, **{lock.KEY: held.key}).communicate("", timeout=200) == ("ready\n", "")
    held.cancel()


def test_a_writer_that_ends_leaves_the_next_ones_lock_alone(tmp_path: Path) -> None:
    """In a notebook that runs a cell again, the garbage collector ends the first one's use at any time."""
    path, first, second = tmp_path / "a.h5", {1}, {2}  # stand for writers
    end_first = lock.acquire(path).attach(first)
    held = lock.acquire(path)
    end_first()
    assert (tmp_path / "a.h5.lock").exists()
    end_second = held.attach(second)
    end_second()
    assert not list(tmp_path.iterdir())
    again = lock.acquire(path)
    assert again is not held
    held.cancel()
    assert (tmp_path / "a.h5.lock").exists()
    again.cancel()
    assert not list(tmp_path.iterdir())


def test_links_beside_a_trace_are_not_followed(tmp_path: Path) -> None:
    """In a folder where others may write they could name any file of the user's."""
    path, victim = tmp_path / "a.h5", tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "a.h5.amended").symlink_to(victim)
    job = {"problem": {"hidden": [8]}, "workers": {"count": 2}, "stop": {"updates": 4}}
    trace = pdcode.simulate(job, output=path, progress=False)
    assert trace.finished
    assert "oracle_s" in trace.counters  # added after the end, by way of the copy
    assert victim.read_text() == "mine"
    assert not (tmp_path / "a.h5.amended").is_symlink()
    (tmp_path / "b.h5.lock").symlink_to(tmp_path / "created")
    with pytest.raises(InputError, match=r"b\.h5\.lock' is a symbolic link; remove it"):
        pdcode.simulate(job, output=tmp_path / "b.h5", progress=False)
    assert not (tmp_path / "created").exists()
