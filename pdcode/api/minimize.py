"""`pdcode.minimize`: train a function of parameters and rows by a call, as `scipy.optimize.minimize` does."""

import weakref
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import kinds, legacy
from ..util.errors import InputError
from . import configs
from .configs import ConfigLike, PathLike, Settings
from .data import write_arrays
from .runs import run, simulate

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

UPDATES = 1000  # of a run without [stop]
_numbers = count()


def minimize(
    fun: Callable[..., Any] | str,
    x0: Any,
    rows: Any,
    *,
    score: Callable[..., Any] | str | None = None,
    config: ConfigLike | None = None,
    mpi: bool = False,
    workers: int | None = None,
    output: PathLike | None = None,
    set: Settings = (),
    resume: bool = False,
    progress: bool = True,
) -> "OptimizeResult":
    """Minimise the mean of a function over rows, with workers that have shards of the rows.

    It is ``problem.kind = "function"`` as a call like ``scipy.optimize.minimize(fun, x0, jac=True)``.

    Parameters
    ----------
    fun : callable or str
        ``fun(x, *rows) -> loss, gradient``: the mean loss of some rows, and its gradient in the form of `x0`.
        A name "FILE.py:NAME" instead is needed with `mpi`.
    x0 : array_like, dict or list of arrays, callable or str
        Parameters at the start, a function of the seed, or a name.
    rows : ndarray, tuple of ndarray, pair of tuples, callable or str
        Arrays with the same first axis; training rows and test rows; a function that makes them; or a name.
    score : callable or str, optional
        ``score(x, *rows)``: a number, 1 at best, measured on test rows if there are any.
    config : dict, path or Trace, optional
        Tables of a configuration, such as ``{"scheme": {"name": "uncoded"}}``. Unless it is a file, there are
        by default no test rows, and 1,000 updates.
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

    Raises
    ------
    InputError
        If the input is bad, or a function has no name with `mpi`.
    Failure
        If the run fails, for example by divergence.
    """
    tables: Any = {} if config is None else config
    if isinstance(tables, Mapping):
        problem = {"test_fraction": 0.0, **tables.get("problem", {})}
        tables = {"stop": {"updates": UPDATES}, **tables, "problem": problem}
    if isinstance(x0, list | tuple | float | int) and not any(
        map(np.ndim, np.atleast_1d(np.asarray(x0, object)))
    ):
        x0 = np.asarray(x0, float)
    given = {"function": fun, "start": x0, "data": rows} | ({} if score is None else {"score": score})
    settings = configs.overrides(set)
    objects = dict[str, Any]()
    if mpi:
        place = tables, configs.overrides(settings, workers, output)
        names = {key: _stored(key, each, *place) for key, each in given.items()}
    else:
        number = next(_numbers)
        names = {key: each if isinstance(each, str) else f":{key}-{number}" for key, each in given.items()}
        objects = {names[key]: each for key, each in given.items() if not isinstance(each, str)}
        kinds.OBJECTS.update(objects)
    keys = {"kind": "function", **names}
    settings += configs.overrides({f"problem.{key}": name for key, name in keys.items()})
    start = run if mpi else simulate
    try:
        trace = start(tables, workers=workers, output=output, set=settings, resume=resume, progress=progress)
    except BaseException:
        _forget([*objects])
        raise
    weakref.finalize(trace, _forget, [*objects])
    return _result(trace)


def _forget(names: list[str]) -> None:
    for name in names:
        kinds.OBJECTS.pop(name, None)


def _stored(key: str, given: Any, tables: ConfigLike, settings: list[str]) -> str:
    """Return the name of an object that all ranks can import, or write arrays to a file beside the trace."""
    if isinstance(given, str):
        return given
    found: Any = given
    if key == "data" and isinstance(given, tuple) and isinstance(given[0], tuple):
        train, test = given
        found = dict(enumerate(train)) | {f"test_{number}": each for number, each in enumerate(test)}
    elif key == "data":
        found = dict(enumerate(given if isinstance(given, tuple) else (given,)))
    elif not isinstance(given, Mapping):
        found = {"theta": given}
    if any(not hasattr(each, "dtype") for each in found.values()):
        what = {"function": "fun", "start": "x0", "data": "rows"}.get(key, key)
        raise InputError(f"{what}: over MPI all ranks import it by its name: give 'FILE.py:NAME'")
    written = Path(configs.read(tables, settings).config.trace.path)
    path = written.absolute().with_suffix(f".{key}.npz")
    write_arrays(path, {str(name): np.asarray(each) for name, each in found.items()})
    return str(path)


def _result(trace: Any) -> "OptimizeResult":
    """Return the result of a run, with the parameters in the user's form."""
    from scipy.optimize import OptimizeResult

    from ..problems.function import FunctionProblem, leaves, rebuilt

    table = legacy.read(trace.config, trace.plugin_digests).problem
    assert isinstance(table, FunctionProblem)
    form, summary = table.model().unflatten(trace.theta), trace.summary()
    reached = not summary["target"] or bool(np.isfinite(summary["target_s"]))
    message = f"reached {summary['target']}" if summary["target"] and reached else "stopped"
    return OptimizeResult(
        x=rebuilt(form, iter([each.copy() for _, each in leaves(form)])),
        fun=float(trace.progress["loss"][-1]),
        success=reached,
        message=f"{message} after {trace.updates.rows} updates",
        nit=trace.updates.rows,
        nfev=trace.arrivals.rows,
        trace=trace,
    )
