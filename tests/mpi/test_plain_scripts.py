"""The batch scripts of jobs/ as plain scripts on a machine without SLURM."""

import subprocess
import sys
from pathlib import Path

import pytest
from grids import with_system
from paths import JOBS
from shell import environment

from pdcode import Trace

SHORT = ("--set", "workers.count=1", "--set", "stragglers.kind=none", "--set", "stop.updates=20")


def run(folder: Path, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", JOBS / script, *words],
        cwd=folder,
        env=environment() | {"PDCODE_VENV": sys.prefix},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("script", "arguments", "names"),
    with_system(
        ("train.sbatch", [], ["digits"]),
        ("sweep.sbatch", ["table.csv"], ["digits-1", "digits-2"]),
        system=[("faults.sbatch", [], ["digits"])],
    ),
)
def test_a_script_trains_without_slurm(tmp_path, script, arguments, names):
    (tmp_path / "table.csv").write_text("seed,update.mode\n5,first\n6,\n")
    done = run(tmp_path, script, str(JOBS / "digits.toml"), *arguments, *SHORT)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (tmp_path / "results").iterdir()
    traces = [Trace(path) for path in sorted(folder.glob("*.h5"))]
    assert [trace.path.stem for trace in traces] == names
    assert all(trace.finished for trace in traces)
    if arguments:
        runs = [(trace.config["seed"], trace.config["update"]["mode"]) for trace in traces]
        assert runs == [(5, "first"), (6, "async")]


def test_bad_input_has_its_line_and_exit_code(tmp_path: Path) -> None:
    done = run(tmp_path, "train.sbatch", "nowhere.toml")
    assert (done.returncode, done.stderr) == (2, "pdcode: nowhere.toml: No such file or directory\n")
    done = run(tmp_path, "sweep.sbatch", str(JOBS / "digits.toml"), "nowhere.csv")
    assert (done.returncode, done.stderr) == (2, "pdcode: nowhere.csv: No such file or directory\n")
