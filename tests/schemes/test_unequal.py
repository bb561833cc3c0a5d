"""The gradient code of unequal probabilities: no bias, the least error, and descents in numpy."""

from itertools import product

import numpy as np
import pytest
from descents import Descent
from networks import NETWORK, Network
from outcomes import refused
from patterns import make, resolve

from pdcode.trace.schema import USED

P = [0.05, 0.3, 0.6, 0.1, 0.25]


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_it_has_no_bias_and_the_least_error(shards: int) -> None:
    """Against all patterns, and the minimum under the constraints by a linear system for each shard."""
    U = make("unequal", 5, f"scheme.options={{shards={shards},probabilities={P}}}").matrix
    p, mean, error = np.array(P), 0.0, 0.0
    for late in product([0, 1], repeat=5):
        chance = np.prod(np.where(late, p, 1 - p))
        found = (1 - np.array(late)) @ U
        mean, error = mean + chance * found, error + chance * ((found - 1) ** 2).sum()
    np.testing.assert_allclose(mean, 1, atol=1e-12)
    least = 0.0
    for held in (U != 0).T:
        own, size = p[held], held.sum()
        assert size == shards
        system = np.block([[2 * np.diag(own * (1 - own)), (1 - own)[:, None]], [1 - own, np.zeros(1)]])
        best = np.linalg.solve(system, [*np.zeros(size), 1])[:size]
        least += (own * (1 - own)) @ best**2
    assert error == pytest.approx(least)


def test_an_update_of_all_workers_takes_the_exact_gradient() -> None:
    """Equal probabilities by default, those of being left out: d copies of each shard, and n/(dq)."""
    np.testing.assert_allclose(make("unequal", 6, "update.mode=all").matrix.sum(axis=0), 1)
    four = make("unequal", 6, "update.count=4", "scheme.options.shards=3").matrix
    np.testing.assert_allclose(four[four != 0], 6 / (3 * 4))


def test_descents_are_those_in_numpy() -> None:
    """The same mini-batches of a shard at all workers that have it; the slow worker's payload is dropped."""
    code = "scheme.options.probabilities=[0.1,0.2,0.2,0.7]"
    sets = ["scheme.name=unequal", code, "update.mode=first", "update.count=3", "optimizer.rate=0.1"]
    made = Descent([*NETWORK, *sets], lambda worker, task: 10**6 * (1 + (5 * task + 3 * worker) % 7) + worker)
    assert made.run() == "enough"
    network, U = Network(made), make("unequal", 4, code).matrix
    used = [
        [
            row["worker"]
            for row in made.trace.arrivals
            if (row["applied_version"], row["status"]) == (task, USED)
        ]
        for task in range(20)
    ]
    assert len({*map(tuple, map(sorted, used))}) > 1

    def step(network: Network, theta: np.ndarray, task: int) -> np.ndarray:
        weights = U[used[task]].sum(axis=0)
        gradients = network.gradients(theta, task) / 4  # of the shards, whose sum is the gradient
        return theta - 0.1 * weights @ gradients

    network.run(made, step)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("{shards=9}", ["scheme.options.shards: 9", "4 shards"]),
        ("{probabilities=[0.1]}", ["scheme.options.probabilities: 1 for 4 workers"]),
        ("{probabilities=[0.1,0.2,1.0,0.3]}", ["scheme.options.probabilities", "1.0"]),
    ],
)
def test_what_cannot_work_is_refused(options: str, words: list[str]) -> None:
    with refused(*words):
        resolve("unequal", "workers.count=4", f"scheme.options={options}")
