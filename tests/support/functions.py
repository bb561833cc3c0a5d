"""A user's file: a small network with dropout as a function of numpy, and others."""

import numpy as np

RAGGED = ([[1.0], [1.0, 2.0]],)


def rows():
    random = np.random.default_rng(1)
    x = random.standard_normal((300, 6))
    return x, np.argmax(x @ random.standard_normal((6, 3)), axis=1)


def start(seed):
    random = np.random.default_rng(seed)
    first = {"weight": random.standard_normal((8, 6)) / 3, "bias": np.zeros(8)}
    return {"first": first, "last": [random.standard_normal((3, 8)) / 3, np.zeros(3)]}


def outputs(theta, x):
    hidden = np.tanh(x @ theta["first"]["weight"].T + theta["first"]["bias"])
    return hidden, hidden @ theta["last"][0].T + theta["last"][1]


def loss_and_gradient(theta, x, y, key):
    hidden, z = outputs(theta, x)
    kept = np.ones_like(hidden) if key is None else np.random.default_rng(key).random(hidden.shape) < 0.9
    z = (hidden * kept) @ theta["last"][0].T + theta["last"][1]
    e = np.exp(z - z.max(axis=1, keepdims=True))
    q, each = e / e.sum(axis=1, keepdims=True), np.arange(len(x))
    loss = -np.mean(np.log(q[each, y]))
    q[each, y] -= 1
    q /= len(x)
    d = (q @ theta["last"][0]) * kept * (1 - hidden**2)
    first = {"weight": d.T @ x, "bias": d.sum(axis=0)}
    return loss, {"first": first, "last": [q.T @ (hidden * kept), q.sum(axis=0)]}


def score(theta, x, y):
    return np.mean(outputs(theta, x)[1].argmax(axis=1) == y)


def wrong(theta, x, y):
    loss, gradient = loss_and_gradient(theta, x, y, None)
    gradient["first"]["weight"] = 2 * gradient["first"]["weight"]
    return loss, gradient


def short(theta, x, y):
    loss, gradient = flat(theta, x, y)
    return loss, gradient.astype(np.float32)


SIX = np.ones(6)


def flat(theta, x, y):
    """Least squares of a vector θ, of linear targets."""
    errors = x @ theta - y
    return 0.5 * np.mean(errors**2), x.T @ errors / len(x)


def by_step(theta, x, y, key):
    """A loss of 0, whose gradient is the number of the step within the task."""
    return 0.0, np.zeros(6) if key is None else np.full(6, float(key[-1]))


def line():
    x = rows()[0]
    return x, x @ np.arange(6.0)


def fails(*rows):
    raise ValueError("no such luck")


def misfit(x):
    """Nine residuals of three parameters."""
    t = np.linspace(0, 2, 9)
    return np.exp(x[0] * t) + x[1] * t + x[2] ** 3 - np.exp(-0.5 * t) - 0.3 * t - 0.2
