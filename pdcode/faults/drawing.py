"""The events of a run, drawn from its configuration."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from ..config import Config, FaultEvent
from ..util.errors import InputError
from ..util.rng import FAULT, uniform
from . import spot
from .base import Fault, ProcessFault, TaskFault
from .coordinator import AtRank0
from .process import ensure_joinable


def check(config: Config, replies: int) -> None:
    """Refuse faults that cannot happen in a run whose workers reply to an update so many times.

    Raises
    ------
    InputError
        Naming key and value.
    """
    faults = config.faults
    if replies > 1 and any(isinstance(each, TaskFault) and each.repeats for each in faults.injected):
        raise InputError(f"faults.events: kind 'duplicate': scheme '{config.scheme.name}' replies in parts")
    failure = faults.failure
    endless = faults.mtbf_s is not None and failure is not None and config.stop.seconds is None
    if endless and not (isinstance(failure, ProcessFault) and failure.lethal):
        raise InputError("faults.mtbf_s: failures that a worker survives need stop.seconds, or have no end")
    if faults.spot is not None:
        spot.places(faults.spot)
        ensure_joinable(config)
        if faults.spot_end == "leave" and config.reduce.summed:
            raise InputError("faults.spot_end: 'leave': an allreduce needs all workers to its end")


def check_real(config: Config) -> None:
    """Refuse workers that come back over MPI without a spare rank for each.

    Raises
    ------
    InputError
        Naming key and value.
    """
    needed, spares = sum(map(len, joins(config).values())), config.workers.spares
    if needed > spares:
        within = "" if config.stop.seconds is None else f" within stop.seconds = {config.stop.seconds:g}"
        raise InputError(
            f"workers.spares: {spares}: as often as workers come back by [faults]{within}, {needed} in all, "
            "a spare rank is needed over MPI"
        )


def joins(config: Config) -> dict[int, list[int]]:
    """Return when workers come back, by worker, in ns since the start of the run, up to ``stop.seconds``."""
    faults, most_s = config.faults, math.inf if config.stop.seconds is None else config.stop.seconds
    if faults.spot is None and not any(each.joins for each in faults.events):
        return {}
    found = {
        worker: [
            each.at_ns
            for each in of_worker(config, worker)
            if each.joins and each.at_s is not None and each.at_s <= most_s
        ]
        for worker in range(config.workers.count)
    }
    return {worker: times for worker, times in found.items() if times}


def draw(seed: int, worker: int, key: int) -> float:
    """Return a number in [0, 1) for faults of a worker."""
    return uniform(seed, FAULT, worker, key)


def of_worker(config: Config, worker: int) -> list[Fault]:
    """Return a worker's events, those of tasks last; a function of the configuration and the worker alone."""
    faults = config.faults
    events = [each for each in faults.events if isinstance(each, Fault) and each.worker == worker]
    events += failures(config, worker)
    if faults.spot is not None:
        events += spot.events(faults.spot, faults.spot_speed, faults.spot_end, worker)
    return sorted(events, key=lambda each: (each.at_s is None, each.at_s if each.task is None else each.task))


def at_rank_0(config: Config) -> list[AtRank0]:
    """Return the events of rank 0 in order of time."""
    events = [each for each in config.faults.events if isinstance(each, AtRank0)]
    return sorted(events, key=lambda each: each.at_s or 0.0)


def failures(config: Config, worker: int) -> Iterator[Any]:
    """Yield a worker's failures at the rate of ``faults.mtbf_s``, up to its death or ``stop.seconds``."""
    mean_s, at_s, number = config.faults.mtbf_s, 0.0, 0
    if mean_s is None:
        return
    failure: Any = config.faults.failure or FaultEvent.of({})
    lethal = isinstance(failure, ProcessFault) and failure.lethal
    most_s = math.inf if config.stop.seconds is None else config.stop.seconds
    while True:
        at_s -= mean_s * math.log1p(-draw(config.seed, worker, number))
        number += 1
        if at_s > most_s:
            return
        yield msgspec.structs.replace(failure, worker=worker, at_s=at_s)
        if lethal:
            return
