"""Payloads that stay where they were received, and the one pass over them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache

import numpy as np

from ..kernels import combine, specialise
from ..util.errors import InputError

SHARE = 1 << 24  # multiplications that are worth a thread of their own
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Received:
    """Payloads of the arrivals since the last `clear`, by reference.

    Parameters
    ----------
    elements : int
        Elements e of a payload row.
    dtype : dtype
        float32 or float64.
    copy : bool
        Whether to copy payloads. If not, they must stay unchanged until `clear`.
    capacity : int
        Rows for which room is made at once; it grows when needed.

    Attributes
    ----------
    count : int
        Rows of the payloads.
    sizes : list of int
        Rows of each arrival.
    """

    def __init__(self, elements: int, dtype: np.dtype, copy: bool = False, capacity: int = 64) -> None:
        self.elements, self.dtype, self.copy = elements, dtype, copy
        self.count = 0
        self.sizes: list[int] = []
        self._payloads: list[np.ndarray] = []  # kept alive
        self._addresses = np.zeros(capacity, np.uint64)
        self._locate = specialise(combine.locate, dtype)
        self._combine = specialise(combine.combine, dtype)

    def check(self, payload: np.ndarray, rows: int) -> None:
        """Refuse what is not a payload (rows, e) of the right type: it will be read by address.

        Raises
        ------
        InputError
        """
        if payload.shape != (rows, self.elements) or payload.dtype != self.dtype:
            shape = (rows, self.elements)
            raise InputError(f"payload: {payload.dtype} {payload.shape} is not {self.dtype} {shape}")

    def add(self, payload: np.ndarray) -> None:
        """Take in the payload of an arrival, which has been checked; moves no byte of it."""
        rows = len(payload)
        if self.copy or not payload.flags.c_contiguous:
            payload = payload.copy()
        if self.count + rows > len(self._addresses):
            more = max(len(self._addresses), rows)
            self._addresses = np.concatenate([self._addresses, np.zeros(more, np.uint64)])
        self._locate(payload, self._addresses, self.count)
        self._payloads.append(payload)
        self.sizes.append(rows)
        self.count += rows

    @property
    def addresses(self) -> np.ndarray:
        """Where each payload row begins, uint64 (count,): a view."""
        return self._addresses[: self.count]

    def combine(
        self, matrix: np.ndarray, out: np.ndarray, start: int = 0, rows: np.ndarray | slice = slice(None)
    ) -> None:
        """``out = matrix.T @ payloads[rows, start:start + T]``, each payload read once.

        Uses as many threads as numpy's BLAS would (`OMP_NUM_THREADS`, `OPENBLAS_NUM_THREADS`, else the
        cores of the process); the bits of the result do not depend on how many.

        Parameters
        ----------
        matrix : ndarray, shape (q, k)
            Coefficients of each payload row, of any float type.
        out : ndarray, shape (k, T)
            Overwritten; its rows contiguous.
        start : int
            First element.
        rows : slice or ndarray of int
            Payload rows to combine.
        """
        matrix = np.ascontiguousarray(matrix, self.dtype)
        addresses = np.ascontiguousarray(self.addresses[rows])
        width = out.shape[1]
        shares = max(1, min(threads(), matrix.size * width // SHARE))
        step = -(-width // shares // 16) * 16 if shares > 1 else width
        jobs = [
            _pool().submit(self._combine, addresses, start + first, matrix, out[:, first : first + step])
            for first in range(step, width, step)
        ]
        self._combine(addresses, start, matrix, out[:, :step])
        wait(jobs)
        for job in jobs:
            job.result()

    def sample(self, columns: np.ndarray) -> np.ndarray:
        """The (q, columns) float64 elements of all payloads at some columns."""
        if not self._payloads:
            return np.empty((0, len(columns)))
        return np.concatenate([payload[:, columns] for payload in self._payloads]).astype(np.float64)

    def squares(self) -> np.ndarray:
        """Squared norm of each payload row, float64, shape (q,)."""
        rows = [row for payload in self._payloads for row in payload]
        with np.errstate(over="ignore"):
            squares = np.array([np.dot(row, row) for row in rows], np.float64)
        for i in np.flatnonzero(~np.isfinite(squares)):  # too large for float32
            squares[i] = np.square(rows[i], dtype=np.float64).sum()
        return squares

    def clear(self) -> None:
        """Give up all payloads."""
        self._payloads.clear()
        self.sizes.clear()
        self.count = 0


@cache
def threads() -> int:
    """Threads for one pass, as the environment says or cores are there."""
    for name in THREADS:
        value = os.environ.get(name, "")
        if value.isdecimal() and int(value):
            return int(value)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, threads() - 1), "pdcode-combine")
