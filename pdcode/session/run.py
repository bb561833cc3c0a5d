"""A training run on rank 0, on a real or virtual clock, and its trace."""

import json
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from .. import problems
from ..coding.clipping import make_clip
from ..config import Config, legacy
from ..trace import opening
from ..trace.descent import FINE
from ..trace.lock import TraceLock
from ..trace.reader import TraceReader
from ..trace.recorder import Recorder
from ..trace.schema import CHECKPOINT, FATES
from ..trace.writer import ResumePoint, TraceWriter
from ..training.coordinator import Coordinator, Observe
from ..training.fused import make_coordinator
from ..training.liveness import NEVER_NS
from ..transport.base import Fleet, RankInfo
from ..transport.units import rearrange
from ..util.errors import RESUMABLE, Failure, InputError, prefix_errors
from ..util.formats import counted, duration, score, workers_named
from ..util.output import print_line
from ..util.stateful import state_of
from . import checkpoint, restarts
from .auditor import AuditingCoordinator, Auditor
from .checkpoint import Checkpoint, CheckpointWriter
from .monitor import INTERRUPTED, Monitor, Print
from .setup import Components

BATCH_SIGNALS = signal.SIGTERM, signal.SIGUSR1  # by which batch systems end a job


class Review(Protocol):
    """Review of the preset during a run, see `choice.review.Review`."""

    reason: str
    chosen: Components | None

    def __call__(self, now_ns: int, coordinator: Coordinator) -> str: ...


class TrainingRun:
    """Coordinator and monitor over a fleet whose workers are set up.

    `wall_ns` is the clock for printing and flushing, if the fleet's is virtual; without `numerics` no
    gradients are computed; `drain_ns` is the coordinator's; `found` is a checkpoint to resume from;
    `before` the same run with another preset, from which this goes on with θ and the counters.
    """

    # To be set before the run. Checkpoints are taken at the period of `trace.checkpoint_s`, if that is given,
    # and when a signal ends the run.
    checkpoints: CheckpointWriter | None = None
    review: Review | None = None  # to be set, if the preset may change

    def __init__(
        self,
        config: Config,
        components: Components,
        fleet: Fleet,
        trace: Recorder,
        print_line: Print,
        wall_ns: Callable[[], int] | None = None,
        numerics: bool = True,
        drain_ns: int | None = None,
        found: Checkpoint | None = None,
        before: "TrainingRun | None" = None,
    ) -> None:
        self.components, self.fleet, self.trace, self.print_line = components, fleet, trace, print_line
        self.numerics = numerics
        if config.shuffle.moves:
            fleet.companion.record = trace.shuffle
        components.state.record = trace.extend
        parts, lost_with = (fleet, components.state, trace), lost_with_worker(config)
        self.auditor = None
        if config.faults.audit and numerics:
            earlier = before.auditor if before is not None else None
            self.auditor = Auditor(components, earlier.source if earlier else components.source)
        make = make_coordinator if self.auditor is None else partial(AuditingCoordinator, self.auditor)
        self.coordinator = make(*parts, clip=make_clip(config), drain_ns=drain_ns, lost_with=lost_with)
        if config.trace.checkpoint_s is not None:
            saving = self.coordinator.saving
            saving.every_ns = saving.due_ns = round(1e9 * config.trace.checkpoint_s)
        problem, virtual = components.problem, fleet.virtual
        self.monitor = Monitor(problem, config, trace, print_line, wall_ns, numerics, virtual)
        self.monitor.epochs_of_message = components.task_rows / (components.replies * components.rows)
        self._found, self._wall_ns = found, wall_ns or fleet.now_ns
        self._before, self._setup_bytes = before, (fleet.bytes_up, fleet.bytes_down)
        self.end_ns = 0  # time of the end of `run`
        self.descent = FINE  # what was wrong with the loss, after `run`
        if before is not None:
            self._follow(before)

    def _follow(self, before: "TrainingRun") -> None:
        """Take θ and counters over; optimizer and memories begin anew."""
        own, earlier = self.coordinator, before.coordinator
        for new, old in (
            (own.roster, earlier.roster),
            (own.update, earlier.update),
            (own.incidents, earlier.incidents),
            (self.monitor, before.monitor),
        ):
            new.load_state_dict(old.state_dict())
        self.monitor.earlier = [before.monitor.epochs(earlier), float(earlier.roster.used)]
        own.roster.restart(self.fleet.workers)
        own.update.begin()
        state, layers = self.components.state, self.components.problem.layers
        # A preset's codes decide along which axis weights are stored.
        state.theta[:] = rearrange(earlier.theta, before.components.problem.layers, layers)
        if own.average is not None:
            average = earlier.theta if earlier.average is None else earlier.average
            own.average[:] = rearrange(average, before.components.problem.layers, layers)
        state.resumed()
        state.continue_at(own.version)
        up, down = before._setup_bytes
        self.fleet.bytes_up += before.fleet.bytes_up - up
        self.fleet.bytes_down += before.fleet.bytes_down - down
        own.saving.due_ns = min(own.saving.due_ns, before.fleet.now_ns())  # none has been taken of this

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The trace's ``/checkpoint``: the θ that the run returns, the other one, other arrays.

        θ is that after the last update, or the average, if that had the lower loss when measured last.
        """
        points = self.coordinator.points
        ordered = points[::-1] if self.monitor.averaged else points
        thetas = dict(zip(("theta", "other_theta"), ordered, strict=False))
        state = self.components.state
        return thetas | state.optimizer.state | state.results

    @property
    def next_components(self) -> Components | None:
        """Components with which the run goes on after this preset; None: it has ended."""
        review = self.review
        return review.chosen if review is not None and self.coordinator.stopping == review.reason else None

    def _observe(self, now_ns: int, coordinator: Coordinator) -> str:
        """Observe as the monitor; if the preset is to change, wait for all workers at the stop."""
        reason, review = self.monitor(now_ns, coordinator), self.review
        if reason and review is not None and reason == review.reason:
            coordinator.drain_ns, self.fleet.continues = NEVER_NS, True
            self.trace.fault(now_ns, -1, -1, "preset", reason)
        return reason

    @property
    def stateful(self) -> dict[str, Any]:
        """Objects with the state of a checkpoint: rank 0's, and the workers' if they are in this process."""
        state, fleet = self.components.state, self.fleet
        shared = {"coordinator": self.coordinator, "policy": state.policy, "monitor": self.monitor}
        return shared | ({"state": state, "fleet": fleet} if fleet.local else {"state": state.unrelayed})

    def save(self) -> None:
        """Take a checkpoint."""
        assert self.checkpoints is not None
        coordinator, begun_ns = self.coordinator, self.fleet.now_ns()
        self.trace.flush(self._wall_ns())
        fleet, at = self.fleet, (coordinator.update.now_ns, coordinator.version, coordinator.roster.tasks)
        self.checkpoints.take(
            self.stateful, *at, self.trace.counts, (fleet.bytes_up, fleet.bytes_down), fleet.local
        )
        self.trace.pause(begun_ns, fleet.now_ns(), CHECKPOINT)

    def _resume(self, found: Checkpoint) -> None:
        """Load the state of a checkpoint."""
        fleet, coordinator, state = self.fleet, self.coordinator, self.components.state
        found.restore(self.stateful, self.components.config)
        coordinator.saving.schedule()  # by the period of today
        if fleet.local:
            coordinator.resumed = True
            return
        bytes_up, bytes_down = found.header.traffic
        fleet.bytes_up += bytes_up
        fleet.bytes_down += bytes_down
        same = len(found.header.tasks) == fleet.workers  # else the trace begins again, with other workers
        if same:
            coordinator.incidents.lost()
        coordinator.roster.restart(fleet.workers)
        for worker in found.incomplete if same else ():
            coordinator.incidents.reset(found.header.t_ns, worker)
        state.resumed()
        fleet.companion.restart()
        if (restart := restarts.of_this_process()) is not None:
            self.trace.fault(found.header.t_ns, -1, -1, "restarted", restart.text)
            self.monitor.had_faults(restart.died_ns)

    def interrupt(self) -> ResumePoint:
        """Close the trace so that another preset can continue it; return the point at which to resume."""
        assert isinstance(self.trace, TraceWriter)
        return ResumePoint(self.trace.interrupt(), self.end_ns, self.coordinator.version, preset=True)

    @property
    def failed(self) -> bool:
        """Whether the run counts as failed."""
        return self.monitor.failed or self.coordinator.stuck

    @property
    def code(self) -> int:
        """Exit code: 0; 1 if the run has failed; 75 if a batch system has ended it after a checkpoint."""
        saved = self.checkpoints is not None and self.checkpoints.taken > 0
        ended = self.coordinator.interrupted in BATCH_SIGNALS and self.coordinator.stopping == INTERRUPTED
        return RESUMABLE if saved and ended else int(self.failed)

    def end_checkpoints(self) -> None:
        """Remove the checkpoints, unless a signal has ended the run and it can be resumed."""
        if self.checkpoints is None:
            return
        if self.coordinator.stopping != INTERRUPTED:
            checkpoint.remove(self.checkpoints.folder)
        elif self.checkpoints.taken:
            self.print_line(f"checkpoint: {self.checkpoints.folder}; --resume continues the run")

    def start(self, at_ns: int | None = None) -> None:
        """Start the clock; `at_ns` is the recorded time at which a run goes on with another preset."""
        before, self._before = self._before, None  # whose workers are not needed any more
        if before is None:
            self.fleet.start(self.coordinator.update.now_ns)
        else:
            self.coordinator.update.now_ns = before.end_ns if at_ns is None else at_ns
            self.fleet.start(before.fleet.now_ns() if at_ns is None else at_ns)

    def run(self) -> str:
        """Run; print and return the reason of the end. Exceptions are recorded in the trace."""
        monitor, fleet = self.monitor, self.fleet
        for line in (*self.components.remarks(), self._size_line()):
            self.print_line(line)
        if self.checkpoints is not None:
            state_of(self.stateful)  # fails early if a plug-in's class does not declare its state
        if self._found is not None:
            self._resume(self._found)
            for line in self._found.lines:
                self.print_line(line)
        self.start()
        observe: Observe = monitor
        if self.review is not None:
            monitor.review, observe = self.review, self._observe
        try:
            reason = self.coordinator.run(observe, self.save if self.checkpoints else None)
        except BaseException as error:
            with suppress(Failure):  # a full disk must not hide the error
                self.trace.fault(fleet.now_ns(), -1, -1, "exception", fleet.cause(error))
            raise
        if self.checkpoints is not None:
            self.checkpoints.wait()
        self.end_ns = fleet.now_ns()
        if self.next_components is not None:
            if not self.coordinator.roster.missing:
                self.print_line(f"{1e-9 * self.coordinator.t_stop_ns:7.1f} s  {reason}")
                return reason
            reason = INTERRUPTED  # a signal has ended the wait for these workers
            self.coordinator.stopping, self.coordinator.interrupted = reason, fleet.interrupted
            monitor.fail(self.end_ns, reason)
        self.descent = monitor.descent(reason, lambda: self.arrays["theta"])
        self._print_outcome(reason)
        return reason

    def _size_line(self) -> str:
        """Return a line on the numbers of workers, parameters and bytes."""
        layout, fleet, config = self.components.layout, self.fleet, self.components.config
        most = "at most " if config.downlink.relays else ""
        traffic = (
            f"{layout.messages * layout.reply_bytes} bytes up and {most}{layout.task_bytes} down per task"
        )
        if config.downlink.exchanges:
            traffic += f", {(fleet.workers - 1) * layout.reply_bytes} to other workers"
        if config.reduce.summed:
            payload = sum(each.payload_bytes for each in self.components.layouts)
            traffic = f"{config.reduce.kind} of {payload} bytes per update"
        parameters = len(self.components.state.theta)
        network = f"; {fleet.network}" if fleet.network else ""
        return f"{counted(fleet.workers, 'worker')}, {parameters} parameters, {traffic}{network}"

    def _print_outcome(self, reason: str) -> None:
        """Print why and when the run has ended, the loss, and the workers that are gone."""
        monitor, roster = self.monitor, self.coordinator.roster
        measured = f"loss {monitor.loss:.4g}"
        measured += f", {monitor.score} {score(monitor.accuracy)}" if monitor.has_score else ""
        measured += " of the average of θ" if monitor.averaged else ""
        scores = f"; {measured}" if self.numerics else ","
        after = f"after {counted(self.coordinator.version, 'update')}"
        passes = f" ({monitor.epochs(self.coordinator):.1f} epochs)" if monitor.epochs_of_message else ""
        took = f"{after}{passes} in {duration(self.coordinator.t_stop_ns)}"
        self.print_line(f"stopped: {reason}{scores} {took}")
        if self.auditor is not None:
            self.print_line(self.auditor.line)
        gone = {"died": roster.dead, "left": roster.left, "not waited for any longer": roster.missing}
        for what, workers in gone.items():
            if workers:
                self.print_line(f"{what}: {workers_named(workers)}")


def lost_with_worker(config: Config) -> str:
    """Return a description of the state that is lost with a worker; empty if there is none."""
    return "what its memory held of gradients" if config.memory.has_residual else ""


def run_identity(found: Checkpoint | None) -> str:
    """Return the identity of a run, in its trace and its checkpoints."""
    return os.urandom(16).hex() if found is None else found.header.run


class FleetInfo(Protocol):
    """Facts of a fleet that a trace records."""

    workers: int
    coordinator: RankInfo
    members: list[RankInfo]
    library: str
    bytes_up: int
    bytes_down: int


def check_writable(trace: str, path: str, reads: str | None = None) -> TraceLock:
    """Create the trace's folder, and lock its name until this process ends.

    Refuse a full disk, a trace that another run writes, another file of that name, and `reads`, a trace that
    the run reads; messages begin with `path`, the configuration's file.
    """
    with prefix_errors(path):
        if reads is not None and Path(reads).resolve() in (
            Path(trace).resolve(),
            opening.previous(Path(trace)).resolve(),
        ):
            raise InputError(f"trace.path: '{trace}' is stragglers.path, from which delays are read")
        return opening.reserve(Path(trace))


def open_trace(
    config: Config,
    text: str,
    components: Components,
    fleet: FleetInfo,
    found: Checkpoint | None = None,
    before: TrainingRun | None = None,
    print_line: Print = print_line,
    **attributes: object,
) -> TraceWriter:
    """Create the trace of a run, or continue a checkpoint's trace; report an older trace that was renamed.

    `before` is the same run with another preset, whose trace this one continues.
    """
    path = Path(config.trace.path)
    resume_point = None if found is None else found.resume_point(config.workers.count)
    if before is not None:
        resume_point = before.interrupt()
    attributes["earlier_presets"] = earlier_presets(path, resume_point, before)
    trace = TraceWriter(
        path,
        text,
        # Without numerics codewords do not matter, and writing a code of many rows takes long.
        components.state.designs.values() if attributes.get("numerics", True) else (),
        metadata(config, components, fleet) | attributes,
        [member.row() for member in (fleet.coordinator, *fleet.members)],
        config.trace.flush_s,
        config.trace.arrivals,
        config.trace.sample,
        resume_point,
        tables=[*(["shuffles"] if config.shuffle.moves else []), *components.state.tables],
    )
    if resume_point is None:
        checkpoint.move_aside(path)
    if trace.renamed:
        print_line(trace.renamed)
    return trace


def earlier_presets(path: Path, point: ResumePoint | None, before: TrainingRun | None) -> str | None:
    """Return the trace's attribute of this name: JSON of configuration and attributes before each change.

    A trace that continues, at a checkpoint or with another preset, keeps the earlier changes.
    """
    if point is None or not point.rows:
        return None
    trace = TraceReader(path)
    found = trace.earlier_presets[: int(trace.segments["preset"][: point.rows.get("segments", 0)].sum())]
    if before is not None:
        config, components = before.components.config, before.components
        found = [*found, {"config": msgspec.to_builtins(config), **config_attributes(config, components)}]
    return json.dumps(found) if found else None


def close_trace(trace: TraceWriter, descent: TrainingRun, more: Mapping[str, float] | None = None) -> None:
    """Close a trace with the final θ and the counters; `more` are counters of the virtual clock."""
    fleet, arrays = descent.fleet, descent.arrays
    descent.end_checkpoints()
    trace.close(
        arrays.pop("theta"),
        arrays,
        [member.row() for member in (fleet.coordinator, *fleet.initial_members)],
        counters(descent) | dict(more or {}),
    )
    descent.print_line(f"trace: {trace.path}")


def config_attributes(config: Config, components: Components) -> dict[str, object]:
    """Return the root attributes of a trace that the configuration determines."""
    layout = components.layout
    return {
        "seed": config.seed,
        "workers": config.workers.count,
        "parameters": len(components.state.theta),
        "gradient_bytes": components.state.theta.nbytes,
        "payload_bytes": layout.payload_bytes,
        "blocks": [layer.count for layer in layout.units],
        "rows_per_task": list(layout.rows),
        "weights": list(layout.weights),
        "header_bytes": layout.header_bytes,
        "rows": components.rows,
        "task_rows": components.task_rows,
        "task_flops": float(components.flops()),
        **components.coordinator_flops,
    }


def metadata(config: Config, components: Components, fleet: FleetInfo) -> dict[str, object]:
    """Return the root attributes of a trace."""
    return {
        "config": config,
        "plugin_digests": [legacy.plugin_digest(path) for path in config.plugins] or None,
        "data": components.problem.dataset.facts | {"digest": problems.fingerprint(config.problem)},
        **config_attributes(config, components),
        "setup_bytes_up": fleet.bytes_up,
        "setup_bytes_down": fleet.bytes_down,
        "mpi_library": fleet.library,
        "git_commit": git_commit(),
        "clock": "real",
        "numerics": True,
    }


@cache
def git_commit() -> str:
    """Return the git commit of the running source tree, or an empty string."""
    here = Path(__file__).parents[2]
    if not (here / ".git").exists():
        return ""
    import subprocess  # workers do not need it

    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def counters(descent: TrainingRun) -> dict[str, float]:
    """Return the totals that a trace stores beside its rows."""
    coordinator, roster, fleet = descent.coordinator, descent.coordinator.roster, descent.fleet
    return {
        "version": coordinator.version,
        "t_stop_ns": coordinator.t_stop_ns,
        "arrivals": roster.arrivals,
        **dict(zip(FATES, roster.fates, strict=True)),
        "used": roster.used,
        "outstanding": roster.outstanding,
        "strays": sum(roster.strays),
        **{name: sum(getattr(roster, name)) for name in ("flagged", "audited", "wrong")},
        **dict(zip(("wraps_mended", "wraps_lost"), coordinator.incidents.wraps, strict=True)),
        "averaged": int(descent.monitor.averaged),
        "plateau": 1.0 if coordinator.plateau is None else coordinator.plateau.factor,
        "spent_evaluate_ns": descent.monitor.spent_ns,
        "bytes_up": fleet.bytes_up,
        "bytes_down": fleet.bytes_down,
    }
