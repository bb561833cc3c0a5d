"""What a worker codes: a vector of θ's size, such as the gradient of a mini-batch."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ..problems import Plan
from ..transport.messages import Task
from ..util.rng import Batches


class Source(Protocol):
    """Computes the vector that a worker codes.

    Attributes
    ----------
    gradient : ndarray, shape (size,)
        Where the vector is left; the same array for every task.
    """

    @property
    def gradient(self) -> np.ndarray: ...

    def __call__(self, theta: np.ndarray, task: Task) -> float:
        """Compute the vector of a task at θ; return the mini-batch loss."""


class Batch:
    """The gradient of a task's mini-batch.

    Parameters
    ----------
    plan : Plan
        Of the worker's problem; with the reply's payload if `coded` is used.
    batches : Batches
        Rows of each task.
    """

    def __init__(self, plan: Plan, batches: Batches) -> None:
        self._plan, self._batches = plan, batches

    @property
    def gradient(self) -> np.ndarray:
        return self._plan.full_gradient

    def __call__(self, theta: np.ndarray, task: Task) -> float:
        return self._plan.gradient(theta, self._batches.draw(task.task))

    def coded(self, theta: np.ndarray, task: Task) -> float:
        """Leave the task's combinations of blocks in the payload, without forming the gradient."""
        return self._plan.coded_derivative(theta, self._batches.draw(task.task), task.codewords)
