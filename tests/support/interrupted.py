"""Runs on the virtual clock that were interrupted, and checkpoints of them."""

from pathlib import Path
from typing import Any

from pdcode.choice.preset import prepare
from pdcode.config import Config
from pdcode.session.checkpoint import CheckpointWriter
from pdcode.session.run import TrainingRun
from pdcode.trace.recorder import Recorder
from pdcode.virtual.simulation import Simulation


def built(config: Config) -> TrainingRun:
    simulation = Simulation(prepare(config))
    run = TrainingRun(
        simulation.config, simulation.components, simulation.fleet, Rows(), lambda line: None, lambda: 0
    )
    run.coordinator.update.times_ns = []
    return run


class Rows(Recorder):
    """Recorder of a trace that has no rows."""


def interrupted(config: Config, arrivals: int = 10) -> TrainingRun:
    """Run a job, and write a checkpoint after this arrival."""
    run = built(config)
    run.checkpoints = CheckpointWriter(Path(config.trace.path), "it", config, run.components.config, print)
    receive, seen = run.fleet.events, []

    def events(*arguments: Any) -> Any:
        seen.append(1)
        if len(seen) == arrivals:
            run.save()
        return receive(*arguments)

    run.fleet.events = events
    run.coordinator.run(run.monitor)
    run.checkpoints.wait()
    return run
