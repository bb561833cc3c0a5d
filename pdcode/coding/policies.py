"""Update policies: which payloads rank 0 uses, when it steps, and which workers wait for the step.

A kind has a table, with the keys and properties that are known before the run, and a `Policy`, which decides
during the run. Every policy also steps once no further payload is expected; with dead workers it may wait:
see `check_end`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

import msgspec
import numpy as np

from ..config import Candidates, Fraction, Positive, UpdateTable, kinds
from ..config.requirements import KeyNeeds, Need
from ..fitted import ADAPTED_EVERY, COUNT_EXPONENT, COUNT_PATIENCE
from ..util.capabilities import Capable
from ..util.errors import InputError
from ..util.stateful import Stateful

if TYPE_CHECKING:
    from ..config import Config

REPEATED, SIMULATED = 8, 24  # last tasks of a worker that are repeated, and updates of a simulation


class Progress(Protocol):
    """Progress of the current update, provided by the coordinator, on which policies decide.

    Attributes
    ----------
    used, fresh : int
        Payloads since the last step, and the number of them at the newest θ.
    captured : float
        Fraction of the gradient that they capture.
    now_ns, stepped_ns : int
        Time of the current arrival or time-out, and of the last step.
    """

    used: int
    fresh: int
    captured: float
    now_ns: int
    stepped_ns: int

    def expected_soon(self, within_ns: float) -> float:
        """Return the expected number of usable payloads within a time from now."""
        ...

    def recent_ns(self, most: int) -> np.ndarray:
        """Return the times of the last tasks of each worker that is expected to answer, shape (m, most)."""
        ...


class Policy(Stateful, Capable):
    """Policy of a run: by default a step at the minimum number of payloads, if the table gives one.

    Parameters
    ----------
    table : UpdateTable
        The table ``[update]``.
    workers : int
        Number of workers n.

    Attributes
    ----------
    workers_wait : bool
        Whether a worker waits for the next step after a used payload at the newest θ. Other workers get the
        newest θ at once.
    waits_for_overdue : bool
        Whether rank 0 waits for workers that are presumed lost.
    steps_every_arrival : bool
        Capability: each used payload is an update by itself.
    wake_ns : int or None
        Time at which to evaluate `ready` if nothing arrives before; None: never.
    """

    covers: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "steps_every_arrival": ("__init__", "enough", "ready", "usable")
    }
    state_names: ClassVar[tuple[str, ...]] = ("wake_ns",)
    state_types: ClassVar[tuple[tuple[str, Any], ...]] = (("wake_ns", int | None),)
    workers_wait: ClassVar[bool] = True
    waits_for_overdue: ClassVar[bool] = False
    steps_every_arrival: ClassVar[bool] = False
    wake_ns: int | None = None

    def __init__(self, table: UpdateTable, workers: int) -> None:
        self.table = table.resolved(workers)
        self._min_payloads, self._late = self.table.min_payloads(workers), table.late == "use"

    def enough(self, progress: Progress) -> bool:
        """Return whether to step although further payloads are outstanding."""
        return self._min_payloads is not None and progress.used >= self._min_payloads

    def ready(self, progress: Progress, expected: int) -> bool:
        """Return whether to step, with `expected` payloads outstanding."""
        if expected and not self.enough(progress):
            return False
        self.wake_ns = None
        return True

    def usable(self, staleness: int) -> bool:
        """Return whether to use a payload of a θ that is `staleness` > 0 versions old."""
        return self._late


class EachPayload(Policy):
    """A step for each payload."""

    steps_every_arrival = True


class FixedCount(Policy):
    """A step at a number of payloads, including payloads of workers that are presumed lost."""

    waits_for_overdue = True


class AdaptiveCount(Policy):
    """A step at the number of payloads with which the descent is fastest, by the workers' last task times.

    These times are repeated in simulations without numerics; see `relative_updates`. A worker that turns slow
    is not foreseen. Where steps of few payloads are shorter (``update.full_step``), and so do no harm, an
    update therefore ends after `COUNT_PATIENCE` times the time that the first half of this number took.
    """

    table: CountTable
    state_names = (*Policy.state_names, "count", "_steps")

    def __init__(self, table: UpdateTable, workers: int) -> None:
        super().__init__(table, workers)
        self.count, self._steps = self.table.typical_payloads(workers), 0
        self._workers = workers

    def enough(self, progress: Progress) -> bool:
        if progress.used >= self.count:
            return True
        if self.wake_ns is None and self.table.full_step > 1 and 2 * progress.used >= self.count:
            self.wake_ns = progress.stepped_ns + COUNT_PATIENCE * (progress.now_ns - progress.stepped_ns)
        return self.wake_ns is not None and progress.now_ns >= self.wake_ns

    def ready(self, progress: Progress, expected: int) -> bool:
        if not super().ready(progress, expected):
            return False
        self._steps += 1
        if self._steps % ADAPTED_EVERY == 0:
            full_step = self.table.full_step
            self.count = best_count(progress.recent_ns(REPEATED), not self._late, full_step)
        return True


def best_count(times_ns: np.ndarray, waste: bool = True, full_step: int = 1) -> int:
    """Return the number of payloads of an update with which the descent is fastest.

    Parameters
    ----------
    times_ns : ndarray of float64, shape (m, r)
        Times of r tasks of each of m workers, which are repeated.
    waste : bool
        Whether late payloads are dropped.
    full_step : int
        The key ``update.full_step``.
    """
    if not len(times_ns):
        return 1
    workers = len(times_ns)
    cost = {
        q: round_ns(times_ns, q, waste) * relative_updates(q, workers, full_step) for q in counts(workers)
    }
    return max(cost, key=lambda q: (-cost[q], q))


def counts(workers: int) -> list[int]:
    """Return the numbers of payloads that are tried: all but 0, 1, 2, 4, … workers, and eighths."""
    few = {max(1, workers - (1 << step >> 1)) for step in range(workers.bit_length() + 1)}
    return sorted(few | {max(1, part * workers // 8) for part in range(3, 8)})


def relative_updates(count: int, workers: int, full_step: int = 1) -> float:
    """Return the number of updates to a target with `count` payloads each, relative to that with all.

    With `full_step` the number of payloads counts as long as they are far fewer, and the number of updates
    once they are far more (preset first, digits and mnist5k, 1 to 32 payloads: within a sixth).
    """
    if full_step == 1:
        return float((workers / count) ** COUNT_EXPONENT)
    return math.hypot(1, full_step / count) / math.hypot(1, full_step / workers)


def round_ns(times_ns: np.ndarray, count: int, waste: bool) -> float:
    """Return the mean time of an update with `count` payloads, for repeated task times, without links."""
    from ..kernels import events, rounds  # no other policy simulates

    workers, columns = times_ns.shape
    queue = events.Events(workers, 1, 1e18, 0, 0, 0, 0, False, False, 2, 1, math.inf, None)
    delays_ns = np.rint(times_ns).astype(np.int64)
    half = 1 << (columns - 1).bit_length()
    loop = rounds.Rounds(
        queue, np.ones(1, np.int64), 2 * half, 0, 0, count, waste, SIMULATED, room=SIMULATED, drain_ns=0
    )
    while loop.run() == rounds.DRY:
        short, first = loop.short()
        loop.fill(short, delays_ns[short[:, None], (first[:, None] + np.arange(half)) % columns])
    return float(loop.stopped_ns) / SIMULATED


class Quorum(Policy):
    """A step at a minimum number of payloads, and those that arrive soon after.

    After a payload, rank 0 waits for the mean time per payload since the last step, if at least one more
    payload is expected within that time.
    """

    state_names = (*Policy.state_names, "_asked")

    def __init__(self, table: UpdateTable, workers: int) -> None:
        super().__init__(table, workers)
        self._asked = 0  # number of payloads at which rank 0 last began to wait for more

    def enough(self, progress: Progress) -> bool:
        if not super().enough(progress):
            return False
        if self._asked != progress.used:
            self._asked = progress.used
            mean_ns = (progress.now_ns - progress.stepped_ns) / progress.used
            wait = progress.expected_soon(mean_ns) >= 1
            self.wake_ns = progress.now_ns + math.ceil(mean_ns) if wait else None
        return self.wake_ns is None or progress.now_ns >= self.wake_ns

    def ready(self, progress: Progress, expected: int) -> bool:
        if not super().ready(progress, expected):
            return False
        self._asked = 0
        return True


class Captured(Policy):
    """A step at a captured fraction of the gradient."""

    table: CapturedTable

    def enough(self, progress: Progress) -> bool:
        return progress.captured >= self.table.fraction - 1e-9


class AsyncTable(UpdateTable, tag="async"):
    """After each payload."""

    makes: ClassVar[type[Policy]] = EachPayload
    asynchronous: ClassVar[bool] = True
    by_count: ClassVar[bool] = True

    def min_payloads(self, workers: int) -> int:
        return 1


class AllTable(UpdateTable, tag="all"):
    """After the payloads of all workers."""

    makes: ClassVar[type[Policy]] = FixedCount
    complete: ClassVar[bool] = True
    by_count: ClassVar[bool] = True


class CountTable(UpdateTable):
    """After a number of payloads."""

    #: (least) number of payloads of an update; none: three quarters of the workers
    count: Positive | None = None
    #: number of payloads of a step at the full learning rate, at most one per worker; the step of q
    #: fewer has q/full_step of it; with count "auto" rank 0 then waits less long for the last ones
    full_step: Positive = 1

    effective: ClassVar[KeyNeeds] = {
        "full_step": {
            "memory.kind": Need(
                lambda kind, config: config.reduction.owners or not kind.has_residual,
                "'none', as a mean over all workers is smaller anyway if some are missing",
                of_kind=True,
            )
        }
    }
    candidates: ClassVar[Candidates] = {
        "count": lambda n: sorted(
            {*(max(1, round(share * n)) for share in (0.5, 0.75, 0.875)), max(1, n - 1)}
        )
    }

    def resolved(self, workers: int) -> Self:
        count = self.min_payloads(workers)
        if count > workers:
            raise InputError(f"update.count: {count} is more than the {workers} workers")
        return msgspec.structs.replace(self, count=count)

    def step_factor(self, payloads: int, workers: int) -> float:
        return min(1.0, payloads / min(self.full_step, workers))

    def min_payloads(self, workers: int) -> int:
        return self.count if isinstance(self.count, int) else max(1, 3 * workers // 4)

    def description(self, workers: int) -> str:
        return f"{self.mode} {self.min_payloads(workers)} of {workers:,}"


class FirstTable(CountTable, tag="first"):
    """After the first `count` payloads."""

    makes: ClassVar[type[Policy]] = FixedCount
    by_count: ClassVar[bool] = True

    #: number of payloads of an update; none: three quarters of the workers; auto: the number with which the
    #: descent is fastest by the workers' last task times, which leaves out those that are slow
    count: Positive | Literal["auto"] | None = None  # type: ignore[assignment]

    def check_config(self, config: Config) -> None:
        if self.is_adaptive and not kinds.find("schemes", config.scheme.name).steps_by_update:
            raise InputError(f"update.count: 'auto' has no effect with scheme '{config.scheme.name}'")

    def make(self, workers: int) -> Policy:
        return AdaptiveCount(self, workers) if self.is_adaptive else FixedCount(self, workers)

    @property
    def is_adaptive(self) -> bool:
        """Whether the number of payloads follows the arrivals."""
        return self.count == "auto"

    def resolved(self, workers: int) -> Self:
        return self if self.is_adaptive else super().resolved(workers)

    def can_progress(self, living: int, workers: int) -> bool:
        return living > 0 if self.is_adaptive else super().can_progress(living, workers)

    def description(self, workers: int) -> str:
        return self.mode if self.is_adaptive else super().description(workers)


class QuorumTable(CountTable, tag="quorum"):
    """After at least `count` payloads, and those that arrive soon after."""

    makes: ClassVar[type[Policy]] = Quorum

    def can_progress(self, living: int, workers: int) -> bool:
        return living > 0


class CapturedTable(UpdateTable, tag="captured"):
    """Once a fraction of the gradient is captured."""

    makes: ClassVar[type[Policy]] = Captured
    by_fraction: ClassVar[bool] = True

    fraction: Fraction = 0.75  #: captured fraction of the gradient at which to step

    candidates: ClassVar[Candidates] = {"fraction": (0.5, 0.75, 0.9)}

    def description(self, workers: int) -> str:
        return f"{self.mode} {self.fraction:g}"


def check_end(config: Config, dead: Sequence[int]) -> None:
    """Refuse dead workers that rank 0 would wait for forever."""
    workers, update = config.workers.count, config.update
    if not dead or config.stop.seconds is not None:
        return
    living = workers - len(dead)
    if not update.can_progress(living, workers):
        listed = ", ".join(map(str, dead[:8])) + (", …" if len(dead) > 8 else "")
        raise InputError(
            f"stop.seconds: not given, and update.mode '{update.mode}' may wait for ever with {living} of "
            f"{workers} workers living (dead: {listed})"
        )
