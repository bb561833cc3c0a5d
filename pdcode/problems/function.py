"""Kind "function": any Python function that computes loss and gradient, of arrays of numpy or JAX."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from functools import cached_property
from math import nan
from typing import Any, ClassVar

import numpy as np

from ..config import Flops, kinds
from ..util.errors import InputError
from . import split
from .dataset import Rows, RowSet
from .files import read_arrays
from .matrix import Array
from .model import Key, Measurement, Model, ModelTable

CHUNK = 1024  # rows that are measured at once
FLOPS = 6.0  # operations of a row's gradient for each parameter, unless they are given


class FunctionModel(Model):
    """Model of a user's functions of θ, as an array or as a tree of dicts and lists of arrays.

    Parameters
    ----------
    function : callable
        ``function(theta, *rows) -> loss, gradient``: the mean loss, and the gradient in the form of θ. An
        argument `key` gets the key of the task's random numbers; None for evaluation, without them.
    start : array, tree or callable
        θ at the start, or ``start(seed)``.
    score : callable, optional
        ``score(theta, *rows)``: a number, 1 at best, averaged over chunks of test rows.
    table : FunctionProblem
    """

    def __init__(self, function: Any, start: Any, score: Any, table: Any) -> None:
        self._function, self._start, self._score = function, start, score
        self._dtype, self._row_flops, self.near_zero = (
            np.dtype(table.dtype),
            table.flops,
            bool(table.near_zero),
        )
        self._batch = table.batch
        self._keyed = "key" in inspect.signature(function).parameters
        self._name = table.function

    @cached_property
    def _tree(self) -> Any:
        return self._made(0)

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: np.shape(leaf) for name, leaf in leaves(self._tree)}

    def initial(self, seed: int) -> Array:
        return self._fill(np.empty(self.size, self._dtype), self._made(seed), "problem.start")

    def gradient(
        self, theta: Array, rows: Rows, out: Array, key: Key | None, state: dict[str, Array] | None = None
    ) -> float:
        more = {"key": key} if self._keyed else {}
        found = self._function(self.unflatten(theta), *rows, **more)
        if not (isinstance(found, tuple | list) and len(found) == 2):
            what = f"{len(found)} values" if isinstance(found, tuple | list) else type(found).__name__
            raise InputError(f"problem.function: {self._name!r} returns {what}; expected loss, gradient")
        loss, gradient = found
        if np.iscomplexobj(loss):
            raise InputError("problem.function: the loss is complex; return its real part")
        self._fill(out, gradient, "problem.function: the gradient", exact=True)
        return float(loss)

    def examine(self, theta: Array, rows: Rows) -> list[str]:
        more = {"key": None} if self._keyed else {}
        given = ", ".join(["theta", *(f"rows {number}" for number in range(1, len(rows) + 1)), *more])
        call = f"{self._name!r} is called as ({given})"
        ensure_takes("problem.function", call, self._function, theta, *rows, **more)
        return []

    def evaluate(self, theta: Array, train: Rows, test: Rows) -> Measurement:
        scratch = np.empty(self.size, self._dtype)

        def loss(*rows: Any) -> float:
            return self.gradient(theta, rows, scratch, None)

        def score(*rows: Any) -> float:
            return float(self._score(self.unflatten(theta), *rows))

        size = self.rows_at_once(CHUNK, self._batch, train)
        accuracy = mean(score, scored(train, test), size) if self._score else nan
        return Measurement(mean(loss, train, size), accuracy)

    def flops(self, rows: int, like: Rows) -> float:
        return rows * (FLOPS * self.size if self._row_flops is None else self._row_flops)

    def row_bytes(self, like: Rows) -> float:
        return float(self.size * self._dtype.itemsize)  # a guess: as many intermediate results as parameters

    def unflatten(self, theta: Array) -> Any:
        """Return θ in the form of the user's, as views that cannot be written."""
        views = self.views(theta)
        for view in views.values():
            view.flags.writeable = False
        return rebuilt(self._tree, iter(views[name] for name in self.shapes))

    def _made(self, seed: int) -> Any:
        with kinds.errors_of_user("problem.start"):
            made = self._start
            if callable(made) and (
                isinstance(made, type) or not is_dataclass(made)
            ):  # as Equinox's models are
                ensure_takes("problem.start", "a function is called as (seed)", made, seed)
                made = made(seed)
            for name, leaf in leaves(made):
                if np.asarray(leaf).dtype.kind in "OUSMm":
                    raise InputError(
                        f"problem.start: {name!r} is {type(leaf).__name__}, not an array; give an array, or "
                        "a dict or list of arrays; jax.flatten_util.ravel_pytree makes one of a pytree, of a "
                        "model of Equinox after equinox.partition"
                    )
            return made

    def _fill(self, out: Array, tree: Any, what: str, exact: bool = False) -> Array:
        """Write the arrays of a tree to a θ-sized array."""
        found = dict(leaves(tree))
        for name, view in self.views(out).items():
            if name not in found or np.shape(found[name]) != view.shape:
                has = np.shape(found[name]) if name in found else "missing"
                raise InputError(f"{what}: {name!r} is {has}, not an array of shape {view.shape}")
            if exact and getattr(found[name], "dtype", self._dtype) == np.float32 != self._dtype:
                raise InputError(f"{what}: {name!r} is float32, and problem.dtype is '{self._dtype}'")
            if np.iscomplexobj(found[name]):
                raise InputError(
                    f"{what}: {name!r} is complex, and parameters are real; give real and imaginary parts as "
                    "two arrays, or .real if that is all"
                )
            view[...] = found[name]
        return out


def ensure_takes(key: str, call: str, function: Any, /, *values: Any, **named: Any) -> None:
    """Refuse a user's function that does not take these arguments; `call` says which."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a function in C
        return
    try:
        signature.bind(*values, **named)
    except TypeError as error:
        raise InputError(f"{key}: {call}, and takes {signature}: {error}") from None


def leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield name and value of each array of a tree; a single array is named "theta"."""
    if isinstance(tree, Mapping | list | tuple):
        for key, each in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
            yield from leaves(each, f"{name}.{key}" if name else str(key))
    else:
        yield name or "theta", tree


def rebuilt(tree: Any, values: Iterator[Any]) -> Any:
    """Return a tree of the same form with other arrays."""
    if isinstance(tree, Mapping):
        return {key: rebuilt(each, values) for key, each in tree.items()}
    if isinstance(tree, list | tuple):
        made = getattr(tree, "_make", type(tree))  # named tuples, too
        return made([rebuilt(each, values) for each in tree])
    return next(values)


def scored(train: Rows, test: Rows) -> Rows:
    """Return the rows whose score is measured: training rows if there are no others."""
    return test if len(test) and len(test[0]) else train


def chunks(rows: Rows, size: int) -> Iterator[Rows]:
    """Yield at most `size` rows at a time."""
    for start in range(0, len(rows[0]), size):
        yield tuple(each[start : start + size] for each in rows)


def mean(function: Any, rows: Rows, size: int) -> float:
    """Return the mean over rows of a function's values for chunks of them."""
    parts = [*chunks(rows, size)]
    return float(np.average([function(*part) for part in parts], weights=[len(part[0]) for part in parts]))


class UserTable(ModelTable):
    """A model and rows that objects in a user's files define."""

    paths: ClassVar[tuple[str, ...]] = ()
    needed: ClassVar[tuple[str, ...]] = ()  # keys that must be given

    #: FILE.py:NAME of the rows, a tuple of arrays, or a pair (training rows, test rows), or of a function of
    #: them; or an npz file of arrays
    data: str = ""
    #: FILE.py:NAME of ``score(theta, *rows)``, with kind "torch" ``score(module, *rows)``, 1 at best
    score: str | None = None
    #: operations of a row's gradient, for the virtual clock; none: counted by PyTorch, or 6 per parameter
    flops: Flops | None = None
    #: whether the least loss is near 0, as whitened gradients need; none: no, and with kind "torch" yes,
    #: unless the loss is a regression's
    near_zero: bool | None = None

    def check_config(self, config: Any) -> None:
        for key in self.needed:
            if not getattr(self, key):
                raise InputError(f"problem.{key}: must be given with problem.kind '{self.kind}'")
        if config.stop.accuracy is not None and not self.has_score:
            raise InputError("stop.accuracy: there is none without problem.score")

    @property
    def has_score(self) -> bool:
        """Whether there is a score."""
        return self.score is not None

    def function_of(self, key: str) -> Any:
        """Return the function that a key names; None if the key has no value."""
        name = getattr(self, key)
        found = None if name is None else kinds.referenced(f"problem.{key}", name)
        if name is not None and not callable(found):
            raise InputError(f"problem.{key}: {name!r} is no function")
        return found

    def read(self) -> RowSet:
        found = self._object("data")
        with kinds.errors_of_user("problem.data"):
            found = self.plain(found() if callable(found) else found)
        if isinstance(found, dict):
            tests = tuple(each for name, each in found.items() if name.startswith("test_"))
            found = tuple(each for name, each in found.items() if not name.startswith("test_"))
            found = (found, tests) if tests else found
        if isinstance(found, list | tuple) and len(found) == 2 and isinstance(found[0], list | tuple):
            return RowSet(*(self._rows(part) for part in found))
        whole = self._rows(found)
        train, test = split.split(self, len(whole[0]))
        return RowSet(tuple(each[train] for each in whole), tuple(each[test] for each in whole))

    def plain(self, found: Any) -> Any:
        """Return arrays for what `data` is."""
        return found

    def _object(self, key: str) -> Any:
        """Return what the table names, or the arrays of an npz file."""
        value = getattr(self, key)
        if value.endswith(".npz"):
            return read_arrays(value, key)
        return kinds.referenced(f"problem.{key}", value)

    def _rows(self, found: Any) -> Rows:
        """Check arrays of rows, and convert real numbers to the problem's type."""
        name = f"problem.data: {self.data!r}"
        with kinds.errors_of_user(name):
            arrays = tuple(map(np.asarray, found if isinstance(found, list | tuple) else (found,)))
        for each in arrays:
            if each.dtype.kind not in "buif" or not each.ndim:
                raise InputError(f"{name} has {each.dtype} of shape {each.shape}, not rows of numbers")
        if len({len(each) for each in arrays}) != 1:
            raise InputError(f"{name} has arrays of {', '.join(str(len(each)) for each in arrays)} rows")
        real = np.dtype(self.dtype)
        return tuple(each.astype(real, copy=False) if each.dtype.kind == "f" else each for each in arrays)


class FunctionProblem(UserTable, tag="function"):
    """Loss and gradient by a Python function, of arrays of numpy or JAX."""

    needed: ClassVar[tuple[str, ...]] = ("function", "start", "data")
    references: ClassVar[tuple[str, ...]] = (*needed, "score")

    #: FILE.py:NAME of ``function(theta, *rows) -> loss, gradient``, the mean over the rows
    function: str = ""
    #: FILE.py:NAME of θ at the start, an array, or a dict or list of arrays, or of ``start(seed)``; or an npz
    #: file
    start: str = ""

    @property
    def sized_by(self) -> str:
        return "start"

    def model(self) -> FunctionModel:
        function, score = self.function_of("function"), self.function_of("score")
        start = self._object("start")
        if isinstance(start, dict) and [*start] == ["theta"]:
            start = start["theta"]
        return FunctionModel(function, start, score, self)
