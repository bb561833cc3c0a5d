"""Base classes of the kinds of delay: slow workers, dead workers, and keyed draws."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..config import MAX_VALUE, Config, Count, Factor, StragglersTable
from ..config.kinds import is_plugin
from ..config.requirements import KeyNeeds, given
from ..kernels import philox
from ..util import rng
from ..util.errors import InputError
from ..util.formats import listing

CHECKED = 64  # workers and tasks whose delays are drawn before a run
Integers = NDArray[np.int64]
Reals = NDArray[np.float64]


class Delayed(StragglersTable):
    """Kind of delay with workers that may be dead, which never answer."""

    dead: list[Count] = msgspec.field(default_factory=list)  #: workers that never answer
    how: Literal["sleep", "spin"] = "sleep"  #: whether a worker sleeps through a delay or keeps its core busy

    def check_config(self, config: Config) -> None:
        count = config.workers.count
        for key in ("slow", "dead"):
            if (last := max(getattr(self, key, ()), default=0)) >= count:
                raise InputError(
                    f"stragglers.{key}: worker {last} does not exist (there are {count}, from 0)"
                )

    def make(self, seed: int, workers: int) -> DelayModel:
        return DelayModel(self, seed, workers)

    def factors(self, workers: int) -> Reals:
        """Return the factor of each worker's delays, shape (n,)."""
        return np.ones(workers)

    def describe(self) -> str:
        dead = sorted({*self.dead})
        never = f"{_workers(dead)} never answer{'s' if len(dead) == 1 else ''}" if dead else ""
        return f"{self.kind}: " + "; ".join(filter(None, (self.description(), self.slowdown_text(), never)))

    def slowdown_text(self) -> str:
        """Return a description of the slow workers, for `describe`."""
        return ""

    def description(self) -> str:
        """Return a description of the law or source of delays, for `describe`."""
        common = {*Law.__struct_fields__}
        return ", ".join(f"{key} {getattr(self, key)}" for key in self.__struct_fields__ if key not in common)


class Law(Delayed):
    """Kind whose delays are drawn independently for each task, with workers that may be slow.

    A subclass defines ``delay_s(self, *u)``. It takes `uniforms` arrays of numbers in [0, 1), all of one
    shape, and returns a new array of that shape: delays in s of workers that are neither slow nor dead.
    """

    uniforms: ClassVar[int] = 1  #: random numbers per delay

    slow: list[Count] = msgspec.field(default_factory=list)  #: workers that are slow
    slowdown: Factor = 1.0  #: factor of the slow workers' delays

    effective: ClassVar[KeyNeeds] = {"slowdown": {"stragglers.slow": given("a worker")}}

    def slowdown_text(self, that: str = "that") -> str:
        slow = sorted({*self.slow})
        return f"{self.slowdown:g}× {that} for {_workers(slow)}" if slow and self.slowdown != 1 else ""

    def factors(self, workers: int) -> Reals:
        factors = np.ones(workers)
        factors[self.slow] = self.slowdown
        return factors


def _workers(workers: list[int]) -> str:
    shown = [str(worker) for worker in workers[:16]] + ([f"{len(workers) - 16} more"] if workers[16:] else [])
    return f"worker{'s' if len(workers) > 1 else ''} {listing(shown)}"


class DelayModel:
    """The delays of a run.

    A delay is a function of (seed, worker, task) alone; it does not depend on how many are drawn at a time or
    in which order. The delays of workers in `Delayed.dead` are infinite.

    Attributes
    ----------
    factor : ndarray of float64, shape (n,)
        Factor of each worker's delays.
    dead : ndarray of bool, shape (n,)
        Workers that never answer.
    merged : ndarray of int64, shape (n,)
        Number of successive delays that add up to a task's delay, for schemes whose tasks replace several.
    fraction : ndarray of float64, shape (n,)
        Fraction of a delay that a task has, for schemes whose tasks do a part of the usual work.
    limits_s : ndarray of float64, shape (n,)
        Longest delay of a worker in s, for schemes that interrupt longer ones.
    is_plugin : bool
        Whether the law is a plug-in's, whose delays are checked.
    oversleep_s : float
        Time by which a delay lasts longer on the virtual clock, as one that is slept does.
    """

    oversleep_s: float = 0.0

    def __init__(self, table: Delayed, seed: int, workers: int) -> None:
        self.seed = seed
        self.table: Any = table
        self.is_plugin = is_plugin(table)
        self.factor, self.dead = table.factors(workers), np.zeros(workers, bool)
        self.dead[table.dead] = True
        self.merged, self.fraction = np.ones(workers, np.int64), np.ones(workers)
        self.limits_s = np.full(workers, MAX_VALUE)

    def _draw_s(self, workers: Integers, first: Integers, count: int) -> Reals:
        """Draw the delays in s of workers that are neither slow nor dead; a new array, shape (m, count)."""
        table = self.table
        drawn = self._uniforms(workers, first, count, table.uniforms)
        # Contiguous copies: numpy's strided loops may round differently, and a delay must not depend on how
        # many are drawn with it.
        delays: Reals = table.delay_s(*(np.ascontiguousarray(drawn[..., i]) for i in range(table.uniforms)))
        return delays

    def _ensure_delays(self, delays: Any, expected: tuple[int, int]) -> None:
        """Refuse the delays of a plug-in's law if their shape is wrong, or one is negative or nan."""
        if (shape := np.shape(delays)) != expected:
            found = f"an array of shape {shape} for random numbers of shape {expected}"
        elif (np.asarray(delays) >= 0).all():
            return
        else:
            found = f"a delay of {np.min(delays):g} s"
        raise InputError(f"stragglers.kind: '{self.table.kind}': delay_s returns {found}")

    def delays_s(self, workers: Any, first: Any, count: int) -> Reals:
        """Return the delays in s of tasks ``first[i]`` … ``first[i] + count - 1`` of worker ``workers[i]``.

        They are float64, shape (m, count), at most 1e9, and infinite for a worker that never answers.
        """
        workers, first = np.ascontiguousarray(workers, np.int64), np.ascontiguousarray(first, np.int64)
        merged = self.merged[workers]
        if not len(merged) or merged.max() == 1:
            return self._unmerged_s(workers, first, count)
        delays = np.empty((len(workers), count))
        for each in np.unique(merged):
            part = np.flatnonzero(merged == each)
            single = self._unmerged_s(workers[part], first[part] * each, int(count * each))
            delays[part] = single.reshape(len(part), count, each).sum(axis=2)
        return np.where(np.isinf(delays), delays, np.minimum(delays, MAX_VALUE))

    def _unmerged_s(self, workers: Integers, first: Integers, count: int) -> Reals:
        """Return delays as `delays_s` does, without merging."""
        with np.errstate(over="ignore"):  # the tail of a heavy-tailed law
            delays = self._draw_s(workers, first, count)
            if self.is_plugin:
                self._ensure_delays(delays, (len(workers), count))
            delays *= (self.fraction * self.factor)[workers, None]
        np.minimum(delays, self.limits_s[workers, None], out=delays)
        delays[self.dead[workers]] = np.inf
        return delays

    def merge(self, batches: Any, limits_s: Any = None) -> Self:
        """Let each task have the sum of several successive delays, or a fraction of one; return the model.

        `batches` are the numbers of delays, of all workers or of each: an array of shape (), (1,) or (n,), of
        whole numbers or of fractions below 1. `limits_s` are the longest delays in s, by default 1e9.
        """
        if limits_s is not None:
            self.limits_s[:] = np.minimum(limits_s, MAX_VALUE)
        self.merged[:] = np.maximum(1, batches)
        self.fraction[:] = np.minimum(1.0, batches)
        return self

    def stretch(self, workers: Any) -> Reals:
        """Return each worker's additional delay as a multiple of a task's compute time, shape (m,).

        -1 means that delays are the total durations of tasks.
        """
        return np.zeros(len(workers))

    def _uniforms(self, workers: Integers, first: Integers, count: int, words: int = 1) -> Reals:
        """Draw numbers in [0, 1), shape (m, count, words)."""
        out = np.empty((len(workers), count, words))
        philox.uniforms_of(self.seed, rng.DELAY, workers, first, count, words, out)
        return out


def check_law(model: DelayModel) -> None:
    """Draw the first delays, which raises `InputError` if a plug-in's law returns what is no delay."""
    if model.is_plugin:
        workers = np.arange(min(len(model.factor), CHECKED))
        model.delays_s(workers, np.zeros_like(workers), CHECKED)


def dead_workers(table: StragglersTable, workers: int) -> list[int]:
    """Return the workers that never answer, ascending."""
    return [int(worker) for worker in table.make(0, workers).dead.nonzero()[0]]


def delays_ns(
    model: DelayModel, workers: Any, first: Any, count: int, compute_ns: Any, fraction: Any = 1.0
) -> Integers:
    """Return delays in ns: `DelayModel.delays_s`, plus each worker's stretch times its compute time.

    Delays that are not 0 last `DelayModel.oversleep_s` longer.
    `compute_ns` is the compute time of each worker's tasks, shape (m,), and `fraction` the fraction of a
    delay that these tasks have, shape () or (m,); for schemes of several rounds per update. The result is
    int64, shape (m, count), and -1 for a worker that never answers.
    """
    late_ns = model.stretch(workers) * np.asarray(compute_ns)
    late_ns = 1e9 * np.reshape(fraction, (-1, 1)) * model.delays_s(workers, first, count) + late_ns[:, None]
    never = np.isinf(late_ns)
    late_ns[never] = -1
    np.maximum(late_ns, 0, out=late_ns, where=~never)
    if model.oversleep_s:
        late_ns += round(1e9 * model.oversleep_s) * (late_ns > 0)
    return np.rint(np.minimum(late_ns, 1e9 * MAX_VALUE, out=late_ns), out=late_ns).astype(np.int64)
