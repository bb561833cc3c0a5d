"""Monitor of a run: loss and accuracy, lines of progress, flushes of the trace, and the decision to stop."""

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from .. import faults
from ..coding.proximals import penalty_of
from ..config import Config
from ..problems import Problem
from ..trace.descent import Descent, History, judge
from ..trace.recorder import Recorder
from ..trace.schema import EVALUATION
from ..training.coordinator import Coordinator
from ..util.formats import counted, score, workers_named
from ..util.stateful import Stateful
from .pace import Pace, Row

INTERRUPTED = "interrupted"  # reason to stop: a signal
LINE_NS = 1_000_000_000
UNLIMITED_S = 1e9  # longer waits count as unlimited
MIN_WAITED = 0.1  # least fraction of the time that rank 0 waits for one worker alone, to be reported

Print = Callable[[str], None]
Report = Callable[[float], object]  # of the fraction of a run that is done, by updates or time


def ignore(done: float) -> None:
    """Report nothing."""


class Monitor(Stateful):
    """Monitor, called by the coordinator after events and time-outs; most calls do nothing.

    Loss and accuracy are measured on the data of `problem`, unless `numerics` is false: then no gradients are
    computed. `wall_ns` is the clock for printing and flushing; default: the fleet's. `virtual`: that is a
    virtual clock.
    """

    state_names = (
        "loss", "accuracy", "grad_norm", "averaged", "spent_ns", "reached", "reached_ns", "above_ns",
        "failed", "pace", "_line_ns", "_last_line", "_line_at_ns", "_waited", "_faults_until_ns",
        "_last_version", "_last_ns", "_history", "earlier",
    )  # fmt: skip
    state_types = (("_waited", list[int]),)

    def __init__(
        self,
        problem: Problem,
        config: Config,
        trace: Recorder,
        print_line: Print,
        wall_ns: Callable[[], int] | None = None,
        numerics: bool = True,
        virtual: bool = False,
    ) -> None:
        self.problem, self.trace, self.print_line = problem, trace, print_line
        self.stop, self._config = config.stop, config
        self._wall_ns, self._numerics = wall_ns, numerics
        self.report: Report = ignore
        self.review: Callable[[int, Coordinator], str] | None = None  # returns why to change the preset
        self._in_rounds, self._penalty = config.reduce.summed, penalty_of(config.optimizer.proximal, problem)
        self.pace = Pace(config, virtual)
        self._until_ns = math.inf if self.stop.seconds is None else max(1, round(1e9 * self.stop.seconds))
        self._updates = math.inf if self.stop.updates is None else self.stop.updates
        self._epochs = math.inf if self.stop.epochs is None else self.stop.epochs * (1 - 1e-9)
        self.epochs_of_message = 0.0  # epochs that are the rows of a message that is used
        self.earlier = [0.0, 0.0]  # epochs with an earlier preset, and messages used
        self._counted_version = 0
        self._line_ns = 0
        self._due_ns = self._wall_due_ns = 0.0
        self._last_line = 0, 0  # time, arrivals
        self._line_at_ns = 0  # the same time on the run's clock
        self._waited: list[int] = []  # the roster's `waited_ns` at the last line
        self._faults = faults.at_rank_0(config)
        self._faults_until_ns = -1  # earlier faults of rank 0 have happened, before a checkpoint too
        self._last_version, self._last_ns = -1, 0
        self._history = History()
        self._doubt = self._warned = 0  # how bad the descent was at the last line, and at the worst warning
        self.loss = self.accuracy = self.grad_norm = math.nan
        self.averaged = False  # whether these are the average's, not θ's
        self.spent_ns = 0  # time spent on measuring
        self.score = problem.model.score
        self.reached = False  # whether the target loss or accuracy is reached
        self.reached_ns = 0  # time of the first measurement that reached it
        self.above_ns = 0  # the same, if no earlier update can have, else the time of the measurement before
        self.failed = False  # whether the run counts as failed

    def __call__(self, now_ns: int, coordinator: Coordinator) -> str:
        """Perform what is due; return a reason to stop, or an empty string."""
        reason, refused = coordinator.state.ended
        if refused:
            self.fail(now_ns, reason)
        if coordinator.version >= self._updates:
            reason = reason or counted(coordinator.version, "update")
        if self._epochs < math.inf and coordinator.version > self._counted_version:  # after whole updates
            self._counted_version = coordinator.version
            if self.epochs(coordinator) >= self._epochs:
                reason = reason or f"{self.stop.epochs:g} epochs"
        if coordinator.stuck and not self.failed:
            self.fail(now_ns, coordinator.stopping)
            self.measure(now_ns, coordinator.version, *coordinator.points)
        wall_ns = now_ns if self._wall_ns is None else self._wall_ns()
        changes = ""
        if self.review is not None and not (reason or coordinator.stopping):
            changes = self.review(now_ns, coordinator)
        due = bool(coordinator.interrupted or changes)
        quiet = now_ns < self._due_ns and wall_ns < self._wall_due_ns and not due
        by_version = coordinator.version >= self.pace.due_version
        if not by_version and coordinator.version >= self.pace.keep_version:
            self.pace.keep(now_ns, coordinator.version, coordinator.points)
        if quiet and not by_version and (not reason or coordinator.stopping):
            return reason
        for note in coordinator.incidents.notes:
            self.print_line(f"{now_ns * 1e-9:7.1f} s  {note}")
        coordinator.incidents.notes.clear()
        self._execute_faults(now_ns)
        if now_ns >= self._until_ns:
            reason = reason or f"{self.stop.seconds:g} s"
        if coordinator.interrupted and not coordinator.stopping and not reason:
            reason = INTERRUPTED
            self.fail(now_ns, reason)
        reason = reason or changes
        if reason and not coordinator.stopping:
            return self._stop(now_ns, wall_ns, coordinator, reason, reason not in (INTERRUPTED, changes))
        # Where workers add up payloads, rank 0 has only a part of the sum by which they step now.
        partial = self._in_rounds and coordinator.update.used
        if (now_ns >= self.pace.due_ns or by_version) and not partial:
            begun_ns = coordinator.fleet.now_ns()
            reason = self.measure(now_ns, coordinator.version, *coordinator.points) or reason
            ended_ns = coordinator.fleet.now_ns()
            self.trace.pause(begun_ns, ended_ns, EVALUATION)
            self.spent_ns += ended_ns - begun_ns
            self.pace.plan(now_ns, coordinator.version, ended_ns - begun_ns, self._distance)
        if wall_ns >= self._line_ns and (not coordinator.stopping or coordinator.roster.in_flight):
            self._print_progress(now_ns, wall_ns, coordinator)
        if self.trace.due(wall_ns):
            self.trace.flush(wall_ns)
        self._due_ns = self.pace.due_ns
        self._wall_due_ns = min(self._line_ns, wall_ns + LINE_NS // 20)
        if not coordinator.stopping:
            self._due_ns = min(self._due_ns, self._until_ns)
        if self._faults:
            self._due_ns = min(self._due_ns, 1e9 * (self._faults[0].at_s or 0.0))
        return reason

    def had_faults(self, until_ns: int) -> None:
        """Leave out the faults of rank 0 up to a time: they have ended the job that this one goes on with."""
        self._faults_until_ns = until_ns

    def _execute_faults(self, now_ns: int) -> None:
        """Execute the faults of rank 0 that are due, unless it has before a checkpoint."""
        while self._faults and now_ns >= 1e9 * (self._faults[0].at_s or 0.0):
            fault = self._faults.pop(0)
            if 1e9 * (fault.at_s or 0.0) > self._faults_until_ns:
                fault.execute(self.trace, self._wall_ns is not None)
        self._faults_until_ns = max(self._faults_until_ns, now_ns)

    def _stop(self, now_ns: int, wall_ns: int, coordinator: Coordinator, reason: str, judges: bool) -> str:
        """Measure the final θ, now and not after tasks in flight have drained; return a reason to stop.

        With `judges` the run may count as failed by its descent.
        """
        self.trace.flush(wall_ns)
        self._line_ns = wall_ns + LINE_NS // 4
        if ended := self.measure(now_ns, coordinator.version, *coordinator.points):
            return ended
        if judges and (descent := self.descent(reason)).diverged:
            self.fail(now_ns, descent.what, "diverged")
        return reason

    def _print_progress(self, now_ns: int, wall_ns: int, coordinator: Coordinator) -> None:
        """Print a line, and a warning if the descent is bad; report how much of the run is done."""
        self.print_line(self.line(now_ns, coordinator, wall_ns))
        if not coordinator.stopping:
            self.warn(now_ns)
        self.report(self.stop.fraction(1e-9 * now_ns, coordinator.version, self.epochs(coordinator)))
        self._line_ns = wall_ns + LINE_NS

    def measure(self, now_ns: int, version: int, *points: np.ndarray) -> str:
        """Measure θ, once per version; return a reason to stop, or an empty string.

        `points` are θ and, if there is one, its average; the one of lower loss counts.
        """
        if version == self._last_version or not self._numerics:
            return ""
        if not version and self.problem.model.deferred:
            return ""
        last, self._last_version, self._last_ns = (self._last_version, self._last_ns), version, now_ns
        self.loss, self.accuracy, self.grad_norm, averaged, _ = values = self._values(points)
        self.averaged = bool(averaged)
        rows: list[Row] = [(version, now_ns, *values)]
        if self._reaches(values):
            rows[:0] = self.pace.missed(self._values, self._reaches, points[0])
            at = next(place for place, row in enumerate(rows) if self._reaches(row[2:]))
            before, first = rows[at - 1] if at else last, rows[at]
            self.reached, self.reached_ns = True, int(first[1])
            self.above_ns = int((first if first[0] <= before[0] + 1 else before)[1])
        self.pace.measured(version)
        for row in rows:
            self.trace.progress(*row)
            self._history.add(*row[:4])
        if not math.isfinite(self.loss):
            self.fail(now_ns, f"diverged: loss is {self.loss} at update {version}")
            return f"diverged: loss is {self.loss} at update {version}"
        if self.stop.loss is not None and self.loss <= self.stop.loss:
            return f"loss {self.loss:.4g} ≤ {self.stop.loss:g}"
        return f"accuracy {score(self.accuracy)} ≥ {self.stop.accuracy:g}" if self.reached else ""

    def _values(self, points: Sequence[np.ndarray]) -> Row:
        """Return loss, accuracy and norm of the gradient of the point of lowest loss.

        The other values are its number, and the loss of the other point.
        """
        found = [self._measured(theta) for theta in points]
        best = min(range(len(found)), key=lambda place: (math.isnan(found[place][0]), found[place][0]))
        others = [loss for place, (loss, *_) in enumerate(found) if place != best]
        return *found[best], best, others[0] if others else math.nan

    def _measured(self, theta: np.ndarray) -> Row:
        """Return loss, accuracy and the norm of the gradient of a point."""
        loss, *more = self.problem.measure(theta)
        return loss + (0.0 if self._penalty is None else self._penalty.value(theta)), *more

    def _reaches(self, values: Row) -> bool:
        """Return whether measured values reach the target."""
        (loss, accuracy), stop = values[:2], self.stop
        by_loss = stop.loss is not None and loss <= stop.loss
        return math.isfinite(loss) and (by_loss or (stop.accuracy is not None and accuracy >= stop.accuracy))

    @property
    def _distance(self) -> float:
        """Logarithm of the loss, or of 1 - accuracy, as a multiple of the target's; 1 without one."""
        pairs = [(self.loss, self.stop.loss or 0.0), (1 - self.accuracy, 1 - (self.stop.accuracy or 1.0))]
        return min((math.log(value / bound) for value, bound in pairs if value > bound > 0), default=1.0)

    def epochs(self, coordinator: Coordinator) -> float:
        """Return the training rows of payloads that were used, in multiples of all training rows."""
        before, used = self.earlier
        return before + (coordinator.roster.used - used) * self.epochs_of_message

    @property
    def has_score(self) -> bool:
        """Whether the model computes an accuracy."""
        return not math.isnan(self.accuracy) or math.isnan(self.loss)

    def fail(self, now_ns: int, message: str, kind: str = "stop") -> None:
        """Record, once, why the run counts as failed."""
        if not self.failed:
            self.trace.fault(now_ns, -1, -1, kind, message)
        self.failed = True

    def descent(self, reason: str = "", theta: Callable[[], np.ndarray] | None = None) -> Descent:
        """Return what is wrong with the measured loss; `reason` says why the run has ended, if it has."""
        ended, config = reason not in ("", INTERRUPTED), msgspec.to_builtins(self._config)
        found = judge(self._history.columns, config, ended=ended, text=self.trace.config_text, theta=theta)
        return found.ended(reason) if reason.startswith("diverged") else found

    def warn(self, now_ns: int) -> None:
        """Print once what is wrong with the descent, and once more if that becomes worse.

        A loss that is only a little above its first may be so by chance at one line, and not at two.
        """
        found = self.descent()
        doubt = found.diverged + bool(found)
        if min(doubt, max(self._doubt, doubt - 1)) > self._warned:
            self.print_line(f"{now_ns * 1e-9:7.1f} s  {found.line}")
            self._warned = doubt
        self._doubt = doubt

    def line(self, now_ns: int, coordinator: Coordinator, wall_ns: int) -> str:
        """Return a line of progress; rates are per second of the wall clock."""
        then_ns, before = self._last_line
        roster, took_ns = coordinator.roster, wall_ns - then_ns
        rate = 1e9 * (roster.arrivals - before) / took_ns if took_ns > 0 else 0.0
        self._last_line = wall_ns, roster.arrivals
        since_ns, self._line_at_ns = now_ns - self._line_at_ns, now_ns
        workers = len(roster)
        waited_before = [*self._waited, *[0] * workers][:workers]  # their number may change at a resume
        self._waited = roster.waited_ns.copy()
        if coordinator.stopping:
            left_s = max(0.0, 1e-9 * (coordinator.drain_until_ns - now_ns)) + coordinator.fleet.ending_s
            most = f", {left_s:.1f} s at most" if left_s < UNLIMITED_S else ""
            return f"{now_ns * 1e-9:7.1f} s  stopped; waiting for {workers_named(roster.in_flight)}{most}"
        scored = f"{self.score} {score(self.accuracy):<7} " if self.has_score else ""
        measured = f"loss {self.loss:<9.4g} {scored}" if self._numerics else ""
        if self._last_version < 0:
            measured = ""
        elif self._numerics and self._last_version != coordinator.version:
            measured += f"(at update {self._last_version}) "
        passes = f"epoch {self.epochs(coordinator):<6.1f} " if self.epochs_of_message else ""
        done = f"update {coordinator.version:<7d} {passes}"
        text = f"{now_ns * 1e-9:7.1f} s  {done}{measured}{rate:7.0f} arrivals/s"
        waited_ns = [now - before for now, before in zip(self._waited, waited_before, strict=True)]
        return text + straggler_note(coordinator, now_ns, waited_ns, since_ns)


def straggler_note(
    coordinator: Coordinator, now_ns: int, waited_ns: Sequence[int] = (0,), since_ns: int = 0
) -> str:
    """Name the overdue workers, or the one for which rank 0 has waited, or the slowest.

    `waited_ns` is rank 0's time of waiting for each worker alone, within `since_ns`; it is reported from
    `MIN_WAITED` of that time on.
    """
    from statistics import median  # not at workers

    roster = coordinator.roster
    if overdue := roster.overdue:
        longest_s = 1e-9 * (now_ns - min(roster.sent_ns[worker] for worker in overdue))
        waiting = coordinator.update.used > 0 and coordinator.state.policy.waits_for_overdue
        waits = "waits for" if waiting else "no answer from"
        return f"  {waits} {workers_named(sorted(overdue))} for {longest_s:.1f} s"
    if (most_ns := max(waited_ns)) > MIN_WAITED * since_ns:
        return f"  waited {most_ns / since_ns:.0%} of the time for worker {waited_ns.index(most_ns)}"
    times, living = roster.task_times_ns(now_ns), roster.living
    if len(living) < 2:
        return ""
    worker = max(living, key=times.__getitem__)
    others = median(times[other] for other in living if other != worker)
    return f"  slowest: worker {worker} ({times[worker] / others:.1f}×)" if others > 0 else ""
