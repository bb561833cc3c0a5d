"""A run on some of MPI's ranks, by a communicator that the caller gives."""

import subprocess
from pathlib import Path

from paths import ROOT

from pdcode import Trace
from pdcode.mpi import launch

PROGRAM = ROOT / "tests" / "mpi" / "programs" / "part.py"


def test_a_run_on_three_of_four_ranks(tmp_path: Path, trace_path: Path) -> None:
    config = tmp_path / "job.toml"
    config.write_text('problem = {data = "digits"}\nstop = {updates = 60}', encoding="utf-8")
    mpirun, environ = launch.command(3, [])
    done = subprocess.run(
        [*mpirun[:-3], str(PROGRAM), str(config), str(trace_path)],
        env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    counts = {line for line in done.stdout.splitlines() if line.startswith("rank ")}
    assert counts == {"rank 0: 1 ranks", *(f"rank {rank}: 3 ranks" for rank in (1, 2, 3))}
    trace = Trace(trace_path)
    assert trace.finished
    assert set(trace.arrivals["worker"]) == {0, 1}
