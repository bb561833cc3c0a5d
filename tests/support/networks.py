"""A small network and its descents in numpy, for runs of four workers."""

from collections.abc import Callable

import numpy as np
from descents import Descent

from pdcode.coding.muon import COEFFICIENTS
from pdcode.util.rng import BatchSampler

NETWORK = [
    "problem.kind=mlp", "problem.data=breast-cancer", "problem.standardise=true", "problem.hidden=[5]",
    "problem.activation=tanh", "problem.dtype=float64", "problem.batch=16", "workers.count=4",
    "stop.updates=20", "code.blocks=1", "update.mode=all",
]  # fmt: skip


def newton_schulz(matrix: np.ndarray, iterations: int) -> np.ndarray:
    """Newton–Schulz steps by singular values, not by products of matrices."""
    u, values, v = np.linalg.svd(matrix, full_matrices=False)
    values = values / np.linalg.norm(values)
    a, b, c = COEFFICIENTS
    for _ in range(iterations):
        values = a * values + b * values**3 + c * values**5
    return (u * values) @ v


def whitened(matrix: np.ndarray) -> np.ndarray:
    """One Newton–Schulz step and the scale of Muon."""
    return np.sqrt(max(1, len(matrix) / matrix.shape[1])) * newton_schulz(matrix, 1)


class Network:
    """A run's network and shards; `form` is applied to the gradient of each layer with its biases."""

    def __init__(self, made: Descent, form: Callable[[np.ndarray], np.ndarray] = np.array) -> None:
        self.form = form
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
            layer.weights(gradient)[:] = self.form(delta.T @ inputs)
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
        """Gradients at one θ, or at one of each worker."""
        points = np.broadcast_to(theta, (4, theta.shape[-1]))
        return self.weighted(
            [self.gradient(point, i, self.batches(i, task)[0]) for i, point in enumerate(points)]
        )

    def ahead(
        self, residuals: np.ndarray, wholes: np.ndarray, lengths: Callable[[int, int], tuple[float, float]]
    ) -> np.ndarray:
        """Steps along residuals, as long for each layer's weights and biases as `lengths` if all is residual.

        `lengths` gets the numbers of outputs and inputs.
        """
        steps = np.zeros_like(residuals)
        for layer in self.layers:
            for step, residual, whole in zip(steps, residuals, wholes, strict=True):
                own, unsent, full = (layer.weights(each) for each in (step, residual, whole))
                columns = slice(None, -1), slice(-1, None)
                for part, length in zip(columns, lengths(*own[:, :-1].shape), strict=True):
                    if full[:, part].any():
                        own[:, part] = length * unsent[:, part] / np.sqrt((full[:, part] ** 2).sum())
        return steps

    def run(self, made: Descent, step: Callable[["Network", np.ndarray, int], np.ndarray]) -> None:
        """Compare θ with that of a run, after each of 20 updates."""
        theta = made.thetas[0]
        for task in range(20):
            theta = step(self, theta, task)
            np.testing.assert_allclose(made.thetas[task + 1], theta, rtol=1e-7, atol=1e-9)
