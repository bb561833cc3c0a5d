"""Threads of BLAS, by environment variables that numpy reads at import and by a limit later, and of JAX."""

import os
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager

OMP = "OMP_NUM_THREADS"
XLA_FLAGS = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
# Libraries read their own variable first.
VARIABLES = "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", OMP


def limit(environment: MutableMapping[str, str]) -> None:
    """Limit BLAS to one thread a rank unless the user sets another number."""
    number = environment.get(OMP, "1")
    for name in VARIABLES:
        environment.setdefault(name, number)
    if number == "1":
        environment.setdefault("XLA_FLAGS", XLA_FLAGS)


def requested() -> int:
    """Return the number of threads that the user sets; 0 if none is set."""
    values = (os.environ.get(name, "") for name in VARIABLES)
    return next((int(value) for value in values if value.isdecimal() and int(value)), 0)


changed: list[Callable[[], None]] = []
"""Functions that restore what a block of `one_thread` has changed in libraries, if anything."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit BLAS in a block to one thread, unless the user sets a number; restore what `changed` has."""
    from threadpoolctl import threadpool_limits

    outer = changed.copy()
    changed.clear()
    try:
        with threadpool_limits(None if requested() else 1, "blas"):
            yield
    finally:
        while changed:
            changed.pop()()
        changed.extend(outer)
