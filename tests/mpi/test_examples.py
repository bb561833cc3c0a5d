"""The plug-ins of docs/extending.md, all in one run, over MPI and on a virtual fleet spread over ranks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import extending
import pytest
from shell import environment

from pdcode import Trace
from pdcode.mpi import launch

SETS = ["stop.updates=60", "optimizer.rate=0.05", "workers.count=3"]


def pdcode(*arguments: object, launcher: tuple[str, ...] = (), **extra: str) -> str:
    command = [*launcher, sys.executable, "-m", "pdcode", *map(str, arguments)]
    done = subprocess.run(
        command, env=environment() | extra, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("how", ["run", "simulate"])
def test_all_examples_in_one_run(tmp_path: Path, how: str) -> None:
    job, trace = tmp_path / "job.toml", tmp_path / "trace.h5"
    job.write_text(extending.together(extending.paste(tmp_path)), encoding="utf-8")
    words = [how, job, "-o", trace, *(word for each in SETS for word in ("--set", each))]
    if how == "run":
        pdcode(*words)
    else:
        command, extra = launch.command(2, [])
        pdcode(*words, launcher=tuple(command[:3]), **extra)
    config = Trace(trace).config
    chosen = [config[table]["kind"] for table in ("stragglers", "decoder", "problem")]
    assert [*chosen, config["code"]["family"]] == ["weibull", "diagonal", "huber", "ladder"]
    assert config["scheme"] == {"name": "clipped", "preset": None, "options": {"norm": 0.5}}
    assert "bit-identical" in pdcode("replay", trace)
