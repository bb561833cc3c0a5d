"""Robust aggregation of uncoded gradients: rank 0 steps by what a few lying workers cannot move far.

The mean follows a single liar anywhere. The rules that are usual instead, of q gradients of which f may lie:

``median``, ``trimmed``
    The median of each element, and the mean of each without its f smallest and f largest values (Yin, Chen,
    Kannan and Bartlett, "Byzantine-robust distributed learning: towards optimal statistical rates", ICML
    2018).
``geometric``
    The point of least sum of distances, by Weiszfeld's iteration (Pillutla, Kakade and Harchaoui, "Robust
    aggregation for federated learning", IEEE Trans. Signal Processing 2022).
``krum``, ``multi-krum``
    The gradient nearest to its q - f - 2 neighbours, in the sum of squared distances, and the mean of the
    q - f gradients of the least such sums (Blanchard, El Mhamdi, Guerraoui and Stainer, "Machine learning
    with adversaries: Byzantine tolerant gradient descent", NeurIPS 2017, which leaves the number open).
``clipping``
    The last step's aggregate v, plus the mean of the gradients' differences from it, each no longer than a
    radius (Karimireddy, He and Jaggi, "Learning from history for Byzantine robust optimization", ICML 2021).
    In the paper the radius is a number to be chosen and workers send momenta. The median of the lengths, the
    default here, is this project's choice.

The mean of gradients that are scaled down to at most the median of their norms is ``update.clip = "median"``,
with any scheme.

All but the first two are combinations whose coefficients follow from the gradients' inner products. They take
q² of these, and one more pass. The virtual clock charges rank 0 for payloads, not for that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from ..codes import Code
from ..config import Config, Count, Real, Table, Tables
from ..config.requirements import KeyNeeds, Needs, lacking, one_of
from ..decoders import Decoder
from ..decoders.payloads import PayloadStore
from ..kernels import order, specialise
from ..problems import Problem
from ..problems.partition import Unit
from ..util.errors import InputError
from ..util.memory import ensure_fits
from .base import ALONE, Scheme

Rule = Literal["median", "trimmed", "geometric", "krum", "multi-krum", "clipping"]
TABLES: Tables = {
    "code": {"family": "uncoded", "blocks": 1, "rotate": False},
    "memory": {"kind": "none"},
    "update": {"mode": "all"},
}
TILE = 1 << 14  # elements of each gradient for which inner products are added up at a time
WEISZFELD, CLOSE = 200, 1e-9  # most iterations, and the change of a coefficient at which they end
NEAR = 1e-6  # least distance from the geometric median that counts, of the median distance


def distances(gram: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the distance of each vector from a combination of them, given their inner products."""
    along = gram @ weights
    squares = gram.diagonal() - 2 * along + weights @ along
    found: np.ndarray = np.sqrt(np.maximum(squares, 0.0))
    return found


def geometric(gram: np.ndarray) -> np.ndarray:
    """Return the coefficients of the geometric median."""
    count = len(gram)
    weights = np.full(count, 1 / count)
    for _ in range(WEISZFELD):
        far = distances(gram, weights)
        if not (least := NEAR * float(np.median(far))):
            least = NEAR * float(far.max()) or 1.0
        inverse = 1 / np.maximum(far, least)
        new = inverse / inverse.sum()
        change = float(np.abs(new - weights).max())
        weights = new
        if change < CLOSE:
            break
    return weights


def nearest(gram: np.ndarray, liars: int, chosen: int) -> np.ndarray:
    """Return the coefficients of the mean of the `chosen` vectors that are nearest to their neighbours."""
    count, squares = len(gram), gram.diagonal()
    between = np.maximum(squares[:, None] + squares - 2 * gram, 0.0)
    np.fill_diagonal(between, np.inf)
    neighbours = np.sort(between, axis=1)[:, : max(1, count - liars - 2)]
    scores = neighbours.sum(axis=1) if count > 1 else np.zeros(1)
    weights = np.zeros(count)
    weights[np.argsort(scores, kind="stable")[:chosen]] = 1 / chosen
    return weights


class Aggregate(Decoder):
    """Decoder that keeps the gradients of an update, and combines them by a rule that liars cannot move far.

    Parameters
    ----------
    blocks, block_shape, dtype, length
        As for `Decoder`; a single block.
    rule : str
    liars : int
        Number f of gradients that may be anything.
    radius : float, optional
        Of ``clipping``; default: the median of the distances.
    workers : int
        Number of workers n.
    """

    options = (*Decoder.options, "rule", "liars", "radius", "workers")
    state_names = (*Decoder.state_names, "_received", "_before", "_solved")

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
        self._before = np.zeros(self.elements if rule == "clipping" else 0, self.dtype)  # the last aggregate
        self._middle: Callable[..., None] = specialise(order.middle_mean, self.dtype)
        self._solved = 0  # number of gradients that the accumulator accounts for

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
            cut = (count - 1) // 2 if self._rule == "median" else min(self._liars, (count - 1) // 2)
            self._middle(self._received.addresses, cut, count - cut, self.accumulator)
            return
        weights = self._weights(self._gram())
        self._received.combine(weights[:count, None], self.accumulator[None])
        if self._rule == "clipping":
            self.accumulator += self.dtype.type(weights[count]) * self._before

    def _weights(self, gram: np.ndarray) -> np.ndarray:
        """Return the coefficients of the gradients; with ``clipping``, of the last aggregate, too."""
        count = self.count
        if self._rule == "geometric":
            return geometric(gram)
        if self._rule == "krum":
            return nearest(gram, self._liars, 1)
        if self._rule == "multi-krum":
            return nearest(gram, self._liars, max(1, count - self._liars))
        lengths = distances(gram, np.eye(count + 1)[count])[:count]
        radius = float(np.median(lengths)) if self._radius is None else self._radius
        factors = np.minimum(1.0, radius / np.maximum(lengths, 1e-300)) / count
        return np.append(factors, 1 - factors.sum())

    def _gram(self) -> np.ndarray:
        """Return the inner products of the gradients, the last aggregate as the last one, float64."""
        count, kept = self.count, self._before[None] if len(self._before) else self._before.reshape(0, 0)
        gram, identity = np.zeros((count + len(kept),) * 2), np.eye(count)
        for start in range(0, self.elements, TILE):
            tile = np.empty((count, min(TILE, self.elements - start)), self.dtype)
            self._received.combine(identity, tile, start)
            some = [tile, kept[:, start : start + TILE]] if len(kept) else [tile]
            wide = np.concatenate(some, dtype=np.float64)
            gram += wide @ wide.T
        return gram

    @property
    def captured(self) -> float:
        """Share of the workers whose gradients are here."""
        return min(1.0, self.count / self._workers)

    def reset(self) -> None:
        if len(self._before) and self._solved:
            self._before[:] = self.accumulator[: self.elements]
        self._received.clear()
        self.count = self._solved = 0


MOST: Mapping[str, Callable[[int], int]] = {
    "trimmed": lambda workers: max(0, (workers - 1) // 2),
    "krum": lambda workers: max(0, (workers - 3) // 2),
    "multi-krum": lambda workers: max(0, (workers - 3) // 2),
}
"""Rules that know the number of liars, and how many they bear of a number of workers."""


class Robust(Scheme):
    """Uncoded gradients that rank 0 aggregates so that a few lying workers cannot move a step far."""

    name = "robust"
    summary = "full gradients; rank 0 steps by a median or another aggregate that bears liars"
    requires: ClassVar[Needs] = {
        "reduce.kind": one_of("star", why=ALONE),
        "update.mode": lacking(
            "asynchronous",
            "a mode that waits for several, such as 'all'",
            "compares the gradients of several workers",
        ),
    }
    unused = ("code", "memory", "decoder", "downlink", "!code.whiten")
    tables: ClassVar[Tables] = TABLES
    presets: ClassVar[Mapping[str, Tables]] = {
        rule: {**TABLES, "scheme": {"options": {"rule": rule}}} for rule in get_args(Rule)
    }

    class Options(Table):
        """Keys of ``[scheme] options``."""

        rule: Rule = "median"  #: how the gradients of an update are aggregated
        liars: Count = 1  #: with trimmed, krum and multi-krum: number of workers that may lie
        radius: Real | None = None  #: with clipping: longest distance; none: the median of them

        effective: ClassVar[KeyNeeds] = {
            "liars": {"scheme.options.rule": one_of(*MOST)},
            "radius": {"scheme.options.rule": one_of("clipping")},
        }

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        options, workers = config.scheme.options, config.workers.count
        rule = options.rule
        if rule in MOST and options.liars > MOST[rule](workers):
            raise InputError(
                f"scheme.options.liars: rule '{rule}' bears at most {MOST[rule](workers)} of {workers} "
                f"workers, not {options.liars}"
            )

    def units(self, problem: Problem) -> Sequence[Unit]:
        return [Unit(0, problem.size, 1)]

    def decoders(self, units: Sequence[Unit], designs: Mapping[int, Code] | None) -> list[Decoder]:
        (unit,), dtype, options = units, self.config.problem.dtype, self.options
        size = self.workers * unit.length * np.dtype(dtype).itemsize
        ensure_fits("workers.count", f"a gradient of each of {self.workers} workers", size)
        kept = {"rule": options.rule, "liars": options.liars, "radius": options.radius}
        return [Aggregate(1, unit.shape, dtype, workers=self.workers, **kept)]
