"""Compiled kernels: Cython over csrc/. The tests compare them with plain numpy versions.

Modules: encode, loss, activation, sparse, whiten, matched, selection (workers); decode, combine, order,
factor, mmse, optimize, proximal, roster, fused, records (rank 0); replica (of θ, at workers);
headers, codewords, payloads, quantise, fold, finite, field, philox (both ends); packing (design of codes);
events, rounds (the virtual clock). Passes and blas run several of them, and products of numpy's BLAS, in one
call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
from numpy.typing import DTypeLike

NAMES = {"float32": "float", "float64": "double"}


def specialise(kernel: Callable[..., Any], dtype: DTypeLike) -> Callable[..., Any]:
    """Select the version of a kernel for one precision, to avoid the dispatch in each call.

    Parameters
    ----------
    kernel : function
        Function of a kernel module; returned unchanged if it has a single version.
    dtype : dtype-like
        float32 or float64.

    Raises
    ------
    ValueError
        If dtype is another type.
    """
    name = NAMES.get(numpy.dtype(dtype).name)
    if name is None:
        raise ValueError(f"dtype is {numpy.dtype(dtype)}: kernels exist for float32 and float64")
    return kernel[name] if hasattr(kernel, "__signatures__") else kernel  # type: ignore[index, no-any-return]
