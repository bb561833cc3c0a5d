"""Threads of BLAS in the caller's process, where numpy may have been imported with many."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Any


def one_thread() -> AbstractContextManager[Any]:
    """Limit BLAS to one thread, as commands do unless the user sets another number: the same last bits."""
    from threadpoolctl import threadpool_info, threadpool_limits

    libraries = [each["internal_api"].upper() for each in threadpool_info() if each["user_api"] == "blas"]
    asked = any(f"{library}_NUM_THREADS" in os.environ for library in ("OMP", *libraries))
    limits: AbstractContextManager[Any] = threadpool_limits(None if asked else 1, "blas")
    return limits
