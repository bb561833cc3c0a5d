"""Descents that diverge and payloads that are not finite, over real MPI: refused, counted, never a hang."""

import numpy as np
import pytest
from launches import Run, run_all
from outcomes import faults_of

from pdcode import Trace

CASES = {
    "diverges": ["optimizer.rate=1e6", "stop.updates=1000000"],
    # all: worker 1 has a task for each of the 60 updates
    "nan": ['faults.events=[{kind="nan", worker=1, task=3}]', "wire.dtype=int8", "update.mode=all"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    return run_all(tmp_path_factory.mktemp("refusals"), 3, CASES)


def test_a_descent_that_diverges_is_reported(runs: dict[str, Run]) -> None:
    done = runs["diverges"]
    assert done.returncode == 1
    assert "diverged" in done.stdout
    trace = Trace(done.path)
    assert trace.finished
    assert {"stop"} <= set(faults_of(trace)) <= {"refused", "stop"}


def test_payloads_that_are_not_finite_are_refused_and_counted(runs: dict[str, Run]) -> None:
    done = runs["nan"]
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    trace = Trace(done.path)
    refused = trace.arrivals["status"] == 3
    np.testing.assert_array_equal(refused, (trace.arrivals["worker"] == 1) & (trace.arrivals["task"] >= 3))
    assert trace.counters["refused"] == refused.sum() > 0
    assert (trace.arrivals["applied_version"][refused] == -1).all()
    assert [int(worker) for worker in trace.faults["worker"]] == [1]
    assert trace.updates["version"][-1] == 60
    assert np.isfinite(trace.theta).all()
    assert trace.progress["loss"][-1] < trace.progress["loss"][0]
