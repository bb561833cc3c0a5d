"""Coded shuffling: broadcasts by which workers exchange the rows of their shards.

A row of worker i that worker j shall hold is an arc from i to j of a directed graph. A cycle of L workers and
wanted rows a₁ … a_L costs the L - 1 XORs a_l ⊕ a_(l+1) in place of L rows: worker l + 1 holds a_(l+1), and
worker 1 holds a₁ and adds up all XORs. Rows are packed into cycles greedily, pairs first, then the shortest.
No worker stores more than its rows, and it decodes by its own rows alone.

The abstract of coded shuffling has a scheme for any shuffle and any number of workers, optimal in the worst
case, N(K - 1)/K rows (Attia and Tandon, "On the worst-case communication overhead for distributed data
shuffling", Allerton 2016). Cycle packing is ours. Its least number of XORs is as in index coding: the
largest acyclic set of wanted rows (Bar-Yossef, Birk, Jayram and Kol, IEEE Trans. Inf. Theory 2011), which is
all of them less the least feedback arc set.

Workers with *caches* of S batches, their own included, need (K - S)/S batches for any permutation of the
batches: Elmahdy and Mohajer, "On the fundamental limits of coded data shuffling", ISIT 2018. The formula of
the XORs is theirs as far as we remember it, with a term that was missing; decoding is ours.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import combinations
from typing import NamedTuple

import numpy as np


def wanted(old: np.ndarray, new: np.ndarray, workers: int) -> np.ndarray:
    """Count the rows that move.

    Parameters
    ----------
    old, new : ndarray of int, shape (N,)
        Worker of each row before and after the shuffle.
    workers : int
        Number of workers K.

    Returns
    -------
    ndarray of int64, shape (K, K)
        Rows that worker i has and worker j shall have; the diagonal is zero.
    """
    counts = np.bincount(old * workers + new, minlength=workers * workers).reshape(workers, workers)
    np.fill_diagonal(counts, 0)
    return counts


def pack_cycles(counts: np.ndarray) -> list[tuple[list[int], int]]:
    """Pack wanted rows into cycles: pairs first, then the shortest cycle, until none is left.

    Parameters
    ----------
    counts : ndarray of int, shape (K, K)
        As from `wanted`; each worker must want as many rows as others want of it.

    Returns
    -------
    list of (list of int, int)
        Workers of a cycle, and how many cycles of rows it stands for.
    """
    left: list[list[int]] = counts.tolist()
    workers = range(len(left))
    after = [sum(1 << j for j in workers if row[j]) for row in left]  # a bit for each successor
    cycles = []

    def take(path: list[int]) -> None:
        arcs = list(zip(path, path[1:] + path[:1], strict=True))
        count = min(left[i][j] for i, j in arcs)
        for i, j in arcs:
            left[i][j] -= count
            if not left[i][j]:
                after[i] &= ~(1 << j)
        cycles.append((path, count))

    for i in workers:
        for j in range(i):
            if left[i][j] and left[j][i]:
                take([j, i])
    length = 3
    while any(after):
        if length > len(left):
            raise ValueError("some worker wants more rows than others want of it, or fewer")
        for start in workers:
            while (path := _cycle(after, start, length)) is not None:
                take(path)
        length += 1
    return cycles


def _cycle(after: list[int], start: int, longest: int) -> list[int] | None:
    """Return the shortest cycle through `start`, by breadth-first search; None if it is longer than that."""
    layers, seen = [1 << start], 0
    for _ in range(longest):
        reached = 0
        for i in _bits(layers[-1]):
            reached |= after[i]
        if reached >> start & 1:
            path, at = [], start
            for layer in reversed(layers):
                at = next(i for i in _bits(layer) if after[i] >> at & 1)
                path.append(at)
            return path[::-1]
        layers.append(reached & ~seen)
        seen |= reached
    return None


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


Fetch = Callable[[np.ndarray], np.ndarray]
"""Function (numbers of units) -> their bytes, uint8, shape (units, bytes)."""


class ShufflePlan(ABC):
    """XORs of units, such as rows, by which a shuffle is broadcast.

    Attributes
    ----------
    uncoded : int
        Units that workers want, together.
    load : int
        XORs to be broadcast, each as long as a unit.
    """

    uncoded: int
    load: int

    @abstractmethod
    def encode(self, fetch: Fetch) -> np.ndarray:
        """Return the XORs, uint8, shape (load, bytes)."""

    @abstractmethod
    def needed(self, worker: int) -> np.ndarray:
        """Return the numbers of the XORs that a worker decodes, int64."""

    @abstractmethod
    def received(self, worker: int) -> np.ndarray:
        """Return the numbers of the units that a worker decodes, int64."""

    @abstractmethod
    def decode(self, worker: int, fetch: Fetch, sent: np.ndarray) -> np.ndarray:
        """Decode the units that a worker wants.

        Parameters
        ----------
        worker : int
        fetch : callable
            Returns units that the worker has before the shuffle.
        sent : ndarray of uint8, shape (m, bytes)
            The XORs that the worker needs, in the order of `needed`.

        Returns
        -------
        ndarray of uint8, shape (wanted, bytes)
            In the order of `received`.
        """


class Bundle(NamedTuple):
    """Cycles of rows along the same workers."""

    path: list[int]
    rows: list[np.ndarray]  # rows[l]: rows of worker path[l] that worker path[l + 1] wants
    start: int  # number of the first XOR


class CyclePlan(ShufflePlan):
    """XORs of rows along cycles.

    Parameters
    ----------
    old, new : ndarray of int, shape (N,)
        Worker of each row before and after; every worker has as many rows as before.
    workers : int
        Number of workers K.

    Attributes
    ----------
    left, right : ndarray of int64, shape (load,)
        The two rows of each XOR.
    """

    def __init__(self, old: np.ndarray, new: np.ndarray, workers: int) -> None:
        counts = wanted(old, new, workers)
        arcs = old * workers + new
        order = np.argsort(arcs, kind="stable")
        ends = np.cumsum(np.bincount(arcs, minlength=workers * workers))
        taken = np.zeros(workers * workers, np.int64)
        self.uncoded, self.load, self.bundles = int(counts.sum()), 0, list[Bundle]()
        self._of_worker: list[list[tuple[Bundle, int]]] = [[] for _ in range(workers)]
        for path, count in pack_cycles(counts):
            rows = []
            for i, j in zip(path, path[1:] + path[:1], strict=True):
                arc = i * workers + j
                taken[arc] += count
                end = ends[arc] - taken[arc]
                rows.append(order[end : end + count])
            bundle = Bundle(path, rows, self.load)
            self.bundles.append(bundle)
            for place, worker in enumerate(path):
                self._of_worker[worker].append((bundle, place))
            self.load += (len(path) - 1) * count

    @cached_property
    def left(self) -> np.ndarray:
        return _joined([rows for each in self.bundles for rows in each.rows[:-1]])

    @cached_property
    def right(self) -> np.ndarray:
        return _joined([rows for each in self.bundles for rows in each.rows[1:]])

    def encode(self, fetch: Fetch) -> np.ndarray:
        return fetch(self.left) ^ fetch(self.right)

    def needed(self, worker: int) -> np.ndarray:
        places = []
        for (path, rows, start), place in self._of_worker[worker]:
            count = len(rows[0])
            first, last = (place - 1, place) if place else (0, len(path) - 1)
            places.append(np.arange(start + first * count, start + last * count))
        return _joined(places)

    def received(self, worker: int) -> np.ndarray:
        return _joined([bundle.rows[place - 1] for bundle, place in self._of_worker[worker]])

    def decode(self, worker: int, fetch: Fetch, sent: np.ndarray) -> np.ndarray:
        got, at = [np.empty((0, sent.shape[1]), np.uint8)], 0
        for (path, rows, _), place in self._of_worker[worker]:
            own = fetch(rows[place])
            steps = 1 if place else len(path) - 1
            xors = sent[at : at + steps * len(own)].reshape(steps, *own.shape)
            got.append(own ^ np.bitwise_xor.reduce(xors, axis=0))
            at += steps * len(own)
        return np.concatenate(got)


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, np.int64), *parts])


Label = tuple[int, frozenset[int]]
"""A subfile: the worker that holds its batch, and the S - 1 others that have it in their caches."""


class Caches:
    """Caches of S batches at each of K workers, and the XORs that deliver a permutation of the batches.

    Each batch is cut into C(K - 1, S - 1) subfiles. Its worker has all of them, and each other worker those
    whose label has its number. After a shuffle the new worker of a batch and the old one swap places in the
    labels of its subfiles, and no cache changes.

    Parameters
    ----------
    workers : int
        Number of workers K.
    size : int
        Batches S of a worker's cache and its own batch together, 1 to K - 1.

    Attributes
    ----------
    parts : int
        Subfiles of a batch.
    load : int
        XORs of a shuffle, each as long as a subfile: (K - S)/S batches.
    batches : list of int
        The batch of each worker.
    """

    def __init__(self, workers: int, size: int) -> None:
        self.workers, self.size = workers, size
        everyone = range(workers)
        self.labels: dict[Label, int] = {}  # -> number of the subfile: batch · parts + part
        for owner in everyone:
            others = [each for each in everyone if each != owner]
            for group in combinations(others, size - 1):
                self.labels[owner, frozenset(group)] = len(self.labels)
        self.parts = len(self.labels) // workers
        self.batches = list(everyone)
        self._groups = [frozenset(each) for each in combinations(range(workers - 1), size)]
        self.load = len(self._groups)

    def held(self, worker: int) -> list[int]:
        """Return the numbers of the subfiles that a worker has, ascending."""
        return sorted(n for (owner, group), n in self.labels.items() if worker == owner or worker in group)

    def deliver(self, sources: Sequence[int]) -> list[list[int]]:
        """Return the subfiles of each XOR of a shuffle.

        Parameters
        ----------
        sources : sequence of int, shape (K,)
            The worker whose batch each worker shall have.
        """
        labels, everyone, xors = self.labels, frozenset(range(self.workers)), []
        for group in self._groups:
            terms = set[int]()
            for i in group:
                source, rest = sources[i], group - {i}
                if source == i:
                    continue
                terms ^= {labels[i, rest]}
                if source not in group:
                    terms ^= {labels[source, rest]}
                    continue
                for j in everyone - group | {i}:
                    terms ^= {labels[source, rest - {source} | {j}]}
            xors.append(sorted(terms))
        return xors

    def solve(self, worker: int, sources: Sequence[int]) -> dict[int, tuple[list[int], list[int]]]:
        """Return how a worker decodes the subfiles of its next batch that it does not have.

        Subfile -> the numbers of the XORs, and of the subfiles in its cache, whose sum it is.
        """
        known = set(self.held(worker))
        basis: dict[int, tuple[set[int], int]] = {}  # pivot -> unknown subfiles, and bits of XORs
        xors = self.deliver(sources)
        for number, terms in enumerate(xors):
            unknown, combined = set(terms) - known, 1 << number
            for pivot in unknown & basis.keys():
                unknown, combined = unknown ^ basis[pivot][0], combined ^ basis[pivot][1]
            if not unknown:
                continue
            first = min(unknown)
            for pivot, (others, bits) in basis.items():
                if first in others:
                    basis[pivot] = others ^ unknown, bits ^ combined
            basis[first] = unknown, combined
        solved = {}
        for (owner, _), subfile in self.labels.items():
            if owner != sources[worker] or subfile in known:
                continue
            unknown, bits = basis[subfile]
            assert unknown == {subfile}
            known_terms = {subfile}
            for number in (used := list(_bits(bits))):
                known_terms ^= {*xors[number]}
            solved[subfile] = used, sorted(known_terms)
        return solved

    def shuffled(self, sources: Sequence[int]) -> "Caches":
        """Return the caches after a shuffle."""
        owners = {source: worker for worker, source in enumerate(sources)}  # old worker -> new one
        after = Caches.__new__(Caches)
        vars(after).update(vars(self))
        after.labels = {}
        for (old, group), subfile in self.labels.items():
            new = owners[old]
            after.labels[new, group - {new} | {old} if new in group else group] = subfile
        after.batches = [self.batches[source] for source in sources]
        return after


class CachePlan(ShufflePlan):
    """XORs of subfiles that workers with caches need.

    Parameters
    ----------
    caches : Caches
    sources : sequence of int, shape (K,)
        The worker whose batch each worker shall have.
    """

    def __init__(self, caches: Caches, sources: Sequence[int]) -> None:
        self._caches, self._sources, self.load = caches, sources, caches.load
        self._found: dict[int, dict[int, tuple[list[int], list[int]]]] = {}
        self.uncoded = sum(len(self._solved(worker)) for worker in range(caches.workers))

    def _solved(self, worker: int) -> dict[int, tuple[list[int], list[int]]]:
        if worker not in self._found:
            self._found[worker] = self._caches.solve(worker, self._sources)
        return self._found[worker]

    def encode(self, fetch: Fetch) -> np.ndarray:
        terms = self._caches.deliver(self._sources)
        xors = [np.bitwise_xor.reduce(fetch(np.array(each, np.int64)), axis=0) for each in terms]
        return np.stack(xors)

    def needed(self, worker: int) -> np.ndarray:
        return np.arange(self.load)

    def received(self, worker: int) -> np.ndarray:
        return np.array(list(self._solved(worker)), np.int64)

    def decode(self, worker: int, fetch: Fetch, sent: np.ndarray) -> np.ndarray:
        got = [np.empty((0, sent.shape[1]), np.uint8)]
        for xors, known in self._solved(worker).values():
            own = fetch(np.array(known, np.int64))
            got.append(np.bitwise_xor.reduce(np.concatenate([sent[xors], own]), axis=0)[None])
        return np.concatenate(got)
