"""`pdcode.Calibration`: a search whose evaluations a program makes in its own way."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from ..api import configs
from ..api.calibrate import keys_of, start_of, tables_of
from ..config import kinds
from ..session.setup import prepare
from .fit import Fit, fit_of
from .problem import SimulationModel
from .scheme import EvaluationState

FUNCTION = ":asked"  # stands for a function that is evaluated elsewhere


class Point(NamedTuple):
    """A point to evaluate."""

    number: int
    x: np.ndarray  # shape (k,)


class Calibration:
    """The search of `calibrate` without workers: it is asked for points, and told their values.

    Any number of points may be under way; they are told in any order. Nothing is recorded.

    Parameters
    ----------
    x0 : array_like, shape (k,), or float
        Parameters at the start.
    residuals : int
        Number of residuals m; 0: a point's value is a number, which is minimised.
    bounds, names, prior, prior_sd
        As for `calibrate`.
    config : dict, optional
        Tables of a configuration besides, such as ``{"scheme": {"options": {"design": "copies"}}}``.

    Raises
    ------
    InputError
        If the input is bad.

    Examples
    --------
    >>> import numpy as np, pdcode
    >>> t = np.linspace(0, 4, 50)
    >>> search = pdcode.Calibration([1.0, 0.2], residuals=50)
    >>> while not search.ended:
    ...     for point in search.ask(4):
    ...         height, rate = point.x
    ...         search.tell(point, height * np.exp(-rate * t) - 3.0 * np.exp(-0.7 * t))
    >>> search.x.round(6)
    array([3. , 0.7])
    """

    def __init__(
        self,
        x0: Any,
        residuals: int = 0,
        *,
        bounds: Any = None,
        names: Sequence[str] | None = None,
        prior: Any = None,
        prior_sd: Any = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        tables = tables_of(config or {})
        lists = {"names": names, "prior": prior, "prior_sd": prior_sd}
        own = {"kind": "simulation", "function": FUNCTION, **keys_of(start_of(x0), residuals, bounds, lists)}
        tables["problem"] = {**tables.get("problem", {}), **own}
        kinds.OBJECTS[FUNCTION] = _not_called
        components = prepare(configs.read(tables, []).config, check=False)
        state, model = components.state, components.problem.model
        assert isinstance(state, EvaluationState)
        assert isinstance(model, SimulationModel)
        self._state, self._model, self._table = state, model, components.config.problem

    def ask(self, count: int = 1) -> list[Point]:
        """Return points to evaluate, at most `count`: fewer, or none, where answers must come first."""
        search, now_ns, points = self._state.search, time.monotonic_ns(), list[Point]()
        while len(points) < count and (number := search.ask(now_ns)) is not None:
            points.append(Point(number, search.questions[number].point.copy()))
        return points

    def tell(self, point: Point, values: Any) -> None:
        """Take the values of a point: residuals, shape (m,), or a number; None: its evaluation has failed.

        An evaluation whose values are not finite has failed, too.

        Raises
        ------
        InputError
            If `values` has another shape.
        """
        known = None if values is None else self._model.checked_values(values, point.x)
        self._state.search.tell(point.number, known, time.monotonic_ns())

    @property
    def ended(self) -> str:
        """Reason why the search is over; empty while it is not."""
        return self._state.search.ended

    @property
    def success(self) -> bool:
        """Whether the search has ended, and not because evaluations have failed."""
        return bool(self.ended) and not self._state.search.refused

    @property
    def x(self) -> np.ndarray:
        """The best point so far, shape (k,)."""
        return self._state.search.x.copy()

    @property
    def cost(self) -> float:
        """Its cost: half the sum of squares, or the number; nan before it is known."""
        return self._state.search.cost

    def fit(self) -> Fit | None:
        """Return intervals of the parameters, see `Trace.fit`; None before the derivatives are known."""
        table = msgspec.to_builtins(self._table)
        return fit_of({"theta": self.x, **self._state.results}, table, "the search")


def _not_called(x: np.ndarray) -> float:
    raise AssertionError("a point is evaluated by the caller")
