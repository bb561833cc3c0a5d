"""Codes whose symbols are values of a polynomial at real points: decoding with errors and erasures.

A codeword is c_i = v_i f(z_i), i = 1 … n, f a polynomial of degree < k: a generalised Reed-Solomon code over
the reals. Any k symbols determine f. Of q symbols, any e may be wrong if 2e ≤ q - k.

The wrong ones are located by Prony's method. With u_i = 1 / Π_{j ≠ i} (z_i - z_j), over the received symbols,
Σ_i u_i p(z_i) f(z_i) = 0 for each polynomial p of degree < q - k. So the syndromes s_j = Σ_i (u_i / v_i)
T_j(z_i) y_i depend on errors alone. With T_j T_l = (T_{j+l} + T_{|j-l|}) / 2 so does the matrix of Σ_i (u_i /
v_i) T_j(z_i) T_l(z_i) y_i, whose null vectors are the polynomials that vanish where symbols are wrong; its
rank is the number of errors. Chebyshev polynomials T_j in place of powers make it well-conditioned.
Candidates are accepted only if the rest of the symbols is consistent. A symbol that is a vector counts as
wrong if one of its elements is: random combinations of the elements detect that as well as all elements do.

Data, Song and Diggavi, "Data encoding for Byzantine-resilient distributed optimization", IEEE Trans.
Information Theory 2021, locate errors by random combinations of syndromes. Two things are this project's
choice: null vectors common to several combinations, as in MUSIC (Schmidt, IEEE Trans. Antennas and
Propagation 1986), and Chebyshev polynomials.
"""

from collections.abc import Sequence

import numpy as np
from numpy.polynomial.chebyshev import chebvander

from ..util.errors import InputError

SLACK = 100.0  # squared factor by which combinations of honest payloads may exceed their bound
RANK_TOLERANCE = 1e-9  # relative size of singular values above which they are due to errors, not rounding


def chebyshev_points(count: int) -> np.ndarray:
    """Return the zeros of the Chebyshev polynomial T_n, descending, shape (n,)."""
    return np.cos((2 * np.arange(count) + 1) * np.pi / (2 * count))


def barycentric_weights(points: np.ndarray) -> np.ndarray:
    """Return u_i = 1 / Π_{j ≠ i} 2(z_i - z_j), up to a common factor: the largest magnitude is 1."""
    differences = 2 * (points[:, None] - points)
    np.fill_diagonal(differences, 1)
    logs = -np.log(np.abs(differences)).sum(axis=1)
    weights: np.ndarray = np.sign(differences).prod(axis=1) * np.exp(logs - logs.max())
    return weights


class RealCode:
    """Code of the n values v_i f(z_i) of polynomials f of degree < k, the dimension.

    The points z are distinct, between -1 and 1; the multipliers v are nonzero, by default ones.
    """

    def __init__(
        self, points: Sequence[float] | np.ndarray, dimension: int, multipliers: np.ndarray | None = None
    ) -> None:
        self.points = np.asarray(points, np.float64)
        self.count, self.dimension = len(self.points), dimension
        if not 1 <= dimension <= self.count or len(np.unique(self.points)) < self.count:
            raise InputError(f"code: {self.count} points for polynomials of degree {dimension - 1}")
        self.multipliers = np.ones(self.count) if multipliers is None else np.asarray(multipliers, np.float64)

    def generator(self) -> np.ndarray:
        """Return G, shape (n, k), orthonormal columns that span the code."""
        basis: np.ndarray = np.linalg.qr(self._symbols(np.arange(self.count)))[0]
        return basis

    def locate(
        self, rows: Sequence[int] | np.ndarray, payloads: np.ndarray, most: int, noise: float | np.ndarray
    ) -> list[int] | None:
        """Return the positions of wrong payloads in `rows`; None if no set of at most `most` explains them.

        `rows` are the numbers of the q symbols, and `payloads`, (q, s), the symbols (some random
        combinations of elements suffice); at most ⌊(q - k) / 2⌋ wrong ones are searched for. `noise`, () or
        (q,), bounds an element of an honest payload's error.
        """
        rows = np.asarray(rows)
        bounds = np.maximum(np.broadcast_to(np.asarray(noise, np.float64), len(rows)), 1e-300)
        scale = bounds.max()
        if not np.isfinite(scale):
            return None
        with np.errstate(over="ignore", invalid="ignore"):  # a payload that overflows is wrong
            payloads, bounds = payloads / scale, bounds / scale
            wrong = self._locate_scaled(rows, payloads, most, bounds)
            # Much larger errors may hide small ones, and be explained by a set with too many places.
            wrong = wrong and self._smallest_wrong_set(wrong, rows, payloads, bounds)
        return None if wrong is None else sorted(wrong)

    def _locate_scaled(
        self, rows: np.ndarray, payloads: np.ndarray, most: int, noise: np.ndarray
    ) -> list[int] | None:
        """Locate as `locate` does, for payloads in units of the largest error of an honest one."""
        places = np.arange(len(rows))
        if self._consistent(rows, payloads, noise):
            return []
        most = min(most, (len(rows) - self.dimension) // 2)
        if most < 1:
            return None
        finite = np.isfinite(payloads).all(axis=1)
        if not finite.all():
            return self._locate_others([int(place) for place in places[~finite]], rows, payloads, most, noise)
        # Residuals have the payloads' syndromes, without rounding errors of the payloads' size.
        residuals = self._residual(rows, payloads, noise) * noise[:, None]
        values, vectors = self._null_vectors(rows, residuals, most)
        likely = [self._ascending_places(rows, vectors[errors:]) for errors in range(1, most + 1)]
        for errors, least in enumerate(likely, 1):
            kept = ~np.isin(places, least[:errors])
            if self._consistent(rows[kept], payloads[kept], noise[kept]):
                return least[:errors]
        # Noise may exchange a zero with its neighbour: exclude more than are wrong, then readmit right ones.
        for least in reversed(likely):
            for count in range(most + 1, len(rows) - self.dimension):
                kept = ~np.isin(places, least[:count])
                if self._consistent(rows[kept], payloads[kept], noise[kept]):
                    wrong = self._smallest_wrong_set(least[:count], rows, payloads, noise)
                    if len(wrong) <= most:
                        return wrong
        # Much larger errors may hide small ones: exclude the large ones first.
        large = int(np.count_nonzero(values > RANK_TOLERANCE * values[0]))
        if not 0 < large < most:
            return None
        return self._locate_others(
            self._ascending_places(rows, vectors[large:])[:large], rows, payloads, most, noise
        )

    def _locate_others(
        self, wrong: list[int], rows: np.ndarray, payloads: np.ndarray, most: int, noise: np.ndarray
    ) -> list[int] | None:
        """Locate the other wrong payloads, given the wrong ones at these places."""
        kept = np.setdiff1d(np.arange(len(rows)), wrong)
        if len(wrong) > most:
            return None
        others = self._locate_scaled(rows[kept], payloads[kept], most - len(wrong), noise[kept])
        return None if others is None else wrong + [int(place) for place in kept[others]]

    def _consistent(self, rows: np.ndarray, payloads: np.ndarray, noise: np.ndarray) -> bool:
        """Return whether payloads are symbols of one codeword, up to the noise."""
        if len(rows) <= self.dimension:
            return bool(np.isfinite(payloads).all())
        return bool(np.square(self._residual(rows, payloads, noise)).sum() <= SLACK * payloads.size)

    def _residual(self, rows: np.ndarray, payloads: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return the difference of payloads from the nearest codeword, in units of the noise."""
        basis = np.linalg.qr(self._symbols(rows) / noise[:, None])[0]
        relative = payloads / noise[:, None]
        residual: np.ndarray = relative - basis @ (basis.T @ relative)
        return residual

    def _smallest_wrong_set(
        self, wrong: list[int], rows: np.ndarray, payloads: np.ndarray, noise: np.ndarray
    ) -> list[int]:
        """Return the places that contradict the right ones; the best-fitting place is readmitted first.

        One more row x of least squares adds ‖y - xβ‖² / (1 + x (XᵀX)⁻¹ xᵀ) to the sum of squared residuals.
        """
        wrong, relative = list(wrong), payloads / noise[:, None]
        symbols = self._symbols(rows) / noise[:, None]
        while wrong:
            kept = ~np.isin(np.arange(len(rows)), wrong)
            basis, triangle = np.linalg.qr(symbols[kept])
            fitted = basis.T @ relative[kept]
            squares = np.square(relative[kept] - basis @ fitted).sum()
            at = np.linalg.solve(triangle.T, symbols[wrong].T)
            added = np.square(relative[wrong] - at.T @ fitted).sum(axis=1) / (1 + np.square(at).sum(axis=0))
            added[np.isnan(added)] = np.inf
            best = int(added.argmin())
            if squares + added[best] > SLACK * payloads[0].size * (1 + np.count_nonzero(kept)):
                break
            del wrong[best]
        return wrong

    def _null_vectors(
        self, rows: np.ndarray, payloads: np.ndarray, most: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the singular values of the syndromes' matrix, descending, and its right singular vectors.

        The vectors are rows, of coefficients of Chebyshev polynomials of degree ≤ `most`.
        """
        points, checks = self.points[rows], len(rows) - self.dimension
        factors = barycentric_weights(points) / self.multipliers[rows]
        largest = np.abs(payloads).max()
        syndromes = (chebvander(points, checks - 1) * factors[:, None]).T @ (payloads / largest)
        row, column = np.ogrid[: checks - most, : most + 1]
        matrix = (syndromes[row + column] + syndromes[np.abs(row - column)]) / 2  # (rows, columns, s)
        _, values, vectors = np.linalg.svd(matrix.transpose(2, 0, 1).reshape(-1, most + 1))
        return values, vectors

    def _ascending_places(self, rows: np.ndarray, vectors: np.ndarray) -> list[int]:
        """Return the places in `rows`, sorted by the sizes of polynomials with coefficients (p, d) there."""
        at = chebvander(self.points[rows], vectors.shape[1] - 1)
        sizes = np.square(at @ vectors.T).sum(axis=1) / np.square(at).sum(axis=1)
        return [int(place) for place in np.argsort(sizes, kind="stable")]

    def _symbols(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the symbols of the Chebyshev polynomials of degree < k, shape (q, k)."""
        matrix: np.ndarray = self.multipliers[rows, None] * chebvander(self.points[rows], self.dimension - 1)
        return matrix
