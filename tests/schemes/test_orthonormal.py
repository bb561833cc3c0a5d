"""Ringmaster Muon, EF21-Muon and Dion against a network and descents in numpy."""

import numpy as np
import pytest
from descents import Descent
from networks import NETWORK, Network, newton_schulz
from outcomes import refused

from pdcode.config import load as configfile
from pdcode.trace.schema import USED, WASTED

TIMES = [1, 1.3, 1.7, 6]


def gram_schmidt(matrix: np.ndarray) -> np.ndarray:
    """Orthonormal columns; a zero for a column that depends on those before."""
    out = matrix.copy()
    for number in range(out.shape[1]):
        length = np.linalg.norm(out[:, number])
        for _ in range(2):
            out[:, number] -= out[:, :number] @ (out[:, :number].T @ out[:, number])
        rest = np.linalg.norm(out[:, number])
        out[:, number] *= 0 if rest <= 1e-9 * length else 1 / rest
    return out


def muon(network: Network, mean: np.ndarray) -> np.ndarray:
    """The point of the unit ball opposite to a vector, times Muon's scale."""
    step = np.empty_like(mean)
    for layer in network.layers:
        matrix, own = layer.weights(mean), layer.weights(step)
        outputs, inputs = matrix[:, :-1].shape
        own[:, :-1] = newton_schulz(matrix[:, :-1], 5) * max(1, outputs / inputs) ** 0.5
        own[:, -1] = np.sign(matrix[:, -1])
    return step


def test_ringmaster_muon_steps_by_a_momentum_of_fresh_gradients() -> None:
    """Each worker's mini-batches at the θ that its task had."""
    sets = ["scheme.name=ringmaster-muon", "scheme.options.threshold=3", "update.mode=async"]
    made = Descent([*NETWORK, *sets, "optimizer.rate=0.02", "optimizer.momentum=0.7"], TIMES)
    assert made.run() == "enough"
    network, theta, m, version, dropped = Network(made), made.thetas[0], 0.0, 0, 0
    for row in made.trace.arrivals:
        dropped += row["status"] == WASTED
        assert row["status"] != WASTED or row["staleness"] >= 3
        if row["status"] != USED:
            continue
        worker = row["worker"]
        (rows,) = network.batches(worker, row["task"])
        scale = 4 * len(network.shards[worker]["x"]) / network.rows
        gradient = scale * network.gradient(made.thetas[row["version"]], worker, rows)
        m, version = 0.7 * m + 0.3 * gradient, version + 1
        theta = theta - 0.02 * muon(network, m)
        np.testing.assert_allclose(made.thetas[version], theta, rtol=1e-7, atol=1e-9)
    assert version == 20
    assert dropped


@pytest.mark.parametrize(
    ("downlink", "beta", "ahead"), [("full", 0.3, 0.0), ("codewords", 1.0, 0.0), ("full", 0.3, 0.5)]
)
def test_ef21_muon_sends_the_largest_changes_of_momenta(downlink: str, beta: float, ahead: float) -> None:
    sets = ["scheme.name=ef21-muon", f"scheme.options={{share=0.1,beta={beta}}}", f"downlink.kind={downlink}"]
    sets += [f"memory.lookahead={ahead}"]
    made = Descent([*NETWORK, *sets, "wire.dtype=float64", "optimizer.rate=0.02"], TIMES)
    assert made.run() == "enough"
    size = len(made.thetas[0])
    momenta, estimates = np.zeros((4, size)), np.zeros((4, size))

    def lengths(outputs: int, inputs: int) -> tuple[float, float]:
        return np.sqrt(max(1, outputs / inputs) * min(outputs, inputs)), np.sqrt(outputs)

    def step(network: Network, theta: np.ndarray, task: int) -> np.ndarray:
        steps = network.ahead(momenta - estimates, momenta, lengths)
        momenta[:] = (1 - beta) * momenta + beta * network.gradients(theta - ahead * 0.02 * steps, task)
        for layer in network.layers:
            place = slice(layer.offset, layer.offset + layer.length)
            for momentum, estimate in zip(momenta[:, place], estimates[:, place], strict=True):
                change = momentum - estimate
                largest = np.argsort(-np.abs(change))[: -(-layer.length // 10)]
                estimate[largest] += change[largest]
        return theta - 0.02 * muon(network, estimates.mean(axis=0))

    Network(made).run(made, step)


@pytest.mark.parametrize(("rank", "mu", "ahead"), [(1, 0.8, 0), (2, 0.0, 0), (5, 0.95, 0), (3, 0.9, 0.7)])
def test_dion_steps_along_orthonormal_columns_of_momenta(rank: int, mu: float, ahead: float) -> None:
    """The paper's algorithm with M of each worker, by Gram-Schmidt; each update has two tasks."""
    sets = ["scheme.name=dion", f"scheme.options={{rank={rank},momentum={mu}}}", "optimizer.rate=0.02"]
    sets += [f"memory.lookahead={ahead}"]
    made = Descent([*NETWORK, *sets], TIMES)
    qs = [q.T.copy() for q in made.state._q]
    momenta = np.zeros((4, len(made.thetas[0])))
    assert made.run() == "enough"

    def lengths(outputs: int, inputs: int) -> tuple[float, float]:
        return np.sqrt(outputs / inputs * min(rank, outputs, inputs)), np.sqrt(outputs)

    def step(network: Network, theta: np.ndarray, task: int) -> np.ndarray:
        points = theta - ahead * 0.02 * network.ahead(momenta, momenta, lengths)
        momenta[:] += network.gradients(points, 2 * task)
        moved = np.empty_like(theta)
        for number, layer in enumerate(network.layers):
            matrices = [layer.weights(momentum) for momentum in momenta]
            mean = np.mean(matrices, axis=0)
            p = gram_schmidt(mean[:, :-1] @ qs[number])
            right = mean[:, :-1].T @ p
            qs[number] = right / (np.linalg.norm(right, axis=0) + 1e-8)
            outputs, inputs = mean[:, :-1].shape
            layer.weights(moved)[:, :-1] = (outputs / inputs) ** 0.5 * p @ qs[number].T
            layer.weights(moved)[:, -1] = np.sign(mean[:, -1])
            for matrix in matrices:
                matrix[:, :-1] -= (1 - mu) * p @ (matrix[:, :-1].T @ p).T
                matrix[:, -1] *= mu
        return theta - 0.02 * moved

    Network(made).run(made, step)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["scheme.name=ringmaster-muon", "optimizer.kind=sgd"], ["optimizer.kind", "'muon'"]),
        (["scheme.name=ef21-muon", "memory.kind=worker"], ["memory.kind", "'difference'"]),
        (["scheme.name=dion", "optimizer.kind=muon"], ["optimizer.kind", "'sgd'"]),
        (["scheme.name=powersgd", "memory.keep=0.9"], ["memory.keep", "powersgd"]),
    ],
)
def test_what_cannot_work_is_refused(settings: list[str], words: list[str]) -> None:
    with refused(*words):
        configfile.resolve({}, settings)
