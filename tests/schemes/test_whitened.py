"""Whitening and look-ahead in every scheme that has them, against a network and its descents in numpy."""

from collections.abc import Callable

import numpy as np
import pytest
from descents import Descent
from outcomes import refused

from pdcode.coding.auto_keys import with_resolved
from pdcode.config import kinds
from pdcode.config import load as configfile
from pdcode.problems.whitening import COEFFICIENTS
from pdcode.training.setup import prepare
from pdcode.util.rng import BatchSampler

JOB = [
    "problem.kind=mlp", "problem.data=breast-cancer", "problem.standardise=true", "problem.hidden=[5]",
    "problem.activation=tanh", "problem.dtype=float64", "problem.batch=16", "workers.count=4",
    "stop.updates=20", "code.blocks=1", "code.whiten=gram", "update.mode=all",
]  # fmt: skip
TIMES = [1, 1.3, 1.7, 6]
ALL = "scheme.options.share=1"


def whitened(matrix: np.ndarray) -> np.ndarray:
    """By singular values, not by products of matrices."""
    u, values, v = np.linalg.svd(matrix, full_matrices=False)
    values = values / np.sqrt((values**2).sum())
    a, b, c = COEFFICIENTS
    return (
        np.sqrt(max(1, len(matrix) / matrix.shape[1]))
        * (u * (a * values + b * values**3 + c * values**5))
        @ v
    )


class Network:
    """A run's network and shards; `gradient` is a worker's, whitened, of its n-th mini-batch."""

    def __init__(self, made: Descent) -> None:
        self.layers, self.seed = made.components.problem.layers, made.config.seed
        self.shards = [made.components.source.shard(worker, 4) for worker in range(4)]
        self.rows = sum(len(shard["x"]) for shard in self.shards)

    def gradient(self, theta: np.ndarray, worker: int, rows: np.ndarray) -> np.ndarray:
        x, y = (self.shards[worker][name][rows] for name in ("x", "y"))  # inputs end with the bias
        first, second = (layer.weights(theta) for layer in self.layers)
        hidden = np.tanh(x @ first.T)
        scores = np.exp(hidden @ second[:, :-1].T + second[:, -1])
        error = (scores / scores.sum(axis=1, keepdims=True) - np.eye(2)[y.reshape(-1)]) / len(x)
        below = error @ second[:, :-1] * (1 - hidden**2)
        gradient = np.empty_like(theta)
        pairs = (below, x), (error, np.column_stack([hidden, np.ones(len(x))]))
        for layer, (delta, inputs) in zip(self.layers, pairs, strict=True):
            layer.weights(gradient)[:] = whitened(delta.T @ inputs)
        return gradient

    def batches(self, worker: int, task: int, steps: int = 1) -> list[np.ndarray]:
        sampler = BatchSampler(self.seed, worker, len(self.shards[worker]["x"]), steps * 16)
        return np.split(sampler.draw(task), steps)

    def weighted(self, own: list[np.ndarray]) -> np.ndarray:
        """Vectors of the workers, each by its number of rows, so that their mean is that over rows."""
        return np.array(
            [4 * len(shard["x"]) / self.rows * each for shard, each in zip(self.shards, own, strict=True)]
        )

    def gradients(self, theta: np.ndarray, task: int) -> np.ndarray:
        return self.weighted([self.gradient(theta, i, self.batches(i, task)[0]) for i in range(4)])

    def run(self, made: Descent, step: "Step") -> None:
        """Compare θ with that of a run, after each of 20 updates."""
        theta = made.thetas[0]
        for task in range(20):
            theta = step(self, theta, task)
            np.testing.assert_allclose(made.thetas[task + 1], theta, rtol=1e-7, atol=1e-9)


Step = Callable[[Network, np.ndarray, int], np.ndarray]


def mean(network: Network, theta: np.ndarray, task: int) -> np.ndarray:
    return theta - 0.1 * network.gradients(theta, task).mean(axis=0)


def sign(network: Network, theta: np.ndarray, task: int) -> np.ndarray:
    return theta - 0.01 * np.sign(network.gradients(theta, task).mean(axis=0))


def majority(network: Network, theta: np.ndarray, task: int) -> np.ndarray:
    return theta - 0.01 * np.sign(np.sign(network.gradients(theta, task)).sum(axis=0))


def local(network: Network, theta: np.ndarray, task: int) -> np.ndarray:
    moved = []
    for worker in range(4):
        own = theta.copy()
        for rows in network.batches(worker, task, 3):
            own -= 0.05 * network.gradient(own, worker, rows)
        moved.append(theta - own)
    return theta - 0.8 * network.weighted(moved).mean(axis=0)


@pytest.mark.parametrize(
    ("scheme", "step", "overrides"),
    [
        ("uncoded", mean, ["optimizer.rate=0.1"]),
        ("allreduce", mean, ["optimizer.rate=0.1"]),
        ("streaming", mean, ["code.blocks=3", "optimizer.rate=0.1"]),
        ("topk", mean, [ALL, "wire.dtype=float64", "optimizer.rate=0.1"]),
        ("randomk", mean, [ALL, "wire.dtype=float64", "optimizer.rate=0.1"]),
        ("demo", sign, ["wire.dtype=float64", "scheme.options={chunk=1,largest=1}", "optimizer.rate=0.01"]),
        ("signsgd", majority, ["optimizer.rate=0.01"]),
        ("local", local, ["scheme.options={steps=3,rate=0.05}", "optimizer.rate=0.8"]),
    ],
)  # fmt: skip
def test_descents_are_those_in_numpy(scheme: str, step: Step, overrides: list[str]) -> None:
    made = Descent([f"scheme.name={scheme}", *JOB, *overrides], TIMES)
    assert made.run() == "enough"
    Network(made).run(made, step)


@pytest.mark.parametrize("ahead", [0.0, 0.4])
def test_powersgd_looks_ahead(ahead: float) -> None:
    """Error feedback by worker, gradients at θ - c·η·e; each update has two tasks."""
    power = [
        "scheme.name=powersgd",
        "scheme.options.rank=1",
        f"memory.lookahead={ahead}",
        "optimizer.rate=0.1",
    ]
    made = Descent([*JOB, *power], TIMES)
    network, qs = Network(made), [q[0].copy() for q in made.state._q]
    residuals = np.zeros((4, len(made.thetas[0])))

    def step(network: Network, theta: np.ndarray, task: int) -> np.ndarray:
        points = [theta - ahead * 0.1 * residual for residual in residuals]
        own = [network.gradient(point, i, network.batches(i, 2 * task)[0]) for i, point in enumerate(points)]
        residuals[:] += network.weighted(own)
        moved = np.zeros_like(theta)
        for number, layer in enumerate(network.layers):
            matrices = [layer.weights(residual) for residual in residuals]
            p = np.mean([each[:, :-1] @ qs[number] for each in matrices], axis=0)
            p /= np.linalg.norm(p)
            right = [each[:, :-1].T @ p for each in matrices]
            qs[number] = np.mean(right, axis=0)
            layer.weights(moved)[:, :-1] = np.outer(p, qs[number])
            layer.weights(moved)[:, -1] = np.mean([each[:, -1] for each in matrices], axis=0)
            for each, q in zip(matrices, right, strict=True):
                each[:, :-1] -= np.outer(p, q)
                each[:, -1] = 0
        return theta - 0.1 * moved

    assert made.run() == "enough"
    network.run(made, step)


@pytest.mark.parametrize(
    "name", sorted(set(kinds.names("schemes")) - {"mds", "byzantine", "lagrange", "sag", "dsag"})
)
def test_every_scheme_of_mini_batch_gradients_has_the_key(name: str) -> None:
    settings = [f"scheme.name={name}", "workers.count=4"]
    assert configfile.resolve({}, [*settings, "code.whiten=gram"]).code.whiten == "gram"


@pytest.mark.parametrize("settings", [["scheme.name=mds", "problem.kind=softmax"], ["scheme.name=sag"]])
def test_others_refuse_it(settings: list[str]) -> None:
    with refused("code.whiten: 'gram' has no effect"):
        configfile.resolve({}, [*settings, "code.whiten=gram"])


@pytest.mark.parametrize(
    ("scheme", "key"),
    [("local", "scheme.options.rate"), ("uncoded", "optimizer.rate"), ("diloco", ""), ("signsgd", "")],
)
def test_the_rate_that_scales_gradients_is_converted(scheme: str, key: str) -> None:
    """Shards of 22 rows differ; steps of AdamW, and along signs, are as long for any gradient."""
    overrides = [f"scheme.name={scheme}", "code.whiten=auto", "workers.count=64", "problem.batch=64"]
    given = configfile.resolve({}, [*overrides, "stop.updates=1"])
    found = prepare(given)
    assert found.config.code.whiten == "none"
    lines = [line for line in found.notes if "becomes" in line]
    assert [line.split()[0] for line in lines] == ([key] if key else [])
    rates = [
        (config.optimizer.rate, getattr(config.scheme.options, "rate", None))
        for config in (given, found.config)
    ]
    assert (rates[0] == rates[1]) == (not key)
    assert with_resolved(given, found.facts["resolved"]) == found.config
