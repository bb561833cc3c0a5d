"""jobs/train.sbatch as a plain script on a machine without SLURM."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from paths import ROOT

from pdcode import Trace


def test_script_trains_without_slurm(tmp_path: Path) -> None:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    environ["PDCODE_VENV"] = sys.prefix
    trace = tmp_path / "trace.h5"
    words = ("bash", ROOT / "jobs" / "train.sbatch", "jobs/digits.toml")
    limits = ("--set", "stop.updates=50", "--set", "stop.seconds=20", "-o", trace)
    done = subprocess.run(
        words + limits, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert Trace(trace).finished
