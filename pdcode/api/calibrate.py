"""`pdcode.calibrate`: fit the parameters of a simulation, which has no gradient, by a call."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import kinds, legacy
from ..util.errors import InputError
from .configs import ConfigLike, PathLike, Settings, overrides
from .objects import stored, train_given

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

UPDATES = 200  # of a search without [stop]


def calibrate(
    fun: Callable[[Any], Any] | str,
    x0: Any,
    *,
    residuals: int | None = None,
    bounds: Any = None,
    names: Sequence[str] | None = None,
    prior: Any = None,
    prior_sd: Any = None,
    pattern: Any = None,
    config: ConfigLike | None = None,
    mpi: bool = False,
    workers: int | None = None,
    output: PathLike | None = None,
    set: Settings = (),
    resume: bool = False,
    progress: bool = True,
) -> "OptimizeResult":
    """Minimise half the sum of squares of a simulation's residuals, or its one value, without a gradient.

    It is ``problem.kind = "simulation"`` with scheme ``differences`` as a call like
    ``scipy.optimize.least_squares(fun, x0)``. Workers evaluate the function at points that rank 0 chooses;
    evaluations that raise, are not finite or come late do not stop the search.

    Parameters
    ----------
    fun : callable or str
        ``fun(x)``: residuals, shape (m,), or a number, which is minimised itself. A name "FILE.py:NAME" is
        needed with `mpi`.
    x0 : array_like, shape (k,), or float
        Parameters at the start.
    residuals : int, optional
        Number of residuals m, 0 for a number; by default found by an evaluation in this process.
    bounds : sequence of (float or None, float or None), or scipy.optimize.Bounds, optional
        Least and largest value of each parameter, None for no bound. They are pairs as those of
        ``scipy.optimize.minimize``, not the two arrays of ``least_squares``.
    names : sequence of str, optional
        Names of the parameters in tables and figures, by default x0, x1, ….
    prior, prior_sd : array_like, shape (k,), optional
        Expected parameters, by default `x0`, and their standard deviations, in units in which residuals have
        standard deviation 1: (x - prior) / prior_sd are further residuals, but where `prior_sd` is inf.
    pattern : array_like or sparse matrix, shape (m, k), path or "auto", optional
        Entries of the Jacobian that may differ from 0, so that fewer evaluations determine it: see
        `problem.pattern`. Arrays are written to a file beside the trace.
    config : dict, path or Trace, optional
        Tables of a configuration besides, such as ``{"scheme": {"options": {"design": "copies"}}}``.
    mpi : bool
        Whether to run over MPI, as `run`, and not on the virtual clock, as `simulate`.
    workers, output, set, resume, progress
        As for `run` and `simulate`.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x``, ``cost`` (half the sum of squares, or the number), ``success`` (whether the search converged),
        ``message``, ``nit`` (accepted steps), ``nfev`` (evaluations whose answer was used), ``nfail`` (those
        that failed), ``jac`` (derivatives of residuals, shape (m, k), or of the number, shape (k,)), and
        ``trace``, the `Trace`. With residuals, ``residuals``, ``covariance`` as `scipy.optimize.curve_fit`'s,
        and ``fit``, with intervals and what the data determine; see `Trace.fit`.

    Raises
    ------
    InputError
        If the input is bad, a function has no name with `mpi`, or the evaluation at the start raises.
    Failure
        If the search is given up because evaluations fail.

    Examples
    --------
    >>> import numpy as np, pdcode
    >>> t = np.linspace(0, 4, 50)
    >>> def misfit(x):
    ...     return x[0] * np.exp(-x[1] * t) - 3.0 * np.exp(-0.7 * t)
    >>> found = pdcode.calibrate(misfit, [1.0, 0.2], workers=4, output="fit.h5", progress=False)
    >>> found.success, found.x.round(6)
    (True, array([3. , 0.7]))
    """
    start = start_of(x0)
    if residuals is None:
        residuals = residuals_of(value_at(fun, start))
    keys = keys_of(start, residuals, bounds, {"names": names, "prior": prior, "prior_sd": prior_sd})
    tables: Any = {} if config is None else config
    if pattern is not None:
        named = str(pattern) if isinstance(pattern, str | Path) else {"pattern": _dense(pattern)}
        keys["pattern"] = stored("pattern", named, {}, tables, overrides(set, workers, output))
    if isinstance(tables, Mapping):
        tables = tables_of(tables)
    given, called = {"function": fun}, {"function": "fun"}
    own = [*overrides({f"problem.{key}": each for key, each in keys.items()}), *overrides(set)]
    trace = train_given("simulation", given, called, tables, mpi, workers, output, own, resume, progress)
    return _result(trace)


def keys_of(start: np.ndarray, residuals: int, bounds: Any, lists: Mapping[str, Any]) -> dict[str, Any]:
    """Return keys of [problem] by a caller's arguments; `lists` has one for each parameter, or None."""
    keys: dict[str, Any] = {"start": start.tolist()} | ({"residuals": residuals} if residuals else {})
    if bounds is not None:
        keys["bounds"] = _pairs(bounds, len(start))
    return keys | {
        key: np.atleast_1d(np.asarray(each)).tolist() for key, each in lists.items() if each is not None
    }


def tables_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of a search, with a caller's beside them."""
    scheme = {"name": "differences", **config.get("scheme", {})}
    return {"stop": {"updates": UPDATES}, **config, "scheme": scheme}


def start_of(x0: Any) -> np.ndarray:
    """Return the parameters at the start, shape (k,)."""
    try:
        start = np.atleast_1d(np.asarray(x0, np.float64))
    except (TypeError, ValueError) as error:
        raise InputError(f"x0: no array of numbers: {error}") from None
    if start.ndim != 1 or not start.size or not np.isfinite(start).all():
        raise InputError(f"x0: shape {start.shape}: expected one row of finite numbers")
    return start


def value_at(fun: Any, start: np.ndarray) -> Any:
    """Return what the function returns at the start."""
    function = fun
    if isinstance(fun, str):
        reference, path = kinds.locate("fun", fun, Path())
        kinds.load_plugin(path, "fun")
        function = kinds.referenced("fun", reference)
    with kinds.errors_of_user("fun"):
        return function(start.copy())


def residuals_of(value: Any) -> int:
    """Return the number of residuals, 0 for a number."""
    with kinds.errors_of_user("fun"):
        shape = np.shape(value)
    if len(shape) > 1 or shape == (0,):
        raise InputError(f"fun: it returns an array of shape {shape}: expected residuals of shape (m,)")
    return shape[0] if shape else 0


def _dense(pattern: Any) -> np.ndarray:
    """Return a pattern as an array of bool."""
    matrix = pattern.toarray() if hasattr(pattern, "toarray") else pattern
    try:
        return np.asarray(matrix, np.float64) != 0
    except (TypeError, ValueError) as error:
        raise InputError(f"pattern: no matrix of numbers: {error}") from None


def _pairs(bounds: Any, k: int) -> list[list[float]]:
    """Return [least, largest] of each parameter."""
    try:
        if hasattr(bounds, "lb"):  # scipy.optimize.Bounds, of which an end may be one number
            pairs = np.array(np.broadcast_arrays(bounds.lb, bounds.ub, np.empty(k))[:2], float).T
        else:
            pairs = np.array(bounds, float)  # None is nan
    except (TypeError, ValueError) as error:
        raise InputError(f"bounds: no pairs of numbers for {k} parameters: {error}") from None
    if pairs.shape != (k, 2):
        raise InputError(
            f"bounds: shape {pairs.shape}: expected ({k}, 2), a pair (least, largest) of each parameter, or "
            f"scipy.optimize.Bounds"
        )
    return np.where(np.isnan(pairs), [-np.inf, np.inf], pairs).tolist()


def _result(trace: Any) -> "OptimizeResult":
    from scipy.optimize import OptimizeResult

    stop, updates = legacy.read(trace.config, trace.plugin_digests).stop, trace.updates.rows
    limits = (stop.updates is not None and updates >= stop.updates) or (
        stop.seconds is not None and trace.summary()["seconds"] >= stop.seconds
    )
    fit, arrays = trace.fit(), trace.checkpoint
    found = {} if fit is None else {"residuals": fit.residuals, "covariance": fit.covariance, "fit": fit}
    if fit is not None:
        found["jac"] = fit.jacobian[: len(fit.residuals)]
    elif "jacobian" in arrays:
        found["jac"] = arrays["jacobian"][0]
    used, cost = trace.arrivals["applied_version"] >= 0, float(trace.progress["loss"][-1])
    return OptimizeResult(
        x=trace.theta.copy(),
        cost=cost,
        fun=cost,
        success=not limits,
        message=f"{'stopped' if limits else 'converged'} after {updates} updates",
        nit=updates - 1,
        nfev=int(used.sum()),
        nfail=int(np.isnan(trace.arrivals["loss"][used]).sum()),
        trace=trace,
        **found,
    )
