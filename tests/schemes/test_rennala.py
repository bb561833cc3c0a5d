"""Rennala SGD: steps by the mean of gradients at the newest θ, several of a fast worker."""

import numpy as np
import pytest
from descents import Descent
from hypothesis import given
from hypothesis import strategies as st

from pdcode.config import load as configfile
from pdcode.trace.schema import DRAINED, USED, WASTED
from pdcode.util.rng import BatchSampler
from pdcode.virtual import timing_only

JOB = ["scheme.name=rennala", "problem.batch=4", "problem.hidden=[4]", "problem.dtype=float64"]
SMALL = [
    *JOB,
    "code.blocks=1",
    "problem.shards=replicated",
    "workers.count=5",
    "stop.updates=20",
    "optimizer.rate=0.05",
]


@given(st.lists(st.floats(0.2, 20), min_size=5, max_size=5), st.integers(1, 12))
def test_an_update_is_the_mean_of_fresh_gradients(times: list[float], count: int) -> None:
    """Against gradients of the same mini-batches at the recorded θ; a worker's next task is there at once."""
    made = Descent([*SMALL, f"scheme.options.gradients={count}"], times)
    assert made.run() == "enough"
    problem, theta, total, used, began = made.components.problem, made.thetas[0], 0.0, 0, {}
    samplers = [BatchSampler(made.config.seed, worker, problem.rows, 4) for worker in range(5)]
    version = 0
    for row in made.trace.arrivals:
        if row["status"] == DRAINED:
            continue
        worker, task = row["worker"], row["task"]
        assert row["t_dispatch_ns"] == began.get(worker, 0)
        began[worker] = row["t_recv_ns"]
        assert row["status"] == (USED if row["version"] == version else WASTED)
        if row["status"] == WASTED:
            continue
        total, used = total + problem.gradient(theta, samplers[worker].draw(task)), used + 1
        if used == count:
            theta, total, used, version = theta - 0.05 * total / count, 0.0, 0, version + 1
            np.testing.assert_allclose(made.thetas[version], theta, rtol=1e-9, atol=1e-12)
    assert version == 20


def test_a_fast_worker_sends_most_of_them() -> None:
    made = Descent([*SMALL, "scheme.options.gradients=10"], [0.2, 9, 9, 9, 9])
    made.run()
    fast = [row["worker"] == 0 for row in made.trace.arrivals if row["status"] == USED]
    assert np.mean(fast) > 0.8


@pytest.mark.parametrize(
    ("overrides", "count"), [([], 3), (["update.count=4"], 4), (["scheme.options.gradients=7"], 7)]
)
def test_a_step_takes_three_quarters_of_the_workers_by_default(overrides: list[str], count: int) -> None:
    made = Descent([*SMALL, *overrides], [1, 1.3, 1.7, 2.9, 40])
    made.run()
    assert [row["n_used"] for row in made.trace.updates] == 20 * [count]


def test_its_times_depend_on_its_own_policy() -> None:
    assert not timing_only.is_timeable(configfile.resolve({}, SMALL))
