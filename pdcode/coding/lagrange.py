"""Lagrange coded computing: values of a polynomial of the data's parts from those for coded parts.

The data are cut into K parts X_1 … X_K, with T parts of random numbers behind them. u is the polynomial of
degree < K + T with u(β_j) = X_j; worker i has u(α_i). It evaluates a polynomial f of degree d on what it has,
and so a value of the polynomial f(u(z)), of degree ≤ (K + T - 1) d, whose values at β_1 … β_K rank 0 wants.
As many results as it has coefficients are enough, and two more for each result that may be wrong.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..decoders.summing import Summing
from ..problems import Problem
from ..problems.partition import Blocks, Unit
from ..transport.base import Arrival
from ..transport.layout import Layout
from ..transport.messages import Order, Reply, Task
from ..util.errors import Failure
from ..util.rng import Batches
from .evaluation import RealCode, chebyshev_points
from .fields import FieldCode, interpolation, product
from .optimizers import Optimizer
from .policies import Seen
from .polynomials import Fixed, FixedPoint, Measure, Polynomial, Size
from .state import State

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


class PartsCode(ABC):
    """Code over the parts of the data, and how the sum of a polynomial's values for them is decoded.

    Attributes
    ----------
    words : ndarray, shape (workers, K + T)
        Coefficients of the parts, and of those of random numbers, in what each worker has.
    liars : int
        Largest number A of wrong results.
    needed : int
        Number of results that are enough, whichever they are.
    """

    words: np.ndarray
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


class RealValues(PartsCode):
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
        self._points, self._parts, self._seed = points, points[spread], seed
        self.words, self.liars = lagrange(self._parts, points), liars
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
        found: np.ndarray = lagrange(self._points[np.asarray(workers)], self._parts).sum(axis=0)
        return found

    def conditions(self, samples: int) -> np.ndarray:
        """Return the sums of magnitudes of the decoding weights, of random sets of results, ascending."""
        random, count = np.random.default_rng(0), len(self._points)
        sets = (random.choice(count, self._code.dimension, replace=False) for _ in range(samples))
        return np.sort([np.abs(self.weights(each)).sum() for each in sets])


class FieldValues(PartsCode):
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
        self._parts, self._prime, self.liars = numbers[:parts], prime, liars
        self.words = interpolation(numbers[:held], numbers[held:], prime)
        self._code = FieldCode(numbers[held:], (held - 1) * degree + 1, prime)
        self.needed = self._code.dimension + 2 * liars

    def locate(self, workers: Sequence[int], payloads: np.ndarray, noise: float) -> list[int] | None:
        return self._code.locate(workers, payloads, self.liars)

    def weights(self, workers: Sequence[int]) -> np.ndarray:
        found = np.zeros(len(workers), np.uint64)
        first = slice(self._code.dimension)
        each = self._code.combination(list(workers)[first], self._parts)
        found[first] = product(np.ones((1, len(each)), np.uint64), each, self._prime)[0]
        return found

    def decode(self, workers: Sequence[int], payloads: np.ndarray) -> np.ndarray:
        used = slice(self._code.dimension)
        return product(self.weights(workers)[None, used], payloads[used], self._prime)[0]


class Copies(PartsCode):
    """Copies of parts: worker i has part i mod K, of which results are right that more than A workers send.

    Parameters
    ----------
    workers, parts, liars : int
    prime : int or None
        None: results are real numbers.
    """

    def __init__(self, workers: int, parts: int, liars: int, prime: int | None) -> None:
        self._count, self._prime, self.liars = parts, prime, liars
        self.words = np.zeros((workers, parts), np.float64 if prime is None else np.uint64)
        self.words[np.arange(workers), np.arange(workers) % parts] = 1
        self.needed = workers - workers // parts + 2 * liars + 1

    def captured(self, workers: Sequence[int]) -> float:
        copies, enough = Counter(worker % self._count for worker in workers), 2 * self.liars + 1
        return sum(min(enough, copies[part]) for part in range(self._count)) / (enough * self._count)

    def locate(self, workers: Sequence[int], payloads: np.ndarray, noise: float) -> list[int] | None:
        parts, wrong = np.array(workers) % self._count, list[int]()
        for part in range(self._count):
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
        found[np.unique(np.array(workers) % self._count, return_index=True)[1]] = 1
        return found

    def decode(self, workers: Sequence[int], payloads: np.ndarray) -> np.ndarray:
        if self._prime is None:
            return super().decode(workers, payloads)
        return product(self.weights(workers)[None], payloads, self._prime)[0]


class Extent(NamedTuple):
    """How large a polynomial's values can be, given θ.

    Attributes
    ----------
    polynomial : Polynomial
    x, y : (ndarray, ndarray)
        Largest magnitudes of inputs and targets, shape (1, columns), and bounds of the sums over rows; in the
        integers that are sent.
    rows : int
        Rows that are summed over.
    point : FixedPoint or None
    """

    polynomial: Polynomial
    x: tuple[np.ndarray, np.ndarray]
    y: tuple[np.ndarray, np.ndarray]
    rows: int
    point: FixedPoint | None

    def of(self, weights: np.ndarray) -> Size:
        """Return the size of the sum over rows."""
        measure = Measure(self.rows, self.point)
        with np.errstate(over="ignore", invalid="ignore"):  # θ may have diverged
            size: Size = self.polynomial(
                measure.data(*self.x), measure.data(*self.y), measure.constant(weights)
            )
        return size


class Evaluate:
    """A worker's side: it evaluates the polynomial on its coded rows.

    Parameters
    ----------
    polynomial : Polynomial
    x, y : ndarray, shape (rows, inputs) and (rows, outputs)
        Coded inputs and targets.
    layer : Blocks
        Of the weights in θ.
    batches : Batches
        Numbers of the rows of an update.
    point : FixedPoint or None
        Representation of numbers modulo a prime; None: real numbers.
    reply : Reply
    """

    transient = "_polynomial", "_x", "_y", "_batches"  # in snapshots: nothing changes

    def __init__(
        self,
        polynomial: Polynomial,
        x: np.ndarray,
        y: np.ndarray,
        layer: Blocks,
        batches: Batches,
        point: FixedPoint | None,
        reply: Reply,
    ) -> None:
        self._polynomial, self._x, self._y, self._layer = polynomial, x, y, layer
        self._batches, self._point, self._reply = batches, point, reply

    def __call__(self, theta: np.ndarray, task: Task) -> float:
        x, y, point = self._x, self._y, self._point
        if not self._batches.full:
            rows = self._batches.draw(task.version)
            x, y = x[rows], y[rows]
        weights, payload = self._layer.weights, self._reply.payloads[0][0]
        if point is None:
            with np.errstate(over="ignore", invalid="ignore"):  # rank 0 refuses what is not finite
                payload[:] = self._polynomial(x, y, weights(theta)).ravel()
        elif (theta.view(np.uint64) < point.prime).all():
            sent = Fixed(point, weights(theta.view(np.uint64)), point.theta)
            found = self._polynomial(Fixed(point, x, point.data), Fixed(point, y, point.data), sent)
            payload.view(np.uint64)[:] = found.residues.ravel()
        else:  # a fault has made it NaN
            payload.fill(np.nan)
        return float("nan")

    def quantise(self, keys: tuple[int, int, int]) -> None:
        self._reply.write(*keys)

    def rollback(self) -> None:
        pass


class LagrangeState(State):
    """State with the results of an update.

    Parameters
    ----------
    theta : ndarray, shape (size,)
    optimizer : Optimizer
    layout : Layout
    problem : Problem
        Rank 0's: a linear model.
    code : PartsCode
    extent : Extent
        Of the sum over the rows of all parts; of real numbers, of one worker's result.
    scale : float
        Factor that makes the decoded sum the mean over the training rows.

    Attributes
    ----------
    error : float
        Bound on the rounding error of an element of the last decoded gradient. Rounding of data and θ to
        fixed point is not in it: modulo a prime it is zero.
    """

    transient = "_code", "_extent", "_layer", "_network", "_size"  # in snapshots
    _workers: list[int]  # whose results are here …
    _numbers: list[int]  # … and which arrivals since the last step brought them
    _arrived: int
    _wrong: list[int] | None  # places of wrong results; None: not known, or too many
    _ready: bool  # whether `_sent` is this update's θ

    def __init__(
        self,
        theta: np.ndarray,
        optimizer: Optimizer,
        layout: Layout,
        problem: Problem,
        code: PartsCode,
        extent: Extent,
        scale: float,
    ) -> None:
        self.theta, self.optimizer, self.layouts = theta, optimizer, [layout]
        self.robust = code.liars > 0
        self._code, self._extent, self._scale = code, extent, scale
        (self._layer,), self._network = problem.layers, problem.network
        self._units, self._decoders = [Unit(0, len(theta), 1)], [Summing(1, (len(theta),), theta.dtype)]
        dtype = theta.dtype if extent.point is None else np.dtype(np.uint64)
        self._payloads = np.empty((len(code.words), len(theta)), dtype)
        self._sent = np.empty(len(theta), dtype)
        self._version, self.error = 0, 0.0
        self._begin()

    def order(self, worker: int, task: int) -> Order:
        if not self._ready:
            if excess := self.overflow():
                raise Failure(f"{excess} (update {self._version})")
            point = self._extent.point
            self._sent[:] = self.theta if point is None else point.fixed(self.theta, point.theta).residues[0]
            self._ready = True
        return Order(0, self.layouts[0].empty_codewords(), [self._sent.view(np.uint8)])

    def fold(self, arrival: Arrival) -> float:
        (payload,) = arrival.payloads
        if arrival.worker not in self._workers:  # one that has died and is back may have answered already
            self._payloads[len(self._workers)] = payload[0].view(self._payloads.dtype)
            self._workers.append(arrival.worker)
            self._numbers.append(self._arrived)
        self._arrived += 1
        share = self._code.captured(self._workers)
        self._wrong = self._locate() if share >= 1 else None
        return 1.0 if self._wrong is not None else min(share, 1 - 1 / len(self._payloads))

    def ready(self, seen: Seen, expected: int) -> bool:
        if self._wrong is None and expected == 0:
            count, needed, liars = len(self._workers), self._code.needed, self._code.liars
            said = f"{count} results, and {needed} are needed"
            if self._code.captured(self._workers) >= 1:
                said = f"more than {liars} of {count} results contradict the others"
            self.stuck = f"update {self._version} cannot be decoded: {said}"
        return self._wrong is not None

    def step(self, damping: float) -> float | None:
        kept = np.setdiff1d(np.arange(len(self._workers)), self._wrong or [])
        workers, point = [self._workers[place] for place in kept], self._extent.point
        found = self._code.decode(workers, self._payloads[kept])
        if point is None:
            self.error = self.bound(float(np.abs(self._code.weights(workers)).sum()))
        else:
            found = point.restored(found, self._size.fraction)
        gradient = self._decoders[0].accumulator
        self._layer.weights(gradient)[:] = self._scale * found.reshape(self._layer.outputs, -1)
        if self._network.l2:
            inputs = slice(None) if self._network.penalise_bias else slice(-1)
            weights, l2 = self._layer.weights, self.theta.dtype.type(self._network.l2)
            weights(gradient)[:, inputs] += l2 * weights(self.theta)[:, inputs]
        norm = self.optimizer.step(self.theta, self._units, self._decoders, damping)
        self._version += 1
        self._begin()
        return norm

    def resumed(self) -> None:
        self._begin()

    @property
    def flagged(self) -> list[int]:
        return [self._numbers[place] for place in self._wrong or []]

    @property
    def largest(self) -> float:
        """Logarithm to base 2 of the bound on sums modulo a prime; infinite or nan if θ has diverged."""
        with np.errstate(divide="ignore"):
            return float(np.log2(self._size.most.max()))

    def overflow(self) -> str:
        """Say why the sum of this update may not fit into the field; empty: it does, or numbers are real."""
        point, largest = self._extent.point, self.largest
        if point is None or largest < np.log2(point.prime / 2):
            return ""
        said = f"sums may reach 2^{largest:.1f}" if np.isfinite(largest) else "θ has diverged"
        return (
            f"scheme.options.prime: {said}, with {point.data} fractional bits of data and {point.theta} of "
            f"θ; modulo 2^{point.bits} - 1 they must be below 2^{point.bits - 1}"
        )

    def _begin(self) -> None:
        """Begin an update."""
        self._workers, self._numbers, self._arrived = [], [], 0
        self._wrong, self._ready, self.stuck = None, False, ""
        self.restored()

    def restored(self) -> None:
        """Compute what follows from θ."""
        self._size = self._extent.of(self._layer.weights(self.theta))

    def bound(self, amplification: float) -> float:
        """Return a bound on the rounding error of an element of the decoded gradient, of real numbers.

        Parameters
        ----------
        amplification : float
            Sum of the magnitudes of the decoding weights.
        """
        # Sums over rows and inputs, of coding and decoding; the decoding weights are off by some ε a worker.
        terms = self._extent.rows + len(self.theta) + 16 * len(self._payloads)
        return self._scale * amplification * terms * self._noise()

    def _noise(self) -> float:
        """Return the rounding error of an element of a result, of real numbers, if it were rounded once."""
        return float(np.finfo(self.theta.dtype).eps * self._size.most.max())

    def _locate(self) -> list[int] | None:
        """Return the places of wrong results."""
        noise = self._noise() if self._extent.point is None else 0.0
        return self._code.locate(self._workers, self._payloads[: len(self._workers)], noise)
