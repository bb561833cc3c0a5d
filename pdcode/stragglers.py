"""Injected delays of workers, keyed by (seed, worker, task): every scheme meets the same ones."""

from __future__ import annotations

import math
import time

from . import rng
from .config import Stragglers
from .errors import InputError


class Delays:
    """Delays of one worker.

    ``shifted-exponential`` draws shift_s + mean_s · Exp(1) for each task, the usual model of service times in
    coded computing (Lee et al., "Speeding up distributed machine learning using codes", IEEE Trans. Inf.
    Theory 2018). ``slow-set`` delays each task by shift_s. Either is multiplied by ``slowdown`` on the
    workers in ``slow``. A slow-set without shift_s stretches the worker's own compute time.

    Parameters
    ----------
    table : Stragglers
        The configuration table.
    seed : int
        Seed of the run.
    worker : int
        This worker.
    """

    def __init__(self, table: Stragglers, seed: int, worker: int) -> None:
        self.table, self.seed, self.worker = table, seed, worker
        self.slowdown = table.slowdown if worker in table.slow else 1.0
        self._exponential = table.kind == "shifted-exponential"
        self._stretch = self.slowdown - 1.0 if table.kind == "slow-set" and table.shift_s == 0 else 0.0
        self.spin = table.how == "spin"

    def delay_ns(self, task: int, compute_ns: int) -> int:
        """Delay of a task in ns, given the time that it computed."""
        if self.table.kind == "none":
            return 0
        delay_s = self.table.shift_s
        if self._exponential:
            uniform = rng.uniform(self.seed, rng.DELAY, self.worker, task)
            delay_s -= self.table.mean_s * math.log1p(-uniform)
        return round(1e9 * delay_s * self.slowdown + self._stretch * compute_ns)


def nap(delay_ns: int) -> None:
    """Give the core away for a while."""
    time.sleep(delay_ns * 1e-9)


def spin(delay_ns: int) -> None:
    """Keep the core busy for a while."""
    until = time.perf_counter_ns() + delay_ns
    while time.perf_counter_ns() < until:
        pass


def check(table: Stragglers, workers: int) -> None:
    """Refuse slow workers that do not exist.

    Raises
    ------
    InputError
        If ``slow`` names a worker outside 0 … workers-1, or an exponential part of length zero.
    """
    for worker in table.slow:
        if worker >= workers:
            raise InputError(f"stragglers.slow: worker {worker} does not exist (there are {workers}, from 0)")
    if table.kind == "shifted-exponential" and table.mean_s == 0:
        raise InputError("stragglers.mean_s: shifted-exponential needs a mean greater than 0, got 0.0")
