"""Descents by sums modulo 2^bits on the virtual clock: the same θ whoever adds, and reports of wraps."""

from pathlib import Path

import numpy as np
import pytest
from descents import Rows
from interrupted import built, interrupted

from pdcode import compare
from pdcode.config import load as configfile
from pdcode.session import checkpoint
from pdcode.session.setup import prepare
from pdcode.virtual.simulation import Simulation

JOB = ["problem.hidden=[64]", "optimizer.rate=0.3", "memory.kind=worker", "update.mode=all", "seed=1"]
WAYS = ["reduce.kind=star"], ["reduce.kind=allreduce"], ["reduce.kind=tree", "reduce.fanout=2"]
LWPD = [
    "scheme.name=lwpd",
    "scheme.preset=sharded",
    "memory={kind='worker',lookahead=0.2}",
    "wire.dtype=float32",
    "optimizer.kind=sgd",
]
BLOCKS = ["code.family=uncoded", "code.blocks=units", "code.share=0.5", "code.rotate=true"]


def simulated(*overrides: str) -> tuple[Simulation, Rows, np.ndarray, list[int]]:
    simulation, rows = Simulation(prepare(configfile.resolve({}, [*JOB, *overrides]))), Rows()
    descent, _ = simulation.run(rows)
    return simulation, rows, descent.coordinator.theta, descent.coordinator.incidents.wraps


@pytest.mark.parametrize(
    "scheme",
    [
        ["scheme.name=uncoded", "optimizer.momentum=0.5"],
        ["scheme.name=local", "scheme.options.steps=2", "optimizer.rate=1.0", "wire.dtype=float32"],
        [*LWPD, *BLOCKS],
        [*LWPD, *BLOCKS, "code.rotate=false"],
    ],
)
def test_theta_does_not_depend_on_who_adds(scheme: list[str]) -> None:
    common = [*scheme, "problem.batch=8", "stop.updates=12", "workers.count=6", "reduce.bits=9"]
    common += ["stragglers.kind=shifted-exponential", "stragglers.mean_s=0.001"]
    thetas = [simulated(*common, *way)[2] for way in WAYS]
    assert all(theta.tobytes() == thetas[0].tobytes() for theta in thetas)
    assert np.isfinite(thetas[0]).all()


@pytest.mark.parametrize("way", [["reduce.kind=allreduce"], ["reduce.kind=tree"]])
def test_shared_codewords_add_up_and_rounding_is_made_up_for(way: list[str]) -> None:
    """Sums of 16 bits lead to the θ of unrounded ones, of the same codewords."""
    common = [*LWPD, *BLOCKS, "code.whiten=none", "memory.lookahead=0", "stop.updates=30", "workers.count=4"]
    unrounded = simulated(*common)[2]
    simulation, _, theta, _ = simulated(*common, *way, "reduce.bits=16")
    start = simulation.components.problem.initial(1)
    # The first round finds the scales, and its mini-batches are others than those of the unrounded descent.
    moved = [each - start for each in (theta, unrounded)]
    cosine = moved[0] @ moved[1] / np.linalg.norm(moved[0]) / np.linalg.norm(moved[1])
    assert cosine > 0.9
    assert np.linalg.norm(moved[0]) == pytest.approx(np.linalg.norm(moved[1]), rel=0.2)


def test_64_workers_need_8_bits_and_as_many_updates_as_the_exact_mean() -> None:
    common = ["scheme.name=uncoded", "problem.batch=32", "workers.count=64", "trace.progress_updates=1"]
    updates = []
    for more in (["memory.kind=none"], ["reduce.bits=8", "reduce.kind=allreduce"]):
        simulation, rows, _, wraps = simulated(*common, *more, "stop.loss=0.5", "stop.updates=60")
        updates.append(len(rows.updates))
        assert wraps == [0, 0]
    exact, rounded = updates
    assert rounded <= 1.03 * exact
    gradient = simulation.components.state.theta.nbytes
    assert simulation.components.layout.payload_bytes <= 0.27 * gradient


def test_too_few_bits_are_reported() -> None:
    common = ["scheme.name=uncoded", "workers.count=16", "stop.updates=40", "reduce.bits=4"]
    _, rows, theta, (mended, lost) = simulated(*common)
    assert lost > 0
    assert np.isfinite(theta).all()
    faults = [fault for fault in rows.faults if fault["kind"] == "wrapped"]
    assert 1 < len(faults) <= (mended + lost).bit_length()
    assert "beyond reduce.bits" in faults[-1]["message"]


@pytest.mark.parametrize("way", WAYS)
def test_a_resumed_run_equals_an_uninterrupted_one(way: list[str], tmp_path: Path) -> None:
    common = [*JOB, *LWPD, *BLOCKS, "problem.batch=8", "stop.updates=12", "workers.count=4", "reduce.bits=9"]
    config = configfile.resolve({}, [*common, *way, f"trace.path={tmp_path / 't.h5'}"])
    whole = interrupted(config)
    found = checkpoint.find(config)
    assert found is not None
    resumed = built(found.resumed_config(config))
    found.restore(resumed.stateful, resumed.components.config)
    resumed.coordinator.resumed = True
    resumed.coordinator.run(resumed.monitor)
    assert resumed.coordinator.theta.tobytes() == whole.coordinator.theta.tobytes()


@pytest.mark.slow
def test_schemes_are_compared(tmp_path: Path) -> None:
    config = {"problem": {"hidden": [8]}, "workers": {"count": 4}, "stop": {"seconds": 0.01, "loss": 2.2}}
    sums = "optimizer.rate=0.3/reduce.kind=tree/reduce.bits=8/memory.kind=worker/update.mode=all"
    names = [
        f"{scheme}/{sums}"
        for scheme in ("uncoded", "local", "lwpd:sharded/memory.kind=worker/wire.dtype=float32")
    ]
    found = compare(config, names, seeds=1, processes=1, progress=False, output=tmp_path / "c.h5")
    assert all(run.reached for runs in found.measured for run in runs)


def test_a_payload_that_is_not_finite_is_left_out_by_rank_0() -> None:
    common = ["scheme.name=uncoded", "workers.count=4", "stop.updates=12", "reduce.bits=8"]
    _, rows, theta, _ = simulated(*common, 'faults.events=[{kind="nan", worker=1, task=5}]')
    assert np.isfinite(theta).all()
    assert [fault["kind"] for fault in rows.faults] == ["refused"]
    assert len(rows.updates) == 12
