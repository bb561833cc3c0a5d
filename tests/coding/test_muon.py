"""Muon against a network and its descents in numpy, with singular values in place of products of matrices."""

import numpy as np
import pytest
from descents import Descent
from networks import NETWORK, Network, newton_schulz
from outcomes import refused

from pdcode.coding.muon import LARGE_PRODUCTS
from pdcode.coding.optimizers import create
from pdcode.config import load as configfile
from pdcode.session.setup import prepare
from pdcode.util.touches import flops_per_touch
from pdcode.virtual.simulation import Simulation

MUON = ["optimizer.kind=muon", "optimizer.rate=0.03"]
TIMES = [1, 1.3, 1.7, 6]
PLAIN = ["scheme.name=uncoded"]
CASES = {
    "mean": PLAIN,
    "sum": ["scheme.name=allreduce"],
    "relayed": [*PLAIN, "downlink.kind=codewords", "downlink.check=1"],
    "inputs": [*PLAIN, "problem.axis=input"],
    "elements": ["scheme.name=topk", "scheme.options.share=1", "wire.dtype=float64"],
    "random elements": ["scheme.name=randomk", "scheme.options.share=1", "wire.dtype=float64"],
    "parts": ["scheme.name=streaming", "code.blocks=3"],
    "all of θ": ["scheme.name=robust", "scheme.options.rule=trimmed", "scheme.options.liars=0"],
    "heavy ball": [*PLAIN, "optimizer.nesterov=false", "optimizer.momentum=0.7"],
    "vectors": [*PLAIN, "optimizer.vectors=momentum", "optimizer.iterations=2"],
}


@pytest.mark.parametrize("name", CASES)
def test_descents_are_those_in_numpy(name: str) -> None:
    made = Descent([*NETWORK, *MUON, *CASES[name]], TIMES)
    table, network, v = made.config.optimizer, Network(made), np.zeros_like(made.thetas[0])

    def step(network: Network, theta: np.ndarray, task: int) -> np.ndarray:
        mean = network.gradients(theta, task).mean(axis=0)
        v[:] = table.momentum * v + mean
        u = mean + table.momentum * v if table.nesterov else v.copy()
        for layer in network.layers:
            matrix = layer.weights(u)
            outputs, inputs = matrix[:, :-1].shape
            matrix[:, :-1] = newton_schulz(matrix[:, :-1], table.iterations) * max(1, outputs / inputs) ** 0.5
            if table.vectors == "sign":
                matrix[:, -1] = np.sign(matrix[:, -1])
        return theta - 0.03 * u

    assert made.run() == "enough"
    network.run(made, step)


@pytest.mark.parametrize("kind", ["sign", "muon", "dion2"])
def test_look_ahead_knows_how_long_steps_are(kind: str) -> None:
    """Of vectors drawn at random; Newton–Schulz steps leave singular values between 0.7 and 1.2."""
    made = Descent([*NETWORK, f"optimizer.kind={kind}", "optimizer.rate=1", *PLAIN], TIMES)
    optimizer, theta = made.state.optimizer, made.state.theta
    optimizer.whole_gradient[:] = np.random.default_rng(0).standard_normal(len(theta))
    before = theta.copy()
    optimizer.step_whole(theta)
    for layer in made.components.problem.layers:
        weights, biases = made.config.optimizer.step_lengths(layer)
        assert np.linalg.norm(layer.unbiased(before - theta)) == pytest.approx(weights, rel=0.35)
        assert np.linalg.norm(layer.biases(before - theta)) == pytest.approx(biases)


def test_orthogonal_has_the_biases_in_their_matrix_and_momentum_last() -> None:
    """Steps of a matrix shrink with the root of its norm, relative to the largest so far."""
    made = Descent([*NETWORK, "optimizer.kind=orthogonal", "optimizer.rate=0.03", *PLAIN], TIMES)
    network, v, largest = Network(made), np.zeros_like(made.thetas[0]), np.zeros(2)

    def step(network: Network, theta: np.ndarray, task: int) -> np.ndarray:
        d = network.gradients(theta, task).mean(axis=0)
        for number, layer in enumerate(network.layers):
            matrix = layer.weights(d)
            norm, (outputs, inputs) = np.linalg.norm(matrix), matrix[:, :-1].shape
            largest[number] = max(largest[number], norm)
            scale = (max(1, outputs / inputs) * norm / largest[number]) ** 0.5
            matrix[:] = newton_schulz(matrix, 2) * scale
        v[:] = 0.8 * v + d
        return theta - 0.03 * (d + 0.8 * v)

    assert made.run() == "enough"
    network.run(made, step)


@pytest.mark.parametrize(("hidden", "share"), [(5, 0.4), (40, 0.25), (5, 1.0)])
def test_dion2_turns_the_rows_or_columns_of_largest_momentum(hidden: int, share: float) -> None:
    """Of 5 or 30 of them, of two in the second layer; only these decay."""
    dion2 = ["optimizer.kind=dion2", "optimizer.rate=0.03", "optimizer.momentum=0.8", *PLAIN]
    made = Descent([*NETWORK, f"problem.hidden=[{hidden}]", *dion2, f"optimizer.share={share}"], TIMES)
    m = np.zeros_like(made.thetas[0])

    def step(network: Network, theta: np.ndarray, task: int) -> np.ndarray:
        m[:] += network.gradients(theta, task).mean(axis=0)
        moved = np.zeros_like(theta)
        for layer in network.layers:
            own, to = layer.weights(m), layer.weights(moved)
            to[:, -1] = np.sign(own[:, -1])
            own[:, -1] *= 0.8
            outputs, inputs = own[:, :-1].shape
            own, to = (own[:, :-1], to[:, :-1]) if outputs <= inputs else (own[:, :-1].T, to[:, :-1].T)
            largest = np.argsort(-np.linalg.norm(own, 1, axis=1))[: int(np.ceil(share * len(own)))]
            to[largest] = newton_schulz(own[largest], 5) * max(1, outputs / inputs) ** 0.5
            own[largest] *= 0.8
        return theta - 0.03 * moved

    assert made.run() == "enough"
    Network(made).run(made, step)
    quarter = made.config.optimizer.flops(made.components.problem.layers)
    whole = create({"kind": "muon"}, 1, "float32").table.flops(made.components.problem.layers)
    assert (quarter < whole) == (share < 1)


def seconds(*settings: str) -> float:
    wide = ["problem.hidden=[64]", "machine.flops_per_s=1e9", "stop.updates=5", "link.bandwidth=1e12"]
    config = configfile.resolve({}, [*NETWORK, *wide, *settings])
    return Simulation(prepare(config)).run()[1].seconds


def test_rank_0_is_charged_for_its_steps_and_so_is_whoever_repeats_them() -> None:
    """Five steps, 5 · (4s²l + 2s³) a matrix of sides s < l, ten touches an element; rank 0 at two speeds."""
    products, size = 5 * (4 * 30**2 * 64 + 2 * 30**3 + 4 * 2**2 * 64 + 2 * 2**3), 64 * 31 + 2 * 65
    touched = (10 - 2) * flops_per_touch(size) * size
    more_s = 5e-9 * (LARGE_PRODUCTS * products + touched)  # than a step of SGD
    for scheme, repeated in (("uncoded", 0), ("allreduce", 0), ("powersgd", 0), ("relayed", 4)):
        settings = [f"scheme.name={scheme.replace('relayed', 'uncoded')}"]
        settings += ["downlink.kind=codewords"] * (scheme == "relayed")
        for speed in (1, 7):
            job = [*settings, f"machine.coordinator_speed={speed}"]
            own = 1 if scheme == "allreduce" else speed
            expected = more_s / own + more_s * bool(repeated)  # with the task before each step
            assert seconds(*job, *MUON) - seconds(*job) == pytest.approx(expected, rel=0.02), scheme


def test_a_zero_gradient_moves_nothing_and_other_keys_are_refused() -> None:
    made = Descent([*NETWORK, *MUON, *PLAIN], TIMES)
    theta = made.state.theta.copy()
    assert made.state.step(1.0) == 0
    np.testing.assert_array_equal(made.state.theta, theta)
    with refused("optimizer.proximal"):
        create({"kind": "muon", "proximal": {"kind": "l1"}}, 4, "float64")
