"""The plug-ins of docs/extending.md, all in one run, over MPI and on a virtual fleet spread over ranks."""

import subprocess
import sys
from pathlib import Path

import extending
import pytest
from launches import on_ranks
from shell import environment

from pdcode import Trace

SETS = ["stop.updates=60", "optimizer.rate=0.05", "workers.count=3"]


def pdcode(*arguments: object, ranks: int = 0) -> str:
    words = ["-m", "pdcode", *map(str, arguments)]
    if ranks:
        done = on_ranks(ranks, *words)
    else:
        command = [sys.executable, *words]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.every(2)
@pytest.mark.parametrize("how", ["run", "simulate"])
def test_all_examples_in_one_run(tmp_path: Path, how: str) -> None:
    job, trace = tmp_path / "job.toml", tmp_path / "trace.h5"
    examples = extending.paste(tmp_path)
    del examples["ring"]  # whose sums the example of a decoder does not decode; tests/test_plugins.py runs it
    job.write_text(extending.together(examples), encoding="utf-8")
    words = [how, job, "-o", trace, *(word for each in SETS for word in ("--set", each))]
    pdcode(*words, ranks=3 if how == "simulate" else 0)
    config = Trace(trace).config
    chosen = [config[table]["kind"] for table in ("stragglers", "decoder", "problem", "optimizer")]
    assert chosen == ["weibull", "diagonal", "huber", "adagrad"]
    chosen = [config["code"]["family"], config["update"]["mode"], config["wire"]["dtype"]]
    assert chosen == ["ladder", "deadline", "ternary"]
    assert config["scheme"] == {"name": "clipped", "preset": None, "options": {"norm": 0.5}, "given": None}
    assert "bit-identical" in pdcode("replay", trace)
