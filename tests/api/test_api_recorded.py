"""Runs under the delays of a recorded run: its own faults count once, and keys that are given prevail."""

from pathlib import Path
from typing import Any

import pytest

import pdcode
from pdcode.config.write import to_toml
from pdcode.studies import search

JOB = {
    "problem": {"kind": "softmax", "data": "digits", "standardise": False},
    "workers": {"count": 4},
    "scheme": {"name": "uncoded", "preset": "all"},
    "optimizer": {"rate": 0.5},
    "link": {"bandwidth": 1e9},
    "machine": {"task_s": 0.005},
    "stop": {"updates": 60},
    "trace": {"progress_s": 0.01},
    "faults": {"events": [{"kind": "slow", "worker": 2, "task": 20, "factor": 5.0}]},
}


def seconds(path: Path, **keys: Any) -> float:
    return float(pdcode.simulate(JOB, output=path, progress=False, **keys).summary()["seconds"])


def test_faults_that_the_run_had_count_once_and_others_too(tmp_path: Path) -> None:
    recorded = tmp_path / "recorded.h5"
    own_s = seconds(recorded)
    again = tmp_path / "again.h5"
    assert seconds(again, stragglers=recorded) == pytest.approx(own_s, rel=0.02)
    another = {"faults.events": [*JOB["faults"]["events"], {"kind": "kill", "worker": 0, "at_s": 0.1}]}
    assert pdcode.simulate(JOB, output=again, set=another, stragglers=recorded, progress=False).faults.rows
    slower = {"faults.events": [{"kind": "slow", "worker": 1, "task": 0, "factor": 10.0}]}
    assert seconds(again, stragglers=recorded, set=slower) > 1.5 * own_s


@pytest.mark.every(3)
@pytest.mark.parametrize("key", ["link.bandwidth=5e4", "link={bandwidth=5e4}", "machine.arrival_s=0.02"])
@pytest.mark.parametrize("given", ["stragglers", "cost"])
def test_keys_that_are_given_prevail_over_fitted_costs(key: str, given: str, tmp_path: Path) -> None:
    recorded = tmp_path / "recorded.h5"
    seconds(recorded, set=["faults.events=[]"] if given == "cost" else [])
    settings = [key] if given == "stragglers" else ["faults.events=[]", key]
    true_s = seconds(tmp_path / "true.h5", set=settings)
    predicted_s = seconds(tmp_path / "predicted.h5", set=settings, **{given: recorded})
    assert predicted_s == pytest.approx(true_s, rel=0.03)


def test_comparisons_and_plans_under_recorded_delays_count_faults_once(tmp_path: Path) -> None:
    recorded, job = tmp_path / "recorded.h5", tmp_path / "job.toml"
    own_s = seconds(recorded)
    job.write_text(to_toml(JOB), encoding="utf-8")
    found = pdcode.compare(
        job, ["yours"], seeds=1, stragglers=recorded, progress=False, output=tmp_path / "c.h5"
    )
    assert found.measured[0][0].stop_s == pytest.approx(own_s, rel=0.25)  # blocks in another order
    environment = search.load_environment(str(job), ["link.bandwidth=1e6"], str(recorded), 1.0)
    assert (environment.config.faults.events, environment.config.link.bandwidth) == ([], 1e6)
    assert environment.user.faults.events
