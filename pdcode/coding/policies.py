"""When rank 0 steps: a policy is a predicate on what has arrived since the last update.

Every policy also steps when nothing more is to come, so that none can wait for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..config.tables import Update
from ..util.errors import InputError


class Seen(Protocol):
    """What a policy looks at; the coordinator has it."""

    used: int  # payloads since the last update
    captured: float  # share of the gradient that they capture


Policy = Callable[[Seen, int], bool]
"""(seen, payloads still to come if it does not step) -> step now?"""


def make_policy(table: Update, workers: int) -> Policy:
    """Make the predicate of ``[update]``.

    Parameters
    ----------
    table : Update
        The configuration table.
    workers : int
        Number of workers n.

    Returns
    -------
    callable
        ``policy(seen, expected) -> bool``.

    Raises
    ------
    InputError
        If more payloads are asked for than there are workers.
    """
    if table.mode == "async":
        return lambda seen, expected: True
    if table.mode == "all":
        return lambda seen, expected: expected == 0
    if table.mode == "first":
        count = wanted(table, workers)
        if count > workers:
            raise InputError(f"update.count: {count} is more than the {workers} workers")
        return lambda seen, expected: seen.used >= count or expected == 0
    least = table.fraction - 1e-9
    return lambda seen, expected: seen.captured >= least or expected == 0


def wanted(table: Update, workers: int) -> int:
    """Payloads of an update under ``first``."""
    return table.count if table.count is not None else max(1, 3 * workers // 4)
