"""Codes whose symbols are values of a polynomial at real points: decoding with errors and erasures.

A codeword is c_i = v_i f(z_i), i = 1 … n, f a polynomial of degree < k: a generalised Reed-Solomon code over
the reals. Any k symbols determine f. Of q symbols, e may be wrong if 2e ≤ q - k, whichever they are.

The wrong ones are located by Prony's method. With u_i = 1 / Π_{j ≠ i} (z_i - z_j), over the symbols that are
there, Σ_i u_i p(z_i) f(z_i) = 0 for each polynomial p of degree < q - k. So the syndromes
s_j = Σ_i (u_i / v_i) T_j(z_i) y_i depend on errors alone. With T_j T_l = (T_{j+l} + T_{|j-l|}) / 2 so does
the matrix of Σ_i (u_i / v_i) T_j(z_i) T_l(z_i) y_i, whose null vectors are the polynomials that vanish where
symbols are wrong; its rank is the number of errors. Chebyshev polynomials T_j in place of powers keep it
well-conditioned. Candidates are accepted only if the rest of the symbols is consistent. Symbols that are
vectors are wrong as wholes: random combinations of their elements tell them as well as all of them do.

Data, Song and Diggavi, "Data encoding for Byzantine-resilient distributed optimization", IEEE Trans.
Information Theory 2021, locate errors by random combinations of syndromes. To seek null vectors of several
combinations together, as MUSIC does (Schmidt, IEEE Trans. Antennas and Propagation 1986), and Chebyshev
polynomials are this project's choice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.polynomial.chebyshev import chebvander

from ...util.errors import InputError

SLACK = 100.0  # squared factor by which combinations of honest payloads may exceed their bound
RANK = 1e-9  # relative size of a singular value that tells errors from rounding, if they differ much in size


def chebyshev_points(count: int) -> np.ndarray:
    """Return the zeros of the Chebyshev polynomial T_n, descending, shape (n,)."""
    return np.cos((2 * np.arange(count) + 1) * np.pi / (2 * count))


def weights(points: np.ndarray) -> np.ndarray:
    """Return u_i = 1 / Π_{j ≠ i} 2(z_i - z_j), up to a common factor: the largest magnitude is 1."""
    apart = 2 * (points[:, None] - points)
    np.fill_diagonal(apart, 1)
    logs = -np.log(np.abs(apart)).sum(axis=1)
    found: np.ndarray = np.sign(apart).prod(axis=1) * np.exp(logs - logs.max())
    return found


class RealCode:
    """Code of the values v_i f(z_i) of polynomials f of degree < k.

    Parameters
    ----------
    points : array_like, shape (n,)
        z, distinct, between -1 and 1.
    dimension : int
        k.
    multipliers : array_like, shape (n,), optional
        v, not zero; default: ones.

    Attributes
    ----------
    count, dimension : int
        n and k.
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
        found: np.ndarray = np.linalg.qr(self._symbols(np.arange(self.count)))[0]
        return found

    def combination(self, rows: Sequence[int] | np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return C, shape (targets, q), such that C @ payloads are the polynomial's values at the targets.

        Parameters
        ----------
        rows : sequence of int
            Numbers of q ≥ k symbols.
        targets : ndarray of float64
        """
        found: np.ndarray = chebvander(targets, self.dimension - 1) @ np.linalg.pinv(self._symbols(rows))
        return found

    def locate(
        self,
        rows: Sequence[int] | np.ndarray,
        payloads: np.ndarray,
        most: int,
        noise: float | np.ndarray,
    ) -> list[int] | None:
        """Return which payloads are wrong, as positions in `rows`; None if no small set of them explains it.

        Parameters
        ----------
        rows : sequence of int
            Numbers of the q symbols.
        payloads : ndarray, shape (q, s)
            The symbols: some random combinations of their elements are enough.
        most : int
            Largest number of wrong ones; at most ⌊(q - k) / 2⌋ are sought.
        noise : float or ndarray, shape (q,)
            Bound on an element of an honest payload's error.
        """
        rows = np.asarray(rows)
        bounds = np.maximum(np.broadcast_to(np.asarray(noise, np.float64), len(rows)), 1e-300)
        scale = bounds.max()
        if not np.isfinite(scale):
            return None
        with np.errstate(over="ignore", invalid="ignore"):  # what is too large is wrong
            payloads, bounds = payloads / scale, bounds / scale
            found = self._located(rows, payloads, most, bounds)
            # Small errors may have hidden behind much larger ones: a set of more places explains it, too.
            found = found and self._least_wrong(found, rows, payloads, bounds)
        return None if found is None else sorted(found)

    def _located(
        self, rows: np.ndarray, payloads: np.ndarray, most: int, noise: np.ndarray
    ) -> list[int] | None:
        """As `locate`, for payloads in units of the largest error of an honest one."""
        places = np.arange(len(rows))
        if self._consistent(rows, payloads, noise):
            return []
        most = min(most, (len(rows) - self.dimension) // 2)
        if most < 1:
            return None
        finite = np.isfinite(payloads).all(axis=1)
        if not finite.all():
            return self._without([int(place) for place in places[~finite]], rows, payloads, most, noise)
        # What the nearest codeword leaves has the payloads' syndromes, without rounding errors of their size.
        left = self._left(rows, payloads, noise) * noise[:, None]
        values, vectors = self._null_vectors(rows, left, most)
        likely = [self._least(rows, vectors[errors:]) for errors in range(1, most + 1)]
        for errors, least in enumerate(likely, 1):
            kept = ~np.isin(places, least[:errors])
            if self._consistent(rows[kept], payloads[kept], noise[kept]):
                return least[:errors]
        # Noise hides zeros behind those next to them: leave more out than are wrong, then see who is right.
        for least in reversed(likely):
            for count in range(most + 1, len(rows) - self.dimension):
                kept = ~np.isin(places, least[:count])
                if self._consistent(rows[kept], payloads[kept], noise[kept]):
                    wrong = self._least_wrong(least[:count], rows, payloads, noise)
                    if len(wrong) <= most:
                        return wrong
        # Small errors may hide behind much larger ones: those first.
        large = int(np.count_nonzero(values > RANK * values[0]))
        if not 0 < large < most:
            return None
        return self._without(self._least(rows, vectors[large:])[:large], rows, payloads, most, noise)

    def _without(
        self,
        wrong: list[int],
        rows: np.ndarray,
        payloads: np.ndarray,
        most: int,
        noise: np.ndarray,
    ) -> list[int] | None:
        """Locate the others, given that these places are wrong."""
        kept = np.setdiff1d(np.arange(len(rows)), wrong)
        if len(wrong) > most:
            return None
        others = self._located(rows[kept], payloads[kept], most - len(wrong), noise[kept])
        return None if others is None else wrong + [int(place) for place in kept[others]]

    def _consistent(self, rows: np.ndarray, payloads: np.ndarray, noise: np.ndarray) -> bool:
        """Tell whether payloads are symbols of one codeword, up to the noise."""
        if len(rows) <= self.dimension:
            return bool(np.isfinite(payloads).all())
        return bool(np.square(self._left(rows, payloads, noise)).sum() <= SLACK * payloads.size)

    def _left(self, rows: np.ndarray, payloads: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return what the nearest codeword leaves of payloads, in units of the noise."""
        basis = np.linalg.qr(self._symbols(rows) / noise[:, None])[0]
        relative = payloads / noise[:, None]
        left: np.ndarray = relative - basis @ (basis.T @ relative)
        return left

    def _least_wrong(
        self, wrong: list[int], rows: np.ndarray, payloads: np.ndarray, noise: np.ndarray
    ) -> list[int]:
        """Return which of these places do not fit to those that are not wrong; who fits best is right first.

        One more row x of least squares adds ‖y - xβ‖² / (1 + x (XᵀX)⁻¹ xᵀ) to the squares that are left.
        """
        words, relative, left = self._symbols(rows) / noise[:, None], payloads / noise[:, None], list(wrong)
        while left:
            kept = ~np.isin(np.arange(len(rows)), left)
            basis, triangle = np.linalg.qr(words[kept])
            fitted = basis.T @ relative[kept]
            least = np.square(relative[kept] - basis @ fitted).sum()
            at = np.linalg.solve(triangle.T, words[left].T)
            more = np.square(relative[left] - at.T @ fitted).sum(axis=1) / (1 + np.square(at).sum(axis=0))
            more[np.isnan(more)] = np.inf
            best = int(more.argmin())
            if least + more[best] > SLACK * payloads[0].size * (1 + np.count_nonzero(kept)):
                break
            del left[best]
        return left

    def _null_vectors(
        self, rows: np.ndarray, payloads: np.ndarray, most: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the singular values of the syndromes' matrix, descending, and its right singular vectors.

        These are rows, of coefficients of Chebyshev polynomials of degree ≤ `most`.
        """
        points, checks = self.points[rows], len(rows) - self.dimension
        factors = weights(points) / self.multipliers[rows]
        largest = np.abs(payloads).max()
        syndromes = (chebvander(points, checks - 1) * factors[:, None]).T @ (payloads / largest)
        row, column = np.ogrid[: checks - most, : most + 1]
        matrix = (
            syndromes[row + column] + syndromes[np.abs(row - column)]
        ) / 2  # (checks - most, most + 1, s)
        _, values, vectors = np.linalg.svd(matrix.transpose(2, 0, 1).reshape(-1, most + 1))
        return values, vectors

    def _least(self, rows: np.ndarray, vectors: np.ndarray) -> list[int]:
        """Return the places in `rows`, in the order of the size of polynomials of coefficients (p, d)."""
        at = chebvander(self.points[rows], vectors.shape[1] - 1)
        sizes = np.square(at @ vectors.T).sum(axis=1) / np.square(at).sum(axis=1)
        return [int(place) for place in np.argsort(sizes, kind="stable")]

    def _symbols(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the symbols of the Chebyshev polynomials of degree < k, shape (q, k)."""
        found: np.ndarray = self.multipliers[rows, None] * chebvander(self.points[rows], self.dimension - 1)
        return found
