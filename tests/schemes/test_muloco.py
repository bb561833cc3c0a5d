"""MuLoCo against its algorithm by hand, and its orthogonalisation against a singular value decomposition."""

import numpy as np
import pytest
from descents import Descent
from local_steps import LINES, displacements

from pdcode.coding.muon import COEFFICIENTS, orthogonalise
from pdcode.rivals.muloco import InnerMuon, MuLoCo
from pdcode.transport.units import Blocks

TIMES = [1, 1.3, 1.7, 6]
MULOCO = ["scheme.name=muloco", "optimizer.rate=0.7"]  # Descent has another rate


def polynomial(values: np.ndarray, iterations: int) -> np.ndarray:
    a, b, c = COEFFICIENTS
    for _ in range(iterations):
        values = a * values + b * values**3 + c * values**5
    return values


class Muon:
    """Muon for a matrix of one row, whose singular value is its norm."""

    def __init__(self, rate: float, momentum: float, decay: float, iterations: int) -> None:
        self.rate, self.momentum, self.decay, self.v = rate, momentum, decay, 0.0
        self.length = polynomial(np.ones(1), iterations)

    def step(self, theta: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        self.v = self.momentum * self.v + gradient
        u = gradient + self.momentum * self.v
        return (1 - self.rate * self.decay) * theta - self.rate * self.length * u / np.linalg.norm(u)


@pytest.mark.parametrize("batch", [0, 3])
@pytest.mark.parametrize("steps", [1, 3])
def test_it_is_the_algorithm_by_hand(batch: int, steps: int) -> None:
    """Shards of unequal size: each worker's displacement counts by its rows."""
    options = f"scheme.options={{steps={steps},rate=0.03,momentum=0.8,weight_decay=0.3,iterations=3}}"
    made = Descent([*MULOCO, *LINES, f"problem.batch={batch}", options, "stop.updates=20"], TIMES)
    made.run()
    inner, theta, momentum = [Muon(0.03, 0.8, 0.3, 3) for _ in range(4)], made.thetas[0].copy(), 0.0
    for task in range(20):
        moved = np.mean(displacements(made, inner, theta, task, steps), axis=0)
        momentum = 0.9 * momentum + moved
        theta = theta - 0.7 * (moved + 0.9 * momentum)
        np.testing.assert_allclose(made.thetas[task + 1], theta, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (1, 5), (5, 5)])
def test_singular_values_follow_the_polynomial(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(1).standard_normal(shape)
    u, values, v = np.linalg.svd(matrix, full_matrices=False)
    expected = u * polynomial(values / np.linalg.norm(values), 5) @ v
    np.testing.assert_allclose(orthogonalise(matrix, 5), expected, rtol=1e-10, atol=1e-12)


def test_steps_of_a_tall_layer_are_longer() -> None:
    layer = Blocks(0, "output", 1, 8, 2, 0)  # 8 outputs, an input and the bias
    inner = InnerMuon(MuLoCo.Options(rate=0.5, momentum=0.0), [layer], 16, np.dtype("float64"))
    theta, gradient = np.zeros(16), np.random.default_rng(2).standard_normal(16)
    direction = orthogonalise(gradient.reshape(8, 2), 5)
    inner.step(theta, gradient.copy())
    np.testing.assert_allclose(theta.reshape(8, 2), -0.5 * 2 * direction, rtol=1e-12)


def test_a_gradient_that_is_not_finite_leaves_the_momentum_alone() -> None:
    layer = Blocks(0, "output", 1, 1, 3, 0)
    inner, theta = InnerMuon(MuLoCo.Options(), [layer], 3, np.dtype("float64")), np.ones(3)
    inner.step(theta, np.array([1.0, -2.0, 3.0]))
    kept = inner.velocity.copy()
    inner.step(theta, np.array([1.0, np.inf, 0.0]))
    assert np.isnan(theta).all()
    np.testing.assert_array_equal(inner.velocity, kept)
