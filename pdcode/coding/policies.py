"""Update policies: which payloads rank 0 uses, when it steps, and which workers wait for that.

A kind has a table, with the keys and what is known before the run, and a `Policy`, which decides during the
run. Every policy also steps once no further payload is expected; with dead workers it may wait: see
`check_end`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Protocol, Self

import msgspec

from ..config import Config, Fraction, Positive, UpdateTable
from ..util.errors import InputError
from ..util.stateful import Stateful


class Seen(Protocol):
    """Progress of the current update, by which policies decide; the coordinator provides it.

    Attributes
    ----------
    used, fresh : int
        Payloads since the last step, and those of them that are of the newest θ.
    captured : float
        Fraction of the gradient that they capture.
    now_ns, stepped_ns : int
        Time of the arrival or time-out at which the policy is asked, and of the last step.
    """

    used: int
    fresh: int
    captured: float
    now_ns: int
    stepped_ns: int

    def near(self, within_ns: float) -> float:
        """Return how many usable payloads are to be expected within a time from now."""
        ...


class Policy(Stateful):
    """Policy of a run: by default a step at the least number of payloads, if the table gives one.

    Parameters
    ----------
    table : UpdateTable
        The table ``[update]``.
    workers : int
        Number of workers n.

    Attributes
    ----------
    waits : bool
        Whether a worker waits for the next step if its payload was used and is of the newest θ. Other workers
        are sent the newest θ at once.
    patient : bool
        Whether rank 0 waits for workers that are presumed lost.
    eager : bool
        Whether each payload that is used is an update by itself.
    wake_ns : int or None
        Time at which to ask `ready` again if nothing arrives before; None: never.
    """

    state_names: ClassVar[tuple[str, ...]] = ("wake_ns",)
    waits: ClassVar[bool] = True
    patient: ClassVar[bool] = False
    eager: ClassVar[bool] = False
    wake_ns: int | None = None

    def __init__(self, table: UpdateTable, workers: int) -> None:
        self.table = table.resolved(workers)
        self._least, self._late = self.table.least(workers), table.late == "use"

    def enough(self, seen: Seen) -> bool:
        """Return whether to step although further payloads are outstanding."""
        return self._least is not None and seen.used >= self._least

    def ready(self, seen: Seen, expected: int) -> bool:
        """Return whether to step, with `expected` payloads outstanding."""
        if expected and not self.enough(seen):
            return False
        self.wake_ns = None
        return True

    def usable(self, staleness: int) -> bool:
        """Return whether to use a payload of a θ that is `staleness` > 0 versions old."""
        return self._late


class Eager(Policy):
    """A step for each payload."""

    eager = True


class Patient(Policy):
    """A step at a number of payloads, also those of workers that are presumed lost."""

    patient = True


class Quorum(Policy):
    """A step at a number of payloads, and those that come soon after.

    The mean time a payload has taken since the last step is what one is worth: rank 0 waits as long after a
    payload, if at least one more is to be expected within that time.
    """

    state_names = (*Policy.state_names, "_asked")

    def __init__(self, table: UpdateTable, workers: int) -> None:
        super().__init__(table, workers)
        self._asked = 0  # payloads when rank 0 last began to wait for more

    def enough(self, seen: Seen) -> bool:
        if not super().enough(seen):
            return False
        if self._asked != seen.used:
            self._asked = seen.used
            mean_ns = (seen.now_ns - seen.stepped_ns) / seen.used
            self.wake_ns = seen.now_ns + math.ceil(mean_ns) if seen.near(mean_ns) >= 1 else None
        return self.wake_ns is None or seen.now_ns >= self.wake_ns

    def ready(self, seen: Seen, expected: int) -> bool:
        if not super().ready(seen, expected):
            return False
        self._asked = 0
        return True


class Captured(Policy):
    """A step at a captured fraction of the gradient."""

    table: CapturedTable

    def enough(self, seen: Seen) -> bool:
        return seen.captured >= self.table.fraction - 1e-9


class AsyncTable(UpdateTable, tag="async"):
    """After each payload."""

    makes: ClassVar[type[Policy]] = Eager
    asynchronous: ClassVar[bool] = True
    by_count: ClassVar[bool] = True

    def least(self, workers: int) -> int:
        return 1


class AllTable(UpdateTable, tag="all"):
    """After the payloads of all workers."""

    makes: ClassVar[type[Policy]] = Patient
    complete: ClassVar[bool] = True
    by_count: ClassVar[bool] = True


class CountTable(UpdateTable):
    """After a number of payloads."""

    #: (least) number of payloads of an update; none: three quarters of the workers
    count: Positive | None = None

    def resolved(self, workers: int) -> Self:
        count = self.least(workers)
        if count > workers:
            raise InputError(f"update.count: {count} is more than the {workers} workers")
        return msgspec.structs.replace(self, count=count)

    def least(self, workers: int) -> int:
        return max(1, 3 * workers // 4) if self.count is None else self.count

    def words(self, workers: int) -> str:
        return f"{self.mode} {self.least(workers)} of {workers:,}"


class FirstTable(CountTable, tag="first"):
    """After the first `count` payloads."""

    makes: ClassVar[type[Policy]] = Patient
    by_count: ClassVar[bool] = True


class QuorumTable(CountTable, tag="quorum"):
    """After at least `count` payloads, and those that come soon after."""

    makes: ClassVar[type[Policy]] = Quorum

    def proceeds(self, living: int, workers: int) -> bool:
        return living > 0


class CapturedTable(UpdateTable, tag="captured"):
    """Once a fraction of the gradient is captured."""

    makes: ClassVar[type[Policy]] = Captured
    by_fraction: ClassVar[bool] = True

    fraction: Fraction = 0.75  #: captured fraction of the gradient at which to step

    def words(self, workers: int) -> str:
        return f"{self.mode} {self.fraction:g}"


def check_end(config: Config, dead: Sequence[int]) -> None:
    """Refuse dead workers that rank 0 would wait for forever."""
    workers, update = config.workers.count, config.update
    if not dead or config.stop.seconds is not None:
        return
    living = workers - len(dead)
    if not update.proceeds(living, workers):
        listed = ", ".join(map(str, dead[:8])) + (", …" if len(dead) > 8 else "")
        raise InputError(
            f"stop.seconds: not given, and update.mode '{update.mode}' may wait for ever with {living} of "
            f"{workers} workers living (dead: {listed})"
        )
