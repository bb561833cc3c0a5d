"""Update policies: which payloads rank 0 uses, when it steps, and who waits for that.

Every policy also steps once no further payload is expected; with dead workers it may wait: see `check_end`.
Of workers that are presumed lost a payload is expected only by a *patient* policy: ``all`` and ``first`` ask
for a number of payloads, and have them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from ..config import Config, UpdateTable
from ..util.errors import InputError

COUNTED = "first", "quorum"
"""Values of ``update.mode`` with which `count` has an effect."""


class Seen(Protocol):
    """Progress of the current update, on which policies decide; the coordinator provides it."""

    used: int  # payloads since the last update …
    fresh: int  # … and those among them that are of the newest θ
    captured: float  # share of the gradient that they capture
    now_ns: int  # time of the arrival or time-out at which the policy is asked …
    stepped_ns: int  # … and of the last step

    def near(self, within_ns: float) -> float:
        """Return how many payloads of use are to be expected within a time from now on."""
        ...


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
    patient : bool
        Whether workers that are presumed lost are waited for.
    eager : bool
        Whether each payload that is used is an update by itself.
    wake_ns : int or None
        Time at which to ask `ready` again if nothing arrives before; None: never.

    Raises
    ------
    InputError
        If an update waits for more payloads than there are workers.
    """

    waits: ClassVar[bool] = True
    wake_ns: int | None = None

    def __init__(self, table: UpdateTable, workers: int) -> None:
        self._late, self.patient = table.late == "use", table.mode in ("all", "first")
        self._asked = 0  # payloads when a quorum last began to wait for more
        own = type(self)
        plain = own.ready is Policy.ready and own.usable is Policy.usable
        self.eager = plain and table.mode == "async"
        count, least = wanted(table, workers), table.fraction - 1e-9
        if table.mode in COUNTED and count > workers:
            raise InputError(f"update.count: {count} is more than the {workers} workers")
        enough: dict[str, Callable[[Seen], bool]] = {
            "async": lambda seen: True,
            "all": lambda seen: False,
            "first": lambda seen: seen.used >= count,
            "quorum": lambda seen: seen.used >= count and self._nobody_near(seen),
            "captured": lambda seen: seen.captured >= least,
        }
        self._enough = enough[table.mode]

    def ready(self, seen: Seen, expected: int) -> bool:
        """Tell whether to step, with `expected` payloads outstanding."""
        if self._enough(seen) or expected == 0:
            self.wake_ns, self._asked = None, 0
            return True
        return False

    def _nobody_near(self, seen: Seen) -> bool:
        """Tell whether to wait no longer for more than a quorum.

        The mean time a payload has taken since the last step is what one is worth: rank 0 waits as long after
        a payload, if at least one more is to be expected within that time.
        """
        if self._asked != seen.used:
            self._asked = seen.used
            mean_ns = (seen.now_ns - seen.stepped_ns) / seen.used
            self.wake_ns = seen.now_ns + math.ceil(mean_ns) if seen.near(mean_ns) >= 1 else None
        return self.wake_ns is None or seen.now_ns >= self.wake_ns

    def usable(self, staleness: int) -> bool:
        """Tell whether to use a payload of a θ that is `staleness` > 0 versions old."""
        return self._late


def wanted(table: UpdateTable, workers: int) -> int:
    """Return the least number of payloads per update, of the modes `COUNTED`; default ¾ of the workers."""
    return table.count if table.count is not None else max(1, 3 * workers // 4)


def least(table: UpdateTable, workers: int) -> int:
    """Return about how many payloads an update has at least, of a mode that waits."""
    return wanted(table, workers) if table.mode in COUNTED else workers


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
    enough = update.mode in ("async", "quorum") or (
        update.mode == "first" and wanted(update, workers) <= living
    )
    if not (enough and living):
        listed = ", ".join(map(str, dead[:8])) + (", …" if len(dead) > 8 else "")
        raise InputError(
            f"stop.seconds: not given, and update.mode '{update.mode}' may wait for ever with {living} of "
            f"{workers} workers living (dead: {listed})"
        )
