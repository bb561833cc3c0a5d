"""Methods: from the values and derivatives at a point to trial points, and which of them to accept.

Trial points are tried side by side, with several damping factors or step lengths, as workers are idle then.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from ..util.stateful import Stateful

LADDER = 0, -1, 1, -2, 2, -3, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12  # exponents of the trials, in their order
GOOD, POOR = 0.75, 0.25  # ratios of actual to predicted decrease
LEAST = 1e-4  # least ratio of a step that is accepted


class Trial(NamedTuple):
    """A trial point, the decrease of the cost that it is expected to bring, and its place on the ladder."""

    x: np.ndarray
    predicted: float
    rung: int


class Method(Stateful, ABC):
    """Method of minimisation.

    Parameters
    ----------
    k : int
        Number of parameters.
    tolerance : float
        Relative change of the cost, and of the parameters, at which the search has converged.
    lower, upper : ndarray of float64, shape (k,)
        Bounds of the parameters.
    """

    def __init__(self, k: int, tolerance: float, lower: np.ndarray, upper: np.ndarray) -> None:
        self.tolerance, self._lower, self._upper = tolerance, lower, upper
        self._trials = dict[int, Trial | None]()  # at the point, by number

    @staticmethod
    @abstractmethod
    def cost(values: np.ndarray) -> float:
        """Return the cost of the values of an evaluation."""

    def prepare(self, x: np.ndarray, values: np.ndarray, jacobian: np.ndarray) -> str:
        """Take values and derivatives at a point; return why the search has converged, or nothing."""
        self._trials.clear()
        return self._prepare(x, values, jacobian)

    @abstractmethod
    def _prepare(self, x: np.ndarray, values: np.ndarray, jacobian: np.ndarray) -> str:
        pass

    def trial(self, number: int) -> Trial | None:
        """Return a trial point by its number; None: there is no further one."""
        if number not in self._trials:
            self._trials[number] = self._trial(LADDER[number]) if number < len(LADDER) else None
        return self._trials[number]

    @abstractmethod
    def _trial(self, rung: int) -> Trial:
        """Return the trial point at a place on the ladder."""

    @abstractmethod
    def accepted(self, trial: Trial, ratio: float) -> None:
        """Note that a trial point is the next point, given the ratio of actual to predicted decrease."""

    def free(self, x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Return which parameters a step may change: not those that it would take beyond their bound."""
        held = ((x <= self._lower) & (gradient > 0)) | ((x >= self._upper) & (gradient < 0))
        return ~held

    def ended(self, x: np.ndarray, cost: float, trial: Trial, decrease: float) -> str:
        """Return why the search has converged with a step to a trial point, or nothing."""
        tolerance = self.tolerance
        if max(decrease, trial.predicted) <= tolerance * cost:
            return f"converged: the cost falls by less than {tolerance:g} of it"
        if np.linalg.norm(trial.x - x) <= tolerance * (tolerance + np.linalg.norm(x)):
            return f"converged: the parameters change by less than {tolerance:g} of them"
        return ""


class LevenbergMarquardt(Method):
    """Least squares: ½‖r‖² by steps ``-(JᵀJ + λ D)⁻¹ Jᵀ r``.

    Marquardt, "An algorithm for least-squares estimation of nonlinear parameters", 1963; D, the largest
    diagonal of JᵀJ so far, as in Moré, "The Levenberg–Marquardt algorithm: implementation and theory", 1978.
    Trials have λ times powers of 4.
    """

    state_names = ("damping", "_scale")

    def __init__(self, k: int, tolerance: float, lower: np.ndarray, upper: np.ndarray) -> None:
        super().__init__(k, tolerance, lower, upper)
        self.damping = 1e-3
        self._scale = np.zeros(k)

    @staticmethod
    def cost(values: np.ndarray) -> float:
        return 0.5 * float(values @ values)

    def _prepare(self, x: np.ndarray, values: np.ndarray, jacobian: np.ndarray) -> str:
        self._x, self._r, self._j = x, values, jacobian
        self._gradient, self._normal = jacobian.T @ values, jacobian.T @ jacobian
        np.maximum(self._scale, self._normal.diagonal(), out=self._scale)
        self._free = self.free(x, self._gradient)
        lengths = np.linalg.norm(values) * np.sqrt(self._normal.diagonal())
        slopes = np.abs(self._gradient)[self._free] / np.where(lengths > 0, lengths, 1.0)[self._free]
        if slopes.max(initial=0.0) <= self.tolerance:
            return f"converged: residuals and derivatives are orthogonal within {self.tolerance:g}"
        return ""

    def _trial(self, rung: int) -> Trial:
        free, scale = self._free, np.where(self._scale > 0, self._scale, 1.0)
        damped = self._normal + np.diag(self.damping * 4.0**rung * scale)
        free, x = free.copy(), self._x.copy()
        while free.any():  # parameters that cross a bound stay at it, and the others are solved for again
            slopes = self._gradient + damped @ (x - self._x)
            step = np.linalg.lstsq(damped[np.ix_(free, free)], slopes[free], rcond=None)[0]
            x[free] -= step
            crossing = free & ((x < self._lower) | (x > self._upper))
            if not crossing.any():
                break
            x = np.where(free & ~crossing, self._x, np.clip(x, self._lower, self._upper))
            free &= ~crossing
        left = self._r + self._j @ (x - self._x)
        return Trial(x, self.cost(self._r) - self.cost(left), rung)

    def accepted(self, trial: Trial, ratio: float) -> None:
        factor = 0.1 if ratio > GOOD else 4.0 if ratio < POOR else 1.0
        self.damping = min(1e12, max(1e-15, self.damping * 4.0**trial.rung * factor))


class BFGS(Method):
    """One value: quasi-Newton steps by the update of Broyden, Fletcher, Goldfarb and Shanno.

    The inverse Hessian begins as a multiple of the identity, by the first step (Nocedal and Wright,
    "Numerical Optimization", 2006, section 6.1). Trials have lengths of powers of a half; parameters at a
    bound that they would cross stay there.
    """

    state_names = ("_inverse", "_x_before", "_gradient_before", "_steps")

    def __init__(self, k: int, tolerance: float, lower: np.ndarray, upper: np.ndarray) -> None:
        super().__init__(k, tolerance, lower, upper)
        self._inverse = np.eye(k)
        self._x_before, self._gradient_before = np.zeros(k), np.zeros(k)
        self._steps = 0  # accepted steps

    @staticmethod
    def cost(values: np.ndarray) -> float:
        return float(values[0])

    def _prepare(self, x: np.ndarray, values: np.ndarray, jacobian: np.ndarray) -> str:
        self._x, gradient = x, jacobian[0]
        s, y = x - self._x_before, gradient - self._gradient_before
        if self._steps and (sy := float(s @ y)) > 1e-10 * np.linalg.norm(s) * np.linalg.norm(y):
            if self._steps == 1:
                self._inverse[:] = np.eye(len(x)) * (sy / float(y @ y))
            left = np.eye(len(x)) - np.outer(s, y) / sy
            self._inverse[:] = left @ self._inverse @ left.T + np.outer(s, s) / sy
        self._x_before[:], self._gradient_before[:] = x, gradient
        self._gradient, self._free = gradient, self.free(x, gradient)
        most = np.abs(gradient[self._free]).max(initial=0.0)
        if most * max(1.0, np.abs(x).max()) <= self.tolerance * max(1.0, abs(self.cost(values))):
            return f"converged: the gradient is at most {most:.2g}"
        return ""

    def _trial(self, rung: int) -> Trial:
        free, direction = self._free, np.zeros(len(self._free))
        direction[free] = -self._inverse[np.ix_(free, free)] @ self._gradient[free]
        if direction @ self._gradient >= 0:
            direction = np.where(free, -self._gradient, 0.0)
        if not self._steps:  # the first step has length 1 at most
            direction /= max(1.0, float(np.linalg.norm(direction)))
        x = np.clip(self._x + 0.5**rung * direction, self._lower, self._upper)
        return Trial(x, max(0.0, -float(self._gradient @ (x - self._x))), rung)

    def accepted(self, trial: Trial, ratio: float) -> None:
        self._steps += 1


class Derivatives(LevenbergMarquardt):
    """No step: the search ends with the Jacobian at the start."""

    def _prepare(self, x: np.ndarray, values: np.ndarray, jacobian: np.ndarray) -> str:
        return "the Jacobian is known"
