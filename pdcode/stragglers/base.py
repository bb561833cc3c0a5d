"""What all kinds of delay have in common: keys, slow workers, dead workers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..config.tables import LARGEST, Stragglers
from ..kernels import philox
from ..util import rng

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]


class Model(ABC):
    """Delays of one kind.

    A delay is a function of (seed, worker, task) alone, however many are asked for at a time and in whatever
    order. On workers in ``slow`` it is ``slowdown`` times as long; those in ``dead`` never answer.

    Parameters
    ----------
    table : Stragglers
        The configuration table, fit for `check`.
    seed : int
        Seed of the run.
    workers : int
        Number of workers n.

    Attributes
    ----------
    factor : ndarray of float64, shape (n,)
        By which each worker's delays are multiplied.
    dead : ndarray of bool, shape (n,)
        Workers that never answer.
    """

    kind: ClassVar[str]
    keys: ClassVar[tuple[str, ...]] = ()  # of the table that this kind reads, beside those that all read
    needs: ClassVar[tuple[str, ...]] = ()  # those of them that must be greater than 0, or given
    modifiers: ClassVar[tuple[str, ...]] = ("slow", "slowdown", "dead")

    def __init__(self, table: Stragglers, seed: int, workers: int) -> None:
        self.table, self.seed = table, seed
        self.factor, self.dead = np.ones(workers), np.zeros(workers, bool)
        self.factor[table.slow] = table.slowdown
        self.dead[table.dead] = True

    @abstractmethod
    def _draw_s(self, workers: Integers, first: Integers, count: int) -> Reals:
        """Delays (m, count) of workers that are neither slow nor dead; a new array."""

    def delays_s(self, workers: Any, first: Any, count: int) -> Reals:
        """Delays of tasks ``first[i]`` … ``first[i] + count - 1`` of worker ``workers[i]``.

        Parameters
        ----------
        workers, first : array_like of int, shape (m,)
        count : int

        Returns
        -------
        ndarray of float64, shape (m, count)
            Seconds, 1e9 at the most; infinite for a worker that never answers.
        """
        workers, first = np.ascontiguousarray(workers, np.int64), np.ascontiguousarray(first, np.int64)
        with np.errstate(over="ignore"):  # the tail of a heavy-tailed law
            delays = self._draw_s(workers, first, count)
            delays *= self.factor[workers, None]
        np.minimum(delays, LARGEST, out=delays)
        delays[self.dead[workers]] = np.inf
        return delays

    def stretch(self, workers: Any) -> Reals:
        """By how much of a task's own compute time each of some workers is late besides, shape (m,); -1 if
        delays are times of whole tasks."""
        return np.zeros(len(workers))

    def _uniforms(self, workers: Integers, first: Integers, count: int, words: int = 1) -> Reals:
        """Numbers in [0, 1), shape (m, count, words)."""
        out = np.empty((len(workers), count, words))
        philox.uniforms_of(self.seed, rng.DELAY, workers, first, count, words, out)
        return out


def delays_ns(model: Model, workers: Any, first: Any, count: int, compute_ns: Any) -> Integers:
    """Delays as `Model.delays_s` in ns, with what is a multiple of a task's compute time.

    Parameters
    ----------
    model : Model
    workers, first : array_like of int, shape (m,)
    count : int
    compute_ns : array_like of int, shape (m,)
        Compute time of each worker's tasks.

    Returns
    -------
    ndarray of int64, shape (m, count)
        -1 for a worker that never answers.
    """
    late_ns = model.stretch(workers) * np.asarray(compute_ns)
    late_ns = 1e9 * model.delays_s(workers, first, count) + late_ns[:, None]
    never = np.isinf(late_ns)
    late_ns[never] = -1
    np.maximum(late_ns, 0, out=late_ns, where=~never)
    return np.rint(np.minimum(late_ns, 1e9 * LARGEST, out=late_ns), out=late_ns).astype(np.int64)
