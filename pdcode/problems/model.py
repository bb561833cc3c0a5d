"""`Model`: parameters with names and shapes, and the loss and gradient of rows at given parameters."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from math import nan
from typing import Literal, NamedTuple, Self

import msgspec
import numpy as np

from ..config import ProblemTable
from ..util.memory import ensure_fits
from .dataset import Rows, RowSet
from .factors import Factors, Products
from .matrix import Array
from .partition import Parameter, arrange

Key = tuple[int, int, int, int]
"""Key of a gradient's random numbers: seed, worker, task, and step within the task."""


PASS_BYTES = 1 << 28
"""Bytes of a pass from which on no more rows are computed at once than a mini-batch has."""


class Measurement(NamedTuple):
    """Loss and accuracy of a θ at rank 0; NaN where a model does not compute one."""

    loss: float
    accuracy: float = nan
    grad_norm: float = nan


class Model(ABC):
    """Parameters with names, and the loss and gradient of rows at given parameters θ.

    One object serves all workers of a process: a worker's changes during the run are in its `state`.

    Attributes
    ----------
    score : str
        Name of the accuracy, for lines of progress.
    near_zero : bool
        Whether the least loss is near 0, so that whitened steps become shorter on the way to it. Without it,
        they do not, and ``code.whiten = "auto"`` does not whiten.
    deferred : bool
        Whether the loss of θ is known only after the first update.
    description : str
        A line for the user in place of that on the rows.
    axis : str or list of str
        ``problem.axis``, by which parameters have their places in θ; set by `ModelTable.built`.
    """

    score: str = "score"
    near_zero: bool = False
    checked: bool = True
    deferred: bool = False
    description: str = ""
    axis: str | Sequence[str] = "output"

    @property
    @abstractmethod
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the parameters by name; see `partition.arrange` for their places in θ."""

    @abstractmethod
    def initial(self, seed: int) -> Array:
        """Return the θ, shape (size,), from which a run of this seed starts."""

    @abstractmethod
    def gradient(
        self, theta: Array, rows: Rows, out: Array, key: Key | None, state: dict[str, Array]
    ) -> float:
        """Compute the mean loss of rows, and its gradient.

        Parameters
        ----------
        theta : ndarray, shape (size,)
            Parameters, not to be changed.
        rows : tuple of ndarray, shapes (B, …)
            Rows of a mini-batch, or all rows of a worker.
        out : ndarray, shape (size,)
            Filled with the gradient.
        key : (seed, worker, task, step), or None
            Key of random numbers, such as dropout's numbers: equal keys give equal results. None: without
            random numbers, as at rank 0.
        state : dict of str to ndarray
            The worker's arrays, as `state` made them; to be changed in place.

        Returns
        -------
        float
            The mean loss.
        """

    @abstractmethod
    def evaluate(self, theta: Array, train: Rows, test: Rows) -> Measurement:
        """Measure θ for rank 0, without random numbers; `test` may have no rows."""

    @abstractmethod
    def flops(self, rows: int, like: Rows) -> float:
        """Return the floating-point operations of the gradient of so many rows that are like `like`."""

    def row_bytes(self, like: Rows) -> float:
        """Return the bytes that a gradient's pass needs for each row; 0: not known."""
        return 0.0

    def rows_at_once(self, usual: int, batch: int, like: Rows) -> int:
        """Return the rows that are computed at once, where results need no certain number."""
        fits = not 0 < batch < usual or usual * self.row_bytes(like) <= PASS_BYTES
        return usual if fits else batch

    def examine(self, theta: Array, rows: Rows) -> list[str]:
        """Examine a user's objects by a few rows, before a run; return lines for the user."""
        return []

    def why_impure(self, theta: Array, rows: Rows) -> str:
        """Return why two evaluations of the same rows and key differ, and what to do."""
        return "random numbers must be drawn by the key, and nothing may be kept from call to call"

    def products(self, like: Rows) -> Mapping[str, Products]:
        """Return the matrices of whose gradients `factored` can give factors, for rows such as these."""
        return {}

    def factored(
        self,
        theta: Array,
        rows: Rows,
        out: Array,
        key: Key | None,
        state: dict[str, Array],
        names: Collection[str],
        means: dict[str, Array | None] | None = None,
    ) -> tuple[float, dict[str, list[Factors]]]:
        """Compute as `gradient`, with factors in place of the gradients of matrices of these names.

        Parameters
        ----------
        means : dict of str to ndarray
            Filled with the means of the inputs of the matrices that it names, where they can be computed; it
            is only given if it names some, of the matrices whose `Products.centred` is true.

        Returns
        -------
        loss : float
        factors : dict of str to list of Factors
            Gradients that `out` does not have, as sums; some of `names` may be missing.
        """
        return self.gradient(theta, rows, out, key, state), {}

    def state(self) -> dict[str, Array]:
        """Return new arrays of a worker's own, such as running averages; checkpoints save them."""
        return {}

    @cached_property
    def _places(self) -> dict[str, Parameter]:
        return arrange(self.shapes, axis=self.axis)[1]

    @property
    def size(self) -> int:
        """Length of θ."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    def views(self, flat: Array) -> dict[str, Array]:
        """Return views of the parameters, or of their gradients, in a θ-sized array."""
        return {name: place.view(flat) for name, place in self._places.items()}

    def weights(self, theta: Array, train: Rows) -> Mapping[str, Array]:
        """Return the parameters, and whatever else a file of weights has; some of it may need rows."""
        return self.views(theta)

    def flat(self, arrays: Mapping[str, Array], dtype: np.dtype) -> Array:
        """Return a θ with these parameters."""
        theta = np.empty(self.size, dtype)
        for name, view in self.views(theta).items():
            view[...] = arrays[name]
        return theta


class ModelTable(ProblemTable):
    """Kind of problem with a model and rows of its own."""

    #: how workers get their rows: sent by rank 0, or made by each rank, which then takes its shard
    rows: Literal["sent", "made"] = "sent"
    #: axis of each matrix that is cut into blocks: output: the first one; input: the others together, with
    #: the bias; auto: the smaller payload
    axis: Literal["auto", "output", "input"] | list[Literal["auto", "output", "input"]] = "output"

    @property
    def sized_by(self) -> str:
        return "kind"

    @property
    def by_factors(self) -> bool:
        """Whether the model's factors are used, where they are cheaper than gradients."""
        return False

    def resolved(self, sample: RowSet) -> tuple[ProblemTable, list[str]]:
        """Return a table with values for the keys that are "auto", and lines that give the reasons."""
        return self, []

    def model(self) -> Model:
        """Build the model; `built` also sets its `axis`."""
        raise NotImplementedError

    def built(self) -> Model:
        """Build the model, with the places of its parameters in θ."""
        model = self.model()
        model.axis = self.axis
        vars(model).pop("_places", None)  # those by another axis, of an object that is built once for all
        return model

    def with_axes(self, blocks: int | str | list[int]) -> Self:
        """Return a table in which an axis that is "auto" has the value for this number of blocks."""
        if "auto" not in self.axis:
            return self
        units = arrange(self.model().shapes, blocks, self.axis)[0]
        return msgspec.structs.replace(self, axis=[each.axis for each in units])

    def read(self) -> RowSet:
        """Read or make all training and test rows."""
        raise NotImplementedError


def ensure_theta_fits(table: ProblemTable, size: int) -> None:
    """Refuse a θ of so many elements that it, gradients and the optimizer's arrays need too much memory."""
    ensure_fits(
        f"problem.{table.sized_by}", f"θ of {size:,} elements", 4 * size * np.dtype(table.dtype).itemsize
    )
