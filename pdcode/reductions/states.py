"""Rank 0's state where workers add up their payloads, and each worker has a state of the scheme."""

from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from operator import itemgetter
from typing import Any, ClassVar

import numpy as np

from ..coding.relay import RelayedState
from ..coding.replica import ReplicaError, digest
from ..coding.state import Coded, State
from ..config import Config
from ..transport.base import Arrival
from ..transport.layout import RETURNED, Codewords, Layout
from ..transport.messages import NO_WORKERS, Order
from ..transport.sums import REQUEST_BYTES, Mean, Total
from .owners import Owner, Owners, assigned


class ReducedState(State):
    """State that follows the workers' states: the last arrival of a round has the sum of the payloads.

    `state` is built as the workers'. Digests of θ are compared every `check` updates.
    """

    state_names: ClassVar[tuple[str, ...]] = ("_state", "_order", "_arrived", "_version", "digest")

    def __init__(self, state: State, workers: int, check: int) -> None:
        self.layouts: Sequence[Layout] = state.layouts
        self.theta, self.optimizer = state.theta, state.optimizer
        self.designs, self.assignment, self.policy = state.designs, state.assignment, state.policy
        self._state, self._workers, self._check = state, workers, check
        self._order: list[Any] | None = None  # row, codewords and round of the task, of all workers
        self._arrived = self._version = 0
        self.digest = digest(self.theta)

    @property
    def round(self) -> int:  # type: ignore[override]
        return self._state.round

    def order(self, worker: int, task: int) -> Order:
        if self._order is None:
            order = self._state.order(0, task)
            assert order is not None
            self._order = [order.row, order.codewords, order.round]
        row, codewords, number = self._order
        return Order(row, codewords, (), round=number)  # workers have θ, and need no body

    def continue_at(self, version: int) -> None:
        self._version, self.digest = version, due_digest(self._state, version, self._check)

    def fold(self, arrival: Arrival) -> float:
        if arrival.digest not in (0, self.digest):
            raise ReplicaError(
                f"reduce.kind: worker {arrival.worker}'s θ differs from rank 0's at version {arrival.version}"
            )
        self._arrived += 1
        return 0.0 if self._arrived < self._workers else self._state.fold(arrival)

    def step(self, damping: float) -> float | None:
        norm = self._state.step(damping)
        self.wrapped = self._state.wrapped
        self._order, self._arrived = None, 0
        if norm is not None:
            self._version += 1
            self.digest = due_digest(self._state, self._version, self._check)
        return norm


Gathered = tuple[int, int, Codewords, list[np.ndarray]]
"""Worker, task, codewords and payload of an arrival."""


class GatheringState(ReducedState):
    """State that also adds the payloads up, for workers without states: on the virtual clock.

    `total` is the buffer of the sum, or the mean. All payloads of an update have the same codewords.
    """

    state_names = (*ReducedState.state_names, "_payloads")

    def __init__(self, state: State, config: Config, total: Total) -> None:
        super().__init__(state, config.workers.count, config.reduce.check)
        self.total = total
        self._payloads: list[Gathered] = []  # since the last step
        self._body = [state.theta.view(np.uint8)]

    @abstractmethod
    def add_up(self, gathered: Sequence[Gathered]) -> None:
        """Write the sum of payloads, in the order of their workers, to the segments of `total`."""

    def order(self, worker: int, task: int) -> Order:
        order = super().order(worker, task)
        return Order(order.row, order.codewords, self._body)

    def fold(self, arrival: Arrival) -> float:
        self._payloads.append((arrival.worker, arrival.task, arrival.codewords, arrival.payloads))
        return 0.0 if len(self._payloads) < self._workers else self._fold_sum()

    def step(self, damping: float) -> float | None:
        if len(self._payloads) < self._workers:  # another payload was refused
            self._fold_sum()
        self._payloads.clear()
        return super().step(damping)

    def _fold_sum(self) -> float:
        """Fold the sum of the payloads in; return the captured fraction of the gradient."""
        self.add_up(sorted(self._payloads, key=itemgetter(0)))
        self.total.assemble()
        _, _, self.total.arrival.codewords, _ = self._payloads[0]
        return self._state.fold(self.total.arrival)


class AveragingState(GatheringState):
    """State that does the work of all owners."""

    state_names = (*GatheringState.state_names, "_owners")

    def __init__(self, state: State, config: Config) -> None:
        workers, layout = config.workers.count, state.layouts[0]
        super().__init__(state, config, Mean(layout, 0, workers))
        self._owners = [Owner(config, layout, worker) for worker in range(workers)]

    def add_up(self, gathered: Sequence[Gathered]) -> None:
        tasks, (_, first, codewords, _) = {worker: task for worker, task, *_ in gathered}, self._payloads[0]
        for worker, (owner, segment) in enumerate(zip(self._owners, self.total.segments, strict=True)):
            for *_, payloads in gathered:
                owner.add(codewords, payloads[owner.fields])
            segment[REQUEST_BYTES:] = owner.average(codewords, tasks.get(worker, first))


def due_digest(state: State, version: int, check: int) -> int:
    """Return the digest of θ at this version, 0 if no comparison is due."""
    return 0 if version % check else digest(state.theta)


def captured_share(layout: Layout) -> float:
    """Return the share of θ's elements that a payload of this layout has."""
    sent = sum(r * unit.elements for unit, r in zip(layout.units, layout.rows, strict=True))
    return min(1.0, sent / layout.parameters)


Average = Callable[[Mean, Sequence[int], int], Collection[int]]
"""Function (segments of a mean, members of an update, its number) -> members whose payloads are left out.

It writes the rounded mean of the others' payloads to the segments.
"""


class FirstState(RelayedState):
    """State of the mean of the first payloads of an update, which their workers compute among themselves.

    The log has the means. The *members* of an update, the workers with these payloads, have its mean already;
    other workers get it with their next task. All tasks of an update have the same codewords.

    Attributes
    ----------
    average : Average
        Has the members exchange their payloads; by default the payloads are those that have arrived.
    omitted : set of (int, int)
        Worker and task of the payloads that the last update has left out, as their workers did not respond in
        the exchange.
    members : int
        Number of members of the last update.
    """

    # In a run whose state is saved here, no payload is left out.
    state_names = (*RelayedState.state_names, "_current", "_arrivals", "_owners", "_version")

    def __init__(self, state: Coded, config: Config) -> None:
        super().__init__(state, config.workers.count, config.reduce.check, exchanged=True)
        self._min_entries, self._mean = 2, Mean(self.layouts[0], 0, config.reduction.owners)
        self._current: list[Any] | None = None  # row and codewords of the tasks of this update
        # Worker, task and payload of each arrival since the last step.
        self._arrivals: list[tuple[int, int, list[np.ndarray]]] = []
        self._version = 0  # of θ at which they are
        self.average: Average = self._average_here
        self._owners = Owners(config, self.layouts[0])
        self.omitted: set[tuple[int, int]] = set()
        self.members = 0
        self._captured = captured_share(self.layouts[0])

    def _codewords(self, worker: int, task: int) -> Order:
        if self._current is None:
            order = super()._codewords(0, task)
            self._current = [order.row, order.codewords]
        flags = RETURNED if (worker, task - 1) in self.omitted else 0
        row, codewords = self._current
        return Order(row, codewords, (), flags)

    def body_bytes(self, workers: int, number: int = 0) -> tuple[int, int]:
        return min(self.entry_bytes, self.snapshot_bytes), 0  # one mean, and all workers have the same log

    def _update_excluded(self) -> np.ndarray:
        return NO_WORKERS

    def fold(self, arrival: Arrival) -> float:
        self._arrivals.append((arrival.worker, arrival.task, arrival.payloads))
        self._version = arrival.version
        return self._captured

    def step(self, damping: float) -> float | None:
        self._arrivals.sort(key=itemgetter(0))
        members = {worker: task for worker, task, _ in self._arrivals}
        self.members = len(members)
        left_out = self.average(self._mean, list(members), self._version)
        self.omitted = {(worker, members[worker]) for worker in left_out}
        if present := [worker for worker in members if worker not in left_out]:
            assert self._current is not None
            self._mean.assemble()
            mean = self._mean.arrival
            mean.row, mean.codewords = self._current
            mean.worker, mean.task = present[0], self._version
            self._log_arrival(mean, np.setdiff1d(np.arange(self._workers), present))
            factor = self.policy.table.step_factor
            damping *= factor(len(present), self._workers) / factor(len(members), self._workers)
            self._state.fold(mean)
        self._current = None
        self._arrivals.clear()
        return super().step(damping)

    def _average_here(self, mean: Mean, members: Sequence[int], version: int) -> Collection[int]:
        """Do the owners' work, with the payloads that have arrived."""
        arrivals = [each for each in self._arrivals if each[:2] not in self.recorded]
        present = [worker for worker, *_ in arrivals]
        if present:
            assert self._current is not None
            owners, (_, codewords) = self._owners, self._current
            for number, worker in enumerate(assigned(present, len(mean.segments))):
                own = owners.owners[number].fields
                payloads = (payloads[own] for *_, payloads in arrivals)
                mean.segments[number][REQUEST_BYTES:] = owners.average(
                    worker, number, payloads, len(present), codewords, version
                )
            owners.resolve(True)
        return [worker for worker in members if worker not in present]

    def resumed(self) -> None:
        super().resumed()
        self._current = None

    def joined(self, worker: int) -> None:
        super().joined(worker)
        self._owners.forget(worker)

    @property
    def is_between_updates(self) -> bool:
        """Whether no payload of this update has arrived."""
        return not self._arrivals

    def undelivered_payloads(self, worker: int, sender: int | None = None) -> Sequence[np.ndarray]:
        return [  # of whichever sender, as all members have sent parts of each mean
            self._format.forwarded(each.content)
            for each in self._last_entries[worker]
            if each.sender >= 0 and each.reaches(worker)
        ]
