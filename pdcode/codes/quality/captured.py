"""Captured energy: the expected fraction of the gradient after q arrivals in random order.

The energy that an estimate ĝ captures is 1 - E‖ĝ - d‖² / E‖d‖², for a gradient d of block covariance Σ. For
least squares and Σ = I that is rank/k.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...decoders.covariances import covariance_of, root_of
from ...util.errors import InputError, expected
from .. import keyed
from . import closed_forms, projection
from .information import rows_of
from .products import is_diagonal, product, times_covariance

DECODERS = ("least_squares", "adjoint", "mmse")
ORDERS = 1000  # purpose of the keyed draws of orders of arrival
CHUNK = 1 << 18  # total elements of the vectors orthogonalised at a time
EVERYTHING = 1 - 1e-9  # captured fraction that counts as all


class CapturedEnergy(NamedTuple):
    """Expected captured energy after q = 0, 1, … arrivals; float64 arrays."""

    mean: np.ndarray
    standard_error: np.ndarray  # of the mean, over the draws; 0 if the mean is exact


class CapturedArguments(NamedTuple):
    """Checked arguments of `captured_energy`."""

    rows: np.ndarray
    arrivals: int
    decoder: str
    sigma: np.ndarray


def captured_energy(
    code: Any,
    arrivals: int | None = None,
    decoder: str = "least_squares",
    covariance: Any = None,
    draws: int = 200,
    seed: int = 0,
) -> CapturedEnergy:
    """Compute the expected captured energy after q arrivals, of rows drawn uniformly without replacement.

    It is exact for the adjoint, for rows of weight 1 (repetition, uncoded), for orthonormal rows and for
    uncorrelated payloads: see `closed_forms`. Otherwise it is the mean over keyed random orders.

    Parameters
    ----------
    code : Code, or array_like of shape (n, k)
        Unit rows.
    arrivals : int, optional
        Largest q, at most n; by default n.
    decoder : {"least_squares", "adjoint", "mmse"}
        The decoder; the adjoint has the best scale for each q.
    covariance : array_like of shape (k, k) or (k,), optional
        Covariance Σ of the blocks, or its diagonal; identity by default. The mmse decoder knows it.
    draws : int
        Number of sampled orders.
    seed : int
        Key of the orders.

    Returns
    -------
    CapturedEnergy
        Two arrays of shape (arrivals + 1,): the mean and its standard error.

    Raises
    ------
    InputError
        If there are fewer rows than arrivals, the decoder is unknown, or Σ is zero or no covariance.
    """
    given = check_arguments(code, arrivals, decoder, covariance, draws)
    exact = closed_form(given)
    return average(sample_curves(given, draws, seed)) if exact is None else exact


def arrivals_needed(
    code: Any,
    fractions: Sequence[float] = (0.9, 0.99, 1.0),
    decoder: str = "least_squares",
    covariance: Any = None,
    draws: int = 200,
    seed: int = 0,
) -> list[tuple[float, float]]:
    """Compute the number of random arrivals that capture given fractions of the energy.

    Parameters
    ----------
    code, decoder, covariance, draws, seed
        As for `captured_energy`.
    fractions : sequence of float
        Fractions in (0, 1]. Below 1: the number at which the expected captured energy reaches the fraction,
        interpolated linearly. 1: the mean number of arrivals until everything is captured.

    Returns
    -------
    list of (float, float)
        Arrivals and their standard error, for each fraction; infinite if it is not reached.

    Raises
    ------
    InputError
        As for `captured_energy`, or if a fraction is not in (0, 1].
    """
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise InputError(f"fractions: {fraction} is not in (0, 1]")
    given = check_arguments(code, None, decoder, covariance, draws)
    curves, few = np.zeros((draws, 1)), min(len(given.rows), 2 * given.rows.shape[1])
    if decoder != "adjoint":
        curves = sample_curves(given._replace(arrivals=few), draws, seed)
        if few < given.arrivals and curves[:, -1].min() < min(max(fractions), EVERYTHING):
            curves = sample_curves(given, draws, seed)
    exact = closed_form(given)
    return arrivals_from_curves(average(curves) if exact is None else exact, curves, fractions)


def arrivals_from_curves(
    curve: CapturedEnergy, curves: np.ndarray, fractions: Sequence[float]
) -> list[tuple[float, float]]:
    """Compute the result of `arrivals_needed` from an expected curve and the curves of `sample_curves`."""
    return [
        _until_all(curve, curves) if fraction == 1 else _crossing(curve, fraction) for fraction in fractions
    ]


def _crossing(curve: CapturedEnergy, level: float) -> tuple[float, float]:
    reached = curve.mean >= level
    if not reached.any():
        return np.inf, 0.0
    after = int(reached.argmax())
    slope = curve.mean[after] - curve.mean[after - 1]
    error = max(curve.standard_error[after - 1 : after + 1]) / slope
    return float(after - (curve.mean[after] - level) / slope), float(error)


def _until_all(curve: CapturedEnergy, curves: np.ndarray) -> tuple[float, float]:
    if curves.shape[1] == 1:  # nothing was sampled, as the order does not matter
        reached = curve.mean >= EVERYTHING
        return (float(reached.argmax()) if reached.any() else np.inf), 0.0
    if curves[:, -1].min() < EVERYTHING:
        return np.inf, 0.0
    counts = (curves >= EVERYTHING).argmax(axis=1)
    return float(counts.mean()), float(counts.std(ddof=min(1, len(counts) - 1)) / np.sqrt(len(counts)))


def check_arguments(
    code: Any,
    arrivals: int | None = None,
    decoder: str = "least_squares",
    covariance: Any = None,
    draws: int = 200,
) -> CapturedArguments:
    """Check the arguments of `captured_energy`."""
    rows = rows_of(code)
    most = len(rows)
    if decoder not in DECODERS:
        raise InputError(f"decoder: {expected(decoder, DECODERS)}")
    if arrivals is None:
        arrivals = most
    if not 0 <= arrivals <= most:
        raise InputError(f"arrivals = {arrivals}: not from 0 to the code's {most} rows; nearest: {most}")
    if draws < 1:
        raise InputError(f"draws = {draws}: not a positive number")
    sigma = covariance_of(covariance, rows.shape[1])
    if not np.trace(sigma) > 0:
        raise InputError("covariance: zero, so there is no energy to capture")
    return CapturedArguments(rows, int(arrivals), decoder, sigma)


def closed_form(given: CapturedArguments) -> CapturedEnergy | None:
    """Return the expected curve in closed form, or None."""
    rows, arrivals, decoder, sigma = given
    if decoder == "adjoint":
        exact: np.ndarray | None = closed_forms.adjoint(rows, sigma, arrivals)
    else:
        mmse = decoder == "mmse"
        exact = closed_forms.single_blocks(rows, sigma, arrivals, mmse)
        if exact is None:
            exact = closed_forms.uncorrelated(rows, sigma, arrivals, mmse)
    return None if exact is None else CapturedEnergy(exact, np.zeros(len(exact)))


def average(curves: np.ndarray) -> CapturedEnergy:
    """Compute mean and standard error of sampled curves."""
    draws = len(curves)
    deviation = curves.std(axis=0, ddof=min(1, draws - 1))
    deviation[deviation < 1e-12] = 0.0  # equal up to rounding
    return CapturedEnergy(curves.mean(axis=0), deviation / np.sqrt(draws))


def sample_curves(
    given: CapturedArguments, draws: int, seed: int, progress: Callable[[int], object] = lambda draw: None
) -> np.ndarray:
    """Sample captured energy over orders of arrival, float64 (draws, arrivals + 1); not for the adjoint.

    `progress` is called with the number of finished draws.
    """
    rows, arrivals, decoder, sigma = given
    n, k = rows.shape
    root = root_of(sigma)
    vectors, metric = (times_covariance(rows, root), root.T) if decoder == "mmse" else (rows, root)
    isotropic = np.array_equal(metric, np.eye(k))
    if isotropic and n <= k and is_diagonal(product(rows, rows.T), closed_forms.UNCORRELATED):
        return np.tile(np.arange(arrivals + 1) / k, (draws, 1))  # each row is new, in any order
    curves = np.zeros((draws, arrivals + 1))
    orders_at_once = max(1, CHUNK // max(1, arrivals * len(metric)))
    for first in range(0, draws, orders_at_once):
        count = min(orders_at_once, draws - first)
        draw = np.stack([keyed.uniforms(seed, ORDERS, first + i, (n,)) for i in range(count)])
        orders = np.argsort(draw, axis=1, kind="stable")[:, :arrivals]
        steps = projection.orthogonalise(vectors[orders], None if isotropic else metric)
        np.cumsum(steps.gain, axis=1, out=curves[first : first + count, 1:])
        progress(first + count)
    curves /= np.trace(sigma)
    return curves
