"""Robust aggregation of uncoded gradients: a few Byzantine workers cannot move a step far.

A single Byzantine worker can move the mean anywhere. The rules that are usual instead, of q gradients of
which f may be Byzantine:

``median``, ``trimmed``
    The median of each element, and the mean of each without its f smallest and f largest values (Yin, Chen,
    Kannan and Bartlett, "Byzantine-robust distributed learning: towards optimal statistical rates", ICML
    2018).
``geometric``
    The point of least sum of distances, by Weiszfeld's iteration (Pillutla, Kakade and Harchaoui, "Robust
    aggregation for federated learning", IEEE Trans. Signal Processing 2022). Where that is slow, the median
    is a gradient that satisfies the condition of Vardi and Zhang ("The multivariate L1-median and associated
    data depth", PNAS 2000), or else Newton's method goes on.
``krum``, ``multi-krum``
    The gradient nearest to its q - f - 2 neighbours, in the sum of squared distances, and the mean of the
    q - f gradients of the least such sums (Blanchard, El Mhamdi, Guerraoui and Stainer, "Machine learning
    with adversaries: Byzantine tolerant gradient descent", NeurIPS 2017, which leaves the number open).
``clipping``
    The previous aggregate v plus the mean of the gradients' differences from it, each scaled down to a radius
    (Karimireddy, He and Jaggi, "Learning from history for Byzantine robust optimization", ICML 2021). In the
    paper the radius is a hyperparameter and workers send momenta. The default here, the median of the
    lengths, is this project's choice.

``update.clip = "median"`` scales gradients down to their median norm before the mean, with any scheme.

All but the first two rules are combinations whose coefficients follow from the gradients' inner products.
They take q² of these, and one more pass over the gradients. The virtual clock does not include that time.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from ..codes import Code
from ..config import Config, Count, Real, Table, Tables
from ..config.requirements import KeyNeeds, Needs, lacking, one_of
from ..decoders import Decoder
from ..decoders.payloads import PayloadStore
from ..kernels import order
from ..problems import Problem
from ..schemes.base import NOT_SUMMED, UNCODED, WHITENING, Scheme
from ..transport.units import Unit
from ..util.errors import InputError
from ..util.memory import ensure_fits

Rule = Literal["median", "trimmed", "geometric", "krum", "multi-krum", "clipping"]
TABLES: Tables = {**UNCODED, "update": {"mode": "all"}}
TILE = 1 << 14  # elements of each gradient whose inner products are computed at a time
WEISZFELD_STEPS, TOLERANCE = 200, 1e-9  # most iterations, and the change of a coefficient at which they end
NEWTON_STEPS, HALVINGS = 50, 30  # most steps after these, and most halvings of a step
ROUNDING = 1e-7  # relative error of a distance between equal vectors, computed from their inner products
MIN_DISTANCE = 1e-6  # least distance from the geometric median, as a multiple of the median distance


def distances(gram: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the distance of each vector from a combination of them, given their inner products."""
    along = gram @ weights
    squares = gram.diagonal() - 2 * along + weights @ along
    result: np.ndarray = np.sqrt(np.maximum(squares, 0.0))
    return result


def geometric_median(gram: np.ndarray) -> np.ndarray:
    """Return the coefficients of the geometric median of vectors whose origin is near it.

    The iteration begins there: from the mean it would take long where few vectors are far away.
    """
    far, weights = np.sqrt(gram.diagonal()), np.zeros(len(gram))
    for _ in range(WEISZFELD_STEPS):
        if not (least := MIN_DISTANCE * float(np.median(far))):
            least = MIN_DISTANCE * float(far.max()) or 1.0
        inverse = 1 / np.maximum(far, least)
        new = inverse / inverse.sum()
        change = float(np.abs(new - weights).max())
        weights = new
        if change < TOLERANCE:
            return weights
        far = distances(gram, weights)
    best = vector_of_least_sum(gram)
    return newton_median(gram, weights) if best is None else best


def vector_of_least_sum(gram: np.ndarray) -> np.ndarray | None:
    """Return the coefficients of the vector that is the geometric median; None if none of them is.

    That is the vector x_k of least sum of distances, if ‖Σ (x_i - x_k) / ‖x_i - x_k‖‖ over the other vectors
    is at most the number of vectors at x_k.
    """
    count, identity = len(gram), np.eye(len(gram))
    best: np.ndarray = min(identity, key=lambda each: float(distances(gram, each).sum()))
    far = distances(gram, best)
    rounding = ROUNDING * float(np.sqrt(best @ gram @ best))
    apart = far > max(rounding, MIN_DISTANCE * float(np.median(far)))
    pull = np.where(apart, 1 / np.where(apart, far, 1.0), 0.0)
    pull -= pull.sum() * best
    return best if np.sqrt(max(0.0, pull @ gram @ pull)) <= count - apart.sum() + MIN_DISTANCE else None


def newton_median(gram: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the coefficients of the geometric median, which is none of the vectors, from nearby ones.

    With the unit vectors u_i from x_i to x, at distances d_i, the Newton step is Σ c_i u_i, where
    (d_i Σ_j 1/d_j) c_i - Σ_j u_i·u_j c_j = -d_i.
    """
    far = distances(gram, weights)
    for _ in range(NEWTON_STEPS):
        along = gram @ weights
        products = weights @ along - along[:, None] - along + gram  # of the differences from x
        system = np.diag(far * (1 / far).sum()) - products / np.outer(far, far)
        step = np.linalg.lstsq(system, -far, rcond=None)[0] / far
        step = step.sum() * weights - step
        for halving in range(HALVINGS):
            new = weights + 0.5**halving * step
            nearer, move = distances(gram, new), new - weights
            if not nearer.min() > 0:
                continue
            along_move = gram @ move  # the sums themselves round what is gained away, if a vector is far
            if np.sum(((new + weights) @ along_move - 2 * along_move) / (nearer + far)) < 0:
                break
        else:
            break
        weights, far = new, nearer
        if float(np.abs(move).max()) < TOLERANCE:
            break
    return weights


def krum(gram: np.ndarray, liars: int, chosen: int) -> np.ndarray:
    """Return the coefficients of the mean of the `chosen` vectors that are nearest to their neighbours."""
    count, squares = len(gram), gram.diagonal()
    between = np.maximum(squares[:, None] + squares - 2 * gram, 0.0)
    np.fill_diagonal(between, np.inf)
    neighbours = np.sort(between, axis=1)[:, : max(1, count - liars - 2)]
    scores = neighbours.sum(axis=1) if count > 1 else np.zeros(1)
    weights = np.zeros(count)
    weights[np.argsort(scores, kind="stable")[:chosen]] = 1 / chosen
    return weights


class RobustAggregate(Decoder):
    """Decoder that stores the gradients of an update, and combines them by a rule."""

    options = (*Decoder.options, "rule", "liars", "radius", "workers")
    state_names = (*Decoder.state_names, "_received", "_previous", "_solved")

    def __init__(
        self,
        *shape: Any,
        rule: Rule = "median",
        liars: int = 0,
        radius: float | None = None,
        workers: int = 1,
        **common: Any,
    ) -> None:
        super().__init__(*shape, **common)
        self._rule, self._liars, self._radius, self._workers = rule, liars, radius, workers
        self._received = PayloadStore(self.elements, self.dtype)
        self._previous = np.zeros(self.elements if rule == "clipping" else 0, self.dtype)  # aggregate
        self._solved = 0  # number of gradients that the accumulator accounts for

    def copy_payloads(self) -> None:
        self._received.copy = True

    def add_sparse(self, indices: np.ndarray, values: np.ndarray, payload: np.ndarray) -> None:
        self._received.check(payload, len(indices))
        self._received.add(payload)
        self.count += 1

    def solve(self) -> None:
        count = self.count
        if self._solved == count:
            return
        self._solved = count
        if self._rule in ("median", "trimmed"):
            self._middle_mean((count - 1) // 2 if self._rule == "median" else self._liars)
            return
        self._middle_mean((count - 1) // 2)
        weights = self._weights(self._gram(self.accumulator[: self.elements]))
        self._received.combine(weights[:count, None], self.accumulator[None])
        if self._rule == "clipping":
            self.accumulator += self.dtype.type(weights[count]) * self._previous

    def _middle_mean(self, cut: int) -> None:
        """Compute each element's mean without its `cut` smallest and largest values, if there are more."""
        count = self.count
        cut = min(cut, (count - 1) // 2)
        room = np.empty((count, order.TILE), self.dtype)
        order.middle_mean(self._received.addresses, cut, count - cut, self.accumulator, room)

    def _weights(self, gram: np.ndarray) -> np.ndarray:
        """Return the coefficients of the gradients; with ``clipping``, also of the previous aggregate."""
        count = self.count
        if self._rule == "geometric":
            return geometric_median(gram)
        if self._rule == "krum":
            return krum(gram, self._liars, 1)
        if self._rule == "multi-krum":
            return krum(gram, self._liars, max(1, count - self._liars))
        lengths = distances(gram, np.eye(count + 1)[count])[:count]
        radius = float(np.median(lengths)) if self._radius is None else self._radius
        factors = radius / np.maximum(np.maximum(lengths, radius), 1e-300) / count
        return np.append(factors, 1 - factors.sum())

    def _gram(self, origin: np.ndarray) -> np.ndarray:
        """Return the inner products of the gradients and, for clipping, the previous aggregate; float64.

        They are relative to an origin near most gradients, shape (e,): if a few gradients are longer by many
        digits, inner products relative to zero do not have the distances between the others.
        """
        count, previous = self.count, self._previous.reshape(-1, self.elements)  # one row, or none
        gram, identity = np.zeros((count + len(previous),) * 2), np.eye(count)
        for start in range(0, self.elements, TILE):
            part = slice(start, start + TILE)
            tile = np.empty((count, len(origin[part])), self.dtype)
            self._received.combine(identity, tile, start)
            wide = np.concatenate([tile, previous[:, part]], dtype=np.float64)
            wide -= origin[part]
            gram += wide @ wide.T
        return gram

    @property
    def captured(self) -> float:
        """Fraction of the workers whose gradients have arrived."""
        return min(1.0, self.count / self._workers)

    def reset(self) -> None:
        if len(self._previous) and self._solved:
            self._previous[:] = self.accumulator[: self.elements]
        self._received.clear()
        self.count = self._solved = 0


MAX_LIARS: Mapping[str, Callable[[int], int]] = {
    "trimmed": lambda workers: max(0, (workers - 1) // 2),
    "krum": lambda workers: max(0, (workers - 3) // 2),
    "multi-krum": lambda workers: max(0, (workers - 3) // 2),
}
"""Rules with option `liars`, and how many Byzantine workers they tolerate, by number of workers."""


class Robust(Scheme):
    """Uncoded gradients with an aggregation that a few Byzantine workers cannot move far."""

    name = "robust"
    summary = "full gradients; rank 0 steps by a median or another aggregate robust to Byzantine workers"
    requires: ClassVar[Needs] = {
        "reduce.kind": one_of("star", why=NOT_SUMMED),
        "update.mode": lacking(
            "asynchronous",
            "a mode that waits for several, such as 'all'",
            "compares the gradients of several workers",
        ),
    }
    unused = ("code", "memory", "decoder", "downlink", *WHITENING)
    tables: ClassVar[Tables] = TABLES
    presets: ClassVar[Mapping[str, Tables]] = {
        rule: {**TABLES, "scheme": {"options": {"rule": rule}}} for rule in get_args(Rule)
    }

    class Options(Table):
        """Keys of ``[scheme] options``."""

        rule: Rule = "median"  #: how the gradients of an update are aggregated
        liars: Count = 1  #: with trimmed, krum and multi-krum: number of Byzantine workers, f
        radius: Real | None = None  #: with clipping: longest distance; none: the median distance

        effective: ClassVar[KeyNeeds] = {
            "liars": {"scheme.options.rule": one_of(*MAX_LIARS)},
            "radius": {"scheme.options.rule": one_of("clipping")},
        }

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        options, workers = config.scheme.options, config.workers.count
        rule = options.rule
        if rule in MAX_LIARS and options.liars > MAX_LIARS[rule](workers):
            raise InputError(
                f"scheme.options.liars: rule '{rule}' tolerates at most {MAX_LIARS[rule](workers)} of "
                f"{workers} workers, not {options.liars}"
            )

    def units(self, problem: Problem) -> Sequence[Unit]:
        return [Unit(0, problem.size, 1)]

    def decoders(self, units: Sequence[Unit], designs: Mapping[int, Code] | None) -> list[Decoder]:
        (unit,), dtype, options = units, self.config.problem.dtype, self.options
        size = self.workers * unit.length * np.dtype(dtype).itemsize
        ensure_fits("workers.count", f"a gradient of each of {self.workers} workers", size)
        rule = {"rule": options.rule, "liars": options.liars, "radius": options.radius}
        return [RobustAggregate(1, unit.shape, dtype, workers=self.workers, **rule)]
