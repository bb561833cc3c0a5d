"""When rank 0 steps: a policy is a predicate on what has arrived since the last update.

Every policy also steps when nothing more is to come, so that none can wait for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ..config.tables import Config, UpdateTable
from ..util.errors import InputError


class Seen(Protocol):
    """What a policy looks at; the coordinator has it."""

    used: int  # payloads since the last update
    captured: float  # share of the gradient that they capture


Policy = Callable[[Seen, int], bool]
"""(seen, payloads still to come if it does not step) -> step now?"""


def make_policy(table: UpdateTable, workers: int) -> Policy:
    """Make the predicate of ``[update]``.

    Parameters
    ----------
    table : UpdateTable
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


def wanted(table: UpdateTable, workers: int) -> int:
    """Payloads of an update under ``first``."""
    return table.count if table.count is not None else max(1, 3 * workers // 4)


def check_end(config: Config, dead: Sequence[int]) -> None:
    """Refuse dead workers for whom rank 0 would wait for ever.

    Raises
    ------
    InputError
        If the policy cannot be sure of an update without them, and no time ends the run.
    """
    workers, update = config.workers.count, config.update
    if not dead or config.stop.seconds is not None:
        return
    living = workers - len(dead)
    enough = update.mode == "async" or (update.mode == "first" and wanted(update, workers) <= living)
    if not (enough and living):
        listed = ", ".join(map(str, dead[:8])) + (", …" if len(dead) > 8 else "")
        raise InputError(
            f"stop.seconds: not given, and update.mode '{update.mode}' may wait for ever with {living} of "
            f"{workers} workers living (dead: {listed})"
        )
