"""Whitening and look-ahead in every scheme that has them, against a network and its descents in numpy."""

from collections.abc import Callable

import numpy as np
import pytest
from descents import Descent
from networks import NETWORK, Network, whitened
from outcomes import refused

from pdcode.automatic.keys import with_resolved
from pdcode.config import kinds
from pdcode.config import load as configfile
from pdcode.session.setup import prepare

JOB = [*NETWORK, "code.whiten=gram"]
TIMES = [1, 1.3, 1.7, 6]
ALL = "scheme.options.share=1"


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
        ("cyclic", mean, ["scheme.options.stragglers=1", "optimizer.rate=0.1"]),
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
    Network(made, whitened).run(made, step)


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
    network, qs = Network(made, whitened), [q[0].copy() for q in made.state._q]
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
    "name",
    sorted(set(kinds.names("schemes")) - {"mds", "byzantine", "lagrange", "sag", "dsag", "differences"}),
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


@pytest.mark.parametrize("preset", ["ring", "sharded"])
def test_rate_and_largest_length_hold_for_gradients_that_are_not_whitened(preset: str) -> None:
    rows = [f"scheme.preset={preset}", "workers.count=64", "problem.batch=64", "stop.updates=1"]
    found = prepare(configfile.resolve({}, rows)).config
    assert found.code.whiten == "none"
    assert (found.optimizer.rate, found.optimizer.longest) == (5.0, 0.4)
