"""Codes over parts of the data: sums of a polynomial's values for the parts, from those for coded parts.

The data are cut into K parts X_1 … X_K, with T parts of random numbers behind them. u is the polynomial of
degree < K + T with u(β_j) = X_j; worker i has u(α_i). It evaluates a polynomial f of degree d on what it has,
and so a value of the polynomial f(u(z)), of degree ≤ (K + T - 1) d, whose values at β_1 … β_K rank 0 wants.
As many results as it has coefficients are enough, and two more for each result that may be wrong. Few workers
do better with copies of parts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence

import numpy as np

from .field_code import FieldCode, interpolation, product
from .real_code import RealCode, chebyshev_points

COMBINATIONS = 8  # random combinations of a payload's elements in which errors are sought, of real numbers


def lagrange(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return Lagrange's basis at targets, shape (targets, points), each element to nearly full precision."""
    apart, steps = points[:, None] - points, targets[:, None] - points
    np.fill_diagonal(apart, 1)
    at = steps == 0
    steps[at] = 1
    logs = np.log(np.abs(steps))  # products may be out of range
    logs = logs.sum(axis=1, keepdims=True) - logs - np.log(np.abs(apart)).sum(axis=1)
    signs = np.sign(steps).prod(axis=1, keepdims=True) * np.sign(steps) * np.sign(apart).prod(axis=1)
    found: np.ndarray = np.where(at.any(axis=1, keepdims=True), at, signs * np.exp(logs))
    return found


class DataBlockCode(ABC):
    """Code over the parts of the data, and how the sum of a polynomial's values for them is decoded.

    Attributes
    ----------
    words : ndarray, shape (workers, K + T)
        Coefficients of the parts, and of those of random numbers, in what each worker has.
    parts : int
        Number K of parts.
    liars : int
        Largest number A of wrong results.
    needed : int
        Number of results that are enough, whichever they are.
    """

    words: np.ndarray
    parts: int
    liars: int
    needed: int

    def captured(self, workers: Sequence[int]) -> float:
        """Return the share of the results needed that are there; 1: they are enough."""
        return min(1.0, len(workers) / self.needed)

    @abstractmethod
    def locate(self, workers: Sequence[int], payloads: np.ndarray, noise: float) -> list[int] | None:
        """Return the places of wrong results; None if more than A are wrong.

        Parameters
        ----------
        workers : sequence of int
        payloads : ndarray, shape (q, size)
            Their results.
        noise : float
            Bound on the rounding error of an element; 0 modulo a prime.
        """

    @abstractmethod
    def weights(self, workers: Sequence[int]) -> np.ndarray:
        """Return the coefficients of right results in the sum over parts, shape (q,)."""

    def decode(self, workers: Sequence[int], payloads: np.ndarray) -> np.ndarray:
        """Return the sum over parts, shape (size,)."""
        found: np.ndarray = self.weights(workers) @ payloads
        return found


class RealValues(DataBlockCode):
    """Values at Chebyshev points, some of which are those of the parts themselves.

    Parameters
    ----------
    workers, parts, liars : int
    degree : int
        Degree d of the polynomial.
    seed : int
        Key of random combinations.
    """

    def __init__(self, workers: int, parts: int, liars: int, degree: int, seed: int) -> None:
        points = chebyshev_points(workers)
        spread = np.linspace(0, workers - 1, parts).round().astype(int)  # far apart: the same distribution
        self._points, self._at, self._seed = points, points[spread], seed  # of the workers, of the parts
        self.words, self.parts, self.liars = lagrange(self._at, points), parts, liars
        self._code = RealCode(points, (parts - 1) * degree + 1)
        self.needed = self._code.dimension + 2 * liars

    def locate(self, workers: Sequence[int], payloads: np.ndarray, noise: float) -> list[int] | None:
        if not self.liars:
            return []
        random = np.random.default_rng(self._seed).standard_normal((payloads.shape[1], COMBINATIONS))
        random /= np.linalg.norm(random, axis=0)
        with np.errstate(over="ignore", invalid="ignore"):
            combined = payloads.astype(np.float64) @ random
        return self._code.locate(workers, combined, self.liars, noise)

    def weights(self, workers: Sequence[int] | np.ndarray) -> np.ndarray:
        found: np.ndarray = lagrange(self._points[np.asarray(workers)], self._at).sum(axis=0)
        return found

    def conditions(self, samples: int) -> np.ndarray:
        """Return the sums of magnitudes of the decoding weights, of random sets of results, ascending."""
        random, count = np.random.default_rng(0), len(self._points)
        sets = (random.choice(count, self._code.dimension, replace=False) for _ in range(samples))
        return np.sort([np.abs(self.weights(each)).sum() for each in sets])


class FieldValues(DataBlockCode):
    """Values at 1, 2, … modulo a prime: of the parts, then of random numbers, then of the workers.

    Parameters
    ----------
    workers, parts, liars, colluders : int
    degree : int
        Degree d of the polynomial.
    prime : int
    """

    def __init__(self, workers: int, parts: int, liars: int, colluders: int, degree: int, prime: int) -> None:
        held = parts + colluders
        numbers = np.arange(1, held + workers + 1, dtype=np.uint64)
        self._at, self._prime, self.parts, self.liars = numbers[:parts], prime, parts, liars
        self.words = interpolation(numbers[:held], numbers[held:], prime)
        self._code = FieldCode(numbers[held:], (held - 1) * degree + 1, prime)
        self.needed = self._code.dimension + 2 * liars

    def locate(self, workers: Sequence[int], payloads: np.ndarray, noise: float) -> list[int] | None:
        return self._code.locate(workers, payloads, self.liars)

    def weights(self, workers: Sequence[int]) -> np.ndarray:
        found = np.zeros(len(workers), np.uint64)
        first = slice(self._code.dimension)
        each = self._code.combination(list(workers)[first], self._at)
        found[first] = product(np.ones((1, len(each)), np.uint64), each, self._prime)[0]
        return found

    def decode(self, workers: Sequence[int], payloads: np.ndarray) -> np.ndarray:
        used = slice(self._code.dimension)
        return product(self.weights(workers)[None, used], payloads[used], self._prime)[0]


class Copies(DataBlockCode):
    """Copies of parts: worker i has part i mod K, of which results are right that more than A workers send.

    Parameters
    ----------
    workers, parts, liars : int
    prime : int or None
        None: results are real numbers.
    """

    def __init__(self, workers: int, parts: int, liars: int, prime: int | None) -> None:
        self.parts, self._prime, self.liars = parts, prime, liars
        self.words = np.zeros((workers, parts), np.float64 if prime is None else np.uint64)
        self.words[np.arange(workers), np.arange(workers) % parts] = 1
        self.needed = workers - workers // parts + 2 * liars + 1

    def captured(self, workers: Sequence[int]) -> float:
        copies, enough = Counter(worker % self.parts for worker in workers), 2 * self.liars + 1
        return sum(min(enough, copies[part]) for part in range(self.parts)) / (enough * self.parts)

    def locate(self, workers: Sequence[int], payloads: np.ndarray, noise: float) -> list[int] | None:
        parts, wrong = np.array(workers) % self.parts, list[int]()
        for part in range(self.parts):
            places = np.flatnonzero(parts == part)
            for place in places:
                same = self._same(payloads[place], payloads[places], noise)
                if same.sum() > self.liars:
                    wrong += places[~same].tolist()
                    break
            else:
                return None
        return sorted(wrong) if len(wrong) <= self.liars else None

    def _same(self, one: np.ndarray, payloads: np.ndarray, noise: float) -> np.ndarray:
        """Tell which payloads are the same as one, up to rounding."""
        if self._prime is not None:
            found: np.ndarray = (payloads == one).all(axis=1) & bool((one < self._prime).all())
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                found = (np.abs(payloads - one) <= noise).all(axis=1)
        return found

    def weights(self, workers: Sequence[int]) -> np.ndarray:
        found = np.zeros(len(workers), self.words.dtype)
        found[np.unique(np.array(workers) % self.parts, return_index=True)[1]] = 1
        return found

    def decode(self, workers: Sequence[int], payloads: np.ndarray) -> np.ndarray:
        if self._prime is None:
            return super().decode(workers, payloads)
        return product(self.weights(workers)[None], payloads, self._prime)[0]
