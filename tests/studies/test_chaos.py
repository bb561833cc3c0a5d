"""Trials under faults, beside the same without."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from pdcode import Trace
from pdcode.__main__ import main

pytestmark = pytest.mark.slow

JOB = """
problem = {hidden = [16], batch = 16}
code = {blocks = [8, 1]}
optimizer = {rate = 0.2}
workers = {count = 8}
stragglers = {kind = "shifted-exponential", mean_s = 0.005}
stop = {loss = 0.8}
"""


@pytest.fixture
def job(tmp_path: Path) -> str:
    path = tmp_path / "job.toml"
    path.write_text(JOB, encoding="utf-8")
    return str(path)


def row(out: str, name: str) -> list[str]:
    lines = [line.strip() for line in out.splitlines()]
    return re.split(r"\s{2,}", next(line for line in lines if line.startswith(name)))


def test_kills_cost_time_and_goodput(job: str, tmp_path: Path, capsys: Any) -> None:
    assert main(["chaos", job, "--trials", "3", "--kill", "4", "--processes", "1"]) == 0
    out = capsys.readouterr().out
    assert "3 of 3 trials reached training loss 0.8 (virtual clock)" in out
    assert row(out, "faults of a trial") == ["faults of a trial", "4", "4", "4"]
    assert 50 < float(row(out, "goodput")[1].split()[0]) < 95  # at most half of the machines are gone
    again = shlex.split(out.splitlines()[-1].partition(": pdcode ")[2])
    assert main([*again, "-o", str(tmp_path / "a.h5")]) == 0
    assert Trace(tmp_path / "a.h5").faults["kind"].tolist() == ["dead"] * 4


def test_trials_before_whose_kills_the_run_ends_are_named_and_not_counted(job: str, capsys: Any) -> None:
    """The death of a slow worker ends some runs before their kills."""
    slow = ["stragglers.slow=[7]", "stragglers.slowdown=5.0", "update.mode=all"]
    settings = [f"--set={each}" for each in (*slow, "faults.events=[{worker=7, at_s=0.01}]")]
    assert main(["chaos", job, "--trials", "4", "--kill", "2", "--processes", "1", *settings]) == 0
    out = capsys.readouterr().out
    assert "kills after the stop" in out
    late = re.findall(r"seed (\d+) \((\d) of 2 kills\)", " ".join(out.split()).partition("Not counted")[2])
    assert late
    assert all(int(happened) < 2 for _, happened in late)
    assert f"{4 - len(late)} of {4 - len(late)} trials reached" in out
    (repeated,) = re.findall(r"--set=seed=(\d+)", out)
    assert repeated not in dict(late)
    assert main(["chaos", job, "--trials", "1", "--kill", "2", "--processes", "1", *settings]) == 1
    assert "every trial reached the target before all its kills" in capsys.readouterr().err


def test_failures_at_a_rate(job: str, capsys: Any) -> None:
    often = ["--trials", "2", "--mtbf", "0.2", "--processes", "1", "--set", "stop.seconds=20"]
    assert main(["chaos", job, *often, "--set", "faults.failure={kind='stop', for_s=0.05}"]) == 0
    out = capsys.readouterr().out
    assert float(row(out, "faults of a trial")[1]) > 1
    assert "2 of 2 trials reached" in out


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ([], "faults: no faults are configured; give [faults], --mtbf or --kill"),
        (["--kill", "8"], "--kill 8: one of the 8 workers must be left"),
        (["--mtbf", "0"], "--mtbf 0: expected a time above 0"),
        (["--trials", "0", "--kill", "1"], "--trials 0: expected 1 to 1000"),
        (["--kill", "1", "--clock", "mpi"], "stop.seconds: not given"),
        (["--kill", "1", "--set", "faults.events=[{kind='full-disk', at_s=1}]"], "would end every run"),
        (
            ["--clock", "mpi", "--seconds", "9", "--set", "faults.events=[{kind='join', worker=1, at_s=1}]"],
            "workers.spares: 0: as often as workers come back by [faults] within stop.seconds = 9, 1 in",
        ),
    ],
)
def test_bad_input_is_told_in_a_line(job: str, capsys: Any, options: list[str], why: str) -> None:
    assert main(["chaos", job, *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert why in line
