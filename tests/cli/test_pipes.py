"""Commands whose standard output nobody reads any more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from launches import JOB
from shell import environment

from pdcode import Trace


@pytest.mark.parametrize("options", [[], ["--timing-only"]])
def test_a_simulation_goes_on(tmp_path: Path, options: list[str]) -> None:
    job, trace = tmp_path / "job.toml", tmp_path / "trace.h5"
    job.write_text(JOB, encoding="utf-8")
    command = [sys.executable, "-m", "pdcode", "simulate", str(job), "-o", str(trace), *options]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=environment(), timeout=200)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
    assert Trace(trace).finished
    assert Trace(trace).counters["oracle_s"] > 0
