"""Update policies: which payloads rank 0 uses, when it steps, and who waits for that.

Every policy also steps once no further payload is expected; with dead workers it may wait: see `check_end`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from ..config.tables import Config, UpdateTable
from ..util.errors import InputError


class Seen(Protocol):
    """Progress of the current update, on which policies decide; the coordinator provides it."""

    used: int  # payloads since the last update …
    fresh: int  # … and those among them that are of the newest θ
    captured: float  # share of the gradient that they capture
    now_ns: int  # time of the arrival or time-out at which the policy is asked


class Policy:
    """The policy of ``[update]``; a scheme may have its own.

    Parameters
    ----------
    table : UpdateTable
        The configuration table.
    workers : int
        Number of workers n.

    Attributes
    ----------
    waits : bool
        Whether a worker waits for the next step if its payload was used and is of the newest θ. Late workers,
        and all if not, are sent the newest θ at once.

    Raises
    ------
    InputError
        If an update waits for more payloads than there are workers.
    """

    waits: ClassVar[bool] = True

    def __init__(self, table: UpdateTable, workers: int) -> None:
        self._late = table.late == "use"
        count, least = wanted(table, workers), table.fraction - 1e-9
        if table.mode == "first" and count > workers:
            raise InputError(f"update.count: {count} is more than the {workers} workers")
        enough: dict[str, Callable[[Seen], bool]] = {
            "async": lambda seen: True,
            "all": lambda seen: False,
            "first": lambda seen: seen.used >= count,
            "captured": lambda seen: seen.captured >= least,
        }
        self._enough = enough[table.mode]

    def ready(self, seen: Seen, expected: int) -> bool:
        """Tell whether to step, with `expected` payloads outstanding."""
        return self._enough(seen) or expected == 0

    def usable(self, staleness: int) -> bool:
        """Tell whether to use a payload of a θ that is `staleness` > 0 versions old."""
        return self._late


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
