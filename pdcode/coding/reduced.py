"""Rank 0's state where workers add up their payloads, and each worker has a state of the scheme."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, ClassVar

import numpy as np

from ..config import Config
from ..transport.base import Arrival
from ..transport.layout import Codewords, Layout
from ..transport.messages import Order
from ..transport.sums import REQUEST_BYTES, Mean
from .owner import Owner
from .replica import ReplicaError, digest
from .state import State


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
            self._order = [order.row, order.codewords, order.round]
        row, codewords, number = self._order
        return Order(row, codewords, (), round=number)  # workers have θ, and need no body

    def fold(self, arrival: Arrival) -> float:
        if arrival.digest not in (0, self.digest):
            raise ReplicaError(
                f"reduce.kind 'allreduce': worker {arrival.worker}'s θ differs from rank 0's at version "
                f"{arrival.version}"
            )
        self._arrived += 1
        return 0.0 if self._arrived < self._workers else self._state.fold(arrival)

    def step(self, damping: float) -> float | None:
        norm = self._state.step(damping)
        self._order, self._arrived = None, 0
        if norm is not None:
            self._version += 1
            self.digest = due_digest(self._state, self._version, self._check)
        return norm


class AveragingState(ReducedState):
    """State that also does the work of all owners, for workers without states: on the virtual clock."""

    state_names = (*ReducedState.state_names, "_owners", "_payloads")

    def __init__(self, state: State, config: Config) -> None:
        workers = config.workers.count
        super().__init__(state, workers, config.reduce.check)
        self._mean = Mean(state.layouts[0], 0, workers)
        self._owners = [Owner(config, state.layouts[0], worker) for worker in range(workers)]
        # Worker, task, codewords and payload of each arrival since the last step.
        self._payloads: list[tuple[int, int, Codewords, list[np.ndarray]]] = []
        self._body = [state.theta.view(np.uint8)]

    def order(self, worker: int, task: int) -> Order:
        order = super().order(worker, task)
        return Order(order.row, order.codewords, self._body)

    def fold(self, arrival: Arrival) -> float:
        self._payloads.append((arrival.worker, arrival.task, arrival.codewords, arrival.payloads))
        return 0.0 if len(self._payloads) < self._workers else self._average()

    def step(self, damping: float) -> float | None:
        if len(self._payloads) < self._workers:  # another payload was refused
            self._average()
        self._payloads.clear()
        return super().step(damping)

    def _average(self) -> float:
        """Fold the mean of the payloads in; return the captured fraction of the gradient."""
        _, task, codewords, _ = self._payloads[0]
        in_order = sorted(self._payloads, key=itemgetter(0))
        for owner, segment in zip(self._owners, self._mean.segments, strict=True):
            for *_, payloads in in_order:
                owner.add(codewords, payloads[owner.fields])
            segment[REQUEST_BYTES:] = owner.average(codewords, task)
        self._mean.assemble()
        self._mean.arrival.codewords = codewords
        return self._state.fold(self._mean.arrival)


def due_digest(state: State, version: int, check: int) -> int:
    """Return the digest of θ at this version, 0 if no comparison is due."""
    return 0 if version % check else digest(state.theta)
