"""Runs on a disk that fills at a random moment, also while a trace is closed: what can be read afterwards?

    python tests/soak/full_disk.py runs=20 seed=1 clock=mpi

A run writes its trace and checkpoints to a small file system of its own. At a random moment, in half of the
runs around the stop, a file takes all of its space but a random rest. A run passes if it ends with exit code
0, or with one line about the disk; if its trace, provided that one was begun, opens, is not called killed or
running, and replays; and if a failed run's trace names the cause. The exit code is 1 if one does not pass.

Mounting is done in a namespace of this process (``unshare``), which needs no root where that is allowed.
"""

import io
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

from pdcode.__main__ import main
from pdcode.util import progress

JOB = """
problem = {kind = "least-squares", data = "synthetic", samples = 64, features = 32, batch = 4}
code = {blocks = 4, weight = 2}
optimizer = {rate = 0.01}
memory = {kind = "worker"}
workers = {count = 3}
stragglers = {kind = "shifted-exponential", shift_s = 0.0005, mean_s = 0.0005}
stop = {seconds = 3.0}
trace = {checkpoint_s = 0.3, flush_s = 0.2}
"""
SIZE = 12 << 20  # bytes of the file system
RESTS = 0, 30_000, 300_000, 1_500_000, 3_000_000  # bytes at most that are left
FULL = "No space left on device"


class Run(NamedTuple):
    """Outcome of a run; `problem` is empty if it passed."""

    moment_s: float  # when the disk was filled, since the trace was begun
    rest: int  # bytes that were left
    code: int
    shown: str  # the first line of `pdcode show`
    problem: str


def fill(folder: Path, rest: int) -> None:
    """Take all space of a file system but `rest` bytes."""
    with (folder / "other").open("wb", buffering=0) as other:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize > rest:
                    other.write(b"x" * size)
            except OSError:
                continue


def command(*words: str) -> tuple[int, str]:
    """Run a command in this process; return its exit code and what it printed."""
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        code = main([*words])
    return code, printed.getvalue()


def run(folder: Path, clock: str, moment_s: float | None, rest: int = 0) -> Run:
    """Run a job whose disk is filled at a moment after its trace was begun; None: after the run's end."""
    path = folder / "t.h5"
    (folder / "job.toml").write_text(JOB)
    words = ["run" if clock == "mpi" else "simulate", str(folder / "job.toml"), "-o", str(path)]
    job = subprocess.Popen(
        [sys.executable, "-P", "-m", "pdcode", *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ | progress.OFF,
    )  # fmt: skip
    while job.poll() is None and not path.exists():
        time.sleep(0.005)
    began_s = time.monotonic()
    if moment_s is None:
        job.wait(timeout=120)
        moment_s = time.monotonic() - began_s
    time.sleep(moment_s)
    fill(folder, rest)
    _, errors = job.communicate(timeout=120)
    if not path.exists():
        ended = job.returncode in (1, 2) and FULL in errors and errors.count("\n") == 1
        return Run(moment_s, rest, job.returncode, "no trace was begun", "" if ended else errors)
    shown, lines = command("show", str(path))
    replayed, verdict = command("replay", str(path))
    first = lines.partition("\n")[0]
    problem = ""
    if shown or replayed:
        problem = f"show {shown}: {first}; replay {replayed}: {verdict}"
    elif job.returncode and not (job.returncode == 1 and FULL in errors and errors.count("\n") == 1):
        problem = f"stderr: {errors}"
    elif ("failed" in first and FULL in first) != bool(job.returncode):
        problem = "another end is shown"
    return Run(moment_s, rest, job.returncode, first.removeprefix(f"{path}: "), problem)


def runs(count: int, seed: int, clock: str, length_s: float) -> list[Run]:
    """Run jobs, each on a disk of its own, and print a line for each.

    `length_s` is how long a trace is written; 0: measured in a run whose disk is filled after its end.
    """
    source, done = random.Random(seed), list[Run]()
    while len(done) < count:
        moment_s = source.gauss(length_s, 0.03 * length_s) if len(done) % 2 else source.uniform(0, length_s)
        rest = source.randint(0, source.choice(RESTS)) if length_s else SIZE
        with tempfile.TemporaryDirectory(prefix="full-disk") as name:
            mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", name]
            subprocess.run(mount, check=True)
            try:
                last = run(Path(name), clock, max(0.0, moment_s) if length_s else None, rest)
            finally:
                subprocess.run(["umount", name], check=True)
        if length_s:
            done.append(last)
        length_s = length_s or last.moment_s
        left = f"{last.moment_s:5.2f} s, {last.rest:>10,} bytes left"
        print(f"{left}: exit code {last.code}: {last.shown}", flush=True)
        if last.problem:
            print(f"        FAILED: {last.problem}", flush=True)
    return done


def command_line() -> int:
    """Run as the arguments say, in a namespace for mounts; return 1 if a run did not pass."""
    given = {"runs": "20", "seed": "1", "clock": "mpi", "length": "0"}
    given |= dict(word.split("=", 1) for word in sys.argv[1:])
    if "inside" not in given:
        user = [] if os.geteuid() == 0 else ["--map-root-user"]
        os.execvp("unshare", ["unshare", "--mount", *user, sys.executable, *sys.argv, "inside="])
    done = runs(int(given["runs"]), int(given["seed"]), given["clock"], float(given["length"]))
    failed = sum(bool(each.problem) for each in done)
    print(f"{len(done)} runs, {sum(each.code == 0 for each in done)} to their end; {failed} failed the test")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(command_line())
