"""Runs of the real command in processes of their own, each with a timeout."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from launches import JOB, shared_pool
from shell import environment

from pdcode.launch import launcher

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
def run(start: Start) -> Run:
    """The same, to its end, on ranks of the pool, unless they are `alone` or have variables of their own."""

    def run(
        *overrides: str, timeout_s: float = 200, alone: bool = False, **options: object
    ) -> subprocess.CompletedProcess[str]:
        if not (alone or options.keys() - {"job", "options"}):
            options[launcher.LAUNCHER] = str(shared_pool().launcher)
        process = start(*overrides, **options)
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"no end within {timeout_s} s\n{out}\n{err}")
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run
