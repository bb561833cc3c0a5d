"""A code: n sparse unit codewords over k blocks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import InputError
from .bounds import bounds
from .keyed import signed_permutation

DENSE_GRAM = 1 << 30  # multiplications up to which the Gram matrix is made by one dense product
DENSE_SAVE = 1 << 20  # elements up to which `save` adds the dense matrix for other readers


@dataclass(frozen=True, eq=False)
class Code:
    """Codewords in sparse form, with what can be said about them.

    Parameters
    ----------
    indices : ndarray of int32, shape (n, w)
        Blocks of each codeword. Shorter codewords are padded with index 0 and value 0.
    values : ndarray of float64, shape (n, w)
        Their entries; each row has norm 1.
    blocks : int
        Number of blocks k.
    family : str
        Name of the family.
    seed : int
        Key of what is random in it.
    options : mapping
        Options of the family that were given, and ``dithered`` = [seed, epoch] pairs.
    notes : tuple of str
        What a user should know, such as a round that is cut short.
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

    @property
    def weight(self) -> int:
        """Nonzeros of a codeword at the most, w."""
        return self.indices.shape[1]

    @cached_property
    def matrix(self) -> np.ndarray:
        """Code matrix G, float64, shape (n, k), unit rows; made at first use."""
        matrix = np.zeros((len(self), self.blocks))
        np.add.at(matrix, (np.arange(len(self))[:, None], self.indices), self.values)
        return matrix

    @cached_property
    def coherence(self) -> float:
        """Largest |<g_i, g_i'>| over i ≠ i'; 0 for one row."""
        n = len(self)
        if n * n * self.blocks <= DENSE_GRAM:
            gram = self.matrix @ self.matrix.T
            np.fill_diagonal(gram, 0.0)
            return float(np.abs(gram).max())
        from scipy.sparse import csr_array  # 0.2 s, and only for large codes

        starts = np.arange(0, n * self.weight + 1, self.weight)
        rows = csr_array((self.values.ravel(), self.indices.ravel(), starts), shape=(n, self.blocks))
        product = (rows @ rows.T).tocoo()
        return float(np.abs(product.data[product.row != product.col]).max(initial=0.0))

    @cached_property
    def frame_bounds(self) -> tuple[float, float]:
        """Least and largest eigenvalue (A, B) of GᵀG: A‖x‖² ≤ ‖Gx‖² ≤ B‖x‖². A = 0 if the rank is below k."""
        spectrum = np.linalg.eigvalsh(self.matrix.T @ self.matrix)
        low, high = float(spectrum[0]), float(spectrum[-1])
        return (low if low > self.blocks * np.finfo(np.float64).eps * high else 0.0), high

    @property
    def tightness(self) -> float:
        """A/B of the frame bounds: 1 for a tight code (GᵀG = (n/k) I), 0 for one without full rank."""
        low, high = self.frame_bounds
        return low / high

    @cached_property
    def bounds(self) -> dict[str, float]:
        """Name → lower bound on the coherence of any code of this n, k, w (and regularity, and flatness)."""
        nonzero = self.values != 0
        counts = np.bincount(self.indices[nonzero], minlength=self.blocks)
        flat = bool(np.allclose(np.abs(self.values), self.weight**-0.5, rtol=1e-12, atol=0))
        return bounds(len(self), self.blocks, self.weight, bool((counts == counts[0]).all()), flat)

    def rows(self, start: int, count: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Consecutive codewords, beginning again after the last.

        Parameters
        ----------
        start, count : int
            First row (any integer, taken modulo n) and number of rows r.

        Returns
        -------
        indices, values : ndarray, shape (r, w)
            int32 and float64; views unless they run over the end.
        """
        start %= len(self)
        if start + count <= len(self):
            return self.indices[start : start + count], self.values[start : start + count]
        picked = np.arange(start, start + count) % len(self)
        return self.indices[picked], self.values[picked]

    def dithered(self, seed: int, epoch: int) -> Code:
        """Redraw the code: the same design under a keyed random permutation and random signs of the blocks.

        That is an isometry of R^k which keeps sparsity: coherence, frame bounds and the rank of every subset
        of rows stay, a net stays a net.

        Parameters
        ----------
        seed, epoch : int
            The redraw depends on these and k alone.
        """
        permutation, sign = signed_permutation(seed, epoch, self.blocks)
        drawn = [*self.options.get("dithered", []), [seed, epoch]]
        return Code(
            permutation[self.indices],
            self.values * sign[self.indices],
            self.blocks,
            self.family,
            self.seed,
            {**self.options, "dithered": drawn},
            self.notes,
        )

    def save(self, target: Any) -> None:
        """Write the code to HDF5.

        Datasets ``indices`` and ``values``, and ``matrix`` where that is small; the rest as
        attributes.

        Parameters
        ----------
        target : path, or h5py group
            A file to be made, or an open group.
        """
        import h5py

        if not isinstance(target, h5py.Group):
            with h5py.File(target, "w") as file:
                return self.save(file)
        target.attrs.update(
            schema="pdcode-code",
            schema_version=1,
            family=self.family,
            blocks=self.blocks,
            seed=self.seed,
            options=json.dumps(dict(self.options)),
            notes=json.dumps(self.notes),
        )
        target["supports"], target["values"] = self.indices, self.values
        if len(self) * self.blocks <= DENSE_SAVE:
            target["matrix"] = self.matrix

    @classmethod
    def load(cls, source: Any) -> Code:
        """Read a code that `save` wrote.

        Parameters
        ----------
        source : path, or h5py group

        Raises
        ------
        InputError
            If there is no code in it.
        """
        import h5py

        if not isinstance(source, h5py.Group):
            with h5py.File(source, "r") as file:
                return cls.load(file)
        about = source.attrs
        if about.get("schema") != "pdcode-code":
            raise InputError(f"{source.file.filename}: {source.name} is not a code of pdcode")
        return cls(
            source["supports"][()],
            source["values"][()],
            int(about["blocks"]),
            str(about["family"]),
            int(about["seed"]),
            json.loads(about["options"]),
            tuple(json.loads(about["notes"])),
        )
