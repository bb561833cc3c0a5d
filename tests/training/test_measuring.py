"""Keys that say how a run is measured and recorded change nothing of its algorithm."""

from pathlib import Path
from typing import Any

import h5py
import msgspec
import numpy as np
import pytest

import pdcode
from pdcode.config import NetworkTable
from pdcode.config.load import resolve
from pdcode.problems.bundled import digits

MEASURED = [
    "problem.evaluate=60", "trace.progress_s=1e-4", "trace.progress_updates=5", "trace.flush_s=0.01",
    "trace.arrivals=none", "trace.checkpoint_s=1e-3", "stop.seconds=1e6", "stop.loss=1e-12",
    "stop.accuracy=1.0", "stop.drain_s=0.5",
]  # fmt: skip
JOB = ["workers.count=9", "stop.updates=12", "problem.standardise=true"]
DELAYS = ["stragglers.kind=shifted-exponential", "stragglers.mean_s=1e-4"]
CASES = {
    "small shards": ["scheme.preset=default", "problem.batch=64", "problem.hidden=[16]"],
    "sorted": ["scheme.preset=default", "problem.data={sorted}"],
    "sorted, whitened": ["scheme.preset=first", "problem.data={sorted}", "code.whiten=gram"],
    "regression": ["scheme.preset=starved", "problem.data=diabetes"],
    "full batches": ["scheme.preset=ring", "problem.batch=0", "problem.hidden=[16]"],
    "sparse": [
        "problem.data=synthetic", "problem.kind=logistic", "problem.samples=3000", "problem.features=400",
        "problem.density=0.02", "machine.flops_per_s=1e6", "update.mode=async", "code.blocks=1",
    ],
    "shards": ["scheme.preset=shards", "problem.kind=softmax"],
    "topk": ["scheme.name=topk", "scheme.preset=whitened", "problem.hidden=[16]"],
    "mds": ["scheme.name=mds", "problem.kind=softmax", "problem.batch=0", "problem.dtype=float64"],
    **{
        name: [f"scheme.name={name}", "problem.hidden=[8]"]
        for name in ("cyclic", "sag", "local", "powersgd", "streaming", "sgc")
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def by_label(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits, sorted by label in the first half only."""
    samples, path = digits(NetworkTable(), True), tmp_path_factory.mktemp("data") / "sorted.h5"
    order = np.argsort(np.where(np.arange(len(samples.y)) < 900, samples.y, 10), kind="stable")
    with h5py.File(path, "w") as file:
        file["x"], file["y"] = np.asarray(samples.x)[order], np.asarray(samples.y)[order]
    return path


@pytest.mark.every(3)
@pytest.mark.parametrize("case", CASES)
def test_keys_of_measuring_change_neither_settings_nor_theta(
    case: str, by_label: Path, tmp_path: Path
) -> None:
    found = []
    for number, changes in enumerate(([], MEASURED)):
        job = [each.format(sorted=by_label) for each in CASES[case]]
        own = ["reduce.kind=star"] if "ring" in job[0] else []
        config = resolve({}, [*DELAYS, *JOB, *job, *own, *changes, f"trace.path={tmp_path}/{number}.h5"])
        trace = pdcode.simulate(msgspec.to_builtins(config), progress=False)
        settings: dict[str, Any] = msgspec.json.decode(trace.attributes["config_resolved"])
        del settings["stop"], settings["trace"], settings["problem"]["evaluate"]
        found.append((settings, trace.updates["t_ns"], trace.theta))
    (before, times, theta), (after, later, again) = found
    assert before == after
    np.testing.assert_array_equal(times, later)
    np.testing.assert_array_equal(theta, again)
