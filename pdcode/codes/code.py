"""Codes: n sparse unit codewords over k blocks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..util import html
from ..util.memory import ensure_fits
from . import files
from .keyed import signed_permutation
from .quality.bounds import bounds
from .quality.products import DENSE, SPARSE_COST

DIAGONAL = 4e-13  # relative norm of the off-diagonal part up to which a frame operator counts as diagonal
GRAM_PANEL = 1 << 20  # entries of the Gram matrix computed at a time


@dataclass(frozen=True, eq=False)
class Code:
    """Codewords in sparse form, with their properties.

    Parameters
    ----------
    indices : ndarray of int32, shape (n, w)
        Blocks of each codeword. Shorter codewords are padded with index 0 and value 0.
    values : ndarray of float64, shape (n, w)
        Entries of the codewords at those blocks; each row has norm 1.
    blocks : int
        Number of blocks k.
    family : str
        Name of the family.
    seed : int
        Key of the code's randomness.
    options : mapping
        Given options of the family, and the redraws ``dithered`` = [[seed, epoch], …].
    notes : tuple of str
        Remarks for the user, such as on an incomplete round.
    """

    indices: np.ndarray
    values: np.ndarray
    blocks: int
    family: str
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, dtype in (("indices", np.int32), ("values", np.float64)):
            array = np.ascontiguousarray(getattr(self, name), dtype).view()
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        return f"Code({self.family}, n={len(self)}, k={self.blocks}, w={self.weight}, seed={self.seed})"

    def _repr_html_(self) -> str:
        """Return a table of the code's sizes and options, for notebooks."""
        rows = {
            "codewords n": f"{len(self):,}",
            "blocks k": f"{self.blocks:,}",
            "weight w": f"{self.weight:,}",
            "seed": self.seed,
            **({"coherence": f"{self.coherence:.3g}"} if len(self) ** 2 * self.blocks <= DENSE else {}),
            **{name: value for name, value in self.options.items() if value is not None},
            **({"notes": "; ".join(self.notes)} if self.notes else {}),
        }
        return html.named(f"Code of family {self.family}", rows)

    @property
    def weight(self) -> int:
        """Weight w: the largest number of nonzeros of a codeword."""
        return self.indices.shape[1]

    @cached_property
    def matrix(self) -> np.ndarray:
        """Code matrix G with unit rows, float64, shape (n, k); computed on first use."""
        matrix = np.zeros((len(self), self.blocks))
        np.add.at(matrix, (np.arange(len(self))[:, None], self.indices), self.values)
        return matrix

    @cached_property
    def coherence(self) -> float:
        """Coherence: the largest ``|<g_i, g_i'>|`` over i ≠ i'; 0 for one row."""
        n, k, w = len(self), self.blocks, self.weight
        if n * n * k <= DENSE or SPARSE_COST * w * w > k * k:
            return _dense_coherence(self.matrix)
        rows, step = self._sparse, max(1, GRAM_PANEL * k // (n * w * w))
        return max(_panel_coherence(rows[first:], step) for first in range(0, n, step))

    @property
    def _sparse(self) -> Any:
        """Code matrix in scipy's CSR format."""
        from scipy.sparse import csr_array  # takes 0.2 s; only for large codes

        starts = np.arange(0, self.values.size + 1, self.weight)
        shape = len(self), self.blocks
        return csr_array((self.values.ravel(), self.indices.ravel(), starts), shape=shape)

    @property
    def _frame(self) -> Any:
        """Frame operator GᵀG, as an array or in a sparse format."""
        n, k, w = len(self), self.blocks, self.weight
        if n * k * k <= DENSE or SPARSE_COST * w * w > k * k:
            return self.matrix.T @ self.matrix
        rows = self._sparse
        return rows.T @ rows

    @property
    def frame(self) -> np.ndarray:
        """Frame operator GᵀG, float64, shape (k, k)."""
        ensure_fits(f"{self.blocks} blocks", "the frame operator", 16 * self.blocks**2)
        frame = self._frame
        dense: np.ndarray = frame if isinstance(frame, np.ndarray) else frame.toarray()
        return dense

    @cached_property
    def frame_bounds(self) -> tuple[float, float]:
        """Frame bounds (A, B), the extreme eigenvalues of GᵀG: A‖x‖² ≤ ‖Gx‖² ≤ B‖x‖². A = 0 if rank < k."""
        frame = self._frame
        diagonal = frame.diagonal()
        if isinstance(frame, np.ndarray):
            others = frame - np.diag(diagonal)
        else:
            entries = frame.tocoo()
            others = entries.data[entries.row != entries.col]
        # This norm bounds the error of the diagonal as the spectrum: tight codes need no decomposition.
        if np.linalg.norm(others) <= DIAGONAL * diagonal.max():
            spectrum = np.sort(diagonal)
        else:
            spectrum = np.linalg.eigvalsh(self.frame)
        low, high = float(spectrum[0]), float(spectrum[-1])
        return (low if low > self.blocks * np.finfo(np.float64).eps * high else 0.0), high

    @property
    def tightness(self) -> float:
        """Tightness A/B: 1 for a tight code (GᵀG = (n/k) I), 0 without full rank."""
        low, high = self.frame_bounds
        return low / high

    @cached_property
    def bounds(self) -> dict[str, float]:
        """Name → lower bound on the coherence of codes with the same n, k, w, regularity and flatness."""
        nonzero = self.values != 0
        counts = np.bincount(self.indices[nonzero], minlength=self.blocks)
        flat = bool(np.allclose(np.abs(self.values), self.weight**-0.5, rtol=1e-12, atol=0))
        return bounds(len(self), self.blocks, self.weight, bool((counts == counts[0]).all()), flat)

    def rows(self, start: int, count: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Return `count` consecutive codewords from any row on, cyclically.

        They are indices (int32) and values, both of shape (r, w), and views unless the rows wrap around.
        """
        start %= len(self)
        if start + count <= len(self):
            return self.indices[start : start + count], self.values[start : start + count]
        picked = np.arange(start, start + count) % len(self)
        return self.indices[picked], self.values[picked]

    def dithered(self, seed: int, epoch: int) -> Code:
        """Return a redraw of the code: a keyed random permutation and random signs of the blocks.

        This isometry of R^k preserves sparsity, coherence, frame bounds and the rank of every subset of rows.
        """
        indices, values = self.redraw(seed, epoch)
        drawn = [*self.options.get("dithered", []), [seed, epoch]]
        return replace(self, indices=indices, values=values, options={**self.options, "dithered": drawn})

    def redraw(self, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return indices (int32) and values (float64), shape (n, w), of the code that `dithered` builds."""
        permutation, sign = signed_permutation(seed, epoch, self.blocks)
        return permutation.take(self.indices), self.values * sign.take(self.indices)

    def save(self, target: Any) -> None:
        """Write the code to HDF5: to a new file at a path, or into an open h5py group.

        The datasets are ``supports``, ``values`` and, for small codes, ``matrix``; the rest are attributes.
        Raises InputError if the file cannot be written.
        """
        files.save(self, target)

    @classmethod
    def load(cls, source: Any) -> Code:
        """Read a code written by `save`, or a trace's group ``/code/<k>``, from a path or an open h5py group.

        Raises InputError if there is no such file, or it holds no code.
        """
        return cls(**files.read_code(source))

    @classmethod
    def load_all(cls, path: str | os.PathLike[str]) -> dict[str, Code]:
        """Read all codes of a file by the names of their groups; the codes of a trace by ascending k."""
        return {name: cls(**fields) for name, fields in files.load_all(path).items()}


def _panel_coherence(rows: Any, count: int) -> float:
    """Return the largest |inner product| of one of the first `count` sparse rows and any other row."""
    product = rows[:count] @ rows.T.tocsr()
    line = np.repeat(np.arange(product.shape[0]), np.diff(product.indptr))
    product.data[product.indices == line] = 0.0
    return float(max(product.data.max(initial=0.0), -product.data.min(initial=0.0)))


def _dense_coherence(matrix: np.ndarray) -> float:
    """Compute the coherence by dense products, of the upper triangle only."""
    n, most = len(matrix), 0.0
    step = max(1, min(n, GRAM_PANEL // n, 512))
    for first in range(0, n, step):
        panel = np.abs(matrix[first : first + step] @ matrix[first:].T)
        np.fill_diagonal(panel, 0.0)
        most = max(most, float(panel.max()))
    return most
