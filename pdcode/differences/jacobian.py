"""`pdcode.jacobian`: derivatives by the ranks of a program, for an optimizer that runs at its rank 0."""

import atexit
import tempfile
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..api.calibrate import keys_of, residuals_of, start_of, tables_of
from ..api.configs import PathLike
from ..api.runs import train
from ..config import kinds
from ..util.errors import Failure, InputError

_numbers = count()


class Jacobian:
    """Derivatives of a function at rank 0, whose differences other ranks evaluate; see `jacobian`."""

    def __init__(
        self,
        fun: Callable[[Any], Any],
        comm: Any,
        bounds: Any,
        residuals: int | None,
        config: Mapping[str, Any],
        output: PathLike | None,
    ) -> None:
        self._fun, self._comm, self._bounds, self._residuals = fun, comm, bounds, residuals
        self._config, self._output, self._open = config, output, True
        self._name = f":jacobian-{next(_numbers)}"
        self.calls = 0

    def __call__(self, x: Any, *args: Any) -> np.ndarray:
        """Return the derivatives at a point: shape (m, k), or (k,) of a number. At rank 0 only.

        Raises
        ------
        InputError
            If `x` or what the function returns has a wrong shape, or its evaluation at `x` raises.
        Failure
            If columns are missing because evaluations fail; the other ranks end, too.
        """
        if not self._open:
            raise InputError("jac: it has been closed")
        x = start_of(x)
        if self._residuals is None:
            self._residuals = residuals_of(self._fun(x.copy()))
        problem = {"function": self._name, **keys_of(x, self._residuals, self._bounds, {})}
        self.calls += 1
        with tempfile.TemporaryDirectory(prefix="pdcode-") as folder:
            place = Path(folder if self._output is None else self._output, f"jacobian{self.calls}.h5")
            try:
                found = self._evaluate(self._comm.bcast(problem), str(place))
            except BaseException:
                self._open = False  # the other ranks have the exception, too
                raise
        if found is None:
            raise Failure("the Jacobian is not known: a key of [stop] has ended its run")
        return found if self._residuals else found[0]

    def _evaluate(self, problem: dict[str, Any], path: str = "") -> np.ndarray | None:
        """Evaluate the derivatives of a problem, on all ranks; None: another rank, or they are not known."""
        tables = tables_of(self._config)
        options = {**tables["scheme"].get("options", {}), "seek": "jacobian"}
        tables["scheme"] = {**tables["scheme"], "options": options}
        tables["problem"] = {"kind": "simulation", **tables.get("problem", {}), **problem}
        kinds.OBJECTS[problem["function"]] = self._fun
        try:
            trace = train(tables, comm=self._comm, output=path or None, progress=False)
        finally:
            kinds.OBJECTS.pop(problem["function"], None)
        return None if trace is None else trace.checkpoint.get("jacobian")

    def serve(self) -> None:
        """Evaluate for rank 0, on another rank, until rank 0 closes."""
        while (problem := self._comm.bcast(None)) is not None:
            self._evaluate(problem)

    def close(self) -> None:
        """Let the other ranks go on."""
        atexit.unregister(self.close)
        if self._open:
            self._open = False
            self._comm.bcast(None)

    def __enter__(self) -> "Jacobian":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def jacobian(
    fun: Callable[[Any], Any],
    comm: Any = None,
    *,
    bounds: Any = None,
    residuals: int | None = None,
    config: Mapping[str, Any] | None = None,
    output: PathLike | None = None,
) -> Jacobian | None:
    """Return derivatives for ``scipy.optimize.least_squares(fun, x0, jac=…)``, evaluated by other ranks.

    They are forward differences of the steps of scipy's. Evaluations that are late or fail are replaced by
    combinations, as in `calibrate`. All ranks call it: on rank 0 it returns at once, on the others, which
    evaluate meanwhile, once rank 0 has closed it, or ended.

    Parameters
    ----------
    fun : callable
        ``fun(x)``: residuals, shape (m,), or a number. On each rank the same one.
    comm : mpi4py.MPI.Intracomm, optional
        Communicator of two ranks or more; default: ``MPI.COMM_WORLD``.
    bounds : sequence of (float or None, float or None), or scipy.optimize.Bounds, optional
        Least and largest value of each parameter, beyond which no step goes.
    residuals : int, optional
        Number of residuals m, 0 for a number; by default found by an evaluation at rank 0.
    config : dict, optional
        Tables of a configuration besides, such as ``{"scheme": {"options": {"design": "copies"}}}``.
    output : path, optional
        Folder for a trace of each call, ``jacobian1.h5``, …; default: none is kept.

    Returns
    -------
    Jacobian or None
        On rank 0 a function ``jac(x)``, closed by ``jac.close()`` or a ``with`` block; None on others.
        A call has k + 1 evaluations by the other ranks.

    Raises
    ------
    InputError
        If the communicator has one rank.
    """
    if comm is None:
        from ..mpi.initialise import MPI

        comm = MPI.COMM_WORLD
    if comm.size < 2:
        raise InputError("comm: 1 rank; at least 2 are needed, as rank 0 is the coordinator")
    made = Jacobian(fun, comm, bounds, residuals, config or {}, output)
    if comm.rank:
        made.serve()
        return None
    atexit.register(made.close)
    return made
