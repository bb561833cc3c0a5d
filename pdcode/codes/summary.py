"""Summary of a code's quality."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..util.memory import ensure_fits
from . import keyed
from .code import Code
from .quality import captured
from .quality.information import arrival_information
from .quality.spark import Spark, spark

ORDERS = 1002  # purpose of the keyed draws
NOISE = 0.01  # noise variance for joint information, which is -inf without noise for dependent payloads
WORK = 10**9  # approximate number of multiplications allowed for sampling captured energy
MIN_DRAWS, MAX_DRAWS = 4, 200  # bounds on the number of draws
LARGE_BLOCKS = 256  # blocks above which curves are shorter
JOINT_DRAWS = 4  # draws of joint information, which varies little


@dataclass(frozen=True)
class Quality:
    """Measured qualities of a code."""

    coherence: float
    bounds: dict[str, float]  # name → lower bound on the coherence
    frame_bounds: tuple[float, float]
    tightness: float
    spark: Spark
    worst_pair: float  # largest information of two payloads for isotropic blocks, nats per element of a block
    least_squares: captured.CapturedEnergy  # after q = 0, 1, … random arrivals, for isotropic blocks
    adjoint: captured.CapturedEnergy  # the same by the adjoint decoder
    joint: np.ndarray  # mean joint information of q random arrivals with noise `NOISE`, nats per element
    needed: list[tuple[float, float]]  # arrivals for 90 %, 99 % and all of the energy, and standard errors
    draws: int  # number of sampled orders of arrival


def affordable_draws(code: Code, arrivals: int) -> int:
    """Return the number of orders of arrival that can be sampled in a few seconds."""
    cost = float(arrivals) ** 2 * code.blocks + 1
    return int(np.clip(WORK / cost, MIN_DRAWS, MAX_DRAWS))


def quality(code: Code, seed: int = 0, progress: Callable[[str], object] = lambda what: None) -> Quality:
    """Measure a code: coherence, bounds, frame, spark, information, captured energy.

    Parameters
    ----------
    code : Code
    seed : int
        Key of the sampled orders of arrival.
    progress : callable
        Called with the name of the next measurement; a code of thousands of blocks takes minutes.

    Returns
    -------
    Quality
        The measures; curves end at 4k arrivals at most, or 2k for k > 256.

    Raises
    ------
    InputError
        If the dense matrices do not fit into memory.
    """
    n, k = len(code), code.blocks
    laps = 4 if k <= LARGE_BLOCKS else 2
    arrivals = min(n, laps * k)
    size = 32 * (n * k + k * k + arrivals * arrivals)
    ensure_fits(f"{n} rows over {k} blocks", "measuring the code", size)
    draws = affordable_draws(code, arrivals)
    progress("coherence and frame bounds")
    mu, frame_bounds = code.coherence, code.frame_bounds
    squared = min(mu, 1.0) ** 2
    progress("spark")
    dependent = spark(code, mu, seed=seed)
    progress("captured energy")
    given = captured.check_arguments(code, arrivals, draws=draws)
    curves = captured.sample_curves(
        given, draws, seed, lambda done: progress(f"captured energy: {done} of {draws} orders of arrival")
    )
    least_squares = captured.closed_form(given) or captured.average(curves)
    adjoint = captured.captured_energy(code, arrivals, "adjoint")
    progress("information")
    return Quality(
        mu,
        code.bounds,
        frame_bounds,
        code.tightness,
        dependent,
        float(-0.5 * np.log1p(-squared)) if squared < 1 - 1e-14 else np.inf,
        least_squares,
        adjoint,
        _joint(code, arrivals, seed),
        captured.arrivals_from_curves(least_squares, curves, (0.9, 0.99, 1.0)),
        draws,
    )


def _joint(code: Code, arrivals: int, seed: int) -> np.ndarray:
    """Compute the mean joint information over random orders."""
    total, draws = np.zeros(arrivals + 1), JOINT_DRAWS if code.blocks <= LARGE_BLOCKS else 1
    for draw in range(draws):
        order = np.argsort(keyed.uniforms(seed, ORDERS, draw, (len(code),)))[:arrivals]
        total += arrival_information(code.matrix[order], noise=NOISE)
    return total / draws
