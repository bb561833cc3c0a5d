"""A loss of one's own in numpy: linear regression that outliers do not spoil (Huber's loss).

`pdcode run job.toml` trains it over MPI; this file as a program does so by a call, on the virtual clock.
"""

import numpy as np

start = np.zeros(31)


def rows():
    """Return inputs with a column of ones, and targets, a tenth of them far off."""
    random = np.random.default_rng(0)
    x = np.column_stack([random.standard_normal((2000, 30)), np.ones(2000)])
    y = x @ truth() + 0.1 * random.standard_normal(2000)
    y[::10] += 100 * random.standard_exponential(200)
    return x, y


def truth():
    return np.random.default_rng(1).standard_normal(31)


def loss_and_gradient(theta, x, y):
    """Return the mean over the rows: squares up to a residual of 1, lines beyond."""
    residual = x @ theta - y
    cut = np.clip(residual, -1, 1)
    return float(np.mean(cut * (residual - cut / 2))), x.T @ cut / len(y)


def score(theta, x, y):
    """Return the fraction of rows that are met."""
    return float(np.mean(np.abs(x @ theta - y) < 0.5))


if __name__ == "__main__":
    import pdcode

    found = pdcode.minimize(
        loss_and_gradient, start, rows(), score=score, config="job.toml", output="call.h5"
    )
    print(f"largest error of a coefficient: {abs(found.x - truth()).max():.3f}")
    squares = np.linalg.lstsq(*rows(), rcond=None)[0]
    print(f"by least squares: {abs(squares - truth()).max():.3f}")
