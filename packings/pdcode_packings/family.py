"""The family of codes found by numerical search."""

from typing import Any

from pdcode.codes.family import Family, Rows, Size


def _optimized(*size: Any, **options: Any) -> Rows:
    from .search import optimized  # only this family needs the optimiser and scipy

    return optimized(*size, **options)


OPTIMIZED = Family(
    "optimized",
    "least coherence by numerical search, k ≤ 64",
    _optimized,
    lambda blocks, weight: [Size(weight or blocks)] if (weight or 1) <= blocks <= 64 else [],
    options=frozenset({"restarts", "seconds", "supports", "processes", "state", "progress"}),
    period=lambda blocks: 1,
    tight=False,
)
