"""Replicas of θ over real MPI: relayed codewords, and what becomes of a replica that has gone wrong."""

from pathlib import Path

import numpy as np
import pytest
from launches import Run, on_ranks, run_all

from pdcode import Trace

PROGRAM = Path(__file__).parent / "programs" / "replica.py"
PRESETS = {
    "default": ["optimizer.rate=0.3", "stop.updates=150"],
    "starved": ["optimizer.rate=0.3", "stop.updates=100"],
    "shards": [
        "problem.kind=least-squares", "problem.data=synthetic", "problem.features=300", "problem.outputs=8",
        "optimizer.rate=0.1",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    cases = {preset: [f"scheme.preset={preset}", *others] for preset, others in PRESETS.items()}
    return run_all(tmp_path_factory.mktemp("presets"), 3, cases, job="[stop]\nupdates = 60")


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_learn(runs: dict[str, Run], preset: str) -> None:
    assert runs[preset].returncode == 0, runs[preset].stderr
    trace = Trace(runs[preset].path)
    assert trace.progress["loss"][-1] < 0.7 * trace.progress["loss"][0]
    assert set(trace.arrivals["worker"]) == {0, 1, 2}
    up = trace.arrivals["bytes_up"].mean()
    assert up < trace.attributes["gradient_bytes"] / 8
    if preset == "default":
        assert trace.arrivals["bytes_down"].mean() < trace.attributes["gradient_bytes"]


def test_a_damaged_replica_ends_the_job_and_says_so(tmp_path: Path, trace_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text(
        "[downlink]\nkind = 'codewords'\ncheck = 16\n[workers]\ncount = 3\n[stop]\nupdates = 1000000\n",
        encoding="utf-8",
    )
    done = on_ranks(4, str(PROGRAM), "run", str(job), "-o", str(trace_path))
    assert done.returncode == 1, done.stdout + done.stderr
    message = "ReplicaError: the replica of θ differs from rank 0's at version"
    assert message in done.stderr
    assert "worker 1" in done.stderr
    trace = Trace(trace_path)
    assert not trace.finished
    assert np.isfinite(trace.arrivals["loss"]).all()
