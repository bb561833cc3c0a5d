"""The shell scripts of jobs/."""

import os
import subprocess
from pathlib import Path

import pytest
from paths import JOBS
from shell import environment


@pytest.mark.parametrize(
    ("listed", "launcher"), [("pmix", "srun"), ("pmi2", "mpirun"), ("pmix_v4", "mpirun")]
)
def test_the_launcher_is_srun_where_slurm_speaks_pmix(tmp_path: Path, listed: str, launcher: str) -> None:
    """However long the list is that srun prints."""
    srun = tmp_path / "srun"
    srun.write_text(f"#!/bin/sh\necho MPI plugin types are >&2\nyes {listed} | head -n 100000\n")
    srun.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), "/usr/bin", "/bin"])
    script = f"set -euo pipefail; root={tmp_path}; . {JOBS}/env.sh; echo $PDCODE_LAUNCHER"
    done = subprocess.run(
        ["bash", "-c", script], env=environment() | {"PATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{launcher}\n"
