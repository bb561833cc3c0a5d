"""Patterns of a Jacobian: which parameters are changed at once, and the Jacobian from fewer evaluations.

With a *seed* S, shape (k, g), an evaluation along group c changes all parameters j with a nonzero S_jc, and
g evaluations give B = J S. A pattern says which parameters a value depends on, so that J follows from B.
"""

import numpy as np
from scipy.optimize._numdiff import group_columns

from ..util.stateful import Stateful

ORDERS = 6  # orders of the parameters in which they are coloured
MOST_ERROR = 3.0  # of an entry from a code, as a multiple of that of one evaluation
REDRAWS = 4000  # of codewords, for one number of evaluations
AGREES = 0.01  # difference of a row from one along random signs, relative to the sum of its entries


class Whole(Stateful):
    """No pattern: each parameter is a group.

    Attributes
    ----------
    refuted : bool
        Whether the pattern was wrong at this point.
    """

    refuted = False

    def __init__(self, k: int) -> None:
        self._k = k

    def begin(self, again: bool = False) -> None:
        """Begin at another point, or again at a point where the pattern was wrong."""
        return

    def seed(self, two_sided: np.ndarray) -> np.ndarray:
        """Return the seed, shape (k, g), for a point at which some parameters have room on both sides."""
        return np.eye(self._k)

    def expand(self, found: np.ndarray, seed: np.ndarray, rounding: np.ndarray) -> np.ndarray | None:
        """Return J, shape (m, k), from B = J S, shape (m, g); None: the pattern is wrong.

        `rounding` is how much rounding errors may change the rows of B, shape (m,).
        """
        return found


class Pattern(Whole):
    """Pattern that is given: colours, or codewords where these need fewer evaluations.

    Parameters of one colour share no row (Curtis, Powell and Reid, "On the estimation of sparse Jacobian
    matrices", 1974, by scipy's greedy colouring). With codewords of signs, one for each parameter, the few
    unknowns of a row follow by least squares from as many evaluations, or a few more (Newsam and Ramsdell,
    "Estimation of sparse Jacobian matrices", 1983).

    Parameters
    ----------
    entries : ndarray of bool, shape (m, k)
        Entries that may differ from 0.
    """

    def __init__(self, entries: np.ndarray) -> None:
        super().__init__(entries.shape[1])
        self.entries = entries
        self._made = np.zeros((0, 0), bool)

    def _make(self) -> None:
        """Choose colours and codewords."""
        if np.array_equal(self._made, self.entries):
            return
        self._made, rng = self.entries.copy(), np.random.default_rng(0)
        orders = [np.arange(self._k), *(rng.permutation(self._k) for _ in range(ORDERS - 1))]
        colours = min((group_columns(self.entries, order) for order in orders), key=np.max)
        self._colours = np.eye(int(colours.max()) + 1)[colours]
        # The parameters of each row; places without one are those of a parameter that has no evaluation.
        most = int(self.entries.sum(axis=1).max(initial=0))
        self._rows = np.argsort(~self.entries, axis=1, kind="stable")[:, :most]
        self._absent = ~np.take_along_axis(self.entries, self._rows, axis=1)
        self._code = next(
            (code for q in range(most, self._colours.shape[1]) if (code := self._drawn(q, rng)) is not None),
            None,
        )

    def _drawn(self, evaluations: int, rng: np.random.Generator) -> np.ndarray | None:
        """Draw signs, shape (k, evaluations), with an error of each entry of at most `MOST_ERROR`.

        A codeword in a row with a larger error is drawn again, unless that makes matters worse.
        """
        code = rng.choice([-1.0, 1.0], (self._k, evaluations))
        of = [np.flatnonzero(column) for column in self.entries.T]
        errors = self._errors(code, np.arange(len(self._rows)))
        for _ in range(REDRAWS):
            bad = np.flatnonzero(errors > MOST_ERROR)
            if not len(bad):
                return code
            row = rng.choice(bad)
            column = rng.choice(self._rows[row][~self._absent[row]])
            before, code[column] = code[column].copy(), rng.choice([-1.0, 1.0], evaluations)
            after, most = self._errors(code, of[column]), 3 * MOST_ERROR
            if np.minimum(after, most).sum() <= np.minimum(errors[of[column]], most).sum():
                errors[of[column]] = after
            else:
                code[column] = before
        return None

    def _of_rows(self, code: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the codewords of the parameters of rows, and their inner products."""
        words = np.where(self._absent[rows][:, :, None], 0.0, code[self._rows[rows]])
        inner = words @ words.transpose(0, 2, 1)
        inner += self._absent[rows][:, :, None] * np.eye(inner.shape[1])
        return words, inner

    def _errors(self, code: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the largest standard error of an entry of each row; inf: it is not determined."""
        _, inner = self._of_rows(code, rows)
        errors = np.full(len(rows), np.inf)
        sound = np.linalg.eigvalsh(inner)[:, :1].min(axis=1, initial=np.inf) > 1e-9
        variances = np.diagonal(np.linalg.inv(inner[sound]), axis1=1, axis2=2)
        errors[sound] = np.sqrt(np.where(self._absent[rows][sound], 0.0, variances).max(axis=1, initial=0.0))
        return errors

    def seed(self, two_sided: np.ndarray) -> np.ndarray:
        self._make()
        return self._colours if self._code is None or not two_sided.all() else self._code

    def expand(self, found: np.ndarray, seed: np.ndarray, rounding: np.ndarray) -> np.ndarray | None:
        jacobian = np.zeros(self.entries.shape)
        if (seed < 0).any():
            words, inner = self._of_rows(seed, np.arange(len(found)))
            parts = np.linalg.solve(inner, words @ found[:, :, None])[:, :, 0]
            np.put_along_axis(jacobian, self._rows, parts, axis=1)
        else:
            jacobian[:] = found[:, seed.argmax(axis=1)]
        return np.where(self.entries, jacobian, 0.0)


class Found(Pattern):
    """Pattern of the first Jacobian, which has all columns.

    An entry that was zero by accident is caught later: an evaluation along all parameters with random signs
    and sizes must agree with the Jacobian from the pattern. Otherwise all columns are evaluated at that
    point, and the pattern gains their entries; if it gains none, all are evaluated from then on.

    Parameters
    ----------
    m, k : int
    """

    state_names = ("entries", "refuted", "_distrusted", "_before")

    def __init__(self, m: int, k: int) -> None:
        super().__init__(np.zeros((m, k), bool))
        self._distrusted, self._before = False, 0

    def begin(self, again: bool = False) -> None:
        self._distrusted |= self.refuted and self._before == int(self.entries.sum())
        self._before, self.refuted = int(self.entries.sum()), again

    def seed(self, two_sided: np.ndarray) -> np.ndarray:
        if self.refuted or self._distrusted or not self._before:
            return np.eye(self._k)
        groups, rng = super().seed(two_sided), np.random.default_rng(1)
        if groups.shape[1] + 1 >= self._k:
            return np.eye(self._k)
        signs = np.where(two_sided, rng.choice([-1.0, 1.0], self._k), 1.0)
        return np.column_stack([groups, signs * rng.uniform(0.5, 1.0, self._k)])

    def expand(self, found: np.ndarray, seed: np.ndarray, rounding: np.ndarray) -> np.ndarray | None:
        if seed.shape[1] == self._k:
            self.entries |= found != 0
            return found
        jacobian = super().expand(found[:, :-1], seed[:, :-1], rounding)
        assert jacobian is not None
        last = seed[:, -1]
        most = AGREES * (np.abs(jacobian) @ np.abs(last)) + rounding
        return jacobian if (np.abs(found[:, -1] - jacobian @ last) <= most).all() else None
