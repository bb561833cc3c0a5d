"""The fault events of a run, drawn from its configuration."""

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
    """Refuse faults that are impossible in a run with this number of replies of a worker per update."""
    faults = config.faults
    if replies > 1 and any(isinstance(event, TaskFault) and event.repeats for event in faults.injected):
        raise InputError(f"faults.events: kind 'duplicate': scheme '{config.scheme.name}' replies in parts")
    failure = faults.failure
    endless = faults.mtbf_s is not None and failure is not None and config.stop.seconds is None
    if endless and not (isinstance(failure, ProcessFault) and failure.lethal):
        raise InputError("faults.mtbf_s: failures that a worker survives need stop.seconds, or have no end")
    if faults.spot is not None:
        spot.nodes_by_place(faults.spot)
        ensure_joinable(config)
        if faults.spot_end == "leave" and config.reduce.summed:
            raise InputError("faults.spot_end: 'leave': an allreduce needs all workers to its end")


def check_real(config: Config) -> None:
    """Refuse workers that come back over MPI without a spare rank for each."""
    needed, spares = sum(map(len, joins(config).values())), config.workers.spares
    if needed > spares:
        within = "" if config.stop.seconds is None else f" within stop.seconds = {config.stop.seconds:g}"
        raise InputError(
            f"workers.spares: {spares}: as often as workers come back by [faults]{within}, {needed} in all, "
            "a spare rank is needed over MPI"
        )


def joins(config: Config) -> dict[int, list[int]]:
    """Return the times at which workers come back, by worker, ns since the start, up to ``stop.seconds``."""
    faults, most_s = config.faults, math.inf if config.stop.seconds is None else config.stop.seconds
    if faults.spot is None and not any(event.joins for event in faults.events):
        return {}
    times_ns = {
        worker: [
            event.at_ns
            for event in of_worker(config, worker)
            if event.joins and event.at_s is not None and event.at_s <= most_s
        ]
        for worker in range(config.workers.count)
    }
    return {worker: own_ns for worker, own_ns in times_ns.items() if own_ns}


def draw(seed: int, worker: int, key: int) -> float:
    """Return a uniform number in [0, 1) for faults of a worker."""
    return uniform(seed, FAULT, worker, key)


def of_worker(config: Config, worker: int) -> list[Fault]:
    """Return a worker's events, tasks' events last; a function of the configuration and the worker alone."""
    faults = config.faults
    events = [event for event in faults.events if isinstance(event, Fault) and event.worker == worker]
    events += failures(config, worker)
    if faults.spot is not None:
        events += spot.events(faults.spot, faults.spot_speed, faults.spot_end, worker)
    return sorted(
        events, key=lambda event: (event.at_s is None, event.at_s if event.task is None else event.task)
    )


def at_rank_0(config: Config) -> list[AtRank0]:
    """Return the events of rank 0 in order of time."""
    events = [event for event in config.faults.events if isinstance(event, AtRank0)]
    return sorted(events, key=lambda event: event.at_s or 0.0)


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
