"""When rank 0 steps: a policy is a predicate on what has arrived since the last update.

Every policy also steps when nothing more is on its way, so that none can wait for ever.
"""

from __future__ import annotations

from collections.abc import Callable

from .config import Update
from .errors import InputError

Ready = Callable[[int, float, int], bool]
"""(payloads arrived in this update, captured fraction, tasks still outstanding) -> step now?"""


def create(table: Update, workers: int) -> Ready:
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
        ``ready(count, captured, outstanding) -> bool``.

    Raises
    ------
    InputError
        If more payloads are asked for than there are workers.
    """
    if table.mode == "async":
        return lambda count, captured, outstanding: True
    if table.mode == "all":
        return lambda count, captured, outstanding: outstanding == 0
    if table.mode == "first":
        wanted = table.count if table.count is not None else max(1, 3 * workers // 4)
        if wanted > workers:
            raise InputError(f"update.count: {wanted} is more than the {workers} workers")
        return lambda count, captured, outstanding: count >= wanted or outstanding == 0
    least = table.fraction - 1e-9
    return lambda count, captured, outstanding: captured >= least or outstanding == 0
