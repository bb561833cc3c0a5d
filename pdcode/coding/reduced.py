"""Rank 0's state where workers add up their payloads, and each worker has a state of the scheme."""

from collections.abc import Sequence
from typing import Any

from ..transport.base import Arrival
from ..transport.layout import Layout
from ..transport.messages import Order
from .replica import ReplicaError, digest
from .state import State


class ReducedState(State):
    """State that follows the workers' states: the last arrival of a round has the sum of the payloads.

    `state` is built as the workers'. Digests of θ are compared every `check` updates.
    """

    state_names = ("_state", "_order", "_arrived", "_version", "digest")

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
            order = self._state.order(worker, task)
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


def due_digest(state: State, version: int, check: int) -> int:
    """Return the digest of θ at this version, 0 if no comparison is due."""
    return 0 if version % check else digest(state.theta)
