"""Update policies: predicates on the payloads since the last update that decide when rank 0 steps.

Every policy also steps once no further payload is expected; with dead workers it may wait: see `check_end`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ..config.tables import Config, UpdateTable
from ..util.errors import InputError


class Seen(Protocol):
    """Progress of the current update, on which policies decide; the coordinator provides it."""

    used: int  # payloads since the last update …
    fresh: int  # … and those among them that are of the newest θ
    captured: float  # share of the gradient that they capture
    now_ns: int  # time of the arrival or time-out at which the policy is asked


Policy = Callable[[Seen, int], bool]
"""Predicate (progress, payloads outstanding) -> step now?"""


def make_policy(table: UpdateTable, workers: int) -> Policy:
    """Build the policy of ``[update]``.

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
        If an update waits for more payloads than there are workers.
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
    """Return the number of payloads per update with ``mode = "first"``; default ¾ of the workers."""
    return table.count if table.count is not None else max(1, 3 * workers // 4)


def check_end(config: Config, dead: Sequence[int]) -> None:
    """Refuse dead workers that rank 0 would wait for forever.

    Raises
    ------
    InputError
        If the policy may never step without them, and no time limit ends the run.
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
