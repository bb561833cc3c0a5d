"""MindFlayer SGD: which trials succeed, that it is unbiased, and descents in numpy."""

import numpy as np
import pytest
from descents import Descent
from networks import NETWORK, Network
from outcomes import refused

from pdcode.config import load as configfile
from pdcode.schemes import delay_model, make_scheme
from pdcode.session.setup import prepare
from pdcode.virtual.simulation import Simulation

PARETO = ["stragglers.kind=pareto", "stragglers.shift_s=0.001", "stragglers.shape=1.2", "stragglers.slow=[2]"]
JOB = [*NETWORK, *PARETO, "stragglers.slowdown=5", "scheme.name=mindflayer", "scheme.options.trials=3"]


def single_s(made: Descent, task: int) -> np.ndarray:
    """Delays of each worker's trials in a task, without a limit."""
    delays = made.config.stragglers.make(made.config.seed, 4)
    return delays.delays_s(np.arange(4), np.full(4, 3 * task), 3)


@pytest.mark.parametrize("limit", [[], ["scheme.options.limit_s=0.002"]])
def test_descents_are_those_in_numpy(limit: list[str]) -> None:
    made = Descent([*JOB, *limit, "optimizer.rate=0.1"], [1, 1.3, 1.7, 6])
    limits = make_scheme(made.config).limits_s  # type: ignore[attr-defined]
    drawn = made.config.stragglers.make(made.config.seed + 1, 4).delays_s(
        np.arange(4), np.zeros(4, int), 1024
    )
    chances = (drawn <= limits[:, None]).mean(axis=1)
    if limit:
        likely = 1 - 2**-1.2  # by Pareto's tail; the slow worker takes 5 · 0.001 s at least
        np.testing.assert_allclose(chances, [likely, likely, 0, likely], atol=0.04)
    else:
        np.testing.assert_allclose(chances, 0.5, atol=1e-3)

    def step(network: Network, theta: np.ndarray, task: int) -> np.ndarray:
        total, succeeds = np.zeros_like(theta), single_s(made, task) <= limits[:, None]
        for worker in range(4):
            own = [np.zeros_like(theta)]
            for trial, rows in enumerate(network.batches(worker, task, 3)):
                if succeeds[worker, trial]:
                    own.append(network.gradient(theta, worker, rows))
            total += 4 * len(network.shards[worker]["x"]) / network.rows * np.sum(own, axis=0)
        return theta - 0.1 * total / (3 * chances.sum())

    assert made.run() == "enough"
    Network(made).run(made, step)


def test_no_trial_lasts_longer_than_its_limit() -> None:
    config = configfile.resolve({}, [*JOB, "scheme.options.limit_s=0.002", "stop.updates=50"])
    plain = config.stragglers.make(config.seed, 4).delays_s(np.arange(4), np.zeros(4, int), 60)
    cut = np.minimum(plain, 0.002).reshape(4, 20, 3).sum(axis=2)
    found = delay_model(config).delays_s(np.arange(4), np.zeros(4, int), 20)
    np.testing.assert_allclose(found, cut)
    assert plain.max() > 0.1  # a heavy tail
    assert Simulation(prepare(config)).run()[1].seconds < 50 * (3 * 0.002 + 0.002)


def test_without_delays_it_is_a_mini_batch_of_all_trials_and_other_modes_are_refused() -> None:
    plain = Descent([*NETWORK, "scheme.name=mindflayer", "scheme.options.trials=2"], [1, 1, 1, 1])
    larger = Descent([*NETWORK, "scheme.name=uncoded", "problem.batch=32"], [1, 1, 1, 1])
    assert plain.run() == larger.run() == "enough"
    np.testing.assert_allclose(plain.thetas, larger.thetas, atol=1e-10)
    with refused("update.mode", "mindflayer"):
        configfile.resolve({}, ["scheme.name=mindflayer", "update.mode=async"])
