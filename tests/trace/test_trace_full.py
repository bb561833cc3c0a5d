"""A disk that is full: one line, exit code 1, and a trace of all that had been flushed.

Files are kept from growing by a limit of the process, which asks for no disk of its own.
"""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np
import pytest
import traces
from paths import JOBS, SUPPORT
from shell import environment

from pdcode.analysis import description
from pdcode.trace import disk, header, lock, opening
from pdcode.trace.reader import TraceReader
from pdcode.trace.schema import Column
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
        command, capture_output=True, text=True, env=environment(), timeout=200, preexec_fn=limited(kib)
    )


WRITE = """
import resource
import sys
import numpy as np
import traces
from pdcode.trace import disk
from pdcode.trace.schema import ARRIVALS, UPDATES
from pdcode.util.errors import Failure
path, parameters, every, many, least = sys.argv[1], *map(int, sys.argv[2:])
take, (_, most) = disk.reserve_space, resource.getrlimit(resource.RLIMIT_FSIZE)

def lose(descriptor, end):  # there is room, until HDF5 writes
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    take(descriptor, end)
    resource.setrlimit(resource.RLIMIT_FSIZE, (least, most))

if least:
    disk.reserve_space = lose
writer = traces.writer(path)
flushed = 0
try:
    for task in range(0, 40_000, many):
        if many == 1:
            writer.arrival(*traces.row(task=task))
            writer.update(task, task, 1, 0.5, 0.25, 0, -1, 0, 0)
        else:
            tasks = np.arange(task, task + many)
            writer.extend("arrivals", many, dict.fromkeys(ARRIVALS, 0) | {"task": tasks})
            writer.extend("updates", many, dict.fromkeys(UPDATES, 0) | {"version": tasks})
        if task % every == 0:
            writer.flush(task)
            flushed = task + many
    writer.close(np.zeros(parameters))
except Failure as failure:
    print(flushed, failure)
    for again in (lambda: writer.flush(0), lambda: writer.fault(0, 0, 0, "a", "b")) * (parameters == 1):
        try:
            again()
        except Failure as failure:
            print(failure)
"""


def write(
    path: Path, kib: int, parameters: int = 1, every: int = 997, many: int = 1, least: int = 0
) -> tuple[list[str], int]:
    """Lines and exit code of a process that writes so many rows at a time, and flushes every so many.

    HDF5 itself, which is to find room, finds only `least` bytes, if that is not 0.
    """
    here = environment() | {"PYTHONPATH": str(SUPPORT)}
    command = [sys.executable, "-c", WRITE, *map(str, (path, parameters, every, many, least))]
    done = subprocess.run(
        command, capture_output=True, text=True, env=here, timeout=200, preexec_fn=limited(kib)
    )
    assert done.stderr == ""
    return done.stdout.splitlines(), done.returncode


@pytest.mark.every(2)
@pytest.mark.parametrize(
    ("kib", "every", "many"),
    [(4200, 997, 1), (4400, 10**9, 1), (5100, 997, 1), (5801, 4000, 1000), (6500, 10**9, 4000)],
)
def test_what_was_flushed_is_there(tmp_path: Path, kib: int, every: int, many: int) -> None:
    path = tmp_path / "a.h5"
    line = f"{path}: cannot write the trace: File too large"
    (first, *others), code = write(path, kib, every=every, many=many)
    flushed, _, said = first.partition(" ")
    assert ([said, *others], code) == (3 * [line], 0)
    trace = TraceReader(path)
    assert not trace.finished
    assert trace.arrivals.rows >= max(int(flushed), 10_000)
    for table in (trace.arrivals["task"], trace.updates["version"]):
        np.testing.assert_array_equal(table, np.arange(len(table)))


def test_no_room_for_the_checkpoint_leaves_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    lines, _ = write(path, 24 << 10, 4 << 20)
    assert lines == [f"39881 {path}: cannot write the trace: File too large"]
    trace = TraceReader(path)
    assert not trace.finished
    assert trace.arrivals.rows == trace.updates.rows == 40_000
    assert write(path, 45 << 10, 4 << 20, many=1000) == ([], 0)  # 32 MiB, and 7 of rows
    assert TraceReader(path).finished
    assert path.stat().st_size < 41 << 20


@pytest.mark.parametrize("every", [997, 10**9])
def test_a_disk_that_fails_though_it_had_room(tmp_path: Path, every: int) -> None:
    path = tmp_path / "a.h5"
    line = f"{path}: cannot write the trace: File too large"
    (first, *others), code = write(path, 8000, every=every, least=3000 * KIB)
    flushed, _, said = first.partition(" ")
    assert ([said, *others], code) == (3 * [line], 1)  # HDF5's crash at the exit would be another code
    rows = TraceReader(path).arrivals["task"][: int(flushed)]
    np.testing.assert_array_equal(rows, np.arange(int(flushed)))


def test_a_command_ends_with_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    quick = "problem.hidden=[4]", "problem.batch=1", "trace.progress_s=10.0"
    done = simulate(path, 4250, "trace.flush_s=0.05", "stop.seconds=60", *quick)
    assert done.returncode == 1
    assert done.stderr == f"pdcode: {path}: cannot write the trace: File too large\n"
    trace = TraceReader(path)
    assert trace.arrivals.rows > 1000
    assert len(trace.arrivals["loss"]) == trace.arrivals.rows
    assert description.headline(trace).endswith("requested: cannot write the trace: File too large")


CUT = """
import os
import sys
import traces
from pdcode.util.errors import Failure
writer = traces.writer(sys.argv[1])
for task in range(3000):
    writer.arrival(*traces.row(task=task))
writer.flush(0)
os.truncate(sys.argv[1], 1000)
for end in (lambda: writer.flush(1), writer.close):
    try:
        end()
    except Failure as failure:
        print(failure)
"""


def test_a_trace_that_another_program_cuts_off_is_one_line(tmp_path: Path) -> None:
    path, here = tmp_path / "a.h5", environment() | {"PYTHONPATH": str(SUPPORT)}
    done = subprocess.run([sys.executable, "-c", CUT, path], capture_output=True, text=True, env=here)
    line = f"{path}: another program has cut off the trace while it was written\n"
    assert (done.stdout, done.stderr, done.returncode) == (2 * line, "", 1)


def test_a_file_system_that_turns_read_only_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = traces.writer(tmp_path / "a.h5")
    writer.arrival(*traces.row())

    def refused(*arguments: object, **named: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    opens = Path.open
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode: (opens if mode == "rb" else refused)(path, mode))
        patch.setattr(Path, "unlink", refused)
        with pytest.raises(Failure, match=r"a\.h5: cannot write the trace: Read-only file system$"):
            writer.close(np.zeros(3))
        lock._release_all()  # at the exit
    trace = TraceReader(tmp_path / "a.h5")
    assert (trace.arrivals.rows, trace.finished) == (1, False)


class Disk:
    """A disk of so many bytes that has one folder; HDF5 writes to space that is reserved."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size

    @property
    def free(self) -> int:
        return self.size - sum(path.stat().st_size for path in self.folder.iterdir())

    def reserve_space(self, descriptor: int, end: int) -> None:
        if (length := os.fstat(descriptor).st_size) < end:
            if end - length > self.free:
                raise OSError(errno.ENOSPC, "No space left on device")
            os.ftruncate(descriptor, end)

    def copy(self, source: BinaryIO, target: BinaryIO) -> None:
        whole, free = source.read(), self.free
        target.write(whole[:free])
        if free < len(whole):
            raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_is_full_when_a_trace_is_closed(tmp_path, monkeypatch):
    """Of whatever size: the trace is finished, also where there is no room for a copy, or tells why not."""
    monkeypatch.setattr(opening, "ensure_space_for_trace", lambda path: None)
    ends = []
    for size in range(1300 * KIB, 3800 * KIB, 200 * KIB):
        (folder := tmp_path / str(size)).mkdir()
        room, path = Disk(folder, size), folder / "a.h5"
        monkeypatch.setattr(disk, "reserve_space", room.reserve_space)
        monkeypatch.setattr(opening.shutil, "copyfileobj", room.copy)
        writer, flushed, said = traces.writer(path), 0, ""
        try:
            for task in range(4000):
                writer.arrival(*traces.row(task=task))
                if task % 500 == 0:
                    writer.flush(task)
                    flushed = task + 1
            writer.close(np.zeros(40_000))
        except Failure as failure:
            said = str(failure)
        assert room.free >= 0
        trace = TraceReader(path)
        ends.append((trace.finished, trace.arrivals.rows))
        assert trace.arrivals.rows >= flushed
        if not trace.finished:
            assert said == f"{path}: cannot write the trace: No space left on device"
            assert trace.faults["message"] == ["cannot write the trace: No space left on device"]
            assert "failed after 0 s" in description.headline(trace)
    assert sorted(ends) == ends
    assert {(False, 4000), (True, 4000)} < {*ends}
    assert ends.count((True, 4000)) > 5  # without room for a copy, too


def test_no_room_is_found_before_anything_starts(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    traces.writer(path).close()
    before = path.read_bytes()
    done = simulate(path, 3000)
    assert done.returncode == 2
    line = f"{JOB}: trace.path: cannot write '{path}': File too large (a trace needs at least 4 MiB)"
    assert done.stderr == f"pdcode: {line}\n"
    assert (sorted(tmp_path.iterdir()), path.read_bytes()) == ([path], before)


def test_a_trace_that_cannot_begin_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    traces.writer(path).close(np.ones(3))
    before = path.read_bytes()
    monkeypatch.setattr(opening, "ensure_space_for_trace", lambda path: None)
    monkeypatch.setattr(disk, "reserve_space", full)
    with pytest.raises(Failure, match=r"a\.h5: cannot write the trace: No space left on device"):
        traces.writer(path)
    assert (sorted(tmp_path.iterdir()), path.read_bytes()) == ([path], before)
    kept = opening.previous(tmp_path / "b.h5")
    kept.write_bytes(before)
    with pytest.raises(Failure):
        traces.writer(tmp_path / "b.h5")
    assert sorted(tmp_path.iterdir()) == [path, kept]  # of an earlier run: not this one's to move


def full(descriptor: int, end: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


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
        [*command, "-o", str(path)], capture_output=True, text=True, env=environment(), timeout=200,
        preexec_fn=limited(4),
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == f"pdcode: {path}: cannot write the code: File too large\n"


@pytest.mark.parametrize("number", [1, 5, 24, 40])
def test_an_interrupt_while_a_trace_is_begun_leaves_the_one_before(tmp_path, monkeypatch, number):
    path = tmp_path / "a.h5"
    traces.writer(path).close(np.ones(3))
    before, made, describe = path.read_bytes(), [], header.describe_column

    def interrupted(dataset: h5py.Dataset, column: Column) -> None:
        made.append(dataset)
        if len(made) == number:
            raise KeyboardInterrupt
        describe(dataset, column)

    monkeypatch.setattr(header, "describe_column", interrupted)
    with pytest.raises(KeyboardInterrupt):
        traces.writer(path)
    assert (sorted(tmp_path.iterdir()), path.read_bytes()) == ([path], before)
