"""Reproducible inputs for benchmarks of kernels: numbers, codewords and sparse rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from pdcode import codes
from pdcode.problems.matrix import Csr

from .timing import Work

F4 = np.dtype("float32")
K, W = 8, 4  # blocks and weight of the codewords


class Case(NamedTuple):
    """A kernel's work and the work that is its limit, both of `amount` in the table's unit."""

    name: str
    amount: float
    work: Work
    limit: Work


def codeword() -> tuple[np.ndarray, np.ndarray]:
    """Make a codeword of weight 4 over 8 blocks."""
    indices, values = codes.design("net", workers=K, blocks=K, weight=W).rows(0)
    return np.ascontiguousarray(indices), np.ascontiguousarray(values, F4)


def array(*shape: int) -> np.ndarray:
    """Draw normal numbers; every page of the array is touched."""
    return np.random.default_rng(1).standard_normal(shape, F4)


def csr(rows: int, width: int, entries: int) -> Csr:
    """Draw a sparse matrix with `entries` entries in each row, in uniformly drawn columns."""
    random = np.random.default_rng(2)
    chosen = [np.sort(random.choice(width, entries, replace=False)) for _ in range(rows)]
    indptr = np.arange(0, rows * entries + 1, entries, dtype=np.int64)
    return Csr(indptr, np.concatenate(chosen).astype(np.int32), array(rows * entries), width)


def plan(kernel: Callable[..., object], *arguments: object) -> Work:
    """Return the call of a kernel to be timed."""
    return partial(kernel, *arguments)
