"""The fit that a search has found: intervals of the parameters, and which of them the data determine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..trace.reader import TraceReader
from ..util.datasets import damaged

LEVEL = 0.95  # of intervals
RANK = 1e-7  # of the largest singular value, below which one is within the errors of differences
STRONG = 30.0  # condition index above which parameters are determined together only
HALF = 0.5  # of the variance of a parameter, at least, that is due to a combination which it is named with
INVOLVED = 1e-4  # least part of a parameter in a combination that is not determined


@dataclass(frozen=True, eq=False)
class Fit:
    """Parameters of least squares, with the statistics of the linear model at the end of a search.

    The covariance is s²(JᵀJ)⁻¹ with s² = ‖r‖² / (m - k); residuals of a prior are counted among the m.
    Condition indices are those of J with columns of length 1: Belsley, Kuh and Welsch, "Regression
    diagnostics", 1980, section 3.2.

    Attributes
    ----------
    names : list of str
    x : ndarray of float64, shape (k,)
        Parameters.
    residuals, priors : ndarray of float64, shape (m,) and (p,)
        Residuals of the simulation, and of the prior.
    jacobian : ndarray of float64, shape (m + p, k)
        Derivatives of both, at the last point where all were known: in a search that has converged, a step
        from `x` that is within its tolerance.
    at_bound : ndarray of bool, shape (k,)
        Parameters at a bound, for which the linear model, and so an interval, does not hold.
    freedom : int
        Degrees of freedom, m + p - k.
    variance : float
        s², in squared units of residuals; inf without degrees of freedom.
    covariance : ndarray of float64, shape (k, k)
        Variances of parameters that are not determined are inf, their covariances nan.
    deviations : ndarray of float64, shape (k,)
        Standard errors.
    intervals : ndarray of float64, shape (k, 2)
        Intervals by Student's distribution, 95 %.
    singular, conditions : ndarray of float64, shape (k,)
        Singular values of J with columns of length 1, falling, and the largest over each.
    shares : ndarray of float64, shape (k, k)
        Share of singular value i in the variance of parameter j; the shares of a parameter sum to 1.
    """

    names: list[str]
    x: np.ndarray
    residuals: np.ndarray
    priors: np.ndarray
    jacobian: np.ndarray
    at_bound: np.ndarray
    freedom: int
    variance: float
    covariance: np.ndarray
    deviations: np.ndarray
    intervals: np.ndarray
    singular: np.ndarray
    conditions: np.ndarray
    shares: np.ndarray

    @property
    def undetermined(self) -> list[str]:
        """Names of the parameters that the residuals do not determine."""
        return [name for name, each in zip(self.names, self.deviations, strict=True) if np.isinf(each)]

    @property
    def together(self) -> list[tuple[float, list[str]]]:
        """Condition indices above 30, and names of the parameters that are determined together only."""
        found = []
        for index, shares in zip(self.conditions, self.shares, strict=True):
            if STRONG <= index < 1 / RANK:
                names = [name for name, each in zip(self.names, shares, strict=True) if each >= HALF]
                found += [(float(index), names)] if len(names) > 1 else []
        return found


def fitted(trace: TraceReader) -> Fit | None:
    """Return the fit of a trace; None: the run is no search with residuals, or has not ended."""
    return fit_of(trace.checkpoint, trace.table("problem"), str(trace.path))


def fit_of(arrays: Mapping[str, np.ndarray], table: Mapping[str, Any], where: str) -> Fit | None:
    """Return the fit of a search's `theta`, `values` and `jacobian`, given [problem]; None: it has none.

    Messages name what is damaged by `where`.
    """
    if "jacobian" not in arrays or (table.get("residuals") is None and table.get("observed") is None):
        return None
    x, values, jacobian = arrays["theta"], arrays.get("values", np.zeros(0)), arrays["jacobian"]
    k = x.size
    bounds = np.array(table.get("bounds") or [[-np.inf, np.inf]] * k, float)
    names = table.get("names") or [f"x{number}" for number in range(k)]
    priors = int(np.isfinite(np.array(table.get("prior_sd") or [], float)).sum())
    if jacobian.shape != (values.size, k) or bounds.shape != (k, 2) or len(names) != k or priors > k:
        raise damaged(where, f"checkpoint/jacobian has shape {jacobian.shape}")
    if not (np.isfinite(jacobian).all() and np.isfinite(values).all()):
        raise damaged(where, "checkpoint/jacobian is not finite")
    return fit(names, x, values, jacobian, priors, (x[:, None] == bounds).any(axis=1))


def fit(
    names: list[str],
    x: np.ndarray,
    values: np.ndarray,
    jacobian: np.ndarray,
    priors: int = 0,
    at_bound: np.ndarray | None = None,
) -> Fit:
    """Return the statistics of a fit.

    Parameters
    ----------
    names : list of str
    x : ndarray, shape (k,)
    values : ndarray, shape (m + p,)
        Residuals, at the end those of a prior.
    jacobian : ndarray, shape (m + p, k)
    priors : int
        Number p of residuals of a prior.
    at_bound : ndarray of bool, shape (k,), optional
    """
    from scipy.special import stdtrit

    count, k = jacobian.shape
    lengths = np.linalg.norm(jacobian, axis=0)
    scale = np.where(lengths > 0, lengths, 1.0)
    _, found, rows = np.linalg.svd(jacobian / scale, full_matrices=True)
    singular = np.concatenate([found, np.zeros(k - len(found))])
    known = singular > RANK * singular[0]
    inverse = np.where(known, 1 / np.where(known, singular, 1.0), 0.0)
    freedom = count - k
    variance = float(values @ values) / freedom if freedom > 0 else np.inf
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = (rows * inverse[:, None]) ** 2
        covariance = variance * ((rows.T * inverse**2) @ rows) / np.outer(scale, scale)
        conditions = singular[0] / singular
    lost = (np.abs(rows[~known]) > INVOLVED).any(axis=0)
    covariance[lost] = covariance[:, lost] = np.nan
    covariance[lost, lost] = np.inf
    deviations = np.sqrt(covariance.diagonal())
    half = stdtrit(freedom, 0.5 + LEVEL / 2) * deviations if freedom > 0 else np.full(k, np.inf)
    return Fit(
        names=list(names), x=x.copy(), residuals=values[: count - priors].copy(),
        priors=values[count - priors :].copy(), jacobian=jacobian,
        at_bound=np.zeros(k, bool) if at_bound is None else at_bound, freedom=freedom, variance=variance,
        covariance=covariance, deviations=deviations, intervals=np.stack([x - half, x + half], axis=1),
        singular=singular, conditions=conditions, shares=parts / np.maximum(parts.sum(axis=0), 1e-300),
    )  # fmt: skip
