"""jobs/train.sbatch in a real SLURM job, with either launcher."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from rig import Slurm

from pdcode import Trace

WORKERS = 4

CONFIG = """\
seed = 3
[problem]
kind = "softmax"
data = "digits"
[code]
blocks = 4
weight = 2
[stop]
updates = 200
seconds = 30.0
[trace]
path = "{trace}"
"""


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("launcher", "folder"), [("srun", "repository"), ("mpirun", "elsewhere")])
def test_job_trains_and_every_worker_takes_part(
    slurm: Slurm, tmp_path: Path, launcher: str, folder: str
) -> None:
    trace, output, config = tmp_path / "trace.h5", tmp_path / "output.txt", tmp_path / "train.toml"
    config.write_text(CONFIG.format(trace=trace))
    job = slurm.command(
        *("sbatch", "--parsable", f"--ntasks={WORKERS + 1}", f"--output={output}"),
        *(str(ROOT / "jobs" / "train.sbatch"), config.name if folder == "elsewhere" else str(config)),
        *("--set", "optimizer.rate=0.05"),
        cwd=ROOT if folder == "repository" else tmp_path,
        PDCODE_LAUNCHER=launcher,
        PDCODE_VENV=sys.prefix,
    )
    state = slurm.finished(job, within_s=120)
    printed = output.read_text(errors="replace") if output.exists() else "no output"
    assert state == "COMPLETED", printed + slurm.logs()

    result = Trace(trace)
    assert result.finished
    assert result.config["optimizer"]["rate"] == 0.05
    assert set(np.unique(result.arrivals["worker"])) == set(range(WORKERS))
