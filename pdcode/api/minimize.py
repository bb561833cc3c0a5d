"""`pdcode.minimize`: minimise a function, of rows or without them, as `scipy.optimize.minimize` does."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import legacy
from ..util.errors import InputError
from .calibrate import calibrate, start_of, value_at
from .configs import ConfigLike, PathLike, Settings
from .objects import train_given

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

UPDATES = 1000  # of a run with rows without [stop]


def minimize(
    fun: Callable[..., Any] | str,
    x0: Any,
    rows: Any = None,
    *,
    bounds: Any = None,
    score: Callable[..., Any] | str | None = None,
    config: ConfigLike | None = None,
    mpi: bool = False,
    workers: int | None = None,
    output: PathLike | None = None,
    set: Settings = (),
    resume: bool = False,
    progress: bool = True,
) -> "OptimizeResult":
    """Minimise the mean of a function over rows, or, without rows, a number that has no gradient.

    With rows, workers have shards of them: it is ``problem.kind = "function"`` as a call like
    ``scipy.optimize.minimize(fun, x0, jac=True)``. Without rows, workers evaluate ``fun(x)`` at points that
    rank 0 chooses: it is `calibrate` of a number, as a call like ``scipy.optimize.minimize(fun, x0)``.

    Parameters
    ----------
    fun : callable or str
        ``fun(x, *rows) -> loss, gradient``: the mean loss of some rows, and its gradient in the form of `x0`.
        Without rows, ``fun(x)`` is a number. A name "FILE.py:NAME" instead is needed with `mpi`.
    x0 : array_like, dict or list of arrays, callable or str
        Parameters at the start, a function of the seed, or a name; without rows, numbers of shape (k,).
    rows : ndarray, tuple of ndarray, pair of tuples, callable or str, optional
        Arrays with the same first axis; training rows and test rows; a function that makes them; or a name.
    bounds : sequence of (float or None, float or None), or scipy.optimize.Bounds, optional
        Least and largest value of each parameter, without rows.
    score : callable or str, optional
        ``score(x, *rows)``: a number, 1 at best, measured on test rows if there are any.
    config : dict, path or Trace, optional
        Tables of a configuration, such as ``{"scheme": {"name": "uncoded"}}``. Unless it is a file, there are
        by default no test rows, and 1,000 updates, or 200 without rows.
    mpi : bool
        Whether to train over MPI, as `run`, and not on the virtual clock, as `simulate`.
    workers, output, set, resume, progress
        As for `run` and `simulate`.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x`` in the form of `x0`, ``fun`` (the last loss that was measured), ``success`` (whether the target
        of ``[stop]``, if any, was reached), ``message``, ``nit`` (updates), ``nfev`` (gradients that have
        arrived), and ``trace``, the `Trace`. Only this object can replay a run of functions without names.
        Without rows it is the result of `calibrate`, whose cost is also ``fun``.

    Raises
    ------
    InputError
        If the input is bad, a function has no name with `mpi`, or, without rows, the function returns no
        number at the start.
    Failure
        If the run fails, for example by divergence.
    """
    if rows is None:
        if score is not None:
            raise InputError("score: has no effect without rows")
        _ensure_number(value_at(fun, start_of(x0)))
        return calibrate(
            fun, x0, residuals=0, bounds=bounds, config=config, mpi=mpi, workers=workers, output=output,
            set=set, resume=resume, progress=progress,
        )  # fmt: skip
    if bounds is not None:
        raise InputError("bounds: has no effect with rows, whose parameters have no bounds")
    tables: Any = {} if config is None else config
    if isinstance(tables, Mapping):
        problem = {"test_fraction": 0.0, **tables.get("problem", {})}
        tables = {"stop": {"updates": UPDATES}, **tables, "problem": problem}
    if isinstance(x0, list | tuple | float | int) and not any(
        map(np.ndim, np.atleast_1d(np.asarray(x0, object)))
    ):
        x0 = np.asarray(x0, float)
    given = {"function": fun, "start": x0, "data": rows} | ({} if score is None else {"score": score})
    called = {"function": "fun", "start": "x0", "data": "rows"}
    return _result(
        train_given("function", given, called, tables, mpi, workers, output, set, resume, progress)
    )


def _ensure_number(value: Any) -> None:
    """Refuse what a function without rows returns, unless it is a number."""
    if isinstance(value, tuple):
        raise InputError("fun: it returns a tuple: a loss with its gradient needs rows; without, a number")
    if shape := np.shape(value):
        raise InputError(
            f"fun: it returns an array of shape {shape}: expected a number; pdcode.calibrate minimises "
            f"half the sum of squares of residuals"
        )


def _result(trace: Any) -> "OptimizeResult":
    """Return the result of a run, with the parameters in the user's form."""
    from scipy.optimize import OptimizeResult

    from ..problems.function import FunctionModel, FunctionProblem, leaves, rebuilt

    table = legacy.read(trace.config, trace.plugin_digests).problem
    assert isinstance(table, FunctionProblem)
    model, summary = table.built(), trace.summary()
    assert isinstance(model, FunctionModel)
    form = model.unflatten(trace.theta)
    reached = not summary["target"] or bool(np.isfinite(summary["target_s"]))
    message = f"reached {summary['target']}" if summary["target"] and reached else "stopped"
    return OptimizeResult(
        x=rebuilt(form, iter([each.copy() for _, each in leaves(form)])),
        fun=float(trace.progress["loss"][-1]),
        success=reached,
        message="; ".join(
            filter(None, (f"{message} after {trace.updates.rows} updates", trace.descent.text))
        ),
        nit=trace.updates.rows,
        nfev=trace.arrivals.rows,
        trace=trace,
    )
