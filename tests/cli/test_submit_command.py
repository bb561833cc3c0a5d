"""`pdcode submit` without SLURM: the command, and what is refused. tests/cluster submits."""

import shlex
from pathlib import Path

import pytest
from outcomes import error_line
from paths import JOBS

from pdcode.__main__ import main

CHECKPOINTS = "--set", "trace.checkpoint_s=60"


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))  # has no sbatch
    (tmp_path / "job.toml").write_text("[workers]\ncount = 3\n[stop]\nupdates = 5\n")
    (tmp_path / "table.csv").write_text("seed,update.mode\n1,all\n2,\n")


def test_the_command_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "job.toml", "--set", "seed=4", "--dry-run", "--", "--time=5", "-p", "fast"]) == 0
    command = shlex.split(capsys.readouterr().out)
    assert command == [
        *("sbatch", "--job-name=job", "--ntasks=4", "--time=5", "-p", "fast"),
        *(str(JOBS / "train.sbatch"), str(tmp_path / "job.toml"), *CHECKPOINTS, "--set", "seed=4"),
    ]


def test_an_array_has_a_task_for_each_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "--dry-run", "--array", "table.csv", "-n", "8", "job.toml"]) == 0
    command = shlex.split(capsys.readouterr().out)
    assert command == [
        *("sbatch", "--job-name=job", "--ntasks=9", "--array=1-2"),
        *(str(JOBS / "sweep.sbatch"), str(tmp_path / "job.toml"), str(tmp_path / "table.csv"), *CHECKPOINTS),
    ]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (None, "no sbatch on PATH"),
        ("seed,update.mode\n1,all\n2,never\n", "table.csv: row 2: job.toml: update.mode: expected one of"),
        ("seed,code.colour\n1,all\n", "table.csv: row 1: job.toml: code.colour"),
        ("workers.count\n4\n4\n5\n", "table.csv: workers.count: 4 in row 1 and 5 in row 3"),
    ],
)
def test_bad_input_is_refused_in_one_line(tmp_path, capsys, table, words):
    (tmp_path / "table.csv").write_text(table or "seed\n1\n")
    assert main(["submit", "job.toml", "--array", "table.csv"]) == 2
    assert error_line(capsys).startswith(f"pdcode: {words}")


def test_what_sbatch_refuses_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sbatch").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "sbatch").chmod(0o755)
    assert main(["submit", "job.toml"]) == 1
    assert capsys.readouterr().err == "pdcode: sbatch has not accepted the job: exit code 3\n"
