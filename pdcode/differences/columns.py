"""The Jacobian of residuals by differences: its columns as they arrive, alone or in combinations.

A *column* is the difference of the values at ``x + h_j e_j`` and at x. A *combination* is that of a step
along several coordinates, ``x + Σ v_j h_j e_j``, and to first order the sum of ``v_j`` times their columns:
any as many combinations as columns are missing determine these. With a pattern (`patterns`) a column is the
difference of a group of parameters, ``x + h ∘ S_c`` with column c of the seed.

Bartan and Pilanci, "Distributed black-box optimization via error correcting codes", Allerton 2019, evaluate
along coded directions only. Coordinates first, and combinations of all that is missing, are this project's.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..util.stateful import Stateful
from .patterns import Whole

RELATIVE_STEP = float(np.finfo(float).eps ** 0.5)  # of forward differences of values without noise
SPREAD = 4  # columns of a combination, at least, where some have failed
ROUNDING = 100 * float(np.finfo(float).eps)  # of a difference, relative to the values
DRAWS = 8  # draws of signs, of which the one least like those under way is taken


Relative = float | tuple[np.ndarray, np.ndarray] | None
"""Steps relative to \\|x\\|; or these and the least ones, shape (k,); None: by the machine precision."""


def steps_at(
    x: np.ndarray, relative: Relative, lower: np.ndarray, upper: np.ndarray, usual: float = RELATIVE_STEP
) -> np.ndarray:
    """Return the steps of forward differences, shape (k,), away from a bound that is too near.

    They are those of ``scipy.optimize.approx_derivative(…, method="2-point", rel_step=relative)``.

    Parameters
    ----------
    x, lower, upper : ndarray of float64, shape (k,)
    relative : float, (ndarray, ndarray) or None
        Step relative to \\|x\\|, or this and the least step of each parameter; None: `usual`, relative to at
        least 1.
    usual : float
        By default the root of the machine precision.
    """
    sign = np.where(x >= 0, 1.0, -1.0)
    least = usual * sign * np.maximum(1.0, np.abs(x))
    if isinstance(relative, tuple):
        h = sign * np.maximum(relative[0] * np.abs(x), relative[1])
    else:
        h = least if relative is None else relative * sign * np.abs(x)
    h = np.where((x + h) - x == 0, least, h)
    below, above = x - lower, upper - x
    outside = (x + h < lower) | (x + h > upper)
    fits = np.abs(h) <= np.maximum(below, above)
    h = np.where(outside & fits, -h, h)
    h = np.where(~fits & (above >= below), above, h)
    return np.where(~fits & (above < below), -below, h)


class Columns(Stateful):
    """Columns of the Jacobian at a point, as far as they are known.

    Parameters
    ----------
    k, m : int
        Number of parameters, and of values of an evaluation.
    lower, upper : ndarray of float64, shape (k,)
        Bounds of the parameters, ∓inf without one.
    pattern : Whole, optional
        Which parameters are changed at once; by default each is by itself.

    Attributes
    ----------
    x, h : ndarray of float64, shape (k,)
        The point, and the steps.
    usual : float
        Step without a relative one, see `steps_at`.
    number : int
        Number of columns g, at most k: the first of the arrays of shape (k,). The others are "known".
    known, failed : ndarray of bool, shape (k,)
        Columns whose evaluation has a value, or has failed.
    attempts : ndarray of int64, shape (k,)
        Evaluations of a column that have failed.
    drawn, refused : int
        Combinations drawn at this point, and those whose evaluation has failed.
    wrong : bool
        Whether the last call of `jacobian` has found that the pattern is wrong.
    """

    state_names = (
        "pattern", "usual", "x", "h", "known", "failed", "_values", "attempts", "_directions", "_combined",
        "drawn", "refused",
    )  # fmt: skip
    state_types = (("_directions", list), ("_combined", list))

    def __init__(
        self, k: int, m: int, lower: np.ndarray, upper: np.ndarray, pattern: Whole | None = None
    ) -> None:
        self.x, self.h, self.usual = np.zeros(k), np.ones(k), RELATIVE_STEP
        self.known, self.failed = np.zeros(k, bool), np.zeros(k, bool)
        self.attempts, self._values = np.zeros(k, np.int64), np.zeros((k, m))
        self._directions, self._combined = list[np.ndarray](), list[np.ndarray]()
        self.drawn = self.refused = 0
        self._lower, self._upper, self.wrong = lower, upper, False
        self.pattern = Whole(k) if pattern is None else pattern

    def begin(self, x: np.ndarray, relative: Relative, again: bool = False) -> None:
        """Begin at another point, or again, as the pattern is wrong."""
        self.x[:] = x
        self.h[:] = steps_at(self.x, relative, self._lower, self._upper, self.usual)
        self.pattern.begin(again)
        self._plant()
        self.known[:], self.failed[:] = np.arange(len(self.x)) >= self.number, False
        self.attempts[:] = 0
        self._directions, self._combined, self.drawn, self.refused = [], [], 0, 0

    def _plant(self) -> None:
        """Take the seed of the pattern at this point."""
        back = self.x - self.h
        one_sided = (back < self._lower) | (back > self._upper)
        self._seed = self.pattern.seed(~one_sided)
        self.number = self._seed.shape[1]
        self._one_sided = (self._seed[one_sided] != 0).any(axis=0)  # groups, shape (g,)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._plant()

    def point(self, direction: np.ndarray) -> np.ndarray:
        """Return the point of an evaluation along a direction, in multiples of the columns' steps."""
        return np.clip(self.x + (self._seed @ direction) * self.h, self._lower, self._upper)

    def coordinate(self, column: int) -> np.ndarray:
        """Return the direction of a column alone, shape (g,)."""
        direction = np.zeros(self.number)
        direction[column] = 1.0
        return direction

    def combination(self, others: list[np.ndarray], keys: tuple[int, ...]) -> np.ndarray:
        """Draw a direction along all missing columns: of `DRAWS` the one least like those before.

        Where columns have failed, it is along `SPREAD` columns at least, so that each draw is another point.
        `others` are the directions of combinations under way; `keys` are keys of the random numbers.
        """
        missing, known = ~self.known[: self.number], self.known[: self.number]
        rng, self.drawn = np.random.default_rng([*keys, self.drawn]), self.drawn + 1
        if self.failed[: self.number][missing].any() and (more := SPREAD - int(missing.sum())) > 0:
            missing[rng.permutation(np.flatnonzero(known))[:more]] = True
        before = np.array([each[missing] for each in (*self._directions, *others)])
        signs = rng.choice([-1.0, 1.0], (DRAWS, missing.sum()))
        rest = signs = np.where(self._one_sided[missing], 0.75 + 0.25 * signs, signs)
        if len(before):
            rest = signs - np.linalg.lstsq(before.T, signs.T, rcond=None)[0].T @ before
        best = signs[np.linalg.norm(rest, axis=1).argmax()]
        direction = np.zeros(self.number)
        direction[missing] = best
        reach = (self._seed @ direction) * self.h  # of a seed of signs it may be beyond a bound
        room = np.where(reach > 0, self._upper - self.x, self.x - self._lower)
        fits = float((room[reach != 0] / np.abs(reach[reach != 0])).min(initial=1.0))
        return direction * fits * (0.5 if self.refused % 2 else 1.0)

    def add(self, direction: np.ndarray, values: np.ndarray | None) -> None:
        """Add the values of an evaluation, shape (m,); None: it has failed."""
        places = np.flatnonzero(direction)
        alone = len(places) == 1 and direction[places[0]] == 1.0
        if alone:
            self.failed[places[0]] = values is None
        if values is None:
            self.refused += not alone
            return
        if alone:
            self.known[places[0]] = True
            self._values[places[0]] = values
        else:
            self._directions.append(direction)
            self._combined.append(values)

    @property
    def combined(self) -> int:
        """Number of combinations whose values are known."""
        return len(self._directions)

    @property
    def captured(self) -> float:
        """Fraction of the columns that are determined, 0 to 1."""
        return min(1.0, (self.known[: self.number].sum() + len(self._directions)) / self.number)

    def jacobian(self, base: np.ndarray, most: float) -> np.ndarray | None:
        """Return the derivatives, shape (m, k).

        None: columns are missing, or too inaccurate, or the pattern is `wrong`.

        Parameters
        ----------
        base : ndarray, shape (m,)
            Values at the point.
        most : float
            Largest standard error of a decoded column, as a multiple of that of one evaluation.
        """
        self.wrong, known = False, self.known[: self.number]
        missing, differences = np.flatnonzero(~known), self._values[: self.number] - base
        if len(missing):
            if len(self._directions) < len(missing):
                return None
            directions = np.array(self._directions)
            inner = directions[:, missing]
            gram = inner.T @ inner
            if np.linalg.matrix_rank(inner) < len(missing):
                return None
            if np.sqrt(np.linalg.inv(gram).diagonal().max()) > most:
                return None
            rest = np.array(self._combined) - base - directions[:, known] @ differences[known]
            differences[missing] = np.linalg.lstsq(inner, rest, rcond=None)[0]
        rows = self.pattern.expand(differences.T, self._seed, ROUNDING * (np.abs(base) + np.abs(base).max()))
        self.wrong = rows is None
        return None if rows is None else rows / ((self.x + self.h) - self.x)
