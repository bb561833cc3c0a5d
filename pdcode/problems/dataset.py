"""Data sets: training and test rows, to be divided into shards and sent as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from . import split
from .matrix import Array, Csr, Matrix, inputs_per_row
from .samples import Statistics
from .split import evenly_spaced


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test rows: inputs with a last column of ones, and targets."""

    x: Matrix  # (rows, d_in + 1), in the problem's dtype; CSR rows store the one of column d_in explicitly
    y: Array  # labels 0 … classes - 1, int32, (rows,); or real targets in the problem's dtype, (rows, T)
    test_x: Matrix
    test_y: Array
    common: Statistics = field(default_factory=Statistics)  # labels of the classes, and scales
    whole_inputs: float | None = None  # `inputs_per_row` of all rows, if these are a sample

    @property
    def inputs_per_row(self) -> float:
        """Number of inputs of a row with the bias; of all sparse rows the average number of nonzeros."""
        return inputs_per_row(self.x) if self.whole_inputs is None else self.whole_inputs

    @property
    def rows(self) -> int:
        """Number of training rows."""
        return len(self.x)

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
        """Facts that predictions need, for the trace."""
        sizes = {"features": self.features, "outputs": self.outputs}
        arrays = {
            "labels" if name == "values" else name: array for name, array in self.common.arrays().items()
        }
        return sizes | arrays | ({"columns": np.array(self.common.columns)} if self.common.columns else {})

    def shard(self, worker: int, workers: int, how: str = "shuffled") -> Dataset:
        """Return a worker's training rows, without test rows; `how` is a result of `split.sharding`."""
        mine = split.shard(self.rows, worker, workers, how)
        x = self.x[mine]
        if not isinstance(x, Csr):
            x = np.ascontiguousarray(x)
        y = np.ascontiguousarray(self.y[mine])
        return replace(self, x=x, y=y, test_x=self.test_x[:0], test_y=self.test_y[:0])

    def sample(self, most: int) -> Dataset:
        """Return at most `most` training rows and `most` test rows, evenly spaced."""
        train, test = (evenly_spaced(n, min(n, most)) for n in (self.rows, len(self.test_x)))
        if len(train) == self.rows and len(test) == len(self.test_x):
            return self
        found = replace(self, x=self.x[train], y=self.y[train], whole_inputs=self.inputs_per_row)
        return replace(found, test_x=self.test_x[test], test_y=self.test_y[test])

    def arrays(self) -> dict[str, Array]:
        """Return rows and labels as named arrays, the input of `from_arrays`."""
        arrays = {"y": self.y, "test_y": self.test_y}
        for name, x in (("x", self.x), ("test_x", self.test_x)):
            if isinstance(x, Csr):
                arrays |= {f"{name}.indptr": x.indptr, f"{name}.columns": x.columns, f"{name}.data": x.data}
                arrays[f"{name}.width"] = np.array([x.width], np.int64)
            else:
                arrays[name] = x
        return arrays if self.common.values is None else arrays | {"values": self.common.values}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array]) -> Dataset:
        """Rebuild a data set from the result of `arrays`."""
        inputs: list[Matrix] = []
        for name in ("x", "test_x"):
            if name in arrays:
                inputs.append(arrays[name])
            else:
                parts = [arrays[f"{name}.{part}"] for part in ("indptr", "columns", "data")]
                inputs.append(Csr(parts[0], parts[1], parts[2], int(arrays[f"{name}.width"][0])))
        return cls(inputs[0], arrays["y"], inputs[1], arrays["test_y"], Statistics(arrays.get("values")))
