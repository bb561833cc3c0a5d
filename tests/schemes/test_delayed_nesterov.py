"""Delayed Nesterov momentum as its algorithm says, and local steps in proportion to speed on the clock."""

from types import SimpleNamespace

import numpy as np
import pytest
from descents import Descent, Rows
from hypothesis import given
from hypothesis import strategies as st

from pdcode import decoders
from pdcode.coding import optimizers
from pdcode.coding.optimizers import SGDTable
from pdcode.config import load as configfile
from pdcode.rivals.delayed_nesterov import DelayedMomentum
from pdcode.schemes import make_scheme
from pdcode.session.setup import prepare
from pdcode.util.errors import InputError
from pdcode.virtual.executor import NullExecutor
from pdcode.virtual.simulation import Simulation, simulate_timing

DELAYED = ["scheme.name=delayed-nesterov", "code.blocks=1", "workers.count=4", "optimizer.rate=0.7"]
TIMES = [1, 1.3, 1.7, 6]
TABLE = SGDTable(rate=0.7, momentum=0.9, nesterov=True)
UNIT = SimpleNamespace(offset=0, count=1, elements=3, length=3)


def steps_by(optimizer: optimizers.Optimizer, gradients: np.ndarray) -> np.ndarray:
    """θ after each step from 0."""
    decoder, theta, thetas = decoders.create("adjoint", 1, (3,), "float64"), np.zeros(3), []
    for gradient in gradients:
        decoder.add([1.0], gradient)
        optimizer.step(theta, [UNIT], [decoder])
        decoder.reset()
        thetas.append(theta.copy())
    return np.array(thetas)


@given(st.integers(1, 6), st.floats(0, 0.99), st.integers(0, 99))
def test_it_is_the_papers_algorithm(N: int, beta: float, seed: int) -> None:
    gradients, c, eps = np.random.default_rng(seed).normal(size=(20, 3)), 0, 0.7
    theta, m, total = np.zeros(3), np.zeros(3), np.zeros(3)
    table = SGDTable(rate=eps, momentum=beta, nesterov=beta > 0)
    made = steps_by(DelayedMomentum(N, table, 3, "float64"), gradients)
    for t, g in enumerate(gradients):
        total = total + g
        if (t + 1) % N == 0:
            m = beta * m + total / N
            theta = theta - eps * ((1 - c * N + c) * beta * m + g / N)
            total = np.zeros(3)
        else:
            theta = theta - eps * (c * beta * m + g / N)
        np.testing.assert_allclose(made[t], theta, rtol=1e-12, atol=1e-12)


@given(st.integers(1, 6), st.integers(0, 99))
def test_as_many_steps_as_its_period_are_one_of_nesterovs_by_the_mean(N: int, seed: int) -> None:
    gradients = np.random.default_rng(seed).normal(size=(5 * N, 3))
    made = steps_by(DelayedMomentum(N, TABLE, 3, "float64"), gradients)[N - 1 :: N]
    plain = steps_by(optimizers.create(TABLE, 3, "float64"), gradients.reshape(5, N, 3).mean(axis=1))
    np.testing.assert_allclose(made, plain, rtol=1e-12, atol=1e-12)
    if N == 1:
        np.testing.assert_array_equal(made, plain)


def test_it_goes_on_from_a_checkpoint_amid_a_period() -> None:
    gradients = np.random.default_rng(1).normal(size=(9, 3))
    first, second = (DelayedMomentum(4, TABLE, 3, "float64") for _ in range(2))
    before = steps_by(first, gradients[:6])[-1]
    second.load_state_dict(first.state_dict())
    whole = steps_by(DelayedMomentum(4, TABLE, 3, "float64"), gradients)
    np.testing.assert_allclose(before + steps_by(second, gradients[6:]), whole[6:], rtol=0, atol=1e-14)


@pytest.mark.parametrize("overrides", [[], ["downlink.kind=codewords", "downlink.check=1"]])
def test_it_learns_and_its_replicas_follow(overrides: list[str]) -> None:
    options = "scheme.options={steps=4,rate=0.003,speeds=[4,3,2,1]}"
    made = Descent([*DELAYED, options, *overrides, "stop.updates=500"], TIMES)
    assert made.loss_ratio() < 0.5
    taken = [worker.encoders[0].source.inner.steps for worker in made.workers]
    assert taken == [H * tasks for H, tasks in zip([4, 3, 2, 1], made.coordinator.roster.tasks, strict=True)]


@pytest.mark.parametrize(
    ("speeds", "steps", "H"),
    [
        ([], 8, [8]),
        ([1, 1, 1], 8, [8, 8, 8]),
        ([0.58, 0.75, 3.33], 50, [8, 11, 50]),  # rounded down
        ([0.1, 0.3, 1], 10, [1, 3, 10]),  # 0.3 · 10 is 2.9999999999999996 or 3
        ([0.001, 1, 2], 8, [1, 4, 8]),  # never none
    ],
)
def test_local_steps_are_in_proportion_to_speed(speeds: list[float], steps: int, H: list[int]) -> None:
    options = f"scheme.options={{steps={steps},speeds={speeds}}}"
    config = configfile.resolve({}, ["scheme.name=delayed-nesterov", "workers.count=3", options])
    assert list(make_scheme(config).task_size.batches) == H


SLOW = ["stragglers={kind='slow-set',slow=[2],slowdown=4}", "link.bandwidth=1e12", "machine.task_s=0"]


@pytest.mark.parametrize("speeds", [[], [1, 1, 0.25, 1]])
def test_on_the_clock_a_slow_worker_with_fewer_steps_takes_as_long_as_others(speeds: list[float]) -> None:
    options = f"scheme.options={{steps=40,speeds={speeds}}}"
    config = configfile.resolve({}, [*DELAYED, "problem.batch=64", options, *SLOW, "stop.updates=60"])
    components = prepare(config)
    rows = Rows()
    result = Simulation(components, NullExecutor(components.layouts)).run(rows)[1]
    took = {row["worker"]: row["t_send_ns"] - row["t_start_ns"] for row in rows.arrivals[:20]}
    assert took[2] / took[0] == pytest.approx(1 if speeds else 4, rel=0.03)
    assert simulate_timing(config, components).length_ns == result.length_ns
    assert result.oracle_s <= result.seconds


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["scheme.options.speeds=[1,2]"], r"scheme\.options\.speeds: 2 for 4 workers"),
        (["scheme.options.speeds=[1,2,0,1]"], r"scheme\.options\.speeds: .*0"),
        (["scheme.options.period=0"], r"scheme\.options\.period: .*0"),
        (["optimizer.kind=adam"], r"optimizer\.kind: 'adam' .*'delayed-nesterov', .* needs 'sgd'"),
        (["optimizer.nesterov=false"], r"optimizer\.nesterov: false .*'delayed-nesterov'"),
    ],
)
def test_what_cannot_work_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        configfile.resolve({}, ["scheme.name=delayed-nesterov", "workers.count=4", *overrides])
