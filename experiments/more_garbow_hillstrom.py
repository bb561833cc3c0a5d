"""The test problems of Moré, Garbow and Hillstrom: evaluations beside scipy's (MINPACK's) `lm`.

Moré, Garbow and Hillstrom, "Testing unconstrained optimization software", ACM TOMS 7(1), 1981: all 35 are
sums of squares. Prints, for a worker and for 32, the cost that `pdcode.calibrate` reaches, and its
evaluations as a multiple of those of ``scipy.optimize.least_squares(method="lm")``, which ends by the same
tolerance of 1e-8.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

import pdcode

Function = Callable[[np.ndarray], np.ndarray]


def rosenbrock(x: np.ndarray) -> np.ndarray:
    return np.concatenate([10 * (x[1::2] - x[::2] ** 2), 1 - x[::2]])


def freudenstein(x: np.ndarray) -> np.ndarray:
    first = -13 + x[0] + ((5 - x[1]) * x[1] - 2) * x[1]
    return np.array([first, -29 + x[0] + ((x[1] + 1) * x[1] - 14) * x[1]])


def powell_badly_scaled(x: np.ndarray) -> np.ndarray:
    return np.array([1e4 * x[0] * x[1] - 1, np.exp(-x[0]) + np.exp(-x[1]) - 1.0001])


def brown_badly_scaled(x: np.ndarray) -> np.ndarray:
    return np.array([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2])


def beale(x: np.ndarray) -> np.ndarray:
    return np.array([1.5, 2.25, 2.625]) - x[0] * (1 - x[1] ** np.arange(1, 4))


def jennrich(x: np.ndarray) -> np.ndarray:
    i = np.arange(1, 11)
    return 2 + 2 * i - (np.exp(i * x[0]) + np.exp(i * x[1]))


def helical(x: np.ndarray) -> np.ndarray:
    angle = np.arctan(x[1] / x[0]) / (2 * np.pi) if x[0] else 0.25 * np.sign(x[1])
    return np.array([10 * (x[2] - 10 * (angle + 0.5 * (x[0] < 0))), 10 * (np.hypot(x[0], x[1]) - 1), x[2]])


def bard(x: np.ndarray) -> np.ndarray:
    y = np.array([14, 18, 22, 25, 29, 32, 35, 39, 37, 58, 73, 96, 134, 210, 439]) / 100
    u = np.arange(1.0, 16)
    v = 16 - u
    return y - (x[0] + u / (v * x[1] + np.minimum(u, v) * x[2]))


def gaussian(x: np.ndarray) -> np.ndarray:
    half = np.array([0.0009, 0.0044, 0.0175, 0.054, 0.1295, 0.242, 0.3521])
    t = (8 - np.arange(1, 16)) / 2
    return x[0] * np.exp(-x[1] * (t - x[2]) ** 2 / 2) - np.concatenate([half, [0.3989], half[::-1]])


def meyer(x: np.ndarray) -> np.ndarray:
    y = np.array([
        34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872,
    ])  # fmt: skip
    return x[0] * np.exp(x[1] / (45 + 5 * np.arange(1, 17) + x[2])) - y


def gulf(x: np.ndarray) -> np.ndarray:
    t = np.arange(1, 100) / 100
    y = 25 + (-50 * np.log(t)) ** (2 / 3)
    return np.exp(-(np.abs(y - x[1]) ** x[2]) / x[0]) - t


def box(x: np.ndarray) -> np.ndarray:
    t = 0.1 * np.arange(1, 11)
    return np.exp(-t * x[0]) - np.exp(-t * x[1]) - x[2] * (np.exp(-t) - np.exp(-10 * t))


def powell_singular(x: np.ndarray) -> np.ndarray:
    a, b, c, d = x.reshape(-1, 4).T
    return np.concatenate([a + 10 * b, 5**0.5 * (c - d), (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2])


def wood(x: np.ndarray) -> np.ndarray:
    first = 10 * (x[1] - x[0] ** 2), 1 - x[0], 90**0.5 * (x[3] - x[2] ** 2), 1 - x[2]
    return np.array([*first, 10**0.5 * (x[1] + x[3] - 2), (x[1] - x[3]) / 10**0.5])


def kowalik(x: np.ndarray) -> np.ndarray:
    y = np.array([0.1957, 0.1947, 0.1735, 0.16, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246])
    u = np.array([4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625])
    return y - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


def brown_dennis(x: np.ndarray) -> np.ndarray:
    t = np.arange(1, 21) / 5
    return (x[0] + t * x[1] - np.exp(t)) ** 2 + (x[2] + x[3] * np.sin(t) - np.cos(t)) ** 2


def osborne_1(x: np.ndarray) -> np.ndarray:
    y = np.array([
        844, 908, 932, 936, 925, 908, 881, 850, 818, 784, 751, 718, 685, 658, 628, 603, 580, 558, 538, 522,
        506, 490, 478, 467, 457, 448, 438, 431, 424, 420, 414, 411, 406,
    ]) / 1000  # fmt: skip
    t = 10 * np.arange(33)
    return y - (x[0] + x[1] * np.exp(-t * x[3]) + x[2] * np.exp(-t * x[4]))


def biggs(x: np.ndarray) -> np.ndarray:
    t = 0.1 * np.arange(1, 14)
    y = np.exp(-t) - 5 * np.exp(-10 * t) + 3 * np.exp(-4 * t)
    return x[2] * np.exp(-t * x[0]) - x[3] * np.exp(-t * x[1]) + x[5] * np.exp(-t * x[4]) - y


def osborne_2(x: np.ndarray) -> np.ndarray:
    y = np.array([
        1366, 1191, 1112, 1013, 991, 885, 831, 847, 786, 725, 746, 679, 608, 655, 616, 606, 602, 626, 651,
        724, 649, 649, 694, 644, 624, 661, 612, 558, 533, 495, 500, 423, 395, 375, 372, 391, 396, 405, 428,
        429, 523, 562, 607, 653, 672, 708, 633, 668, 645, 632, 591, 559, 597, 625, 739, 710, 729, 720, 636,
        581, 428, 292, 162, 98, 54,
    ]) / 1000  # fmt: skip
    t = np.arange(65) / 10
    bells = sum(x[i] * np.exp(-((t - x[7 + i]) ** 2) * x[4 + i]) for i in (1, 2, 3))
    return y - (x[0] * np.exp(-t * x[4]) + bells)


def watson(x: np.ndarray) -> np.ndarray:
    t, j = np.arange(1, 30)[:, None] / 29, np.arange(len(x))
    slopes = (j[1:] * x[1:] * t ** (j[1:] - 1.0)).sum(axis=1)
    return np.append(slopes - (x * t**j).sum(axis=1) ** 2 - 1, [x[0], x[1] - x[0] ** 2 - 1])


def penalty_1(x: np.ndarray) -> np.ndarray:
    return np.append(1e-5**0.5 * (x - 1), x @ x - 0.25)


def penalty_2(x: np.ndarray) -> np.ndarray:
    n, a = len(x), 1e-5**0.5
    i = np.arange(2, n + 1)
    y = np.exp(i / 10) + np.exp((i - 1) / 10)
    first = a * (np.exp(x[1:] / 10) + np.exp(x[:-1] / 10) - y)
    second = a * (np.exp(x[1:] / 10) - np.exp(-0.1))
    return np.concatenate([[x[0] - 0.2], first, second, [np.arange(n, 0, -1) @ x**2 - 1]])


def variably_dimensioned(x: np.ndarray) -> np.ndarray:
    total = np.arange(1, len(x) + 1) @ (x - 1)
    return np.append(x - 1, [total, total**2])


def trigonometric(x: np.ndarray) -> np.ndarray:
    n = len(x)
    return n - np.cos(x).sum() + np.arange(1, n + 1) * (1 - np.cos(x)) - np.sin(x)


def brown_almost_linear(x: np.ndarray) -> np.ndarray:
    return np.append(x[:-1] + x.sum() - (len(x) + 1), x.prod() - 1)


def discrete_boundary(x: np.ndarray) -> np.ndarray:
    n = len(x)
    h, near = 1 / (n + 1), np.concatenate([[0.0], x, [0.0]])
    return 2 * x - near[:-2] - near[2:] + h**2 * (x + h * np.arange(1, n + 1) + 1) ** 3 / 2


def discrete_integral(x: np.ndarray) -> np.ndarray:
    h = 1 / (len(x) + 1)
    t = h * np.arange(1, len(x) + 1)
    cubes = (x + t + 1) ** 3
    below, above = np.cumsum(t * cubes), np.append(np.cumsum(((1 - t) * cubes)[::-1])[::-1][1:], 0.0)
    return x + h * ((1 - t) * below + t * above) / 2


def broyden_tridiagonal(x: np.ndarray) -> np.ndarray:
    near = np.concatenate([[0.0], x, [0.0]])
    return (3 - 2 * x) * x - near[:-2] - 2 * near[2:] + 1


def broyden_banded(x: np.ndarray) -> np.ndarray:
    each = x * (1 + x)
    sums = [each[max(0, i - 5) : i + 2].sum() - each[i] for i in range(len(x))]
    return x * (2 + 5 * x**2) + 1 - np.array(sums)


def linear_full_rank(x: np.ndarray) -> np.ndarray:
    m = 2 * len(x)
    return np.append(x, np.zeros(m - len(x))) - 2 * x.sum() / m - 1


def linear_rank_1(x: np.ndarray) -> np.ndarray:
    n = len(x)
    return np.arange(1, 2 * n + 1) * (np.arange(1, n + 1) @ x) - 1


def linear_rank_1_zeros(x: np.ndarray) -> np.ndarray:
    n = len(x)
    inner = np.arange(2, n) @ x[1:-1]
    return np.append(np.arange(2 * n - 1) * inner - 1, -1.0)


def chebyquad(x: np.ndarray) -> np.ndarray:
    i = np.arange(1, len(x) + 1)
    means = np.polynomial.chebyshev.chebvander(2 * x - 1, len(x))[:, 1:].mean(axis=0)
    return means + np.where(i % 2 == 0, 1.0 / np.where(i % 2 == 0, i**2 - 1, 1), 0.0)


def spread(n: int) -> list[float]:
    """Return 1/(n + 1), 2/(n + 1) …"""
    return (np.arange(1, n + 1) / (n + 1)).tolist()


T = np.array(spread(10))
# Name: function and start, in the order of the paper; where it gives several dimensions, that of its tables.
PROBLEMS: dict[str, tuple[Function, list[float]]] = {
    "Rosenbrock": (rosenbrock, [-1.2, 1]),
    "Freudenstein and Roth": (freudenstein, [0.5, -2]),
    "Powell badly scaled": (powell_badly_scaled, [0, 1]),
    "Brown badly scaled": (brown_badly_scaled, [1, 1]),
    "Beale": (beale, [1, 1]),
    "Jennrich and Sampson": (jennrich, [0.3, 0.4]),
    "helical valley": (helical, [-1, 0, 0]),
    "Bard": (bard, [1, 1, 1]),
    "Gaussian": (gaussian, [0.4, 1, 0]),
    "Meyer": (meyer, [0.02, 4000, 250]),
    "Gulf research": (gulf, [5, 2.5, 0.15]),
    "box": (box, [0, 10, 20]),
    "Powell singular": (powell_singular, [3, -1, 0, 1]),
    "Wood": (wood, [-3, -1, -3, -1]),
    "Kowalik and Osborne": (kowalik, [0.25, 0.39, 0.415, 0.39]),
    "Brown and Dennis": (brown_dennis, [25, 5, -5, -1]),
    "Osborne 1": (osborne_1, [0.5, 1.5, -1, 0.01, 0.02]),
    "Biggs": (biggs, [1, 2, 1, 1, 1, 1]),
    "Osborne 2": (osborne_2, [1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5]),
    "Watson 6": (watson, [0] * 6),
    "Watson 9": (watson, [0] * 9),
    "Watson 12": (watson, [0] * 12),
    "extended Rosenbrock": (rosenbrock, [-1.2, 1] * 5),
    "extended Powell": (powell_singular, [3, -1, 0, 1] * 3),
    "penalty 1": (penalty_1, [1, 2, 3, 4]),
    "penalty 2": (penalty_2, [0.5] * 4),
    "variably dimensioned": (variably_dimensioned, (1 - np.arange(1, 11) / 10).tolist()),
    "trigonometric": (trigonometric, [0.1] * 10),
    "Brown almost linear": (brown_almost_linear, [0.5] * 10),
    "discrete boundary": (discrete_boundary, (T * (T - 1)).tolist()),
    "discrete integral": (discrete_integral, (T * (T - 1)).tolist()),
    "Broyden tridiagonal": (broyden_tridiagonal, [-1] * 10),
    "Broyden banded": (broyden_banded, [-1] * 10),
    "linear, full rank": (linear_full_rank, [1] * 5),
    "linear, rank 1": (linear_rank_1, [1] * 5),
    "linear, rank 1, zeros": (linear_rank_1_zeros, [1] * 5),
    "Chebyquad": (chebyquad, spread(8)),
}


class Counted:
    """A function that counts its evaluations."""

    def __init__(self, function: Function) -> None:
        self._function, self.evaluations = function, 0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.evaluations += 1
        with np.errstate(all="ignore"):
            return self._function(x)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two problems")
    names = [*PROBLEMS][: 2 if parser.parse_args().quick else None]
    ratios: dict[int, list[float]] = {1: [], 32: []}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            function, start = PROBLEMS[name]
            rival = Counted(function)
            best = least_squares(rival, start, method="lm", max_nfev=100_000)
            line = f"{name:24} lm {best.cost:<12.6g} in {rival.evaluations:5}"
            for workers, found in ratios.items():
                # The evaluation that finds the number of residuals is not one of the search.
                fit = pdcode.calibrate(
                    function, start, workers=workers, residuals=len(function(np.array(start, float))),
                    output=Path(folder) / "a.h5", progress=False, config={"stop": {"updates": 5000}},
                )  # fmt: skip
                found.append(fit.trace.arrivals.rows / rival.evaluations)
                reached = "" if fit.cost <= best.cost * 1.001 + 1e-9 else "  MORE"
                line += f"; {workers:2} workers {fit.cost:<12.6g} {found[-1]:.2f}{reached}"
            print(line, flush=True)
    for workers, found in ratios.items():
        middle, most = np.exp(np.mean(np.log(found))), max(found)
        print(
            f"{workers} workers: {middle:.2f} of the evaluations of lm (geometric mean), at most {most:.2f}"
        )


if __name__ == "__main__":
    main()
