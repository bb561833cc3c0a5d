"""Threads of BLAS in the caller's process, which may have imported numpy with many."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from ..util import threads


def one_thread() -> AbstractContextManager[Any]:
    """Limit BLAS to one thread, as commands do unless the user sets a number, for the same bits."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(None if threads.requested() else 1, "blas")
    return limits
