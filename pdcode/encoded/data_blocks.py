"""Codes over parts of the data: the sum of a polynomial's values for the parts, from values for coded parts.

The data are cut into K parts X_1 … X_K, followed by T parts of random numbers. u is the polynomial of degree
< K + T with u(β_j) = X_j; worker i has u(α_i). It evaluates a polynomial f of degree d on its coded part. The
result is a value of the polynomial f(u(z)), of degree ≤ (K + T - 1) d, and rank 0 needs the values at β_1 …
β_K. As many results are needed as f(u(z)) has coefficients, plus two for each result that may be wrong.
With few workers, replicated parts tolerate more.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence

import numpy as np

from .field_code import FieldCode, interpolation, product
from .real_code import RealCode, chebyshev_points

COMBINATIONS = 8  # random combinations of a payload's real elements, in which errors are searched for


def lagrange_basis(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return Lagrange's basis at targets, shape (targets, points), each element to nearly full precision."""
    differences, steps = points[:, None] - points, targets[:, None] - points
    np.fill_diagonal(differences, 1)
    at = steps == 0
    steps[at] = 1
    logs = np.log(np.abs(steps))  # products may be out of range
    logs = logs.sum(axis=1, keepdims=True) - logs - np.log(np.abs(differences)).sum(axis=1)
    signs = np.sign(steps).prod(axis=1, keepdims=True) * np.sign(steps) * np.sign(differences).prod(axis=1)
    basis: np.ndarray = np.where(at.any(axis=1, keepdims=True), at, signs * np.exp(logs))
    return basis


class DataBlockCode(ABC):
    """Code over the parts of the data, with the decoding of the sum of a polynomial's values for them."""

    generator: np.ndarray  # coefficients of the parts, and of random numbers, for each worker, (n, K + T)
    parts: int  # number K of parts
    liars: int  # largest number A of wrong results
    needed: int  # number of results of any workers from which the sum can be decoded
    least: int  # number of correct results below which it cannot

    def captured(self, workers: Sequence[int]) -> float:
        """Return the fraction of the needed results that have arrived; 1: the sum can be decoded."""
        return min(1.0, len(workers) / self.needed)

    @abstractmethod
    def locate(self, workers: Sequence[int], payloads: np.ndarray, noise: float) -> list[int] | None:
        """Return the places of wrong results among the payloads, (q, size); None if more than A are wrong.

        `noise` bounds the rounding error of an element; it is 0 modulo a prime.
        """

    @abstractmethod
    def weights(self, workers: Sequence[int]) -> np.ndarray:
        """Return the coefficients of correct results in the sum over parts, shape (q,)."""

    def decode(self, workers: Sequence[int], payloads: np.ndarray) -> np.ndarray:
        """Return the sum over parts, shape (size,)."""
        found: np.ndarray = self.weights(workers) @ payloads
        return found


class RealLagrangeCode(DataBlockCode):
    """Lagrange code at Chebyshev points, some of them the points of the parts themselves.

    `degree` is the polynomial's degree, and `seed` the key of the random combinations.
    """

    def __init__(self, workers: int, parts: int, liars: int, degree: int, seed: int) -> None:
        points = chebyshev_points(workers)
        spread = np.linspace(0, workers - 1, parts).round().astype(int)  # far apart: the same distribution
        self._points, self._at, self._seed = points, points[spread], seed  # of the workers, of the parts
        self.generator, self.parts, self.liars = lagrange_basis(self._at, points), parts, liars
        self._code = RealCode(points, (parts - 1) * degree + 1)
        self.least = self._code.dimension
        self.needed = self.least + 2 * liars

    def locate(self, workers: Sequence[int], payloads: np.ndarray, noise: float) -> list[int] | None:
        if not self.liars:
            return []
        random = np.random.default_rng(self._seed).standard_normal((payloads.shape[1], COMBINATIONS))
        random /= np.linalg.norm(random, axis=0)
        with np.errstate(over="ignore", invalid="ignore"):
            combined = payloads.astype(np.float64) @ random
        return self._code.locate(workers, combined, self.liars, noise)

    def weights(self, workers: Sequence[int] | np.ndarray) -> np.ndarray:
        weights: np.ndarray = lagrange_basis(self._points[np.asarray(workers)], self._at).sum(axis=0)
        return weights

    def conditions(self, samples: int) -> np.ndarray:
        """Return the sums of magnitudes of the decoding weights, of random sets of results, ascending."""
        random, count = np.random.default_rng(0), len(self._points)
        sets = (random.choice(count, self._code.dimension, replace=False) for _ in range(samples))
        return np.sort([np.abs(self.weights(each)).sum() for each in sets])


class FieldLagrangeCode(DataBlockCode):
    """Lagrange code at 1, 2, … modulo a prime: points of the parts, of random numbers, and of the workers."""

    def __init__(self, workers: int, parts: int, liars: int, colluders: int, degree: int, prime: int) -> None:
        terms = parts + colluders
        numbers = np.arange(1, terms + workers + 1, dtype=np.uint64)
        self._at, self._prime, self.parts, self.liars = numbers[:parts], prime, parts, liars
        self.generator = interpolation(numbers[:terms], numbers[terms:], prime)
        self._code = FieldCode(numbers[terms:], (terms - 1) * degree + 1, prime)
        self.least = self._code.dimension
        self.needed = self.least + 2 * liars

    def locate(self, workers: Sequence[int], payloads: np.ndarray, noise: float) -> list[int] | None:
        return self._code.locate(workers, payloads, self.liars)

    def weights(self, workers: Sequence[int]) -> np.ndarray:
        weights = np.zeros(len(workers), np.uint64)
        first = slice(self._code.dimension)
        decoding = self._code.combination(list(workers)[first], self._at)
        weights[first] = product(np.ones((1, len(decoding)), np.uint64), decoding, self._prime)[0]
        return weights

    def decode(self, workers: Sequence[int], payloads: np.ndarray) -> np.ndarray:
        used = slice(self._code.dimension)
        return product(self.weights(workers)[None, used], payloads[used], self._prime)[0]


class ReplicationCode(DataBlockCode):
    """Replicated parts: worker i has part i mod K; a result sent by more than A workers is correct.

    Without a prime, results are real numbers.
    """

    def __init__(self, workers: int, parts: int, liars: int, prime: int | None) -> None:
        self.parts, self._prime, self.liars, self.least = parts, prime, liars, parts
        self.generator = np.zeros((workers, parts), np.float64 if prime is None else np.uint64)
        self.generator[np.arange(workers), np.arange(workers) % parts] = 1
        self.needed = workers - workers // parts + 2 * liars + 1

    def captured(self, workers: Sequence[int]) -> float:
        copies, enough = Counter(worker % self.parts for worker in workers), 2 * self.liars + 1
        return sum(min(enough, copies[part]) for part in range(self.parts)) / (enough * self.parts)

    def locate(self, workers: Sequence[int], payloads: np.ndarray, noise: float) -> list[int] | None:
        parts, wrong = np.array(workers) % self.parts, list[int]()
        for part in range(self.parts):
            places = np.flatnonzero(parts == part)
            for place in places:
                same = self._agree(payloads[place], payloads[places], noise)
                if same.sum() > self.liars:
                    wrong += places[~same].tolist()
                    break
            else:
                return None
        return sorted(wrong) if len(wrong) <= self.liars else None

    def _agree(self, one: np.ndarray, payloads: np.ndarray, noise: float) -> np.ndarray:
        """Return which payloads equal one of them, up to rounding."""
        if self._prime is not None:
            equal: np.ndarray = (payloads == one).all(axis=1) & bool((one < self._prime).all())
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                equal = (np.abs(payloads - one) <= noise).all(axis=1)
        return equal

    def weights(self, workers: Sequence[int]) -> np.ndarray:
        weights = np.zeros(len(workers), self.generator.dtype)
        weights[np.unique(np.array(workers) % self.parts, return_index=True)[1]] = 1
        return weights

    def decode(self, workers: Sequence[int], payloads: np.ndarray) -> np.ndarray:
        if self._prime is None:
            return super().decode(workers, payloads)
        return product(self.weights(workers)[None], payloads, self._prime)[0]
