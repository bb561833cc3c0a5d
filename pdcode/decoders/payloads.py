"""References to received payloads, which are combined in one pass."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Any

import numpy as np

from ..kernels import combine
from ..util.errors import InputError
from ..util.stateful import Stateful
from ..util.threads import requested

WORK_PER_THREAD = 1 << 24  # least number of multiplications per thread


class PayloadStore(Stateful):
    """Payloads of the arrivals since the last `clear`, by reference, or copied if `copy` is set.

    Payloads that are not copied must stay unchanged until `clear`. `capacity` is the number of rows of e
    elements for which memory is allocated in advance, `count` the number of rows, and `sizes` the number of
    rows of each arrival.
    """

    state_names = ("_payloads",)

    def __init__(self, elements: int, dtype: np.dtype, copy: bool = False, capacity: int = 64) -> None:
        self.elements, self.dtype, self.copy = elements, dtype, copy
        self.count = 0
        self.sizes: list[int] = []
        self._payloads: list[np.ndarray] = []  # references that keep the memory alive
        self._addresses = np.zeros(capacity, np.uint64)

    def check(self, payload: np.ndarray, rows: int) -> None:
        """Refuse an array that is not a payload (rows, e) of the right type: it is read by address."""
        if payload.shape != (rows, self.elements) or payload.dtype != self.dtype:
            shape = (rows, self.elements)
            raise InputError(f"payload: {payload.dtype} {payload.shape} is not {self.dtype} {shape}")

    def add(self, payload: np.ndarray) -> None:
        """Add a checked payload by reference, or a copy if `copy` is set or it is not C-ordered."""
        rows = len(payload)
        if self.copy or not payload.flags.c_contiguous:
            payload = payload.copy()
        if self.count + rows > len(self._addresses):
            more = max(len(self._addresses), rows)
            self._addresses = np.concatenate([self._addresses, np.zeros(more, np.uint64)])
        combine.locate(payload, self._addresses, self.count)
        self._payloads.append(payload)
        self.sizes.append(rows)
        self.count += rows

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        payloads = [*self._payloads]
        self.clear()
        for payload in payloads:
            self.check(payload, len(payload))
            self.add(payload)

    @property
    def addresses(self) -> np.ndarray:
        """Addresses of the payload rows, uint64, shape (count,): a view."""
        return self._addresses[: self.count]

    def combine(
        self, matrix: np.ndarray, out: np.ndarray, start: int = 0, rows: np.ndarray | slice = slice(None)
    ) -> None:
        """Compute ``out = matrix.T @ payloads[rows, start:start + T]``, reading each payload once.

        `matrix` has shape (q, k), `out` (k, T) with contiguous rows. The number of threads is the one that
        the user sets for BLAS (see `util.threads`), else one for each core of the process; it does not change
        a bit.
        """
        matrix = np.ascontiguousarray(matrix, self.dtype)
        addresses = np.ascontiguousarray(self.addresses[rows])
        width = out.shape[1]
        parts = max(1, min(threads(), matrix.size * width // WORK_PER_THREAD))
        step = -(-width // parts // 16) * 16 if parts > 1 else width
        jobs = [
            _pool().submit(combine.combine, addresses, start + first, matrix, out[:, first : first + step])
            for first in range(step, width, step)
        ]
        combine.combine(addresses, start, matrix, out[:, :step])
        wait(jobs)
        for job in jobs:
            job.result()

    def rows(self) -> list[np.ndarray]:
        """Return a view of each payload row."""
        return [row for payload in self._payloads for row in payload]

    def sample(self, columns: np.ndarray) -> np.ndarray:
        """Return the elements of all payloads at the given columns, float64, shape (q, columns)."""
        if not self._payloads:
            return np.empty((0, len(columns)))
        return np.concatenate([payload[:, columns] for payload in self._payloads]).astype(np.float64)

    def squares(self) -> np.ndarray:
        """Return the squared norm of each payload row, float64, shape (q,)."""
        rows = self.rows()
        with np.errstate(over="ignore"):
            squares = np.array([np.dot(row, row) for row in rows], np.float64)
        for i in np.flatnonzero(~np.isfinite(squares)):  # too large for float32
            squares[i] = np.square(rows[i], dtype=np.float64).sum()
        return squares

    def clear(self) -> None:
        """Release all payloads."""
        self._payloads.clear()
        self.sizes.clear()
        self.count = 0


@cache
def threads() -> int:
    """Return the number of threads for one pass."""
    return requested() or len(os.sched_getaffinity(0))


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, threads() - 1), "pdcode-combine")
