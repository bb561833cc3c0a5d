"""A disk that is full: one line, exit code 1, and a trace of all that had been flushed.

Files are kept from growing by a limit of the process, which asks for no disk of its own.
"""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import traces
from paths import JOBS, SUPPORT
from shell import environment

from pdcode.trace import Trace, opening, room
from pdcode.util.errors import Failure, InputError

KIB = 1024
JOB = JOBS / "digits.toml"


def limited(kib: int) -> Callable[[], None]:
    """Sets the limit in a process that is about to begin."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (kib * KIB, kib * KIB))


def simulate(path: Path, kib: int, *overrides: str) -> subprocess.CompletedProcess[str]:
    sets = [word for override in overrides for word in ("--set", override)]
    command = [sys.executable, "-m", "pdcode", "simulate", str(JOB), "-o", str(path), *sets]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(), timeout=60, preexec_fn=limited(kib)
    )


WRITE = """
import sys
import h5py
import numpy as np
import traces
from pdcode.util.errors import Failure
from pdcode.trace.schema import ARRIVALS, UPDATES
path, parameters, every, many = sys.argv[1], *map(int, sys.argv[2:])
flushed, closing = 0, False
writer = traces.writer(path)
try:
    for task in range(0, 40_000, many):
        if many == 1:
            writer.arrival(*traces.row(task=task))
            writer.update(task, task, 1, 0.5, 0.25)
        else:
            tasks = np.arange(task, task + many)
            writer.extend("arrivals", many, dict.fromkeys(ARRIVALS, 0) | {"task": tasks})
            writer.extend("updates", many, dict.fromkeys(UPDATES, 0) | {"version": tasks})
        if task % every == 0:
            writer.flush(task)
            flushed = task + many
    closing = True
    writer.close(np.zeros(parameters))
except Failure as failure:
    print(flushed, failure)
    calls = lambda: writer.flush(0), writer.close, lambda: writer.fault(0, 0, 0, "a", "b")
    for again in calls * (not closing):
        try:
            again()
        except Failure as failure:
            print(failure)
"""


def write(
    path: Path, kib: int, parameters: int = 1, every: int = 997, many: int = 1, program: str = WRITE
) -> str:
    """What the program prints, which must end well: of so many rows at a time, flushed every so many."""
    here = environment() | {"PYTHONPATH": str(SUPPORT)}
    command = [sys.executable, "-c", program, *map(str, (path, parameters, every, many))]
    done = subprocess.run(
        command, capture_output=True, text=True, env=here, timeout=60, preexec_fn=limited(kib)
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("kib", [4200, 4201, 4400, 5100, 5800, 6500])
@pytest.mark.parametrize(("every", "many"), [(997, 1), (20_000, 1), (10**9, 1), (4000, 1000), (10**9, 4000)])
def test_what_was_flushed_is_there(tmp_path: Path, kib: int, every: int, many: int) -> None:
    path = tmp_path / "a.h5"
    line = f"{path}: cannot write the trace: File too large"
    lines = write(path, kib, every=every, many=many).splitlines()
    flushed, _, said = lines[0].partition(" ")
    assert [said, *lines[1:]] == 4 * [line]
    trace = Trace(path)
    assert not trace.finished
    assert trace.arrivals.rows >= max(int(flushed), 10_000)
    for table in (trace.arrivals["task"], trace.updates["version"]):
        np.testing.assert_array_equal(table, np.arange(len(table)))


def test_no_room_for_the_checkpoint_leaves_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    assert write(path, 24 << 10, 4 << 20) == f"39881 {path}: cannot write the trace: File too large\n"
    trace = Trace(path)
    assert not trace.finished
    assert trace.arrivals.rows == trace.updates.rows == 40_000


def test_the_checkpoint_takes_the_room_of_its_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    assert write(path, 45 << 10, 4 << 20) == ""  # 32 MiB, and 7 of rows
    trace = Trace(path)
    assert trace.finished
    assert len(trace.theta) == 4 << 20
    assert path.stat().st_size < 41 << 20


def test_a_command_ends_with_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    done = simulate(path, 4400, "trace.flush_s=0.05")
    assert done.returncode == 1
    assert done.stderr == f"pdcode: {path}: cannot write the trace: File too large\n"
    trace = Trace(path)
    assert trace.arrivals.rows > 1000
    assert len(trace.arrivals["loss"]) == trace.arrivals.rows


def test_no_room_is_found_before_anything_starts(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    traces.writer(path).close()
    before = path.read_bytes()
    done = simulate(path, 3000)
    assert done.returncode == 2
    line = f"{JOB}: trace.path: cannot write '{path}': File too large (a trace wants 4 MiB at least)"
    assert done.stderr == f"pdcode: {line}\n"
    assert (sorted(tmp_path.iterdir()), path.read_bytes()) == ([path], before)


def test_a_trace_that_cannot_begin_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.h5"
    traces.writer(path).close(np.ones(3))
    before = path.read_bytes()
    monkeypatch.setattr(opening, "check", lambda path: None)
    monkeypatch.setattr(room, "reserve", full)
    with pytest.raises(Failure, match=r"a\.h5: cannot write the trace: No space left on device"):
        traces.writer(path)
    assert (sorted(tmp_path.iterdir()), path.read_bytes()) == ([path], before)
    kept = opening.previous(tmp_path / "b.h5")
    kept.write_bytes(before)
    with pytest.raises(Failure):
        traces.writer(tmp_path / "b.h5")
    assert sorted(tmp_path.iterdir()) == [path, kept]  # of an earlier run: not this one's to move


def full(descriptor: int, start: int, end: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_fails_though_it_had_room(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    fails = """def fail(file):
    raise RuntimeError("Can't flush (file write failed: errno = 5, error message = 'x')")
"""
    breaks = "        if task == 9000:\n            h5py.File.flush = fail\n"
    where = "        if task % every == 0:\n"
    program = WRITE.replace("try:\n", f"{fails}try:\n", 1).replace(where, breaks + where)
    line = f"{path}: cannot write the trace: Input/output error"
    said = write(path, 1 << 20, program=program).splitlines()
    assert said == [f"{8974} {line}", line, line, line]
    trace = Trace(path)
    np.testing.assert_array_equal(trace.arrivals["task"][:8974], np.arange(8974))


CANNOT = """
import errno, os
def cannot(descriptor, start, length):
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")
os.posix_fallocate = cannot
"""


@pytest.mark.parametrize(("kib", "parameters"), [(5100, 1), (24 << 10, 4 << 20)])
@pytest.mark.parametrize("how", [CANNOT, "import os\ndel os.posix_fallocate\n"])
def test_where_room_cannot_be_asked_for_zeros_take_it(
    tmp_path: Path, kib: int, parameters: int, how: str
) -> None:
    path = tmp_path / "a.h5"
    line = write(path, kib, parameters, program=how + WRITE).splitlines()[0]
    assert line.endswith(f" {path}: cannot write the trace: File too large")
    trace = Trace(path)
    assert not trace.finished
    assert trace.arrivals.rows >= int(line.split()[0]) > 10_000


def test_a_file_system_that_cannot_reserve_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("os.posix_fallocate")
    writer = traces.writer(tmp_path / "a.h5")
    writer.arrival(*traces.row(task=7))
    writer.close(np.ones(2))
    trace = Trace(tmp_path / "a.h5")
    assert trace.finished
    assert trace.arrivals["task"].tolist() == [7]


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        InputError, match=r"trace\.path: cannot write '.*a\.h5': (Not a directory|File exists)"
    ):
        traces.writer(tmp_path / "file" / "a.h5")


def test_a_code_that_finds_no_room_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    command = [sys.executable, "-m", "pdcode", "codes", "design", "net", "-n", "64", "-k", "32", "-w", "4"]
    done = subprocess.run(
        [*command, "-o", str(path)], capture_output=True, text=True, env=environment(), timeout=60,
        preexec_fn=limited(4),
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == f"pdcode: {path}: cannot write the code: File too large\n"


@pytest.mark.parametrize("number", [1, 5, 24, 40])
def test_an_interrupt_while_a_trace_is_begun_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "a.h5"
    traces.writer(path).close(np.ones(3))
    before, made, create = path.read_bytes(), [], h5py.Group.create_dataset

    def interrupted(group: h5py.Group, *arguments: object, **options: object) -> h5py.Dataset:
        made.append(group)
        if len(made) == number:
            raise KeyboardInterrupt
        return create(group, *arguments, **options)

    monkeypatch.setattr(h5py.Group, "create_dataset", interrupted)
    with pytest.raises(KeyboardInterrupt):
        traces.writer(path)
    assert (sorted(tmp_path.iterdir()), path.read_bytes()) == ([path], before)
