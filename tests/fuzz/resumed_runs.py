"""Resume runs over MPI from fabricated traces and damaged checkpoints.

    python tests/fuzz/resumed_runs.py cases=300 seed=1 first=0

A run is interrupted after some checkpoints. Each case damages its trace, rank 0's part of the checkpoint or a
worker's part, and resumes it by `pdcode run --resume`. It passes if that ends within `LIMIT_S` with exit code
0 and nothing on stderr, or with 2 and one line, or with 1 and one line because the run itself failed. A
plug-in that a fabricated trace names ends the process with exit code 99. The exit code is 1 if a case fails.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support"), str(HERE.parents[1])]

import damage  # noqa: E402
import fabricate  # noqa: E402
from kinds import damage_checkpoint  # noqa: E402

from pdcode.util import progress  # noqa: E402

LIMIT_S = 120.0
JOB = """
problem = {kind = "least-squares", data = "synthetic", samples = 60, features = 12, batch = 4}
code = {blocks = 4, weight = 2}
memory = {kind = "worker"}
workers = {count = 2}
stragglers = {kind = "shifted-exponential", shift_s = 0.01, mean_s = 0.01}
stop = {seconds = 2.0}
trace = {checkpoint_s = 0.2}
"""
DAMAGES = {"t.h5": fabricate.trace, "coordinator": damage_checkpoint, "worker-0": damage.content}


def command(folder: Path, job: Path) -> list[str]:
    """Return the command that resumes the run of a folder."""
    run = [sys.executable, "-P", "-m", "pdcode", "run", str(job), "--resume"]
    return [*run, "-o", str(folder / "t.h5")]


def interrupt(folder: Path, job: Path, environment: dict[str, str]) -> None:
    """Run the job until it has taken two checkpoints, and interrupt it."""
    run = subprocess.Popen(command(folder, job), env=environment, stdout=subprocess.DEVNULL)
    while not (folder / "t.h5.checkpoint" / "coordinator.older").exists():
        assert run.poll() is None, "the run ended before its second checkpoint"
        time.sleep(0.05)
    run.send_signal(signal.SIGUSR1)
    assert run.wait() == 75


def resume(
    source: random.Random, folder: Path, job: Path, environment: dict[str, str]
) -> tuple[str, int, str]:
    """Damage a file of the interrupted run and resume it; return the damage, the exit code and stderr."""
    checkpoint = folder / "t.h5.checkpoint"
    for older in checkpoint.glob("*.older"):
        older.unlink()
    name = source.choice([*DAMAGES])
    file = folder / name if name == "t.h5" else checkpoint / name
    said = f"{name}: {DAMAGES[name](source, file)}"
    resumed = subprocess.run(
        command(folder, job),
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        errors="replace",
    )
    return said, resumed.returncode, resumed.stderr


def main(words: list[str]) -> int:
    """Resume as many cases as the arguments say; return 1 if one failed."""
    given = {"cases": "300", "seed": "1", "first": "0"} | dict(word.split("=", 1) for word in words)
    first, failures, codes = int(given["first"]), 0, Counter[int]()
    environment = os.environ | progress.OFF
    with tempfile.TemporaryDirectory(prefix="resumed") as name:
        folder = Path(name)
        fabricate.surroundings(folder)
        (job := folder / "job.toml").write_text(JOB)
        (whole := folder / "whole").mkdir()
        interrupt(whole, job, environment)
        for case in range(first, first + int(given["cases"])):
            again = folder / "again"
            shutil.copytree(whole, again)
            said, code, errors = resume(random.Random(f"{given['seed']} {case}"), again, job, environment)
            lines = len(errors.splitlines())
            codes[code] += 1
            if (code, lines) not in ((0, 0), (1, 1), (2, 1)) or "Traceback" in errors:
                failures += 1
                print(f"{case}: {said}: exit code {code}\n{errors}", flush=True)
            shutil.rmtree(again)
    ends = ", ".join(f"{count} with exit code {code}" for code, count in sorted(codes.items()))
    print(f"{codes.total()} cases of seed {given['seed']}: {ends}; {failures} failed", flush=True)
    return failures > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
