"""Simulations that are ended, and resume from a checkpoint as if they had not been."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from paths import JOBS
from shell import environment

import pdcode
from pdcode import Trace
from pdcode.trace.schema import TABLES


def job(path: Path, updates: int) -> dict[str, object]:
    return {
        "config": str(JOBS / "digits.toml"),
        "output": path,
        "set": {"stop.updates": updates, "stop.loss": 1e-9, "trace.checkpoint_s": 0.2},
    }


def test_the_trace_is_that_of_a_run_that_never_stopped(tmp_path: Path) -> None:
    path, updates = tmp_path / "cut.h5", 3000
    sets = [f"--set={key}={value}" for key, value in job(path, updates)["set"].items()]
    command = ["simulate", str(JOBS / "digits.toml"), "-o", str(path), "--resume", *sets]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "pdcode", *command], env=environment(), stdout=subprocess.PIPE, text=True
    )
    newest = tmp_path / "cut.h5.checkpoint" / "coordinator"
    while process.poll() is None and not newest.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 75
    assert 0 < Trace(path).updates.rows < updates
    cut = pdcode.simulate(**job(path, updates), resume=True, progress=False)
    whole = pdcode.simulate(**job(tmp_path / "whole.h5", updates), progress=False)
    for name in TABLES.keys() - {"segments"}:
        for key, column in getattr(whole, name).items():
            equal_nan = column.dtype.kind == "f"
            assert np.array_equal(column, getattr(cut, name)[key], equal_nan=equal_nan), (name, key)
    assert cut.theta.tobytes() == whole.theta.tobytes()
    assert cut.counters == whole.counters
    assert cut.segments.rows == 2
    again = pdcode.simulate(**job(path, updates), resume=True, progress=False)
    assert np.array_equal(again.segments["begun_ns"], cut.segments["begun_ns"])  # it has ended


def test_without_numerics_there_is_nothing_to_keep(tmp_path: Path) -> None:
    with pytest.raises(pdcode.InputError, match="--resume: a run of --timing-only"):
        pdcode.simulate(**job(tmp_path / "t.h5", 10), resume=True, timing_only=True)
