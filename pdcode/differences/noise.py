"""Steps of differences from the noise of the values and their curvature, measured at the start.

Moré and Wild, "Estimating computational noise", SIAM J. Sci. Comput. 33(3), 2011 (ECnoise): noise from a
table of differences of seven values near each other on a line; and "Estimating derivatives of noisy
simulations", ACM TOMS 38(3), 2012: the step ``8^¼ √(noise / curvature)`` of a forward difference, with the
curvature from a second difference at the step ``noise^¼``.
"""

import numpy as np

from ..util.stateful import Stateful
from .columns import RELATIVE_STEP

NEAR = 6  # points beside the start from which noise is measured
FIRST, FINER, ROUNDS = 1e-8, 100.0, 4  # distance of two points relative to the parameters, and its changes
LONGEST = 0.05  # step relative to the parameters


def noise_of(values: np.ndarray) -> tuple[float, int]:
    """Return the noise of equidistant values, shape (n, m), as a root mean square over m.

    The second number is 0; or, without noise found, 1 if the points are too near each other, -1 if too far.
    """
    n, differences, factor = len(values), values, 1.0
    levels, changes = [], []
    for order in range(1, n):
        differences = np.diff(differences, axis=0)
        if order == 1 and np.mean(differences == 0) >= 0.5:
            return 0.0, 1
        factor *= 0.5 * order / (2 * order - 1)
        levels.append(float(np.sqrt(factor * np.mean(differences**2))))
        changes.append(np.mean(differences.min(axis=0) * differences.max(axis=0) < 0) >= 0.5)
    for order in range(n - 3):
        three = levels[order : order + 3]
        if max(three) <= 4 * min(three) and changes[order]:
            return levels[order], 0
    return 0.0, -1


class Noise(Stateful):
    """Measurement of noise and curvature by points on a line from the start.

    Parameters
    ----------
    k, m : int
        Number of parameters, and of values of an evaluation.
    lower, upper : ndarray of float64, shape (k,)
        Bounds of the parameters.

    Attributes
    ----------
    done : bool
    level : float
        Noise of a value, a root mean square; 0: none was found.
    step : float
        Step relative to a parameter, of 1 at least.
    """

    state_names = ("done", "level", "step", "_values", "_known", "_spacing", "_round", "_curves")

    def __init__(self, k: int, m: int, lower: np.ndarray, upper: np.ndarray) -> None:
        self.done, self.level, self.step = False, 0.0, RELATIVE_STEP
        self._lower, self._upper, self._k = lower, upper, k
        self._values, self._known = np.zeros((NEAR, m)), np.zeros(NEAR, bool)
        self._spacing, self._round, self._curves = FIRST, 0, False

    @property
    def missing(self) -> list[int]:
        """Numbers of the points whose values are not known; they differ from one round to another."""
        places = np.flatnonzero(~self._known[: 2 if self._curves else NEAR])
        return [] if self.done else [self._round * NEAR + int(place) for place in places]

    def point(self, number: int, x: np.ndarray) -> np.ndarray:
        """Return a point, within the bounds."""
        room = np.where(self._upper - x >= x - self._lower, self._upper - x, self._lower - x)
        signs = np.random.default_rng(self._round).choice([-1.0, 1.0], self._k)
        reach = self._spacing * NEAR * np.maximum(1.0, np.abs(x))
        both = (x + reach <= self._upper) & (x - reach >= self._lower)
        along = np.where(both, signs * reach, np.sign(room) * np.minimum(reach, np.abs(room))) / NEAR
        return x + (number % NEAR + 1) * along

    def add(self, number: int, values: np.ndarray | None, base: np.ndarray | None) -> None:
        """Add the values at a point, shape (m,); None: it has failed, and the usual step is taken.

        `base` are the values at the start, None as long as they are not known.
        """
        if number not in self.missing:
            return
        if values is None:
            self.done = True
            return
        self._values[number % NEAR], self._known[number % NEAR] = values, True
        self.settle(base)

    def settle(self, base: np.ndarray | None) -> None:
        """Go on, if all values of this round are known."""
        if base is None or self.missing or self.done:
            return
        self._known[:], self._round = False, self._round + 1
        if self._curves:
            second = self._values[1] - 2 * self._values[0] + base
            size = float(np.sqrt(np.mean(second**2)))
            curvature = max(size, self.level) / self._spacing**2 / self._k
            self.step = float(np.clip((8**0.5 * self.level / curvature) ** 0.5, RELATIVE_STEP, LONGEST))
            self.done = True
            return
        self.level, change = noise_of(np.vstack([base, self._values]))
        if not change:
            scale = max(1.0, float(np.sqrt(np.mean(base**2))))
            self._curves, self._spacing = True, min(LONGEST, (self.level / scale) ** 0.25)
        else:
            self._spacing *= FINER**change
            self.done = self._round >= ROUNDS
