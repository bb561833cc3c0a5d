"""Local steps against steps by hand, and against gradient descent, of which one local step is a case."""

import numpy as np
import pytest
from descents import Descent
from outcomes import refused
from paths import SUPPORT

from pdcode.config import load as configfile
from pdcode.schemes import delay_model
from pdcode.util.rng import BatchSampler

NET = 'code={family="net",blocks=[8,1],weight=4}'
TIMES = [1, 1.3, 1.7, 6]
LOCAL = ["scheme.name=local", "code.blocks=1", "workers.count=4"]
SHARED = ["scheme.name=uncoded", *LOCAL[1:], "update.mode=all"]
DOUBLE = "problem.dtype=float64"
FILE = SUPPORT / "functions.py"
USER = {"function": "by_step", "start": "SIX", "data": "line"}
LINES = [
    "problem.kind=least-squares", "problem.data=synthetic", "problem.samples=23", "problem.features=5",
    "problem.test_fraction=0", DOUBLE,
]  # fmt: skip


@pytest.mark.parametrize(
    "overrides",
    [
        ["problem.batch=0"],
        ["problem.batch=8", "problem.l2=0.01"],
        ["problem.batch=0", *LINES, "problem.l2=0.1"],  # shards of 6, 6, 6 and 5 rows
        ["problem.batch=0", *LINES[:-1], "problem.dtype=float32", "problem.density=0.5"],
        ["problem.batch=8", "wire.dtype=float32"],
    ],
)
def test_one_step_is_gradient_descent(overrides: list[str]) -> None:
    job = [DOUBLE, *overrides, "stop.updates=25"]
    made = Descent([*LOCAL, *job, "scheme.options={steps=1,rate=0.2}", "optimizer.rate=1"], TIMES)
    full = Descent([*SHARED, *job, "optimizer.rate=0.2"], TIMES)
    assert made.run() == full.run() == "enough"
    exact = not any("float32" in each for each in overrides)
    np.testing.assert_allclose(made.thetas, full.thetas, rtol=0, atol=1e-12 if exact else 2e-5)


@pytest.mark.parametrize("batch", [0, 3])
@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("outer", [1.0, 0.4])
def test_steps_are_those_by_hand(batch: int, steps: int, outer: float) -> None:
    """Shards of unequal size: each worker's displacement counts by its rows."""
    options = f"scheme.options={{steps={steps},rate=0.05}}"
    sets = [*LOCAL, *LINES, f"problem.batch={batch}", options, f"optimizer.rate={outer}", "stop.updates=3"]
    made = Descent(sets, TIMES)
    made.run()
    source, theta = made.components.source, made.thetas[0].copy()
    shards = [source.shard(worker, 4) for worker in range(4)]
    assert sorted(len(shard["x"]) for shard in shards) == [5, 6, 6, 6]
    for task in range(3):
        moved = np.zeros_like(theta)
        for worker, shard in enumerate(shards):
            x, y = shard["x"], shard["y"].reshape(-1)  # inputs end with the bias
            rows, own = BatchSampler(made.config.seed, worker, len(x), steps * batch).draw(task), theta.copy()
            for step in range(steps):
                some = slice(None) if batch == 0 else rows[step * batch : (step + 1) * batch]
                own -= 0.05 * x[some].T @ (x[some] @ own - y[some]) / len(x[some])
            moved += len(x) / 23 * (theta - own)
        theta -= outer * moved
        np.testing.assert_allclose(made.thetas[task + 1], theta, rtol=1e-10, atol=1e-12)


def test_the_loss_is_the_mean_of_its_steps() -> None:
    job = [*LOCAL, *LINES, "problem.batch=0", "scheme.options={steps=2,rate=0.05}", "stop.updates=1"]
    made = Descent(job, TIMES)
    made.run()
    plans = [worker.encoders[0].source._plan for worker in made.workers]
    theta = made.thetas[0]
    for row in made.trace.arrivals:
        plan = plans[row["worker"]]
        first = plan.gradient(theta, None)
        second = plan.gradient(theta - 0.05 * plan.full_gradient, None)
        assert row["loss"] == pytest.approx((first + second) / 2)


def test_each_step_has_random_numbers_of_its_own() -> None:
    user = ["problem.kind=function", *(f"problem.{key}={FILE}:{name}" for key, name in USER.items())]
    options = "scheme.options={steps=4,rate=0.5}"
    made = Descent([*LOCAL, *user, options, "optimizer.rate=1", "stop.updates=1"], TIMES)
    made.run()
    np.testing.assert_allclose(made.thetas[1], made.thetas[0] - 0.5 * (0 + 1 + 2 + 3), rtol=1e-6)


@pytest.mark.parametrize(
    "overrides",
    [
        ["update.mode=async", "memory.kind=worker"],
        ["update.mode=first", "update.late=waste", "wire.dtype=int8"],
        [NET, "memory.kind=worker", "update.mode=first"],
        [NET, "memory.kind=worker", "update.mode=async", "wire.dtype=int8"],
        ["code={family=\"matched\",blocks=[8,1]}", "memory.kind=difference", "problem.batch=0"],
        [NET, "memory.kind=coordinator"],
        [NET, "memory.kind=worker", "downlink.kind=codewords", "downlink.check=1"],
        ["update.mode=captured", "update.fraction=0.5", NET],
        ["optimizer.momentum=0.5", "optimizer.rate=0.5"],
    ],
)  # fmt: skip
def test_any_code_and_memory_learns(overrides: list[str]) -> None:
    outer = [] if "optimizer.rate=0.5" in overrides else ["optimizer.rate=1"]
    job = [*LOCAL, "scheme.options={steps=4,rate=0.1}", *outer, "stop.updates=120", *overrides]
    made = Descent(job, TIMES)
    assert made.loss_ratio() < 0.5


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["scheme.options.steps=0"], ["scheme.options.steps", "0"]),
        (["scheme.options.steps=2.5"], ["scheme.options.steps", "2.5"]),
        (["scheme.options.rate=-1"], ["scheme.options.rate", "-1"]),
        (["scheme.options.rate=inf"], ["scheme.options.rate", "inf"]),
        (["scheme.options.h=1"], ["scheme.options.h: unknown key (value 1)", "steps, rate"]),
        (["scheme.options=[]"], ["scheme.options", "[]"]),
    ],
)
def test_what_cannot_work_is_refused(overrides: list[str], words: list[str]) -> None:
    with refused(*words):
        configfile.resolve({}, ["scheme.name=local", *overrides])


def test_a_task_of_several_steps_meets_the_delays_of_as_many() -> None:
    slow = ["stragglers.kind=pareto", "stragglers.shift_s=0.001", "stragglers.shape=1.5"]
    options = "scheme.options={steps=5,rate=0.05}"
    made = configfile.resolve({}, [*LOCAL, *slow, options])
    single = configfile.resolve({}, [*SHARED, *slow])
    merged, plain = (delay_model(config).delays_s([2], [0], 20)[0] for config in (made, single))
    np.testing.assert_allclose(merged[:4], plain.reshape(4, 5).sum(axis=1))
