"""Python programs on ranks of mpirun, and several runs in one start of it."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from paths import ROOT
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
RUNS = ROOT / "tests" / "mpi" / "programs" / "runs.py"


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
    **extra: str,
) -> dict[str, Run]:
    """Run a job for each list of overrides, in one start of mpirun, into FOLDER/NAME.h5."""
    config = folder / "job.toml"
    config.write_text(job, encoding="utf-8")
    paths = {name: folder / f"{name}.h5" for name in cases}
    lists = []
    for name, overrides in cases.items():
        sets = [word for override in overrides for word in ("--set", override)]
        lists.append([str(config), "-n", str(workers), "-o", str(paths[name]), *sets])
    done = on_ranks(1 + workers, str(RUNS), json.dumps(lists), timeout_s=timeout_s, **extra)
    assert done.returncode == 0, done.stdout + done.stderr
    parts = zip(*(text.split("\f") for text in (done.stdout, done.stderr)), strict=True)
    *printed, _ = parts
    return {
        name: Run(int(out.rpartition("\n")[2]), out.rpartition("\n")[0], err, path)
        for (name, path), (out, err) in zip(paths.items(), printed, strict=True)
    }


def monitoring(folder: Path) -> dict[str, str]:
    """The variables that have Open MPI count the bytes between ranks, into files of a folder."""
    values = {"enable": "1", "enable_output": "3", "filename": str(folder / "monitoring")}
    return {f"OMPI_MCA_pml_monitoring_{name}": value for name, value in values.items()}


def monitored(folder: Path, mean: bool = False) -> dict[tuple[int, int], float]:
    """These bytes, or those of a message in the mean, by sender and receiver."""
    text = "".join(path.read_text() for path in folder.glob("monitoring.*.prof"))
    found = re.findall(r"^E\s+(\d+)\s+(\d+)\s+(\d+) bytes\s+(\d+) msgs", text, re.M)
    assert found, sorted(folder.iterdir())
    numbers = [[int(each) for each in row] for row in found]
    return {(source, to): size / (count if mean else 1) for source, to, size, count in numbers}
