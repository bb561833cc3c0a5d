"""Methods: from the values and derivatives at a point to trial points, and which of them to accept.

Trial points are tried side by side, with several radii or step lengths, as workers are idle then.
"""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from scipy.optimize._lsq.common import solve_lsq_trust_region

from ..util.stateful import Stateful

FARTHEST = 100.0  # first radius, relative to the parameters
SHORTEST = 1e-14  # least radius of a trial, relative to the first
LADDER = 0, -1, 1, -2, 2, -3, *range(3, 13)  # exponents of halved lengths, in the order of trials
GOOD, POOR = 0.75, 0.25  # ratios of actual to predicted decrease
LEAST = 1e-4  # least ratio of a step that is accepted


class Trial(NamedTuple):
    """A trial point, and the decrease of the cost that it is expected to bring."""

    x: np.ndarray
    predicted: float


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
        self._d = np.ones(k)  # scales of the parameters
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
            self._trials[number] = self._trial(number)
        return self._trials[number]

    @abstractmethod
    def _trial(self, number: int) -> Trial | None:
        pass

    @property
    def beside(self) -> float:
        """Number of trials that it is worth to evaluate side by side."""
        return math.inf

    def rejected(self, number: int, decrease: float) -> None:
        """Note by how much the cost decreases at a trial point that is not accepted yet; -inf: it fails."""
        return

    @abstractmethod
    def accepted(self, number: int, ratio: float) -> None:
        """Note that a trial point is the next point, given the ratio of actual to predicted decrease."""

    def free(self, x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Return which parameters a step may change: not those that it would take beyond their bound."""
        held = ((x <= self._lower) & (gradient > 0)) | ((x >= self._upper) & (gradient < 0))
        return ~held

    def ended(self, x: np.ndarray, cost: float, trial: Trial, decrease: float) -> str:
        """Return why the search has converged with a step to a trial point, or nothing."""
        tolerance = self.tolerance
        falls = max(decrease, trial.predicted) <= tolerance * cost
        if falls and decrease <= 2 * trial.predicted:  # where it falls by more it may fall faster yet
            return f"converged: the cost falls by less than {tolerance:g} of it"
        length, least = np.linalg.norm(self._d * x), np.linalg.norm(self._d)
        if np.linalg.norm(self._d * (trial.x - x)) <= tolerance * (tolerance * least + length):
            return f"converged: the parameters change by less than {tolerance:g} of them"
        return ""


class LevenbergMarquardt(Method):
    """Least squares: ½‖r‖² by steps that minimise ‖r + J p‖ within ‖D p‖ ≤ Δ.

    Moré, "The Levenberg–Marquardt algorithm: implementation and theory", 1978, with the constants of MINPACK:
    D, the largest norms of the columns of J so far; Δ, the radius, at first 100 ‖D x‖. After a trial that is
    rejected, the radius of the next one is Moré's. One beside a trial that is under way has twice its radius,
    if its step was shortened, or a quarter.
    """

    state_names = ("_radius", "_scale", "_most", "_tried", "_shorter")
    state_types = (("_tried", list[float]), ("_shorter", list[list[float]]))

    def __init__(self, k: int, tolerance: float, lower: np.ndarray, upper: np.ndarray) -> None:
        super().__init__(k, tolerance, lower, upper)
        self._radius = self._most = 0.0  # and the largest ‖r‖ so far
        self._scale = np.zeros(k)
        self._tried = list[float]()  # radii of the trials at the point
        self._shorter = list[list[float]]()  # those that were rejected, and what follows them

    @staticmethod
    def cost(values: np.ndarray) -> float:
        return 0.5 * float(values @ values)

    def _prepare(self, x: np.ndarray, values: np.ndarray, jacobian: np.ndarray) -> str:
        self._x, self._r, self._j, self._gradient = x, values, jacobian, jacobian.T @ values
        lengths = np.linalg.norm(jacobian, axis=0)
        np.maximum(self._scale, lengths, out=self._scale)
        self._d = np.where(self._scale > 0, self._scale, 1.0)
        self._radius = self._radius or FARTHEST * (float(np.linalg.norm(self._d * x)) or 1.0)
        self._free = self.free(x, self._gradient)
        u, s, v = np.linalg.svd((jacobian / self._d)[:, self._free], full_matrices=False)
        rank = int((s > s.max(initial=0.0) * max(jacobian.shape) * np.finfo(float).eps).sum())
        self._uf, self._s, self._v = u.T[:rank] @ values, s[:rank], v[:rank].T
        self._longest = float(np.linalg.norm(self._uf / self._s))
        self._most = max(self._most, float(np.linalg.norm(values)))
        if np.linalg.norm(values) <= np.finfo(float).eps * self._most:
            return "converged: the residuals are zero within rounding"
        products = np.linalg.norm(values) * lengths
        slopes = np.abs(self._gradient)[self._free] / np.where(products > 0, products, 1.0)[self._free]
        if slopes.max(initial=0.0) <= self.tolerance:
            return f"converged: residuals and derivatives are orthogonal within {self.tolerance:g}"
        return ""

    @property
    def beside(self) -> float:
        # Beside a step that is as long as without a radius there is nothing but shorter ones.
        whole = max(self._tried, default=self._radius) >= self._longest
        return 1 if whole and not self._shorter else math.inf

    def _next_radius(self) -> float:
        """Return the radius of a further trial."""
        if not self._tried:
            return min(self._radius, self._longest)
        least, most = min(self._tried), max(self._tried)
        shorter = dict[float, float]((radius, after) for radius, after in self._shorter)
        if least in shorter:
            return shorter[least]
        return 2 * most if most < self._longest and most not in shorter else 0.25 * least

    def _trial(self, number: int) -> Trial | None:
        while number >= len(self._tried):
            self._tried.append(self._next_radius())
        radius, rank = self._tried[number], len(self._s)
        if radius < SHORTEST * self._tried[0]:
            return None
        p, damping = -self._v @ (self._uf / self._s), 0.0
        if radius < self._longest:
            p, damping, _ = solve_lsq_trust_region(rank, rank, self._uf, self._s, self._v, radius)
        free, x = self._free.copy(), self._x.copy()
        x[free] += p / self._d[free]
        while (crossing := free & ((x < self._lower) | (x > self._upper))).any():
            # Parameters that cross a bound stay at it, and the others are solved for again.
            x = np.where(free & ~crossing, self._x, np.clip(x, self._lower, self._upper))
            free &= ~crossing
            left = self._r + self._j @ (x - self._x)
            damped = np.vstack([self._j[:, free], math.sqrt(damping) * np.diag(self._d[free])])
            x[free] -= np.linalg.lstsq(damped, np.append(left, np.zeros(free.sum())), rcond=None)[0]
        left = self._r + self._j @ (x - self._x)
        return Trial(x, self.cost(self._r) - self.cost(left))

    def _length(self, trial: Trial) -> float:
        return float(np.linalg.norm(self._d * (trial.x - self._x)))

    def rejected(self, number: int, decrease: float) -> None:
        trial, radius = self.trial(number), self._tried[number]
        if trial is None or any(radius == each for each, _ in self._shorter):
            return
        factor, slope = 0.5, float(self._gradient @ (trial.x - self._x))
        if decrease < 0:  # or the minimum of a parabola; a tenth if ‖r‖ grows ten times
            factor = 0.5 * slope / (slope + decrease) if decrease > -99 * self.cost(self._r) else 0.0
        self._shorter.append([radius, max(0.1, factor) * min(radius, self._length(trial))])

    def accepted(self, number: int, ratio: float) -> None:
        trial, radius = self.trial(number), self._tried[number]
        assert trial is not None
        length, whole = self._length(trial), radius >= self._longest
        if ratio <= POOR:
            self._radius = 0.5 * (min(self._radius, 10 * length) if whole else radius)
        else:
            self._radius = 2 * length if whole or ratio >= GOOD else radius
        self._tried, self._shorter = [], []


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

    def _trial(self, number: int) -> Trial | None:
        if number >= len(LADDER):
            return None
        free, direction = self._free, np.zeros(len(self._free))
        direction[free] = -self._inverse[np.ix_(free, free)] @ self._gradient[free]
        if direction @ self._gradient >= 0:
            direction = np.where(free, -self._gradient, 0.0)
        if not self._steps:  # the first step has length 1 at most
            direction /= max(1.0, float(np.linalg.norm(direction)))
        x = np.clip(self._x + 0.5 ** LADDER[number] * direction, self._lower, self._upper)
        return Trial(x, max(0.0, -float(self._gradient @ (x - self._x))))

    def accepted(self, number: int, ratio: float) -> None:
        self._steps += 1


class Derivatives(LevenbergMarquardt):
    """No step: the search ends with the Jacobian at the start."""

    def _prepare(self, x: np.ndarray, values: np.ndarray, jacobian: np.ndarray) -> str:
        return "the Jacobian is known"
