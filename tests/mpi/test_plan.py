"""A plan on the trace of a slow run finds a configuration whose real run is there much sooner."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from shell import environment

from pdcode import Trace
from pdcode.__main__ import main

TARGET = 0.6
JOB = f"""
[problem]
hidden = [16]
batch = 16
[scheme]
name = "uncoded"
[update]
mode = "all"
[optimizer]
rate = 0.5
[workers]
count = 4
[stragglers]
kind = "bimodal"
shift_s = 0.005
extra_s = 0.15
probability = 0.2
[stop]
loss = {TARGET}
seconds = 30.0
[trace]
path = "slow.h5"
progress_s = 0.02
"""


def run(job: str) -> None:
    command = [sys.executable, "-m", "pdcode", "run", job]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr


def seconds(path: Path) -> float:
    """When a real run was measured to have come down to the target."""
    return float(Trace(path).summary(loss=TARGET)["target_s"])


@pytest.mark.system
@pytest.mark.usefixtures("on_pool")
def test_the_planned_run_beats_the_run_that_it_was_planned_from(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slow.toml").write_text(JOB, encoding="utf-8")
    run("slow.toml")
    before = seconds(tmp_path / "slow.h5")
    few = "--candidates", "8", "--seeds", "2", "--processes", "1"
    assert main(["plan", "slow.toml", "--trace", "slow.h5", *few, "-o", "fast.toml"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"recorded in slow\.h5: training loss 0\.6 (after|between) ", text)
    assert "predicted with its delays: " in text
    run("fast.toml")
    assert seconds(tmp_path / "slow.plan.h5") < 0.6 * before
