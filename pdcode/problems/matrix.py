"""Sparse matrices as three plain arrays, so that workers need no scipy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Csr:
    """A matrix in compressed sparse row (CSR) format: three arrays and the number of columns.

    Row s holds the entries indptr[s] … indptr[s + 1] - 1 (indptr int64) of `data`, in `columns` (int32).
    """

    indptr: Array
    columns: Array
    data: Array
    width: int

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.width

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.dtype

    def __getitem__(self, rows: Array | slice) -> Csr:
        """Copy rows, given as an array of row numbers or a slice."""
        chosen = np.arange(len(self))[rows]
        starts, lengths = self.indptr[chosen], np.diff(self.indptr)[chosen]
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        entries = np.repeat(starts - indptr[:-1], lengths) + np.arange(indptr[-1])
        return Csr(indptr, self.columns[entries], self.data[entries], self.width)

    def row_numbers(self) -> Array:
        """Return the row of each entry, shape (nonzeros,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.indptr))

    def astype(self, dtype: npt.DTypeLike) -> Csr:
        return Csr(self.indptr, self.columns, self.data.astype(dtype, copy=False), self.width)

    def toarray(self) -> Array:
        """Return the dense matrix (rows, width); repeated entries are added."""
        dense = np.zeros(self.shape, self.dtype)
        np.add.at(dense, (self.row_numbers(), self.columns), self.data)
        return dense


Matrix = Array | Csr  # inputs; both have len(), shape, dtype, and rows by indexing


def with_ones(x: Matrix) -> Matrix:
    """Append a column of ones to the inputs, which makes the bias one more weight."""
    if isinstance(x, Csr):
        ends, rows = x.indptr[1:], len(x)
        return Csr(
            x.indptr + np.arange(rows + 1),
            np.insert(x.columns, ends, x.width).astype(np.int32),
            np.insert(x.data, ends, 1),
            x.width + 1,
        )
    extended = np.ones((len(x), x.shape[1] + 1), x.dtype)
    extended[:, :-1] = x
    return extended


def inputs_per_row(x: Matrix) -> float:
    """Return the number of inputs of a row; for sparse rows the average number of nonzeros."""
    return len(x.data) / len(x) if isinstance(x, Csr) else float(x.shape[1])


def as_dense(x: Matrix) -> Array:
    """Return the inputs as a dense array; meant for few rows at a time if they are sparse."""
    return x.toarray() if isinstance(x, Csr) else x
