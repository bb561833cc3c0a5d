"""An inverse problem of a partial differential equation: the conductivity of a plate from few temperatures.

The plate is heated in the middle, and cold at its edge. Each of 16 zones has a conductivity of its own; its
logarithm is to be found from 40 thermometers. They do not determine all zones, so there is a prior.
`pdcode run job.toml` finds them over MPI; this file as a program does so by a call, on the virtual clock.
"""

import numpy as np
from scipy.sparse import diags
from scipy.sparse.linalg import spsolve

SIDE, ZONES, NOISE = 32, 4, 0.02
NAMES = [f"zone{row}{column}" for row in range(ZONES) for column in range(ZONES)]
START = [0.0] * ZONES**2


def temperatures(x):
    """Return the temperatures of a grid, by finite volumes: -div(conductivity · grad u) = heat."""
    zones = np.exp(np.reshape(x, (ZONES, ZONES)))
    padded = np.pad(np.kron(zones, np.ones((SIDE // ZONES, SIDE // ZONES))), 1, mode="edge")
    inner = padded[1:-1, 1:-1]

    def between(other):  # the conductivity of two cells in turn is the harmonic mean
        return 2 * inner * other / (inner + other)

    west, east = between(padded[1:-1, :-2]), between(padded[1:-1, 2:])
    north, south = between(padded[:-2, 1:-1]), between(padded[2:, 1:-1])
    across, down = east.copy(), south.copy()
    across[:, -1] = 0  # the next cell of the list is in another row
    matrix = diags(
        [
            (west + east + north + south).ravel(),
            -across.ravel()[:-1], -across.ravel()[:-1],
            -down.ravel()[:-SIDE], -down.ravel()[:-SIDE],
        ],
        [0, 1, -1, SIDE, -SIDE],
        format="csc",
    )  # fmt: skip
    middle = np.abs(np.arange(SIDE) - (SIDE - 1) / 2) < SIDE / 8
    heat = 0.05 * np.outer(middle, middle)
    return spsolve(matrix, heat.ravel())


def truth():
    return np.random.default_rng(2).normal(0, 0.5, ZONES**2)


def thermometers():
    """Return the cells that are measured, and their temperatures with noise."""
    random = np.random.default_rng(3)
    cells = random.choice(SIDE**2, 40, replace=False)
    return cells, temperatures(truth())[cells] + NOISE * random.normal(size=40)


def misfit(x):
    """Return residuals in units of their standard deviation."""
    cells, measured = thermometers()
    return (temperatures(x)[cells] - measured) / NOISE


if __name__ == "__main__":
    import pdcode

    prior = {"prior_sd": [0.5] * ZONES**2}  # around the start, 0
    found = pdcode.calibrate(misfit, START, names=NAMES, workers=8, output="call.h5", **prior)
    print("largest error in standard errors:", abs((found.x - truth()) / found.fit.deviations).max().round(2))
    print("largest and least standard error:", found.fit.deviations.max(), found.fit.deviations.min())
