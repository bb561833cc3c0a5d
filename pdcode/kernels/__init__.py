"""Compiled kernels: Cython over csrc/. The tests compare them with plain numpy versions.

Modules: encode, loss, activation, sparse, whiten, matched, selection (workers); decode, combine, order,
factor, mmse, optimize, proximal, roster, fused, records (rank 0); replica (of θ, at workers);
headers, codewords, payloads, quantise, fold, finite, field, philox (both ends);
events, rounds (the virtual clock). Passes and blas run several of them, and products of numpy's BLAS, in one
call.

A function marked `@kernel` checks its arguments and calls a C function; csrc/wrappers.py generates its code,
and its docstring begins with its signature. There, sizes of the same name are equal. Arrays are aligned, in
the machine's order of bytes, and C-ordered, unless the signature says `rows` (each row is contiguous) or
`strided`. `real` is float32 or float64, the same for all arrays of a call. A kernel overwrites or updates
`writeable` arrays, and no others. Arrays and numbers that do not fit raise ValueError, numbers beyond their C
type OverflowError. Codewords are pairs (indices, values), shape (r, w): blocks, and their weights; 0 pads.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy


def misfit(kernel: Callable[..., Any], arrays: Mapping[str, Any]) -> ValueError:
    """Return the error for arrays that do not fit the signature of a kernel, which begins its docstring."""
    given = ", ".join(f"{name} {_described(array)}" for name, array in arrays.items())
    return ValueError(f"arrays do not fit {str(kernel.__doc__).partition(chr(10))[0]}: {given}")


def unmet(kernel: str, condition: str, numbers: Mapping[str, float]) -> ValueError:
    """Return the error for numbers that do not meet a condition of a kernel."""
    given = ", ".join(f"{name} is {number}" for name, number in numbers.items())
    return ValueError(f"{kernel} needs {condition}: {given}")


def _described(array: object) -> str:
    """Describe an array in a few words: its type, shape and order, and whether it is read-only."""
    if not isinstance(array, numpy.ndarray):
        return f"is {array}" if array is None else f"is a {type(array).__name__}"
    order = "" if array.flags.c_contiguous else ", not C-ordered"
    return f"is {array.dtype}{list(array.shape)}{order}{'' if array.flags.writeable else ', read-only'}"
