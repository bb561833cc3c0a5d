"""Sources: the vectors of θ's size that workers encode, such as the gradient of a mini-batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from ..transport.messages import Task
from ..util.rng import BatchSampler
from ..util.stateful import Stateful

if TYPE_CHECKING:
    from ..problems import GradientPlan


class Source(Stateful, ABC):
    """Computation of the vector that a worker encodes.

    Attributes
    ----------
    gradient : ndarray, shape (size,)
        The vector of the last task; the same array every time.
    """

    gradient: np.ndarray

    @abstractmethod
    def __call__(self, theta: np.ndarray, task: Task) -> float:
        """Compute the vector of a task at θ; return the mini-batch loss."""


class BatchGradient(Source):
    """The gradient of a task's mini-batch, of rows that `batches` draws.

    They are drawn by task, or by the version of θ if `common`. `plan` is built with the reply's payload if
    `coded` is used.
    """

    def __init__(self, plan: GradientPlan, batches: BatchSampler, common: bool = False) -> None:
        self._plan, self._batches, self._common = plan, batches, common

    @property
    def gradient(self) -> np.ndarray:  # type: ignore[override]  # not allocated for `coded`
        return self._plan.full_gradient

    def __call__(self, theta: np.ndarray, task: Task) -> float:
        number = self._number(task)
        return self._plan.gradient(theta, self._batches.draw(number), self._batches.key(number))

    def coded(self, theta: np.ndarray, task: Task) -> float:
        """Compute the task's payload without forming the gradient; return the mini-batch loss."""
        number = self._number(task)
        rows, key = self._batches.draw(number), self._batches.key(number)
        return self._plan.coded_derivative(theta, rows, task.codewords, key)

    def _number(self, task: Task) -> int:
        return task.version if self._common else task.task
