"""Python programs on ranks of mpirun, and runs on ranks that remain for the next ones."""

import atexit
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pool
from paths import ROOT, SUPPORT
from shell import environment

from pdcode.launch import launcher as start

JOB = """
seed = 3
[problem]
data = "digits"
hidden = [16]
batch = 16
[code]
blocks = [8, 1]
weight = 4
[optimizer]
rate = 0.2
[workers]
count = 2
[stop]
updates = 60
[trace]
progress_s = 0.2
flush_s = 0.2
"""
INVALID = [  # overrides, and words of what is said of them
    ("code.blocks=[8, 1, 1]", "code.blocks"),
    ("code.weight=9", "weight"),
    ("problem.data=nowhere.npz", "problem.data"),
    ("update.mode=never", "update.mode: expected one of async, all, first, quorum, captured"),
    ("stop.updates=0", "stop.updates"),
    ("workers.count=5000", "workers.count"),
    ("code.rows_per_task=1000", "code.rows_per_task"),
    ("code.family=nett", "(got 'nett'); did you mean 'net'?"),
]
NOT_STARTED = "listener thread failed to start"  # mpirun itself, now and then on a loaded machine
JOBS = ROOT / "tests" / "mpi" / "programs" / "jobs.py"
RANKS = 5  # of the pool; jobs on more have one of their own


def launcher(ranks: int, survives: bool = False) -> tuple[list[str], dict[str, str]]:
    """The start of a command for ranks of mpirun, as users give it, and what it wants of the environment."""
    command, extra = start.command(ranks - 1, [])
    kept = {name: value for name, value in extra.items() if name.startswith(("OMPI", "PRTE"))}
    options = command[: command.index(sys.executable)]
    return options if survives else [each for each in options if each not in start.SURVIVAL], kept


def on_ranks(
    ranks: int, *words: str, timeout_s: float = 200, survives: bool = False, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments on ranks, to the end."""
    command, kept = launcher(ranks, survives)
    own = environment() | kept | extra
    for _ in range(3):
        done = subprocess.run(
            [*command, sys.executable, *words], env=own, capture_output=True, text=True, timeout=timeout_s,
            check=False,
        )  # fmt: skip
        if NOT_STARTED not in done.stdout + done.stderr:
            break
    return done


class Pool:
    """Ranks of mpirun that run `pdcode` job after job; see `pool`."""

    def __init__(self, ranks: int, timeout_s: float = 200, **extra: str) -> None:
        command, kept = launcher(ranks)
        self.folder = Path(tempfile.mkdtemp(prefix="pdcode-pool-"))
        for name in ("ended", *map(str, range(ranks))):
            os.mkfifo(self.folder / name)
        (self.folder / "lock").touch()
        # Without a writer a rank's jobs end, and with them the rank.
        self._open = [os.open(self.folder / str(rank), os.O_RDWR) for rank in range(ranks)]
        self.ranks, self._log = ranks, self.folder / "log"
        for _ in range(3):
            with self._log.open("w") as log:
                self._mpirun = subprocess.Popen(
                    [*command, sys.executable, str(JOBS), str(self.folder)], env=environment() | kept | extra,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
            (self.folder / "mpirun").write_text(str(self._mpirun.pid))
            try:
                pool.wait(self.folder, ranks, self._mpirun.pid, timeout_s)
                break
            except pool.Ended:
                if NOT_STARTED not in self._log.read_text():
                    raise AssertionError(self._log.read_text()) from None
        # A launcher for PDCODE_LAUNCHER.
        self.launcher = self.folder / "mpirun.py"
        self.launcher.write_text(
            f"#!{sys.executable} -IS\nimport sys\nsys.path.append({str(SUPPORT)!r})\nimport pool\n"
            f"sys.exit(pool.main([{str(self.folder)!r}, *sys.argv[1:]]))\n"
        )
        self.launcher.chmod(0o700)

    def lives(self) -> bool:
        return self._mpirun.poll() is None

    def run(self, ranks: int, arguments: Sequence[str], timeout_s: float = 200) -> tuple[int, str, str]:
        """Run `pdcode` on the first ranks; return exit code, output and errors."""
        streams = [self.folder / name for name in ("out", "err")]
        for stream in streams:
            stream.write_bytes(b"")
        job = {
            "arguments": [*arguments], "streams": [*map(str, streams)], "folder": os.getcwd(),
            "environment": None,
        }  # fmt: skip
        try:
            code = pool.send(self.folder, ranks, job, self._mpirun.pid, timeout_s)
        except pool.Ended:
            code = self._mpirun.wait() or 1
        out, err = (stream.read_text() for stream in streams)
        return code, out, err + ("" if self.lives() else self._log.read_text())

    def pid(self, rank: int) -> int:
        return int((self.folder / f"{rank}.pid").read_text())

    def kill(self) -> None:
        self._mpirun.kill()

    def close(self) -> None:
        for fifo in self._open:
            os.close(fifo)
        try:
            self._mpirun.wait(20)
        except subprocess.TimeoutExpired:
            self._mpirun.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


_pools: list[Pool] = []  # the pool of this process


def shared_pool() -> Pool:
    """Return the pool of this process, a new one if its ranks have ended."""
    if _pools and not _pools[0].lives():
        _pools.pop().close()
    if not _pools:
        _pools.append(Pool(RANKS))
        atexit.register(close_pool)
    return _pools[0]


def close_pool() -> None:
    while _pools:
        _pools.pop().close()


class PoolJob:
    """A job on ranks of the pool that goes on meanwhile, like a `subprocess.Popen`; rank 0 gets signals."""

    def __init__(self, pool: Pool, workers: int, arguments: Sequence[str], timeout_s: float = 200) -> None:
        self.pool, self._said = pool, Path(pool.folder / "out")
        self.returncode: int | None = None
        self._said.write_bytes(b"")  # of the job before

        def run() -> None:
            self.returncode, self._out, self._err = pool.run(1 + workers, arguments, timeout_s)

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def lines(self) -> Iterator[str]:
        """Yield the lines of the output as they come."""
        with self._said.open() as said:
            line = ""
            while self.poll() is None or line:
                line += said.readline()
                if line.endswith("\n"):
                    yield line
                    line = ""
                elif self.poll() is None:
                    time.sleep(0.01)
                else:
                    return

    def send_signal(self, number: int, rank: int = 0) -> None:
        os.kill(self.pool.pid(rank), number)

    def poll(self) -> int | None:
        return None if self._thread.is_alive() else self.returncode

    def communicate(self, timeout: float = 200) -> tuple[str, str]:
        self._thread.join(timeout)
        assert not self._thread.is_alive(), f"no end within {timeout} s"
        return self._out, self._err

    def wait(self, timeout: float = 200) -> int | None:
        self.communicate(timeout)
        return self.returncode


class Run(NamedTuple):
    """What came of one run."""

    returncode: int
    stdout: str
    stderr: str
    path: Path  # of its trace


def run_all(
    folder: Path,
    workers: int,
    cases: Mapping[str, Sequence[str]],
    job: str = JOB,
    timeout_s: float = 200,
    alone: bool = False,
    pool: Pool | None = None,
    **extra: str,
) -> dict[str, Run]:
    """Run a job for each list of overrides, on ranks of a pool, into FOLDER/NAME.h5.

    If `alone`, with variables for MPI, or with more ranks than the pool has, the ranks are for these jobs.
    """
    config = folder / "job.toml"
    config.write_text(job, encoding="utf-8")
    own = Pool(1 + workers, **extra) if not pool and (alone or extra or workers >= RANKS) else None
    done = {}
    try:
        for name, overrides in cases.items():
            path = folder / f"{name}.h5"
            sets = [word for override in overrides for word in ("--set", override)]
            words = ["run", str(config), "-n", str(workers), "-o", str(path), *sets]
            done[name] = Run(*(pool or own or shared_pool()).run(1 + workers, words, timeout_s), path)
    finally:
        if own:
            own.close()
    return done


def monitoring(folder: Path) -> dict[str, str]:
    """The variables that have Open MPI count the bytes between ranks, into files of a folder."""
    values = {"enable": "1", "enable_output": "3", "filename": str(folder / "monitoring")}
    return {f"OMPI_MCA_pml_monitoring_{name}": value for name, value in values.items()}


def monitored(folder: Path, mean: bool = False) -> dict[tuple[int, int], float]:
    """These bytes, or the mean bytes of a message, by sender and receiver."""
    text = "".join(path.read_text() for path in folder.glob("monitoring.*.prof"))
    found = re.findall(r"^E\s+(\d+)\s+(\d+)\s+(\d+) bytes\s+(\d+) msgs", text, re.M)
    assert found, sorted(folder.iterdir())
    numbers = [[int(each) for each in row] for row in found]
    return {(source, to): size / (count if mean else 1) for source, to, size, count in numbers}
