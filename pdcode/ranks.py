"""What a rank does once MPI has started: rank 0 coordinates, the others serve. Imports MPI."""

from __future__ import annotations

from contextlib import suppress

from . import problems
from .config import Config
from .coordinator import Coordinator
from .fleet.base import Fleet
from .fleet.link import MPILink
from .fleet.mpi import MPIFleet
from .fleet.process import job
from .observer import Observer
from .parts import Parts, Staff, make_downlink
from .stragglers import Delays
from .trace.writer import Writer
from .worker import work


def coordinate(config: Config, text: str, parts: Parts) -> int:
    """Rank 0: set the workers up, descend, close the trace, print where it is."""
    layout = parts.layout
    with job():
        fleet = MPIFleet(layout)
        source, parts.source = parts.source, None
        assert source is not None
        facts = {"weights": parts.assignment.weights, "rows": source.rows}
        for worker in range(fleet.workers):
            fleet.set_up(worker, facts, source.shard(worker, fleet.workers))
        del source  # the whole data, of which rank 0 keeps what it measures on
        trace = Writer(
            config.trace.path,
            text,
            parts.assignment.designs.values(),
            metadata(config, parts, fleet),
            [member.row() for member in (fleet.coordinator, *fleet.members)],
            config.trace.flush_s,
            config.trace.arrivals,
            config.trace.sample,
        )
        coordinator = Coordinator(
            fleet, parts.assignment, layout, parts.state, parts.ready, trace, config.update.late,
            make_downlink(config, parts),
        )  # fmt: skip
        observer = Observer(parts.problem, config, trace, say)
        say(
            f"{fleet.workers} workers, {layout.parameters} parameters, "
            f"{layout.reply_bytes} bytes up and {layout.task_bytes} down a task"
        )
        fleet.start()
        try:
            reason = coordinator.run(observer)
        except BaseException as error:
            with suppress(OSError, RuntimeError):  # a full disk must not hide what went wrong
                trace.fault(fleet.now_ns(), -1, -1, "exception", repr(error))
            raise
        trace.close(
            parts.state.theta,
            parts.state.optimizer.state,
            [member.row() for member in (fleet.coordinator, *fleet.members)],
            counters(fleet, coordinator, observer),
        )
        say(
            f"stopped: {reason}; loss {observer.loss:.4g}, {observer.score} {observer.accuracy:.4f} "
            f"after {coordinator.version} updates"
        )
        say(f"trace: {config.trace.path}")
    return 1 if observer.failed or coordinator.stuck else 0


def serve(config: Config) -> int:
    """A worker: receive data, make the problem, work."""
    with job():
        link = MPILink()
        known, arrays = link.set_up()
        dataset = problems.receive(config.problem, arrays, link.worker, config.workers.count)
        staff = Staff(config, dataset, link.worker, known["weights"], known["rows"])
        worker = staff.employ(link.connect(staff.layout))
        work(link, worker, Delays(config.stragglers, config.seed, link.worker))
    return 0


def say(line: str) -> None:
    """Print a line at once; launchers buffer otherwise."""
    print(line, flush=True)


def metadata(config: Config, parts: Parts, fleet: Fleet) -> dict[str, object]:
    """Root attributes of the trace."""
    layout = parts.layout
    return {
        "config": config,
        "seed": config.seed,
        "workers": fleet.workers,
        "parameters": layout.parameters,
        "gradient_bytes": layout.gradient_bytes,
        "payload_bytes": layout.payload_bytes,
        "blocks": [layer.count for layer in layout.layers],
        "rows_per_task": list(layout.rows),
        "weights": list(layout.weights),
        "header_bytes": layout.header_bytes,
        "setup_bytes_up": fleet.bytes_up,
        "setup_bytes_down": fleet.bytes_down,
        "mpi_library": fleet.library,
        "git_commit": parts.git_commit,
    }


def counters(fleet: Fleet, coordinator: Coordinator, observer: Observer) -> dict[str, int]:
    """Totals that the trace keeps beside its rows."""
    return {
        "version": coordinator.version,
        "arrivals": coordinator.arrivals,
        "refused": sum(coordinator.refused),
        "flagged": sum(coordinator.flagged),
        "spent_evaluate_ns": observer.spent_ns,
        "bytes_up": fleet.bytes_up,
        "bytes_down": fleet.bytes_down,
    }
