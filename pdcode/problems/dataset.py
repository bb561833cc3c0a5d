"""Data sets: training and test rows, to be divided into shards and sent as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np

from . import split
from .matrix import Array, Csr, Matrix, inputs_per_row
from .samples import Statistics
from .split import evenly_spaced

Rows = tuple[Any, ...]
"""Arrays, or sparse matrices, of the same number of rows: inputs and targets, or whatever a model takes."""


@dataclass(frozen=True, eq=False)
class RowSet:
    """Training and test rows, as arrays of any shape."""

    names: ClassVar[tuple[str, ...]] = ()  # of the arrays in messages; by default their numbers

    train: Rows
    test: Rows  # as many arrays; without rows, or empty, if there are none

    @property
    def rows(self) -> int:
        """Number of training rows."""
        return len(self.train[0])

    @property
    def row_bytes(self) -> int:
        """Bytes of a row; of sparse arrays, the bytes that do not grow with their width."""
        return sum(0 if isinstance(each, Csr) else each[:1].nbytes for each in self.train)

    @property
    def is_sparse(self) -> bool:
        """Whether inputs are sparse."""
        return any(isinstance(each, Csr) for each in self.train)

    @property
    def facts(self) -> dict[str, Any]:
        """Facts that predictions need, for the trace."""
        return {}

    def shard(self, worker: int, workers: int, how: str = "shuffled") -> Self:
        """Return a worker's training rows, without test rows; `how` is a result of `split.sharding`."""
        mine = split.shard(self.rows, worker, workers, how)
        train = (each[mine] for each in self.train)
        held = tuple(each if isinstance(each, Csr) else np.ascontiguousarray(each) for each in train)
        return replace(self, train=held, test=tuple(each[:0] for each in self.test))

    def sample(self, most: int) -> Self:
        """Return at most `most` training rows and `most` test rows, evenly spaced."""
        train, test = (_some(rows, most) for rows in (self.train, self.test))
        return self if train is self.train and test is self.test else replace(self, train=train, test=test)

    def arrays(self) -> dict[str, Array]:
        """Return the rows as named arrays, the input of `from_arrays`."""
        arrays = dict[str, Array]()
        for prefix, rows in (("", self.train), ("test_", self.test)):
            for number, x in enumerate(rows):
                name = prefix + (self.names[number] if self.names else str(number))
                if isinstance(x, Csr):
                    arrays |= {f"{name}.indptr": x.indptr, f"{name}.columns": x.columns}
                    arrays |= {f"{name}.data": x.data, f"{name}.width": np.array([x.width], np.int64)}
                else:
                    arrays[name] = x
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """Rebuild a set of rows from the result of `arrays`."""
        train, test = list[Any](), list[Any]()
        for key in arrays:
            name, _, piece = key.partition(".")
            rows = test if name.startswith("test_") else train
            if piece == "indptr":
                parts = [arrays[f"{name}.{each}"] for each in ("indptr", "columns", "data")]
                rows.append(Csr(parts[0], parts[1], parts[2], int(arrays[f"{name}.width"][0])))
            elif not piece:
                rows.append(arrays[key])
        return cls(tuple(train), tuple(test))


KNOWN = "values", "target_scale"
"""The part of the `Statistics` that a worker knows: the number of classes, and the unit of losses."""


def _some(rows: Rows, most: int) -> Rows:
    """Return at most `most` rows, evenly spaced; the same tuple if there are no more."""
    if not rows or len(rows[0]) <= most:
        return rows
    chosen = evenly_spaced(len(rows[0]), most)
    return tuple(each[chosen] for each in rows)


@dataclass(frozen=True, eq=False)
class Dataset(RowSet):
    """Rows of a network: inputs with a last column of ones, and targets.

    Inputs x are (rows, d_in + 1), in the problem's dtype; CSR rows store the one of column d_in explicitly.
    Targets y are labels 0 … classes - 1, int32, (rows,), or real in the problem's dtype, (rows, T).
    """

    names: ClassVar[tuple[str, ...]] = ("x", "y")

    common: Statistics = field(default_factory=Statistics)  # labels of the classes, and scales
    whole_inputs: float | None = None  # `inputs_per_row` of all rows, if these are a sample

    @property
    def x(self) -> Matrix:
        """Inputs of the training rows."""
        x: Matrix = self.train[0]
        return x

    @property
    def y(self) -> Array:
        """Targets of the training rows."""
        y: Array = self.train[1]
        return y

    @property
    def test_x(self) -> Matrix:
        """Inputs of the test rows."""
        x: Matrix = self.test[0]
        return x

    @property
    def test_y(self) -> Array:
        """Targets of the test rows."""
        y: Array = self.test[1]
        return y

    @property
    def inputs_per_row(self) -> float:
        """Number of inputs of a row with the bias; of all sparse rows the average number of nonzeros."""
        return inputs_per_row(self.x) if self.whole_inputs is None else self.whole_inputs

    @property
    def features(self) -> int:
        """Number of inputs without the bias."""
        return self.x.shape[1] - 1

    @property
    def classes(self) -> int | None:
        """Number of classes; None for real targets."""
        return None if self.common.values is None else len(self.common.values)

    @property
    def outputs(self) -> int:
        """Number of targets per row; 1 for labels."""
        return 1 if self.y.ndim == 1 else self.y.shape[1]

    @property
    def facts(self) -> dict[str, Any]:
        sizes = {"features": self.features, "outputs": self.outputs}
        arrays = {
            "labels" if name == "values" else name: array for name, array in self.common.arrays().items()
        }
        return sizes | arrays | self.common.coding.arrays()

    def sample(self, most: int) -> Self:
        found = super().sample(most)
        return found if found is self else replace(found, whole_inputs=self.inputs_per_row)

    def arrays(self) -> dict[str, Array]:
        known = self.common.arrays()
        return super().arrays() | {name: known[name] for name in KNOWN if name in known}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        rows = RowSet.from_arrays({name: each for name, each in arrays.items() if name not in KNOWN})
        known = {name: each for name, each in arrays.items() if name in KNOWN}
        return cls(rows.train, rows.test, Statistics.of(known))
