"""Environment variables of BLAS's number of threads, for use before numpy is imported, which reads them."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

OMP = "OMP_NUM_THREADS"
VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    OMP,
)  # a library reads its own first


def limit(environment: MutableMapping[str, str]) -> None:
    """Limit BLAS to one thread a rank unless the user sets another number."""
    number = environment.get(OMP, "1")
    for name in VARIABLES:
        environment.setdefault(name, number)


def requested() -> int:
    """Return the number of threads that the user sets; 0 if none is set."""
    values = (os.environ.get(name, "") for name in VARIABLES)
    return next((int(value) for value in values if value.isdecimal() and int(value)), 0)
