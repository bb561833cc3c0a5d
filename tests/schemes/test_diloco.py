"""DiLoCo against its algorithm by hand, and its limits: one step, gradient steps, an outer step of 1."""

import numpy as np
import pytest
from descents import Descent
from local_steps import LINES, AdamW, displacements
from outcomes import refused

from pdcode.config import load as configfile
from pdcode.rivals.diloco import DiLoCo, InnerAdamW
from pdcode.trace.schema import WASTED

TIMES = [1, 1.3, 1.7, 6]
NET = 'code={family="net",blocks=[8,1],weight=4}'
MEAN = "optimizer={rate=1}"  # θ becomes the mean of the workers' θ
DILOCO = ["scheme.name=diloco", "optimizer.rate=0.7"]  # Descent has another rate


@pytest.mark.parametrize("batch", [0, 3])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("outer", [[], [MEAN]])
def test_it_is_the_algorithm_by_hand(batch: int, steps: int, outer: list[str]) -> None:
    """Shards of unequal size: each worker's displacement counts by its rows."""
    keys = 0.02, 0.8, 0.9, 1e-6, 0.3
    names = "rate", "beta1", "beta2", "epsilon", "weight_decay"
    options = ",".join(f"{name}={key}" for name, key in zip(names, keys, strict=True))
    options = f"scheme.options={{steps={steps},{options}}}"
    made = Descent([*DILOCO, *LINES, f"problem.batch={batch}", options, "stop.updates=6", *outer], TIMES)
    made.run()
    inner, theta, momentum = [AdamW(*keys) for _ in range(4)], made.thetas[0].copy(), 0.0
    for task in range(6):
        moved = np.mean(displacements(made, inner, theta, task, steps), axis=0)
        momentum = 0.9 * momentum + moved
        theta = theta - moved if outer else theta - 0.7 * (moved + 0.9 * momentum)
        np.testing.assert_allclose(made.thetas[task + 1], theta, rtol=1e-9, atol=1e-11)
    assert [worker.encoders[0].source.inner.steps for worker in made.workers] == 4 * [6 * steps]


@pytest.mark.parametrize("steps", [1, 4])
def test_with_a_large_epsilon_its_steps_are_gradient_steps(steps: int) -> None:
    """AdamW without memory steps by η g / (|g| + ε): by a gradient step of rate η/ε where ε ≫ |g|."""
    job = [*LINES, "problem.batch=3", "stop.updates=12"]
    options = f"scheme.options={{steps={steps},rate=1e6,epsilon=1e8,beta1=0,beta2=0,weight_decay=0}}"
    made = Descent([*DILOCO, *job, options, MEAN], TIMES)
    local = Descent(["scheme.name=local", *job, f"scheme.options={{steps={steps},rate=0.01}}", MEAN], TIMES)
    assert made.run() == local.run() == "enough"
    np.testing.assert_allclose(made.thetas, local.thetas, rtol=0, atol=1e-6)


def test_its_moments_are_kept_whatever_rank_0_drops() -> None:
    sets = [*DILOCO, *LINES, "problem.batch=3", "update.mode=first", "update.late=waste", "stop.updates=20"]
    made = Descent([*sets, "scheme.options.steps=5"], TIMES)
    made.run()
    assert any(row["status"] == WASTED for row in made.trace.arrivals)
    for worker, tasks in zip(made.workers, made.coordinator.roster.tasks, strict=True):
        assert worker.encoders[0].source.inner.steps == 5 * tasks


def test_a_gradient_that_is_not_finite_leaves_the_moments_alone() -> None:
    inner, theta = InnerAdamW(DiLoCo.Options(), 3, np.dtype("float64")), np.ones(3)
    inner.step(theta, np.array([1.0, -2.0, 3.0]))
    kept = inner.first.copy(), inner.second.copy(), inner.steps
    inner.step(theta, np.array([1.0, np.inf, 0.0]))
    assert np.isnan(theta).all()
    np.testing.assert_array_equal(inner.first, kept[0])
    np.testing.assert_array_equal(inner.second, kept[1])
    assert inner.steps == kept[2]


@pytest.mark.parametrize(
    "overrides",
    [
        [NET, "memory.kind=worker", "wire.dtype=int8", "downlink.kind=codewords", "downlink.check=1"],
        ["update.mode=first", "update.late=waste", "problem.dtype=float64"],
        ["update.mode=async", "optimizer={rate=0.3}", "stop.updates=200"],
    ],
)
def test_any_code_and_policy_learns(overrides: list[str]) -> None:
    job = ["workers.count=4", "code.blocks=1", "scheme.options={steps=4,rate=0.003}", "stop.updates=60"]
    made = Descent([*DILOCO, *job, *overrides], TIMES)
    assert made.loss_ratio() < 0.6


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("scheme.options.beta1=1", ["scheme.options.beta1", "1"]),
        ("scheme.options.weight_decay=-1", ["scheme.options.weight_decay", "-1"]),
        ("scheme.options.steps=0", ["scheme.options.steps", "0"]),
    ],
)
def test_what_cannot_work_is_refused(override: str, words: list[str]) -> None:
    with refused(*words):
        configfile.resolve({}, ["scheme.name=diloco", override])


def test_rank_0_has_nesterovs_momentum_unless_told_otherwise() -> None:
    optimizer = configfile.resolve({}, ["scheme.name=diloco"]).optimizer
    assert (optimizer.rate, optimizer.momentum, optimizer.nesterov) == (0.7, 0.9, True)
    plain = configfile.resolve({}, ["scheme.name=diloco", "optimizer.momentum=0"]).optimizer
    assert (plain.rate, plain.momentum, plain.nesterov) == (0.7, 0.0, False)
