"""Review of preset "auto" during a run: whether another candidate has become better, by the run's own tasks.

A run begins with a preset that waits for nobody. Once every worker has answered, the times of all candidates
are predicted from the tasks so far, and again each time the number of tasks has doubled. A preset that waits
for all is also reviewed once a worker has turned slow for good. Nothing depends on absolute times.

Before a change no tasks are sent until all workers have answered. Payloads are used meanwhile, so that this
costs only the wait for the last workers, which a change has to pay for. If one of them is late, the change is
called off: a worker that stops answering thus never stops a run that does not wait for it.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from ..fitted import (
    BACKOFF,
    DIFFERS,
    EVEN,
    FIRST_REVIEW,
    GAIN,
    LASTING,
    LASTING_PART,
    LATE,
    LONG,
    RESTART,
    REVIEWING,
)
from ..session.setup import Components
from ..training.coordinator import Coordinator
from ..training.liveness import NEVER_NS
from ..training.task_times import RECENT
from ..util.formats import counted, ratio

if TYPE_CHECKING:
    from .preset import Choice

DRAWS = 64  # tasks that are drawn of each worker that does not differ


class Review:
    """Observer of a run with preset "auto", called by the monitor.

    Parameters
    ----------
    choice : Choice
        The candidates.
    components : Components
        Those of the run, one of the candidates.
    before : Review, optional
        That of the same run with an earlier preset.

    Attributes
    ----------
    chosen : Components or None
        Those of the preset with which the run is to go on.
    reason : str
        Why; empty before.
    """

    def __init__(self, choice: "Choice", components: Components, before: "Review | None" = None) -> None:
        self._choice, self._components, self._name = choice, components, choice.name_of(components)
        self._own, self._workers = choice.candidates[self._name], components.scheme.workers
        self._changes: int = 0 if before is None else before._changes + 1
        self._done = 0.0 if before is None else before._part  # of the updates needed, before this preset
        self._first: np.ndarray | None = None  # tasks of each worker before this preset
        self._version = self._from = 0  # updates seen, and updates before this preset
        self._arrivals = self._from_ns = 0  # arrivals and time before this preset
        self._due, self._later_ns = 0, 0.0  # arrivals, and time, before which there is no review
        self._gain_s, self._next = 0.0, ""  # by a change that waits for a good moment, and to which candidate
        # Longest of the shorter ones of two tasks that follow each other, and time of the last usual one.
        self._usual_ns, self._usual_until_ns = math.inf, 0.0
        if before is not None:
            self._usual_ns = before._usual_ns * float(np.max(self._own.timing.work / before._own.timing.work))
        self._slowest = -1  # worker for which a change waits
        self.chosen: Components | None = None
        self.reason = ""

    def __call__(self, now_ns: int, coordinator: Coordinator) -> str:
        """Return why to go on with another preset, now that no worker has a task; usually an empty string."""
        roster = coordinator.roster
        if self._first is None:
            self._begin(now_ns, coordinator)
        if coordinator.held_until_ns:
            return self._held(now_ns, coordinator)
        if coordinator.version == self._version:
            return ""
        self._version = coordinator.version
        if roster.arrivals >= self._due and now_ns >= self._later_ns:
            self._review(now_ns, coordinator)
        elif self._own.complete:
            self._watch(now_ns, coordinator)
        return self._change(now_ns, coordinator) if self._next else ""

    def _begin(self, now_ns: int, coordinator: Coordinator) -> None:
        roster = coordinator.roster
        self._first, self._version = np.array(roster.own_times.counts), coordinator.version
        evenly_s = self._choice.evenly_s
        if (
            not self._changes
            and self._own.asynchronous
            and GAIN * min(evenly_s.values()) < evenly_s[self._name]
        ):
            self._hold(now_ns, coordinator, NEVER_NS, "the run may begin with another preset")
        self._arrivals, self._from = roster.arrivals, coordinator.version
        self._due = roster.arrivals + FIRST_REVIEW * BACKOFF**self._changes * self._workers
        self._from_ns = self._usual_until_ns = now_ns

    @property
    def _part(self) -> float:
        """Part of the updates needed that have been made."""
        per_update = self._workers if self._own.asynchronous else 1
        return self._done + (self._version - self._from) / per_update / self._own.needed

    def _review(self, now_ns: int, coordinator: Coordinator) -> None:
        """Predict the times of all candidates by all tasks with this preset."""
        roster = coordinator.roster
        tasks = np.array(roster.own_times.counts) - self._first
        if not tasks.all() or len(roster.living) < self._workers:
            self._due = roster.arrivals + max(1, self._workers // 8)
            return
        recent_ns = roster.own_times.last(np.arange(self._workers), RECENT)
        recent_ns[np.arange(RECENT) >= tasks[:, None]] = np.nan
        lasting_ns = np.fmin(recent_ns[:, 1:], recent_ns[:, :-1])  # of two that follow each other the shorter
        self._usual_ns = min(self._usual_ns, float(np.nanmax(lasting_ns)))
        why = f"by {counted(int(tasks.sum()), 'task')}"
        self._predict(coordinator, typical(self._with_late(now_ns, coordinator, recent_ns)), why)
        self._due = 2 * roster.arrivals - self._arrivals
        self._later_ns = now_ns + REVIEWING * (coordinator.fleet.now_ns() - now_ns)

    def _watch(self, now_ns: int, coordinator: Coordinator) -> None:
        """Predict by the last tasks alone once one worker's have been long for a part of the run's time."""
        own_ns = coordinator.roster.own_times.last(np.arange(self._workers), LASTING)
        longest_ns = own_ns.min(axis=1)
        if not longest_ns.max() > LONG * self._usual_ns:  # or nan: no times yet
            self._usual_until_ns = now_ns
        if now_ns - self._usual_until_ns <= LASTING_PART * now_ns:
            return
        self._usual_ns = float(longest_ns.max())
        multiple = ratio(float(longest_ns.max() / np.median(longest_ns)))
        why = f"as tasks of worker {int(longest_ns.argmax())} take {multiple} the median"
        self._predict(coordinator, own_ns, why)

    def _predict(self, coordinator: Coordinator, tasks_ns: np.ndarray, why: str) -> None:
        """Choose the best candidate by times of tasks, shape (n, m), if a change to it pays by itself."""
        times_s = self._choice.times_s(self._name, 1e-9 * tasks_ns)
        candidates, part = self._choice.candidates, self._part
        own_s, rest = times_s[self._name], max(1 - part, part)
        uneven = len(set(coordinator.roster.tasks)) > 1
        possible = [name for name, each in candidates.items() if not (each.in_step and uneven)]
        best = min([self._name, *possible], key=lambda name: times_s[name] * candidates[name].factor)
        lost = min(RESTART, max(0.0, part * self._own.needed - FIRST_REVIEW))
        restart_s = lost * times_s[best] / candidates[best].needed
        self._gain_s = rest * (own_s / GAIN - times_s[best]) - restart_s if own_s < math.inf else math.inf
        self._next = best if best != self._name and self._gain_s > 0 else ""
        if self._next:
            self._tasks_ns, self._slowest = tasks_ns, -1
            self.reason = f"preset '{best}' in place of '{self._name}' would take "
            self.reason += f"{times_s[best] / own_s:.2g} of the time, {why}"

    def _change(self, now_ns: int, coordinator: Coordinator) -> str:
        """Hold tasks back for a change, if it pays for the wait; return the reason if there is none."""
        if self._components.config.reduction.workers_step or not coordinator.roster.outstanding:
            return self._changed()
        if self._slowest >= 0 and coordinator.roster.awaited[self._slowest]:
            return ""
        wait_ns, cost_ns = self._wait_ns(now_ns, coordinator)
        if cost_ns < 1e9 * self._gain_s:
            self._hold(now_ns, coordinator, math.ceil(now_ns + LATE * wait_ns), self.reason)
        return ""

    def _hold(self, now_ns: int, coordinator: Coordinator, until_ns: int, why: str) -> None:
        coordinator.held_until_ns = until_ns
        coordinator.trace.fault(now_ns, -1, coordinator.roster.arrivals, "hold", why)

    def _changed(self) -> str:
        tasks_s = 1e-9 * self._tasks_ns.mean(axis=1)
        name, candidates = self._next, self._choice.candidates
        tasks_s = tasks_s * candidates[name].timing.work / self._own.timing.work
        self.chosen = self._choice.build(name, tasks_s, self._components)
        return self.reason

    def _held(self, now_ns: int, coordinator: Coordinator) -> str:
        """Return the reason for the change once all workers have answered; call it off if one is late."""
        roster, self._version = coordinator.roster, coordinator.version
        answered, whole = roster.awaited.count(0), len(roster.living) == self._workers
        if roster.arrivals == self._arrivals:  # at the start
            return ""
        if whole and answered == self._workers:
            if not self._next:
                self._review(now_ns, coordinator)
            if self._next:
                return self._changed()
            coordinator.held_until_ns = now_ns
        elif coordinator.held_until_ns == NEVER_NS:
            coordinator.held_until_ns = math.ceil(now_ns + EVEN * (now_ns - self._from_ns))
        if not whole or now_ns >= coordinator.held_until_ns:
            coordinator.held_until_ns, self._next = 0, ""
            coordinator.trace.fault(now_ns, -1, roster.arrivals, "release", "it keeps its preset")
        return ""

    def _wait_ns(self, now_ns: int, coordinator: Coordinator) -> tuple[float, float]:
        """Return the expected wait for all workers, and the time that it costs a worker in the mean."""
        usual_ns, elapsed_ns = self._elapsed_ns(now_ns, coordinator)
        late = elapsed_ns > LATE * usual_ns
        left_ns = np.where(late, math.inf, np.maximum(usual_ns - elapsed_ns, 0))
        left_ns[np.array(coordinator.roster.awaited) == 0] = 0
        self._slowest, longest_ns = int(left_ns.argmax()), float(left_ns.max())
        return max(longest_ns, float(usual_ns.mean())), longest_ns - float(left_ns.mean())

    def _elapsed_ns(self, now_ns: int, coordinator: Coordinator) -> tuple[np.ndarray, np.ndarray]:
        """Return each worker's mean time from dispatch to arrival, and its current task's time so far."""
        roster = coordinator.roster
        usual_ns = np.nanmean(roster.times.last(np.arange(self._workers), RECENT), axis=1)
        in_flight = np.array(roster.awaited) > 0
        return usual_ns, np.where(in_flight, now_ns - np.array(roster.begun_ns), 0)

    def _with_late(self, now_ns: int, coordinator: Coordinator, own_ns: np.ndarray) -> np.ndarray:
        """Add the tasks in flight that are late, with the time so far."""
        usual_ns, elapsed_ns = self._elapsed_ns(now_ns, coordinator)
        late = elapsed_ns > LATE * usual_ns
        own_ns[late, 1:] = own_ns[late, :-1]
        own_ns[late, 0] = np.nanmean(own_ns[late], axis=1) * (elapsed_ns / usual_ns)[late]
        return own_ns


def typical(tasks_ns: np.ndarray) -> np.ndarray:
    """Return tasks that stand for each worker's tasks, shape (n, `DRAWS`), given some of them, shape (n, m).

    A worker whose mean differs from the usual one by more than chance repeats its own tasks. Those of the
    others are drawn from the tasks of all of them.
    """
    logs, counts = np.log(tasks_ns), np.isfinite(tasks_ns).sum(axis=1)
    means = np.nanmean(logs, axis=1)
    usual, free = np.median(means), int((counts - 1).sum())
    squares = float(np.nansum((logs - means[:, None]) ** 2))
    spread = math.sqrt(squares / free) if free else float(means.std())
    own = np.abs(means - usual) > DIFFERS * spread / np.sqrt(counts)
    drawn = np.array([np.resize(each[:count], DRAWS) for each, count in zip(tasks_ns, counts, strict=True)])
    if len(common := tasks_ns[~own]):
        drawn[~own] = np.random.default_rng(0).choice(common[np.isfinite(common)], (len(common), DRAWS))
    return drawn
