"""A plug-in with a model that has random numbers and a state."""

import numpy as np

from pdcode.problems import Measurement, Model, ModelTable, RowSet


class Averaged(Model):
    """Least squares around a running mean of the targets, with noise on the inputs."""

    score = "minus loss"

    @property
    def shapes(self):
        return {"slope": (1, 6)}

    def initial(self, seed):
        return np.random.default_rng(seed).standard_normal(6)

    def state(self):
        return {"mean": np.zeros(1)}

    def gradient(self, theta, rows, out, key, state):
        x, y = rows
        state["mean"] += 0.1 * (y.mean() - state["mean"])
        x = x + (0 if key is None else 0.1 * np.random.default_rng(key).standard_normal(x.shape))
        errors = x @ theta + state["mean"] - y
        out[:] = x.T @ errors / len(x)
        return float(0.5 * np.mean(errors**2))

    def evaluate(self, theta, train, test):
        loss = self.gradient(theta, train, np.empty(6), None, {"mean": np.full(1, train[1].mean())})
        return Measurement(loss, -loss)

    def flops(self, rows, like):
        return 24.0 * rows


class AveragedProblem(ModelTable, tag="averaged"):
    """Its kind."""

    data: str = "line"

    def model(self):
        return Averaged()

    def read(self):
        x = np.random.default_rng(1).standard_normal((300, 6)).astype(self.dtype)
        y = (x @ np.arange(6.0) + 3).astype(self.dtype)
        return RowSet((x[:240], y[:240]), (x[240:], y[240:]))
