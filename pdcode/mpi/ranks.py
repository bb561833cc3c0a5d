"""Main functions of MPI ranks: rank 0 coordinates, the others serve. Imports MPI."""

import os
import signal
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
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
from ..session.worker_checkpoint import WorkerCheckpoint, coordinator_file
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
from .watchdog import Watchdog

Place = tuple[str, str, int]  # of a worker's part of a checkpoint: folder, run and task, see `memory_places`


class Coordination:
    """Rank 0's part of a run.

    `text` is the TOML text of the configuration, for the trace; `given` the user's configuration, for
    checkpoints; `found` a checkpoint to resume from. With `resume` a signal that ends the run causes a
    checkpoint even if no others are taken.
    """

    def __init__(
        self,
        comm: Group,
        text: str,
        given: Config,
        found: Checkpoint | None,
        resume: bool,
        print_line: Print = print_line,
    ) -> None:
        self.comm, self.text, self.given, self.found = comm, text, given, found
        self.identity, self.print_line = run_identity(found), print_line
        self.takes_checkpoints = resume or given.trace.checkpoint_s is not None
        self.ranks = Ranks(comm, given.workers.spares)

    def run(self, components: Components) -> TrainingRun:
        """Set the workers up, train, close the trace and print its path; return the run."""
        with signals.handled(signals.interrupts(self.ranks)):
            supervised.report_ready()
            components = self.distribute(components)
            siblings.run_started()
            descent = self.train(components)
            while (preset := descent.next_components) is not None:
                self.change_preset(descent.components, preset)
                descent = self.train(preset, descent)
        fleet: Any = descent.fleet
        self.comm.finish_coordinator(
            descent.code, descent.coordinator.roster.missing, fleet.has_failures, fleet.detached
        )
        return descent

    def distribute(self, components: Components) -> Components:
        """Send the workers their data; return the components to begin with, by speeds if these matter."""
        ranks, source, pace_plan = self.ranks, components.source, None
        assert source is not None
        if components.by_speeds:
            sized = components.config if components.choice else components.requested
            pace_plan = pace.plan(ranks.workers, *link_sizing.message_bytes(sized, components.problem))
        places, placement = self.memory_places(self.found), components.scheme.placement
        placement.seed_secrets()
        facts = components.facts | {"pace": pace_plan}
        for worker in track(range(ranks.workers), ranks.workers, "workers with data"):
            ranks.set_up(worker, facts | {"memory": places[worker]}, placement.worker_data(source, worker))
        if self.found is not None:
            saved = (worker for worker in self.found.saved if worker < ranks.workers)
            self.found.saved = [worker for worker in saved if ranks.has_part(worker)]
        return components if pace_plan is None else self.adapt(components, pace_plan)

    def adapt(self, components: Components, pace_plan: list[int]) -> Components:
        """Measure speeds, and tell the workers the keys that follow; return the new components."""
        adapted = components.with_speeds(self.ranks.measure(pace_plan))
        adapted.source, components.source = components.source, None
        for worker in range(self.ranks.workers):
            self.ranks.set_up(worker, adapted.facts, {})
        return adapted

    def train(self, components: Components, before: TrainingRun | None = None) -> TrainingRun:
        """Train with a preset, also after another one."""
        config, found = components.config, self.found if before is None else None
        fleet, print_line = self.make_fleet(components), self.print_line
        with signals.handled(signals.interrupts(fleet)):
            fleet.interrupted = fleet.interrupted or self.ranks.interrupted  # since it was made
            trace = open_trace(config, self.text, components, fleet, found, before, run=self.identity)
            drain_ns = None if config.stop.drain_s is None else round(1e9 * config.stop.drain_s)
            descent = TrainingRun(
                config, components, fleet, trace, print_line, drain_ns=drain_ns, found=found, before=before
            )
            descent.review = components.review(before and before.review)
            if self.takes_checkpoints:
                writer = CheckpointWriter(trace.path, self.identity, self.given, config, print_line)
                descent.checkpoints, self.comm.checkpoint = writer, coordinator_file(writer.folder)
            with Watchdog(self.comm):
                descent.run()
            if descent.next_components is None:
                close_trace(trace, descent)
                if descent.descent:
                    print_line(descent.descent.line)
        self.ranks.interrupted = self.ranks.interrupted or fleet.interrupted
        return descent

    def make_fleet(self, components: Components) -> MPIFleet:
        """Return the fleet; rank 0 keeps only its evaluation set, unless others need data later."""
        config, source = components.config, components.source
        components.source = source if config.faults.audit else None
        fleet = config.reduction.fleet(self.ranks, components)
        self.comm.buffers.append(fleet)
        companion = config.shuffle.companion(config, source)
        if companion is not None:
            fleet.companion = companion
            fleet.carrier = config.shuffle.carrier(self.comm, companion, config)
        if config.workers.spares:
            assert source is not None
            fleet.spare_setup = partial(self.spare_setup, components, source)
            fleet.joins_ns = faults.joins(config)
        return fleet

    def spare_setup(
        self, components: Components, source: DataSource, worker: int
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return facts and arrays for a rank that replaces a worker."""
        facts = components.facts | {"pace": None, "memory": self.memory_places()[worker]}
        return facts, components.scheme.placement.worker_data(source, worker)

    def change_preset(self, before: Components, components: Components) -> None:
        """Set the workers up for another preset."""
        facts, places, arrays = components.facts, self.memory_places(), {}
        # Workers that add up their payloads have a θ of their own; others get it with their tasks.
        if components.config.reduction.workers_step:
            layers = before.problem.layers, components.problem.layers
            arrays["theta"] = rearrange(before.state.theta, *layers)
        for worker in range(self.ranks.workers):
            self.ranks.set_up(worker, facts | {"memory": places[worker]}, arrays)

    def memory_places(self, found: Checkpoint | None = None) -> Sequence[Place | None]:
        """Return folder, run and task of each worker's part of a checkpoint; None without checkpoints.

        The task is the one to resume with; -1: start with an empty memory.
        """
        workers, folder = range(self.given.workers.count), str(folder_of(self.given.trace.path))
        if not self.takes_checkpoints:
            return [None for _ in workers]
        tasks = {} if found is None else {worker: found.header.tasks[worker] for worker in found.saved}
        return [(folder, self.identity, tasks.get(worker, -1)) for worker in workers]


def serve(comm: Group, config: Config) -> None:
    """Run a worker: receive the data, build the problem, serve tasks."""
    entry = Entry(comm)
    if entry.worker >= config.workers.count:  # a spare rank waits during the run
        siblings.run_started()
    sent = entry.set_up()
    if sent is None:
        if entry.has_failures:
            comm.finish_detached()
        return
    facts, arrays = sent
    place = facts["memory"]
    comm.checkpoint = None if place is None else coordinator_file(Path(place[0]))
    factory = make_factory(config, entry.worker, arrays, facts)
    if place is not None and place[2] >= 0:
        place = checked_place(entry, factory, place)
    siblings.run_started()
    if facts["pace"] is not None:
        timed = partial(link_sizing.gradient_times_s, factory.scheme, factory.problem, entry.worker)
        pace.answer(comm, facts["pace"], timed)
        facts, _ = entry.set_up_again()
        factory = make_factory(config, entry.worker, arrays, facts)
    link, faulty = serve_preset(comm, entry, factory, place, facts)
    while link.continues:
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


def checked_place(entry: Entry, factory: WorkerFactory, place: Place) -> Place:
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
    place: Place | None,
    facts: dict[str, Any],
    faulty: FaultyLink | None = None,
    theta: np.ndarray | None = None,
) -> tuple[MPILink, FaultyLink | None]:
    """Serve tasks until the end of the run, or until another preset is set up.

    `faulty` is the link with injected faults of an earlier preset, `theta` the θ of a worker that has one.
    Return the link, and the link with faults.
    """
    config = factory.scheme.config
    link = config.reduction.link(entry, factory)
    comm.buffers.append(link)
    worker = factory.build(link.connect(factory.layouts))
    if config.shuffle.moves:
        link.channel = config.shuffle.channel(entry, worker.recipient)
    if theta is not None:
        link.continue_with(theta)
    if faulty is not None:
        faulty.continue_with(link)
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
    place: Place | None,
    delay_fractions: Sequence[Sequence[float]],
) -> tuple[Link, Computes]:
    """Add injected faults, delays and checkpoints to a worker and its link.

    `place` is the place of the worker's part of a checkpoint, see `Coordination.memory_places`.
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


def leaves_by_signal(link: MPILink) -> AbstractContextManager[None]:
    """Have a worker leave after its task once it has received SIGTERM, if the job survives that."""

    def end_job(number: int, frame: FrameType | None) -> None:
        link.leaving = True

    mortal = not (link.can_leave and launcher.survives_deaths(os.environ))
    return signals.handled({} if mortal else {signal.SIGTERM: end_job})
