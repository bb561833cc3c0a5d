"""Main functions of MPI ranks: rank 0 coordinates, the others serve. Imports MPI."""

import os
import signal
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from types import FrameType
from typing import Any

import numpy as np

from .. import faults
from ..automatic import link_sizing
from ..automatic.keys import with_resolved
from ..config import Config
from ..faults.link import FaultyLink, SlowedWorker
from ..launch import launcher, siblings, supervised
from ..problems import DataSource
from ..schemes import delay_model, make_scheme
from ..session.checkpoint import Checkpoint, CheckpointWriter, folder_of
from ..session.links import DelayedLink, SavingLink
from ..session.monitor import Print
from ..session.run import TrainingRun, close_trace, open_trace, run_identity
from ..session.setup import Components, WorkerFactory
from ..session.worker_checkpoint import WorkerCheckpoint
from ..stragglers import WorkerDelays
from ..training.worker import Computes, Worker, work
from ..transport.base import Link
from ..transport.units import rearrange
from ..util import signals
from ..util.errors import Failure
from ..util.output import print_line
from ..util.progress import track
from . import pace
from .fleet import MPIFleet, Ranks
from .link import Entry, MPILink
from .process import SAVED, Group


def coordinate(
    comm: Group,
    text: str,
    components: Components,
    given: Config | None = None,
    found: Checkpoint | None = None,
    resume: bool = False,
    print_line: Print = print_line,
) -> TrainingRun:
    """Run rank 0: set the workers up, train, close the trace and print its path; return the run.

    `text` is the TOML text of the configuration, for the trace; `given` the user's configuration, for
    checkpoints; `found` a checkpoint to resume from. With `resume` a signal that ends the run causes a
    checkpoint even if no others are taken.
    """
    run, speeds = run_identity(found), None
    given = components.config if given is None else given
    keeps = resume or given.trace.checkpoint_s is not None
    ranks = Ranks(comm, given.workers.spares)

    def train(components: Components, before: TrainingRun | None = None) -> TrainingRun:
        """Train with a preset, also after another one."""
        config, source = components.config, components.source
        components.source = None  # rank 0 keeps only its evaluation set
        fleet = config.reduction.fleet(ranks, components)
        accompany(fleet, comm, config, source)
        comm.buffers.append(fleet)
        with signals.handled(signals.interrupts(fleet)):
            fleet.interrupted = fleet.interrupted or ranks.interrupted  # since it was made
            if config.workers.spares:  # they need `source` later
                assert source is not None
                fleet.spare_setup = partial(setup_for_spare, components, source, empty)
                fleet.joins_ns = faults.joins(config)
            del source  # frees the full data
            trace = open_trace(config, text, components, fleet, found, before, run=run)
            drain_ns = None if config.stop.drain_s is None else round(1e9 * config.stop.drain_s)
            descent = TrainingRun(
                config, components, fleet, trace, print_line, drain_ns=drain_ns, found=found, before=before
            )
            descent.review = components.review(before and before.review)
            if keeps:
                descent.checkpoints = CheckpointWriter(trace.path, run, given, config, print_line)
            descent.run()
            if descent.next_components is None:
                close_trace(trace, descent)
                if descent.descent:
                    print_line(descent.descent.line)
        ranks.interrupted = ranks.interrupted or fleet.interrupted
        return descent

    with signals.handled(signals.interrupts(ranks)):
        supervised.report_ready()
        source, planned = components.source, None
        assert source is not None
        if components.by_speeds:
            sized = components.config if components.choice else components.requested
            planned = pace.plan(ranks.workers, *link_sizing.message_bytes(sized, components.problem))
        empty = memory_places(given, run, None) if keeps else None
        places = memory_places(given, run, found) if keeps else [None] * ranks.workers
        components.scheme.placement.seed_secrets()
        facts = components.facts
        for worker in track(range(ranks.workers), ranks.workers, "workers with data"):
            arrays = components.scheme.placement.worker_data(source, worker)
            ranks.set_up(worker, facts | {"pace": planned, "memory": places[worker]}, arrays)
        if found is not None:
            own = (worker for worker in found.saved if worker < ranks.workers)
            found.saved = [worker for worker in own if ranks.has_part(worker)]
        if planned is not None:
            speeds = ranks.measure(planned)
            components = components.settle(speeds)
            for worker in range(ranks.workers):
                ranks.set_up(worker, components.facts, {})
        components.source = source
        del source
        siblings.begun()
        descent = train(components)
        while (following := descent.next_components) is not None:
            # Workers that add up their payloads have a θ of their own; others get it with their tasks.
            theta, before = {}, descent.components
            if following.config.reduction.workers_step:
                layers = before.problem.layers, following.problem.layers
                theta["theta"] = rearrange(before.state.theta, *layers)
            for worker in range(ranks.workers):
                ranks.set_up(worker, following.facts | {"memory": empty and empty[worker]}, theta)
            found = None
            descent = train(following, descent)
    fleet: Any = descent.fleet
    comm.finish_coordinator(
        descent.code, descent.coordinator.roster.missing, fleet.has_failures, fleet.detached
    )
    return descent


def accompany(fleet: MPIFleet, comm: Group, config: Config, source: DataSource | None) -> None:
    """Have tasks accompanied by what the configuration says."""
    companion = config.shuffle.companion(config, source)
    if companion is not None:
        fleet.companion, fleet.carrier = companion, config.shuffle.carrier(comm, companion, config)


def serve(comm: Group, config: Config) -> None:
    """Run a worker: receive the data, build the problem, serve tasks."""
    entry = Entry(comm)
    if entry.worker >= config.workers.count:  # a spare rank waits during the run
        siblings.begun()
    sent = entry.set_up()
    if sent is None:
        if entry.has_failures:
            comm.finish_detached()
        return
    facts, arrays = sent
    place = facts["memory"]
    factory = make_factory(config, entry.worker, arrays, facts)
    if place is not None and place[2] >= 0:
        place = checked_place(entry, factory, place)
    siblings.begun()
    if facts["pace"] is not None:
        timed = partial(link_sizing.gradient_times_s, factory.scheme, factory.problem, entry.worker)
        pace.answer(comm, facts["pace"], timed)
        facts, _ = entry.set_up_again()
        factory = make_factory(config, entry.worker, arrays, facts)
    link, faulty = serve_preset(comm, entry, factory, place, facts)
    while link.goes_on:
        facts, changed = entry.set_up_again()
        factory = make_factory(config, entry.worker, arrays, facts)
        link, faulty = serve_preset(
            comm, entry, factory, facts["memory"], facts, faulty, changed.get("theta")
        )
    if link.detached:
        comm.finish_detached()


def make_factory(
    config: Config, worker: int, arrays: dict[str, np.ndarray], facts: dict[str, Any]
) -> WorkerFactory:
    """Return the factory of a worker with the keys that rank 0 has resolved."""
    scheme = make_scheme(with_resolved(config, facts["resolved"]))
    return WorkerFactory(scheme, worker, arrays, facts)


def checked_place(entry: Entry, factory: WorkerFactory, place: tuple[str, str, int]) -> tuple[str, str, int]:
    """Tell rank 0 whether a worker's part of a checkpoint is whole here; return its place, else of none."""
    folder, run, task = place
    whole = WorkerCheckpoint(folder, run, entry.worker).find(task) is not None
    damaged = f"worker {entry.worker}: its part of the checkpoint is damaged"
    if not whole and (key := factory.scheme.config.relies_on_parts):
        raise Failure(f"{damaged}; {key} requires every worker's")
    entry.comm.Send(np.array([whole]), dest=0, tag=SAVED)
    if not whole:
        print_line(f"{damaged}; it starts with an empty memory")
    return folder, run, task if whole else -1


def serve_preset(
    comm: Group,
    entry: Entry,
    factory: WorkerFactory,
    place: tuple[str, str, int] | None,
    facts: dict[str, Any],
    faulty: FaultyLink | None = None,
    theta: np.ndarray | None = None,
) -> tuple[MPILink, FaultyLink | None]:
    """Serve tasks until the end of the run, or until it goes on with another preset.

    `faulty` is the link with injected faults of an earlier preset, and `theta` the θ with which a worker that
    has one goes on. Return the link, and that with faults.
    """
    config = factory.scheme.config
    link = config.reduction.link(entry, factory)
    comm.buffers.append(link)
    worker = factory.build(link.connect(factory.layouts))
    if config.shuffle.moves:
        link.channel = config.shuffle.channel(entry, worker.recipient)
    if theta is not None:
        link.go_on(theta)
    if faulty is not None:
        faulty.go_on(link)
    elif config.faults and (events := faults.of_worker(config, link.worker)):
        faulty = FaultyLink(link, config.seed, link.worker, events)
    try:
        with leaves_by_signal(link):
            work(*wrapped(config, link, faulty, worker, place, facts["delay_fractions"]))
    finally:
        link.close()
    return link, faulty


def wrapped(
    config: Config,
    link: MPILink,
    faulty: FaultyLink | None,
    worker: Worker,
    place: tuple[str, str, int] | None,
    delay_fractions: Sequence[Sequence[float]],
) -> tuple[Link, Computes]:
    """Add injected faults, delays and checkpoints to a worker and its link.

    `place` is where the worker's part of a checkpoint is, see `memory_places`; None: no checkpoints.
    """
    outer: Link = link
    computes: Computes = worker
    if faulty is not None:
        outer, computes = faulty, SlowedWorker(worker, faulty.faults)
    outer = DelayedLink(outer, WorkerDelays(delay_model(config), link.worker, delay_fractions))
    if place is None:
        return outer, computes
    folder, run, task = place
    saving = SavingLink(outer, worker, WorkerCheckpoint(folder, run, link.worker))
    link.save = saving.save
    saving.stateful |= link.stateful
    saving.restore(task)
    return saving, computes


def memory_places(config: Config, run: str, found: Checkpoint | None) -> list[tuple[str, str, int]]:
    """Return folder, run and task of each worker's part of a checkpoint.

    The task is the one to resume with; -1: start with an empty memory.
    """
    workers, folder = range(config.workers.count), str(folder_of(config.trace.path))
    tasks = {} if found is None else {worker: found.header.tasks[worker] for worker in found.saved}
    return [(folder, run, tasks.get(worker, -1)) for worker in workers]


def setup_for_spare(
    components: Components, source: DataSource, places: list[tuple[str, str, int]] | None, worker: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return facts and arrays for a rank that replaces a worker."""
    facts = components.facts | {"pace": None, "memory": places and places[worker]}
    return facts, components.scheme.placement.worker_data(source, worker)


def leaves_by_signal(link: MPILink) -> AbstractContextManager[None]:
    """Have a worker leave after its task once it has received SIGTERM, if the job survives that."""

    def end_job(number: int, frame: FrameType | None) -> None:
        link.leaving = True

    mortal = not (link.can_leave and launcher.survives_deaths(os.environ))
    return signals.handled({} if mortal else {signal.SIGTERM: end_job})
