"""State of schemes that decode the results of all workers together; some results may be wrong."""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from ..coding.optimizers import Optimizer
from ..coding.policies import Progress
from ..coding.state import State
from ..problems import Problem, of_network
from ..transport.base import Arrival
from ..transport.layout import Layout

SAMPLED_SETS = 200  # random sets of results for which condition numbers are computed


class DecodedState(State):
    """State of a round: the workers' results, from which a linear model's gradient is decoded.

    At most `liars` results are wrong; for 0 none are searched for. Fewer than `least` results cannot be
    decoded, even if all are correct.
    """

    state_names = (*State.state_names, "_workers", "_numbers", "_arrived", "_wrong", "_version")
    _workers: list[int]  # workers with a result in this round
    _numbers: list[int]  # numbers of the arrivals of these results since the last step
    _arrived: int
    _wrong: list[int] | None  # places of wrong results; None: not known, or too many

    def __init__(
        self,
        theta: np.ndarray,
        optimizer: Optimizer,
        layouts: Sequence[Layout],
        problem: Problem,
        liars: int,
        least: int,
    ) -> None:
        self.theta, self.optimizer, self.layouts = theta, optimizer, layouts
        self.robust, self._liars, self._least = liars > 0, liars, least
        (self._layer,), self._network = problem.layers, of_network(problem, "a code over data").model
        self._version = 0

    @abstractmethod
    def _store(self, payload: np.ndarray) -> None:
        """Store one more result, shape (1, elements)."""

    @abstractmethod
    def _fraction(self) -> float:
        """Return the fraction of the needed results that have arrived; 1: the gradient can be decoded."""

    @abstractmethod
    def _locate(self) -> list[int] | None:
        """Return the places of wrong results among the stored ones; None if there are too many."""

    def fold(self, arrival: Arrival) -> float:
        (payload,) = arrival.payloads
        if arrival.worker not in self._workers:  # a worker that has rejoined may already have a result
            self._store(payload)
            self._workers.append(arrival.worker)
            self._numbers.append(self._arrived)
        self._arrived += 1
        fraction = self._fraction()
        self._wrong = self._locate() if fraction >= 1 else None
        return 1.0 if self._wrong is not None else min(fraction, 1 - 1 / (1 + len(self._workers)))

    def ready(self, progress: Progress, expected: int) -> bool:
        if self._wrong is None and expected == 0 and len(self._workers) >= self._least:
            # Results that were refused, or of the dead, are erasures.
            self._wrong = self._locate()
        if self._wrong is None and expected == 0:
            number = f"round {self.round} of update" if len(self.layouts) > 1 else "update"
            count = len(self._workers)
            reason = f"{count} results, and {self._least} are needed"
            if count >= self._least:
                most = min(self._liars, (count - self._least) // 2)
                reason = f"more than {most} of {count} results contradict the others"
            self.stuck = f"{number} {self._version} cannot be decoded: {reason}"
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

    def _correct_places(self) -> np.ndarray:
        """Return the places of results that are not wrong."""
        return np.setdiff1d(np.arange(len(self._workers)), self._wrong or [])

    def _apply_derivatives(self, inputs: np.ndarray, derivatives: np.ndarray, damping: float) -> float:
        """Step along the loss's derivatives by the weights of some inputs, plus the penalty's.

        The derivatives have shape (outputs, inputs). Returns the Euclidean norm of the step.
        """
        gradient, weights, network = self.optimizer.whole_gradient, self._layer.weights, self._network
        gradient.fill(0)
        weights(gradient)[:, inputs] = derivatives
        if network.l2:
            some = inputs if network.penalise_bias else inputs[inputs != self._layer.inputs]
            weights(gradient)[:, some] += self.theta.dtype.type(network.l2) * weights(self.theta)[:, some]
        norm = self.optimizer.step_whole(self.theta, damping)
        self._version += 1
        return norm
