"""State of schemes that decode the results of all workers together, some of which may be wrong."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ...coding.optimizers import Optimizer
from ...coding.policies import Seen
from ...coding.state import State
from ...decoders.summing import SummingDecoder
from ...problems import Problem
from ...problems.partition import Unit
from ...transport.base import Arrival
from ...transport.layout import Layout

PATTERNS = 200  # random sets of results for which condition numbers are computed


class DecodedState(State):
    """State with the results of a round, of a linear model's gradient.

    Parameters
    ----------
    theta : ndarray, shape (size,)
    optimizer : Optimizer
    layouts : sequence of Layout
    problem : Problem
        Rank 0's: a linear model.
    liars : int
        Largest number of wrong results; 0: none are looked for.
    """

    transient: ClassVar[tuple[str, ...]] = "_layer", "_network"  # in snapshots
    _workers: list[int]  # whose results are here …
    _numbers: list[int]  # … and which arrivals since the last step brought them
    _arrived: int
    _wrong: list[int] | None  # places of wrong results; None: not known, or too many

    def __init__(
        self,
        theta: np.ndarray,
        optimizer: Optimizer,
        layouts: Sequence[Layout],
        problem: Problem,
        liars: int,
    ) -> None:
        self.theta, self.optimizer, self.layouts = theta, optimizer, layouts
        self.robust = liars > 0
        (self._layer,), self._network = problem.layers, problem.network
        self._units, self._decoders = (
            [Unit(0, len(theta), 1)],
            [SummingDecoder(1, (len(theta),), theta.dtype)],
        )
        self._version = 0

    @abstractmethod
    def _keep(self, payload: np.ndarray) -> None:
        """Keep one more result, shape (1, elements)."""

    @abstractmethod
    def _share(self) -> float:
        """Return the share of the results needed that are here; 1: they are enough."""

    @abstractmethod
    def _locate(self) -> list[int] | None:
        """Return the places of wrong results among those that are here; None if there are too many."""

    @abstractmethod
    def _obstacle(self) -> str:
        """Say why the results that are here cannot be decoded."""

    def fold(self, arrival: Arrival) -> float:
        (payload,) = arrival.payloads
        if arrival.worker not in self._workers:  # one that has died and is back may have answered already
            self._keep(payload)
            self._workers.append(arrival.worker)
            self._numbers.append(self._arrived)
        self._arrived += 1
        share = self._share()
        self._wrong = self._locate() if share >= 1 else None
        return 1.0 if self._wrong is not None else min(share, 1 - 1 / (1 + len(self._workers)))

    def ready(self, seen: Seen, expected: int) -> bool:
        if self._wrong is None and expected == 0:
            number = f"round {self.round} of update" if len(self.layouts) > 1 else "update"
            self.stuck = f"{number} {self._version} cannot be decoded: {self._obstacle()}"
        return self._wrong is not None

    @property
    def flagged(self) -> list[int]:
        return [self._numbers[place] for place in self._wrong or []]

    def resumed(self) -> None:
        self._begin()

    def _begin(self) -> None:
        """Begin a round."""
        self._workers, self._numbers, self._arrived = [], [], 0
        self._wrong, self.stuck = None, ""

    def _right(self) -> np.ndarray:
        """Return the places of results that are not wrong."""
        return np.setdiff1d(np.arange(len(self._workers)), self._wrong or [])

    def _step_along(self, inputs: np.ndarray, derivatives: np.ndarray, damping: float) -> float:
        """Step along the derivatives of the loss by the weights of some inputs, and those of the penalty.

        Parameters
        ----------
        inputs : ndarray of int
        derivatives : ndarray, shape (outputs, inputs)
        damping : float

        Returns
        -------
        float
            Euclidean norm of the step.
        """
        gradient, weights, network = self._decoders[0].accumulator, self._layer.weights, self._network
        gradient.fill(0)
        weights(gradient)[:, inputs] = derivatives
        if network.l2:
            some = inputs if network.penalise_bias else inputs[inputs != self._layer.inputs]
            weights(gradient)[:, some] += self.theta.dtype.type(network.l2) * weights(self.theta)[:, some]
        norm = self.optimizer.step(self.theta, self._units, self._decoders, damping)
        self._version += 1
        return norm
