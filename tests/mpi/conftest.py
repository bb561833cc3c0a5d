"""Runs of the real command in processes of their own, each with a timeout."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from launches import JOB, PoolJob, shared_pool
from shell import environment

Start = Callable[..., "subprocess.Popen[str]"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def trace_path(tmp_path: Path) -> Path:
    return tmp_path / "trace.h5"


@pytest.fixture
def start(tmp_path: Path, trace_path: Path) -> Iterator[Start]:
    """Start ``pdcode run`` with the small job and overrides, in a process group of its own.

    What a failed test leaves running is ended: it would slow down the others.
    """
    started = list[subprocess.Popen[str]]()

    def start(
        *overrides: str, job: str = JOB, options: tuple[str, ...] = (), launcher: tuple[str, ...] = (),
        **extra: str,
    ) -> subprocess.Popen[str]:  # fmt: skip
        config = tmp_path / "job.toml"
        config.write_text(job, encoding="utf-8")
        sets = [word for override in overrides for word in ("--set", override)]
        own = [sys.executable, "-m", "pdcode", "run", str(config), "-o", str(trace_path)]
        command = [*launcher, *own, *sets, *options]
        started.append(subprocess.Popen(
            command, env=environment() | extra, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        ))  # fmt: skip
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=60)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def begin(tmp_path: Path, trace_path: Path) -> Iterator[Start]:
    """Start the same on ranks of the pool, for jobs in which no rank ends: what a signal ends, too."""
    begun = list[PoolJob]()

    def begin(*overrides: str, job: str = JOB, options: tuple[str, ...] = (), workers: int = 2) -> PoolJob:
        config = tmp_path / "job.toml"
        config.write_text(job, encoding="utf-8")
        sets = [word for override in overrides for word in ("--set", override)]
        words = ["run", str(config), "-n", str(workers), "-o", str(trace_path), *sets, *options]
        begun.append(PoolJob(shared_pool(), workers, words))
        return begun[-1]

    yield begin
    for job in begun:
        if job.poll() is None:  # of a failed test
            job.pool.kill()


@pytest.fixture
def run(start: Start, begin: Start) -> Run:
    """The same, to its end; by the command and on ranks of its own if `alone` or with variables."""

    def run(
        *overrides: str, timeout_s: float = 200, alone: bool = False, **options: object
    ) -> subprocess.CompletedProcess[str]:
        alone |= bool(options.keys() - {"job", "options", "workers"})
        process = (start if alone else begin)(*overrides, **options)
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"no end within {timeout_s} s\n{out}\n{err}")
        return subprocess.CompletedProcess((), process.returncode, out, err)

    return run
