"""Search for codes of least coherence, over at most 64 blocks.

log(Σ exp(p <g_i, g_i'>²)) / p is minimised on a product of spheres for increasing p (`restarts`), from many
starts; the best results are brought to a local minimum of the coherence itself (`polish`). Restarts come in
rounds, and may start from the best results of earlier rounds. The result therefore depends only on the seed
and the number of restarts, not on the number of processes or on interruptions. The search ends early if a
lower bound is reached.

It uses neither public tables nor designs: where a design fits, it is as good or better, and exact.
"""

import json
import os
import time
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from itertools import islice
from math import inf
from typing import Any

import numpy as np

from pdcode.codes.constructions import partitions
from pdcode.codes.quality import bounds
from pdcode.util import npz
from pdcode.util.errors import InputError
from pdcode.util.memory import ensure_fits
from pdcode.util.processes import MAX_PROCESSES, start, submit

from .polish import VARIABLES, polish
from .restarts import Packing, PackingProblem, anneal, measure, restart, sharpnesses

SUPPORTS = ("free", "random", "net")
ROUND, POOL = 16, 8
EFFORT, MOST_RESTARTS = 8e7, 16_384
LEFT = 20  # restarts, most of which are left early, for one before
SAME = 1e-5  # difference of coherence below which packings count as equal
POLISHED = 500  # total size of the packings that are polished
SAVE_S = 1.0
ARRAYS = "problem", "done", "pool_points", "pool_supports", "before_points", "before_supports"
KINDS = "Uififi"  # of their types
HEADERS = 1 << 16  # bytes of headers, and of the problem as text

Progress = Callable[[int, int, float], object]


def default_restarts(problem: PackingProblem) -> int:
    """Return the number of restarts that take less than a minute on one core, from 1 to 16,384."""
    full = int(EFFORT / problem.effort**1.35)
    return min(max(full if full < ROUND else LEFT * full, 1), MOST_RESTARTS)


def lower_bound(problem: PackingProblem) -> float:
    """Compute the best lower bound on the coherence of any rows of this size."""
    return max(bounds.bounds(problem.rows, problem.blocks, problem.weight, False, False).values())


def merge(pool: list[Packing], found: Packing) -> list[Packing]:
    """Add a packing to a pool, sorted from the best, without duplicates and of limited length."""
    distinct: list[Packing] = []
    for one in sorted([*pool, found], key=lambda one: one.coherence):
        if not distinct or one.coherence > (1 + SAME) * distinct[-1].coherence:
            distinct.append(one)
    return distinct[:POOL]


def refine(problem: PackingProblem, found: list[Packing]) -> Packing:
    """Refine some packings at sharper maxima, and polish the best; the coherence never rises."""
    last = 1e7 if found[0].supports.size <= VARIABLES else 1e9
    stages = sharpnesses(4096.0, 4.0, last)
    sharper = [anneal(problem, one.points.copy(), one.supports, stages, 1e-6) for one in found]
    ends = sorted([*found, *sharper], key=lambda one: one.coherence)
    best = ends[0]
    for end in ends[: max(1, POLISHED // best.supports.size)]:
        polished = measure(polish(end.points, end.used), end.supports)
        best = min(best, polished, key=lambda one: one.coherence)
    return best


class SearchState:
    """State of a search: finished restarts, the pool, and the pool at the start of the round.

    It is saved to a file if a path is given.
    """

    def __init__(self, problem: PackingProblem, path: str | os.PathLike[str] | None) -> None:
        self.problem, self.path = problem, path
        self.done, self.pool, self.before = 0, list[Packing](), list[Packing]()
        self._saved = time.monotonic()
        if path is not None and os.path.exists(path):
            self._load(path)
        self.save()  # an unwritable path is reported before the search

    def add(self, found: Packing) -> None:
        """Count a restart, and add its packing to the pool."""
        self.done, self.pool = self.done + 1, merge(self.pool, found)
        if self.done % ROUND == 0:
            self.before = self.pool
        if time.monotonic() - self._saved > SAVE_S:
            self.save()

    def save(self) -> None:
        """Replace the file atomically, so that a kill leaves the old or the new file."""
        if self.path is None:
            return
        arrays = {}
        for name, pool in ("pool", self.pool), ("before", self.before):
            shape = (len(pool), self.problem.blocks, self.problem.rows)
            arrays[f"{name}_points"] = np.reshape([one.points for one in pool], shape)
            shape = (len(pool), self.problem.rows, self.problem.weight)
            arrays[f"{name}_supports"] = np.reshape([one.supports for one in pool], shape).astype(np.int32)
        partial = f"{os.fspath(self.path)}.{os.getpid()}"
        try:
            with open(partial, "wb") as file:
                np.savez(file, problem=json.dumps(self.problem), done=self.done, allow_pickle=False, **arrays)
            os.replace(partial, self.path)
        except OSError as error:
            raise InputError(f"state = {self.path!r}: cannot be written: {error.strerror}") from error
        self._saved = time.monotonic()

    def _load(self, path: str | os.PathLike[str]) -> None:
        try:
            with npz.open_npz(path) as file:
                members = {name: npz.read_header(file, name)[0] for name in ARRAYS}
                if sum(member.file_size for member in members.values()) > self._largest():
                    raise ValueError("it claims more than a state has")
                content = {name: npz.read_array(file, member) for name, member in members.items()}
            kinds = "".join(content[name].dtype.kind for name in ARRAYS)
            if kinds != KINDS or content["done"].shape:
                raise ValueError(f"arrays of kinds {kinds}, not {KINDS}")
            problem = PackingProblem(*json.loads(str(content["problem"])))
            if problem == self.problem:
                self.done = _integer("done", int(content["done"]), 0)
                self.pool, self.before = (self._packings(content, name) for name in ("pool", "before"))
        except (*npz.ERRORS, KeyError, TypeError) as error:
            raise InputError(f"state = {os.fspath(path)!r}: not a state of the optimiser ({error})") from None
        if problem != self.problem:
            raise InputError(f"state = {os.fspath(path)!r}: of another problem, {problem}")

    def _largest(self) -> int:
        """Return an upper bound on the bytes of a saved state."""
        problem = self.problem
        return 2 * POOL * 8 * problem.rows * (problem.blocks + problem.weight) + HEADERS

    def _packings(self, content: dict[str, np.ndarray], name: str) -> list[Packing]:
        """Return a pool from a file's arrays, after checks."""
        points, supports = content[f"{name}_points"], content[f"{name}_supports"]
        n, k, w = self.problem.rows, self.problem.blocks, self.problem.weight
        if points.shape[1:] != (k, n) or supports.shape != (len(points), n, w) or len(points) > POOL:
            raise ValueError(f"{name}: shapes {points.shape} and {supports.shape}")
        with np.errstate(over="ignore"):
            norms = np.square(points).sum(axis=1)
        if not np.allclose(norms, 1.0, atol=1e-9) or np.any(supports // k):
            raise ValueError(f"{name}: no unit vectors")
        return [measure(each, at) for each, at in zip(points, supports, strict=True)]


def _results(
    state: SearchState, total: int, executor: ProcessPoolExecutor | None, processes: int
) -> Generator[Packing, None, None]:
    """Yield the results of a round's remaining restarts, in order."""
    indices = range(state.done, min(total, (state.done // ROUND + 1) * ROUND))
    if executor is None:
        yield from (restart(state.problem, index, state.before) for index in indices)
        return
    waiting = iter([submit(executor, restart, state.problem, index, state.before) for index in indices])
    while group := list(islice(waiting, processes)):
        yield from (one.result() for one in group)


def search(
    problem: PackingProblem,
    restarts: int,
    seconds: float | None = None,
    processes: int = 1,
    path: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Packing:
    """Find the best packing of several restarts; see `optimized`."""
    began, state, floor = time.monotonic(), SearchState(problem, path), lower_bound(problem)
    refined, expired = inf, False
    with ExitStack() as stack:
        stack.callback(state.save)
        executor = stack.enter_context(start(processes)) if processes > 1 else None
        while state.done < restarts and not expired:
            best = state.pool[0] if state.before else None
            if best is not None and best.coherence <= (1 + 1e-4) * floor and best.coherence < refined:
                refined = best.coherence
                if refine(problem, [best]).coherence <= (1 + 1e-9) * floor:
                    break
            with closing(_results(state, restarts, executor, processes)) as results:
                for packing in results:
                    state.add(packing)
                    if progress is not None:
                        progress(state.done, restarts, state.pool[0].coherence)
                    expired = seconds is not None and time.monotonic() - began > seconds
                    if expired:
                        break
    return refine(problem, state.pool)


def _integer(name: str, value: Any, least: int, most: float = inf) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value <= most:
        to = f"to {most}" if most < inf else "on"
        near = most if isinstance(value, int) and value > most else least
        raise InputError(f"{name} = {value!r}: not a whole number from {least} {to}; nearest: {near}")
    return int(value)


def check_problem(problem: PackingProblem) -> None:
    """Refuse problems that the optimiser cannot solve."""
    n, k, w = problem.rows, problem.blocks, problem.weight
    if problem.supports not in SUPPORTS:
        raise InputError(f"supports = {problem.supports!r}: not one of {', '.join(SUPPORTS)}")
    if problem.supports != "net":
        return
    if k % w:
        divisors = [d for d in range(1, k + 1) if k % d == 0]
        near = min(divisors, key=lambda d: abs(d - w))
        raise InputError(f"weight = {w}: the supports of a net divide the {k} blocks; nearest: {near}")
    most = partitions.max_partitions(k, w) * k
    if n > most:
        raise InputError(f"workers = {n}: more rows than the supports of a net have; nearest: {most}")


def optimized(
    rows: int,
    blocks: int,
    weight: int,
    seed: int,
    restarts: int | None = None,
    seconds: float | None = None,
    supports: str = "free",
    processes: int = 1,
    state: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Search for a code of least coherence.

    Parameters
    ----------
    rows, blocks, weight : int
        n, k ≤ 64, w. Usually w = k; rows of lower weight are rarely as good as a design.
    seed : int
        Key of all randomness.
    restarts : int, optional
        Number of restarts. Default: less than a minute on one core, and 16,384.
    seconds : float, optional
        Time after which no restart begins. The result then depends on the machine's speed.
    supports : str
        Supports if w < k. ``free``: the largest entries of a dense optimum; ``random``: each block in equally
        many rows (± 1), drawn for each restart; ``net``: sets; two of them share at most one block, or all.
    processes : int
        Number of processes that share the restarts; it does not change the result. More than one needs an
        importable main module, as `multiprocessing` spawns.
    state : path, optional
        File of the search's state. An interrupted search continues from it with the same result, and a larger
        number of restarts extends an earlier search.
    progress : callable, optional
        Called after each restart with the numbers of finished and of all restarts, and the least coherence.

    Returns
    -------
    indices : ndarray of int64, shape (n, w)
    values : ndarray of float64, shape (n, w)

    Raises
    ------
    InputError
        If an argument is out of range, the supports do not exist, or the state belongs to another problem.
    """
    problem = PackingProblem(rows, blocks, weight, seed, supports)
    check_problem(problem)
    if rows > blocks:
        ensure_fits(f"workers = {rows}", "the search", 128 * rows * rows)
    total = default_restarts(problem) if restarts is None else _integer("restarts", restarts, 1)
    processes = _integer("processes", processes, 1, MAX_PROCESSES)
    if seconds is not None and not (isinstance(seconds, int | float) and seconds > 0):
        raise InputError(f"seconds = {seconds!r}: not a positive number")
    if state is not None and not (isinstance(state, str | os.PathLike) and os.fspath(state)):
        raise InputError(f"state = {state!r}: not the path of a file")
    if rows <= blocks or weight == 1:  # orthogonal rows, or repetition
        indices = (np.arange(rows)[:, None] % blocks + np.arange(weight)) % blocks
        return indices, np.tile(np.eye(1, weight), (rows, 1))
    best = search(problem, total, seconds, processes, state, progress)
    return best.supports.astype(np.int64), best.points.T[np.arange(rows)[:, None], best.supports]
