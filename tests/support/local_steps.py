"""Local steps of AdamW by hand, for a small least-squares problem."""

from collections.abc import Sequence

import numpy as np
from descents import Descent

from pdcode.util.rng import BatchSampler

LINES = [
    "problem.kind=least-squares", "problem.data=synthetic", "problem.samples=23", "problem.features=5",
    "problem.test_fraction=0", "problem.dtype=float64", "workers.count=4", "code.blocks=1",
]  # fmt: skip


class AdamW:
    """AdamW as its authors write it, with a learning rate η that scales the weight decay, too."""

    def __init__(self, rate: float, beta1: float, beta2: float, epsilon: float, decay: float) -> None:
        self.keys, self.t, self.m, self.v = (rate, beta1, beta2, epsilon, decay), 0, 0.0, 0.0

    def step(self, theta: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        rate, beta1, beta2, epsilon, decay = self.keys
        self.t += 1
        self.m = beta1 * self.m + (1 - beta1) * gradient
        self.v = beta2 * self.v + (1 - beta2) * gradient**2
        m, v = self.m / (1 - beta1**self.t), self.v / (1 - beta2**self.t)
        return theta - rate * m / (np.sqrt(v) + epsilon) - rate * decay * theta


def displacements(
    made: Descent, inner: Sequence[AdamW], theta: np.ndarray, task: int, steps: int
) -> list[np.ndarray]:
    """How far each worker's local steps move θ, weighted so that the mean over workers is one over rows."""
    moved, batch, workers = [], made.config.problem.batch, len(inner)
    shards = [made.components.source.shard(worker, workers) for worker in range(workers)]
    rows = sum(len(shard["x"]) for shard in shards)
    for worker, shard in enumerate(shards):
        x, y, own = shard["x"], shard["y"].reshape(-1), theta.copy()  # inputs end with the bias
        drawn = BatchSampler(made.config.seed, worker, len(x), steps * batch).draw(task)
        for step in range(steps):
            some = slice(None) if batch == 0 else drawn[step * batch : (step + 1) * batch]
            own = inner[worker].step(own, x[some].T @ (x[some] @ own - y[some]) / len(x[some]))
        moved.append(workers * len(x) / rows * (theta - own))
    return moved
