"""What all kinds of delay have in common: slow workers, dead workers, and how delays are drawn."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..config.tables import LARGEST, Config, Count, Factor, StragglersTable
from ..kernels import philox
from ..util import rng
from ..util.errors import InputError
from ..util.formats import listing

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]


class Delayed(StragglersTable):
    """A kind of delay that can be waited for."""

    dead: list[Count] = msgspec.field(default_factory=list)  # workers that never answer
    how: Literal["sleep", "spin"] = "sleep"  # what a worker does meanwhile

    def check(self, config: Config) -> None:
        for key in ("slow", "dead"):
            for worker in getattr(self, key, ()):
                if worker >= (workers := config.workers.count):
                    raise InputError(
                        f"stragglers.{key}: worker {worker} does not exist (there are {workers}, from 0)"
                    )

    def make(self, seed: int, workers: int) -> Model:
        return Model(self, seed, workers)

    def factors(self, workers: int) -> Reals:
        """By which each worker's delays are multiplied, shape (n,)."""
        return np.ones(workers)

    def describe(self) -> str:
        dead = sorted({*self.dead})
        never = f"{_workers(dead)} never answer{'s' if len(dead) == 1 else ''}" if dead else ""
        return f"{self.kind}: " + "; ".join(filter(None, (self.words(), self.slower(), never)))

    def slower(self) -> str:
        """Which workers are slow, for `describe`."""
        return ""

    def words(self) -> str:
        """What is drawn or read, for `describe`."""
        common = {*Law.__struct_fields__}
        return ", ".join(f"{key} {getattr(self, key)}" for key in self.__struct_fields__ if key not in common)


class Law(Delayed):
    """Delays drawn for each task by itself, of workers that may be slow.

    A kind has ``delay_s(self, *uniforms)``: delays in seconds of workers that are neither slow nor dead, a
    new array, from as many arrays of numbers in [0, 1) of the same shape as `uniforms` says.
    """

    uniforms: ClassVar[int] = 1  # random numbers that a delay needs

    slow: list[Count] = msgspec.field(default_factory=list)  # workers whose delay is multiplied …
    slowdown: Factor = 1.0  # … by this

    def slower(self, that: str = "that") -> str:
        slow = sorted({*self.slow})
        return f"{self.slowdown:g}× {that} for {_workers(slow)}" if slow and self.slowdown != 1 else ""

    def factors(self, workers: int) -> Reals:
        factors = np.ones(workers)
        factors[self.slow] = self.slowdown
        return factors


def _workers(workers: list[int]) -> str:
    shown = [str(worker) for worker in workers[:16]] + ([f"{len(workers) - 16} more"] if workers[16:] else [])
    return f"worker{'s' if len(workers) > 1 else ''} {listing(shown)}"


class Model:
    """The delays of a run.

    A delay is a function of (seed, worker, task) alone, however many are asked for at a time and in whatever
    order. Those of `Delayed.dead` are infinite.

    Parameters
    ----------
    table : Delayed
        The kind, with its keys.
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

    def __init__(self, table: Delayed, seed: int, workers: int) -> None:
        self.seed = seed
        self.table: Any = table
        self.factor, self.dead = table.factors(workers), np.zeros(workers, bool)
        self.dead[table.dead] = True

    def _draw_s(self, workers: Integers, first: Integers, count: int) -> Reals:
        """Delays (m, count) of workers that are neither slow nor dead; a new array."""
        table = self.table
        drawn = self._uniforms(workers, first, count, table.uniforms)
        # Copies where there are several, for numpy has other code for numbers that lie apart, which may round
        # otherwise: a delay must not depend on how many are drawn with it.
        delays: Reals = table.delay_s(*(np.ascontiguousarray(drawn[..., i]) for i in range(table.uniforms)))
        return delays

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


def dead(table: StragglersTable, workers: int) -> list[int]:
    """Workers that never answer, in order."""
    return [int(worker) for worker in table.make(0, workers).dead.nonzero()[0]]


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
