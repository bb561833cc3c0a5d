"""Kind "simulation": a function of parameters without rows and without a gradient."""

import os
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import numpy as np
from msgspec import Meta

from ..config import Bytes, Duration, Flops, Positive, kinds
from ..config.requirements import KeyNeeds, one_of
from ..problems.dataset import Rows, RowSet
from ..problems.files import read_matrix
from ..problems.function import ensure_takes
from ..problems.matrix import Array
from ..problems.model import Key, Measurement, Model, ModelTable
from ..trace.reader import TraceReader
from ..util.errors import InputError, in_one_line
from .columns import Relative
from .patterns import Found, Pattern, Whole
from .pest import Pest, read_control
from .program import Command, Program, read_observed

ONE = Annotated[float, Meta(gt=0, le=1)]
LIMITS = "seconds", "memory", "cores"  # keys about the run of a program
FROM_CONTROL = "start", "names", "bounds", "residuals"  # keys that a control file gives


def recorded_evaluations(trace: TraceReader) -> Iterator[tuple[int, int, Array, Array | None]]:
    """Yield worker, task, point and values of the evaluations of a trace; None: it has failed."""
    table = trace.evaluations
    worker, task, what, number = (table[key] for key in ("worker", "task", "what", "number"))
    ends = np.flatnonzero(np.diff(worker, append=-1) | np.diff(task, append=-1)) + 1
    for first, end in pairwise([0, *ends.tolist()]):
        own, kinds = number[first:end], what[first:end]
        values = own[kinds == 1]
        yield int(worker[first]), int(task[first]), own[kinds == 0], values if len(values) else None


def earlier_values(path: str, residuals: int | None, k: int) -> dict[bytes, Array]:
    """Return the values of an earlier run's evaluations, without those of its prior, by the points' bytes.

    Raises
    ------
    InputError
        If there is no such trace, or its evaluations have other parameters or residuals.
    """
    trace = TraceReader(path)
    if not trace.evaluations.rows:
        raise InputError(f"problem.earlier: {path}: has no evaluations of a simulation")
    prior = np.array(trace.table("problem").get("prior_sd") or [], float)
    priors, found = int(np.isfinite(prior).sum()), dict[bytes, Array]()
    for _, _, point, values in recorded_evaluations(trace):
        if values is None:
            continue
        own = values[: len(values) - priors]
        if len(point) != k or len(own) != (residuals or 1):
            raise InputError(
                f"problem.earlier: {path}: {len(point)} parameters and {len(own)} values, where this run has "
                f"{k} and {residuals or 1}"
            )
        found[point.tobytes()] = own if residuals else own[0]
    return found


class SimulationModel(Model):
    """Model of a user's function of the parameters.

    Parameters
    ----------
    function : callable
        ``function(x)``: a number, or residuals of shape (m,); an exception, or a value that is not finite,
        is an evaluation that has failed.
    start : ndarray of float64, shape (k,)
    residuals : int or None
        Number of residuals m; None: the function returns a number, which is minimised.
    flops : float
        Operations of an evaluation.
    prior : (ndarray, ndarray) or None
        Expected parameters and their standard deviations, shape (k,): further residuals, after those of the
        function, are (x - expected) / deviation, where the deviation is finite.
    pattern : ndarray of bool, shape (m, k), "auto" or None
        Entries of the Jacobian that may differ from 0; None: all.

    Attributes
    ----------
    values : int
        Number of values of an evaluation: m, or 1, and those of the prior.
    relative_step : float, (ndarray, ndarray) or None
        Steps of differences, see `steps_at`.
    lower, upper : ndarray of float64, shape (k,)
        Bounds of the parameters, ∓inf without one.
    earlier : dict of bytes to ndarray
        Values of points that are not evaluated again, by the points' bytes.
    failure : str
        Why the last evaluation here has failed.
    costs : dict of bytes to float
        Cost of the search's point, by the point's bytes, at rank 0.
    """

    checked = False
    deferred = True

    def __init__(
        self,
        function: Any,
        start: Array,
        residuals: int | None,
        bounds: list[list[float]] | None,
        flops: float,
        prior: tuple[Array, Array] | None = None,
        pattern: Array | str | None = None,
    ) -> None:
        what = "a number, which is minimised" if residuals is None else f"{residuals} residuals"
        self.description = f"a function of {len(start)} parameters returns {what}"
        self._function, self._start, self._flops = function, start, flops
        self._key = "problem.command" if isinstance(function, Command) else "problem.function"
        no: Array = np.zeros(0)
        self._expected, self._deviations = (no, no) if prior is None else prior
        self._known = np.flatnonzero(np.isfinite(self._deviations))  # parameters with a prior
        self.residuals, self.values = residuals, (residuals or 1) + len(self._known)
        self.lower, self.upper = np.full(len(start), -np.inf), np.full(len(start), np.inf)
        if bounds is not None:
            self.lower[:], self.upper[:] = np.array(bounds, float).T
        self.relative_step: Relative | Literal["auto"] = None
        self.failure, self.earlier = "", dict[bytes, Array]()
        self.costs = dict[bytes, float]()
        self._pattern: Any = pattern
        if isinstance(pattern, np.ndarray):  # a prior's residuals depend on one parameter each
            self._pattern = Pattern(np.concatenate([pattern, np.eye(len(start), dtype=bool)[self._known]]))

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"theta": self._start.shape}

    def initial(self, seed: int) -> Array:
        return self._start.copy()

    def pattern(self) -> Whole:
        """Return the pattern of the Jacobian, one that is found as a new one."""
        if isinstance(self._pattern, Pattern):
            return self._pattern
        k = len(self._start)
        return Whole(k) if self._pattern is None else Found(self.values, k)

    def evaluate_at(self, x: Array) -> Array | None:
        """Return the values at a point, shape (m,); None: the evaluation has failed."""
        if (known := self.earlier.get(x.tobytes())) is not None:
            return self.checked_values(known, x)
        try:
            found = self._function(x.copy())
        except Exception as error:  # noqa: BLE001 (whatever it is: the search goes on without this point)
            self.failure = in_one_line(error)
            return None
        values = self.checked_values(found, x)
        self.failure = "its values are not finite" if values is None else ""
        return values

    def checked_values(self, found: Any, x: Array) -> Array | None:
        """Return what the function has returned at a point, and the residuals of the prior, in one array.

        None: its norm is not finite.
        """
        values = np.asarray(found, np.float64)
        expected = () if self.residuals is None else (self.residuals,)
        if values.shape != expected:
            raise InputError(
                f"{self._key}: it returns an array of shape {values.shape}; problem.residuals says "
                f"{'a number' if self.residuals is None else self.residuals}"
            )
        known = self._known
        misfits = (x[known] - self._expected[known]) / self._deviations[known]
        values = np.concatenate([values.reshape(-1), misfits])
        with np.errstate(over="ignore"):
            return values if np.isfinite(values @ values) else None

    def explain(self, x: Array) -> None:
        """Evaluate a point at which an evaluation has failed; raise the user's error."""
        with kinds.errors_of_user(self._key):
            self.checked_values(self._function(x.copy()), x)

    def gradient(
        self, theta: Array, rows: Rows, out: Array, key: Key | None, state: dict[str, Array] | None = None
    ) -> float:
        raise InputError("problem.kind: 'simulation' has no gradient")

    def evaluate(self, theta: Array, train: Rows, test: Rows) -> Measurement:
        return Measurement(self.costs.get(theta.tobytes(), float("nan")))

    def examine(self, theta: Array, rows: Rows) -> list[str]:
        ensure_takes(self._key, "the function is called as (x)", self._function, theta)
        return []

    def flops(self, rows: int, like: Rows) -> float:
        return self._flops


class SimulationProblem(ModelTable, tag="simulation"):
    """A function without rows and without a gradient, such as the misfit of a simulation."""

    references: ClassVar[tuple[str, ...]] = ("function",)
    paths: ClassVar[tuple[str, ...]] = ("template", "observed", "control", "earlier", "pattern")
    requires: ClassVar[KeyNeeds] = {
        "kind": {"scheme.name": one_of("differences", why="has no gradient")},
    }

    #: FILE.py:NAME of ``function(x)``, which returns a number, or an array of residuals; none: `command` is
    function: str | None = None
    #: command line of a program, with {input} and {output} for files; without {output} it prints its numbers
    command: str | None = None
    #: path of a control file of PEST's (.pst): it gives command, parameters, bounds, steps and observations
    control: str | None = None
    #: path of the program's input with {{ name }}, or {{ name:.6f }}, for each parameter, in whose folder the
    #: command runs
    template: str | None = None
    #: names of the parameters, in the template and in tables; none: x0, x1, …
    names: list[str] = msgspec.field(default_factory=list)
    #: which numbers of the output are values: a regular expression with a group, csv:COLUMN, or json:KEY.KEY;
    #: none: all
    select: str | None = None
    #: path of a text of numbers, which are subtracted from the values; none: the values are the residuals
    observed: str | None = None
    seconds: Duration | None = None  #: longest time of an evaluation of the program [s]; none: no limit
    memory: Bytes | None = None  #: most memory of each process of the program [B]; none: no limit
    #: threads of each process of the program, and {cores} in the command; none: those of a worker, often 1
    cores: Positive | None = None
    #: the parameters at the start
    start: list[float] = msgspec.field(default_factory=list)
    #: number of residuals, of which half the sum of squares is minimised; none: the function returns a
    #: number, which is minimised
    residuals: Positive | None = None
    #: [least, largest] of each parameter; none: no bounds
    bounds: list[list[float]] | None = None
    #: path of the trace of an earlier run, whose points are not evaluated again; those that failed are
    earlier: str | None = None
    #: standard deviation of each parameter around `prior`, where residuals have standard deviation 1: further
    #: residuals (Tikhonov regularisation); inf: none of this parameter
    prior_sd: list[float] | None = None
    prior: list[float] | None = None  #: expected parameters, with `prior_sd`; none: the start
    #: path of a text, npy or npz file with a matrix of m rows and k columns, whose zeros say which residuals
    #: do not depend on which parameters; auto: found in the first Jacobian; none: all depend on all
    pattern: str | None = None
    #: step of differences relative to a parameter; none: the root of the machine precision, of 1 at least;
    #: auto: from noise and curvature, measured at the start by 8 evaluations or more
    relative_step: ONE | Literal["auto"] | None = None
    #: operations of an evaluation, for the virtual clock
    flops: Flops = 1e6
    data: Literal[""] = ""  #: nothing: there are no rows
    batch: Annotated[int, Meta(ge=0, le=0)] = 0  #: 0: there are no rows
    dtype: Literal["float64"] = "float64"  #: type of the parameters
    shards: Literal["replicated"] = "replicated"  #: as there are no rows

    @property
    def sized_by(self) -> str:
        return "start"

    def check_config(self, config: Any) -> None:
        if self.control is not None:
            self._take_control()
        if not self.start:
            raise InputError("problem.start: must be given with problem.kind 'simulation'")
        if sum(each is not None for each in (self.function, self.command, self.control)) != 1:
            raise InputError(
                "problem.function: give this, or problem.command, or problem.control, with problem.kind "
                "'simulation'"
            )
        own = "template", "select", "observed", *(() if self.control is not None else LIMITS)
        if given := [key for key in own if getattr(self, key) and self.command is None]:
            raise InputError(f"problem.{given[0]}: has no effect without problem.command")
        if self.command is not None and self.template is None:
            raise InputError("problem.template: must be given with problem.command")
        if self.names or self.command is not None:
            self._ensure_one_each("names", "names")
            if twice := [name for name in self.names if self.names.count(name) > 1]:
                raise InputError(f"problem.names: {twice[0]!r} twice")
        self._check_prior()
        if self.pattern is not None and self.residuals is None and self.observed is None:
            raise InputError("problem.pattern: needs residuals: problem.residuals is not given")
        if self.earlier is not None and os.path.realpath(self.earlier) == os.path.realpath(config.trace.path):
            raise InputError(f"problem.earlier: {self.earlier!r} is trace.path, which the run writes")
        if config.stop.accuracy is not None:
            raise InputError("stop.accuracy: a simulation has none")
        bounds = self.bounds
        if bounds is None:
            return
        self._ensure_one_each("bounds", "pairs")
        for number, (pair, value) in enumerate(zip(bounds, self.start, strict=True)):
            if len(pair) != 2 or not pair[0] < pair[1] or not pair[0] <= value <= pair[1]:
                raise InputError(
                    f"problem.bounds: {pair} of parameter {number}: expected [least, largest], with the "
                    f"start {value:g} between them"
                )

    def _take_control(self) -> None:
        """Take parameters and the number of residuals from the control file, if they are not known yet."""
        assert self.control is not None
        given = [key for key in FROM_CONTROL if getattr(self, key)]
        if len(given) == len(FROM_CONTROL):  # a configuration that has been resolved
            return
        if given:
            raise InputError(f"problem.{given[0]}: has no effect with problem.control, which gives it")
        control = read_control(self.control)
        found = control.start, control.names, control.bounds, len(control.weighted)
        for key, value in zip(FROM_CONTROL, found, strict=True):
            msgspec.structs.force_setattr(self, key, value)

    def _ensure_one_each(self, key: str, what: str) -> None:
        """Refuse a list whose length is not the number of parameters."""
        if (found := len(getattr(self, key))) != len(self.start):
            raise InputError(f"problem.{key}: {found} {what} for {len(self.start)} parameters")

    def _check_prior(self) -> None:
        if self.prior_sd is None:
            if self.prior is not None:
                raise InputError("problem.prior: has no effect without problem.prior_sd")
            return
        self._ensure_one_each("prior_sd", "standard deviations")
        if self.prior is not None:
            self._ensure_one_each("prior", "values")
        if bad := [each for each in self.prior_sd if not each > 0]:
            raise InputError(f"problem.prior_sd: {bad[0]:g}: expected numbers above 0")
        if self.residuals is None and self.observed is None:
            raise InputError("problem.prior_sd: a number that is minimised has no further residuals")

    def model(self) -> SimulationModel:
        residuals, function = self.residuals, self._program()
        step: Relative | Literal["auto"] = self.relative_step
        if self.control is not None:
            control = read_control(self.control)
            function = Pest(control, self.seconds, self.memory, self.cores)
            step = control.increments() if step is None else step
        if function is None:
            assert self.function is not None
            function = kinds.referenced("problem.function", self.function)
            if not callable(function):
                raise InputError(f"problem.function: {self.function!r} is no function")
        elif self.observed is not None:
            residuals = len(read_observed(self.observed))
        start, prior = np.array(self.start, np.float64), None
        if self.prior_sd is not None:
            prior = start if self.prior is None else np.array(self.prior, float), np.array(self.prior_sd)
        pattern = self.pattern
        found = pattern if pattern is None or pattern == "auto" else self._entries(pattern, residuals or 1)
        model = SimulationModel(function, start, residuals, self.bounds, float(self.flops), prior, found)
        model.relative_step = step
        if self.earlier is not None:
            model.earlier = earlier_values(self.earlier, residuals, len(start))
        return model

    def _entries(self, pattern: str, m: int) -> Array:
        """Return the pattern in a file, shape (m, k)."""
        matrix = read_matrix(pattern, "pattern")
        if matrix.shape != (m, len(self.start)):
            raise InputError(
                f"problem.pattern: {pattern!r} has shape {matrix.shape}: expected ({m}, {len(self.start)}), "
                f"a row for each residual and a column for each parameter"
            )
        return matrix != 0

    def _program(self) -> Command | None:
        """Return the program that is a function of the parameters; None: there is none."""
        if self.command is None or self.template is None:
            return None
        observed = None if self.observed is None else read_observed(self.observed)
        limits = self.seconds, self.memory, self.cores
        return Program(self.command, self.template, self.names, self.select, observed, *limits)

    def read(self) -> RowSet:
        none = np.zeros((1, 1))
        return RowSet((none,), (none[:0],))
