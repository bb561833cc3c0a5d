"""Jobs whose processes do not want to end: all end in a bounded time, with a line that says who had to.

And signals: a second one ends a job at once, whatever it does; a start that waits for a rank names it.
"""

import os
import select
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from grids import with_system
from launches import launcher
from shell import environment

from pdcode.launch import siblings

START_S = 60.0  # between lines of output
LIMIT_S = 10.0 + 5.0  # of the end, as promised; on a machine that is busy
NAMES = {"function": "function", "data": "data", "start": "START"}
VARIABLE = "PDCODE_ENDS"  # by which processes of a job are found
FILE = """
import atexit, ctypes, os, signal, subprocess, sys, threading, time
import numpy as np

acted, START, RANK = [], np.ones(3), os.environ.get("OMPI_COMM_WORLD_RANK")
MUTEX = ctypes.create_string_buffer(64)


def call():
    for _ in range(2):
        ctypes.PyDLL(None).pthread_mutex_lock(MUTEX)  # with Python's lock, and whatever signals come


def data():
    x = np.random.default_rng(1).standard_normal((60, 3))
    return x, x @ np.arange(3.0)


class Late:
    def __del__(self):
        time.sleep(1000)


def deaf():
    for number in (1, 2, 15):
        signal.signal(number, signal.SIG_IGN)
    atexit.register(time.sleep, 1000)


if RANK == "{starts}":
    print("acts", flush=True)
    call()


def function(theta, x, y):
    if not acted and RANK == "{rank}" and np.abs(theta - START).min() >= {moved}:
        acted.append(True)
        print("acts", flush=True)
        {act}
    errors = x @ theta - y
    return 0.5 * np.mean(errors**2), x.T @ errors / len(x)
"""
WAYS = {  # not to exit: what rank 1 does, and words of the line
    "thread": ("threading.Thread(target=time.sleep, args=(1000,), name='reader').start()", "thread 'reader'"),
    "fork": ("os.fork() or time.sleep(1000)", ", started by rank 1, did not end"),
    "destructor": ("sys.modules['late'] = Late()", "rank 1 on "),
    "atexit": ("atexit.register(lambda: time.sleep(1000))", "exit handler, in {file}, line 39"),
    "deaf": ("deaf()", "rank 1 on "),
    "daemon": ("subprocess.Popen(['sleep', '1000'], start_new_session=True)", "started by rank 1"),
    "orphan": ("subprocess.run(['sh', '-c', 'setsid sleep 1000 &'])", "(sleep), started by rank 1"),
    "call": ("atexit.register(call)", "rank 1 on "),
    "stdout": ("atexit.register(lambda: [print('x' * 100) for _ in iter(int, 1)])", "exit handler"),
    "closed": ("os.closerange(0, 3) or os.closerange(5, 200)", "rank 1 on "),
    "stopped": ("atexit.register(os.kill, os.getpid(), signal.SIGSTOP)", "(stopped by a signal)"),
    "rank 0": ("atexit.register(time.sleep, 1000)", "rank 0 on "),
}  # fmt: skip
QUICK = "thread", "fork", "destructor"
OWN = "thread", "orphan", "call"  # under a launcher of the user's own


class Job:
    """A job of two ranks, of which one acts."""

    def __init__(
        self,
        folder: Path,
        act: str,
        rank: int,
        *overrides: str,
        own: bool = False,
        starts: object = "",
        moved: float = 0.02,  # of θ when the rank acts: in the run, not before
    ) -> None:
        folder.mkdir()
        self.file, self.mark = folder / "mine.py", f"{VARIABLE}={folder}/"
        self.file.write_text(FILE.format(rank=rank, act=act, starts=starts, moved=moved))
        keys = ", ".join(f'{key} = "{self.file}:{name}"' for key, name in NAMES.items())
        (folder / "job.toml").write_text(f'problem = {{ kind = "function", {keys} }}\nworkers.count = 1\n')
        command, extra = launcher(2) if own else ([], {})
        words = [*command, sys.executable, "-m", "pdcode", "run", folder / "job.toml", "-o", folder / "a.h5"]
        sets = [word for override in ("stop.updates=40", *overrides) for word in ("--set", override)]
        self._err = (folder / "err").open("w+")
        self.process = subprocess.Popen(
            [*words, *sets], env=environment() | extra | {VARIABLE: f"{folder}/"},
            stdout=subprocess.PIPE, stderr=self._err,
        )  # fmt: skip

    def until(self, words: str) -> None:
        """Read its output to a line with these words, and no further."""
        said, pipe = b"", self.process.stdout
        while words.encode() not in said:
            ready, _, _ = select.select([pipe], [], [], START_S)
            some = os.read(pipe.fileno(), 4096) if ready else b""
            assert some, (said, self.end())
            said += some

    def end(self) -> tuple[int, str]:
        """Wait for its end, which is bounded; return exit code and errors, without processes left."""
        try:
            code = self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            code = None
        left = self.processes()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        self._err.seek(0)
        err = self._err.read()
        assert code is not None, f"no end within {LIMIT_S} s: {err}"
        assert not left, err
        return code, err

    def processes(self) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                lives = entry.name.isdigit() and siblings.lives(int(entry.name))
                if lives and f"{self.mark}\0".encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        return found


def ended(folder: Path, way: str, own: bool) -> str:
    """Run a job; return what is wrong with its end."""
    act, words = WAYS[way]
    # Rank 0 may measure the first θ alone.
    rank, moved = (0, 0.0) if way == "rank 0" else (1, 0.02)
    job = Job(folder / way.replace(" ", ""), act, rank, own=own, moved=moved)
    job.until("trace: ")
    try:
        code, err = job.end()
    except AssertionError as error:
        return f"{way}: {error}"
    said = [line for line in err.splitlines() if words.format(file=job.file) in line]
    return "" if said and (not code or own) else f"{way}: exit code {code}: {err}"


CASES = with_system((QUICK, False), system=[([way for way in WAYS if way not in QUICK], False), (OWN, True)])


@pytest.mark.parametrize(("ways", "own"), CASES, ids=str)
def test_a_job_whose_processes_do_not_end_is_ended_with_a_line(ways, own, tmp_path):
    with ThreadPoolExecutor(3) as pool:  # they mostly wait
        assert not [*filter(None, pool.map(lambda way: ended(tmp_path, way, own), ways))]


PHASES = {  # what a rank does, and when; how many signals end the job; its exit code; words of a line
    "start": ("pass", 0, (), 1, "acts", 1, 1, "interrupted"),
    "run": ("call()", 0, ("stop.updates=100000000",), None, "acts", 2, 1, "the second signal"),
    "drain": ("call()", 1, ("stop={seconds=1.0, drain_s=1000.0}",), None, "acts", 1, 0, ""),
    "end": ("atexit.register(time.sleep, 1000)", 1, (), None, "trace: ", 1, 0, "rank 1 on "),
}


def signalled(folder: Path, phase: str) -> str:
    """Run a job and signal; return what is wrong with its end."""
    act, rank, overrides, starts, words, signals, code, line = PHASES[phase]
    job = Job(folder / phase, act, rank, *overrides, starts=starts)
    job.until(words)
    for _ in range(signals):
        time.sleep(1.5)  # it is in that phase then, and two signals are two requests
        if job.process.poll() is None:
            job.process.send_signal(signal.SIGINT)
    try:
        ended, err = job.end()
    except AssertionError as error:
        return f"{phase}: {error}"
    return "" if ended == code and line in err else f"{phase}: exit code {ended}: {err}"


def test_signals_end_a_job_in_every_phase(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        assert not [*filter(None, pool.map(lambda phase: signalled(tmp_path, phase), PHASES))]
