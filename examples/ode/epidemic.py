"""Calibration of a differential equation: an epidemic, of which the new cases of each day are counted.

`pdcode run job.toml` fits it over MPI; this file as a program does so by a call, on the virtual clock.
"""

import numpy as np
from scipy.integrate import solve_ivp

PEOPLE, DAYS = 10_000.0, np.arange(61.0)
NAMES = ["infections", "recoveries", "exposure", "first"]
START, TRUTH = [0.6, 0.2, 0.5, 5.0], [0.9, 0.25, 0.4, 12.0]  # rates in 1/day, and infected people on day 0
BOUNDS = [(0.05, 3), (0.02, 2), (0.05, 3), (1, 100)]


def cases(x):
    """Return the new cases of each day: susceptible, exposed, infected and recovered people."""
    infections, recoveries, exposure, first = x

    def change(_, state):
        susceptible, exposed, infected, _ = state
        new, ill = infections * susceptible * infected / PEOPLE, exposure * exposed
        return [-new, new - ill, ill - recoveries * infected, ill]

    begin = [PEOPLE - first, 0.0, first, 0.0]
    found = solve_ivp(change, (0, DAYS[-1]), begin, t_eval=DAYS, rtol=1e-9, atol=1e-6, method="LSODA")
    return np.diff(found.y[3])


def counted():
    """Return counts with noise as of a Poisson distribution."""
    return np.random.default_rng(5).poisson(cases(TRUTH)).astype(float)


def misfit(x):
    """Return residuals in units of their standard deviation."""
    observed = counted()
    return (cases(x) - observed) / np.sqrt(observed + 1)


if __name__ == "__main__":
    import pdcode

    found = pdcode.calibrate(misfit, START, bounds=BOUNDS, names=NAMES, workers=4, output="call.h5")
    for name, x, (low, high), truth in zip(NAMES, found.x, found.fit.intervals, TRUTH, strict=True):
        print(f"{name:10} {x:7.3f}, 95 %: {low:.3f} to {high:.3f}; true {truth}")
