"""The replayer: it recomputes a run from its trace."""

import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from .. import problems
from ..config import Config
from ..schemes import delay_model
from ..schemes.common.assignments import Rotating
from ..session.checkpoint import changed_files, ensure_same_data, other_arithmetic
from ..session.monitor import LINE_NS, Print
from ..session.run import TrainingRun, config_attributes, counters
from ..session.setup import Components, prepare, worker_builder
from ..trace.header import code_arrays
from ..trace.reader import TraceReader
from ..trace.schema import ARITHMETIC, COSTS, DRAINED, REFUSED
from ..training.coordinator import Coordinator
from ..transport.layout import RETURNED
from ..transport.messages import Task
from ..util.errors import InputError, prefix_errors
from ..virtual import oracle
from ..virtual.calibration import config_of
from ..virtual.executor import InProcessExecutor
from ..virtual.fleet import VirtualFleet
from ..virtual.schedule import NEVER_NS
from ..virtual.simulation import Simulation, drain_ns
from .comparison import Difference, RunComparison, compare
from .schedule import RecordedPreset, RecordedSchedule, rows_of

# Attributes that depend on the costs of the virtual clock.
CHARGED = {"task_flops", "step_flops", "arrival_flops", "dispatch_flops"}
LATER_ATTRIBUTES = {"rows", "task_rows", *CHARGED}  # older traces lack them


class EndOfTrace(Exception):
    """All recorded arrivals of an unfinished run have been recomputed."""


class ReplayExecutor(InProcessExecutor):
    """Executor that does not perform tasks while `loses` returns true."""

    loses: Callable[[], bool] = staticmethod(bool)

    def perform(self, worker: int, task: Task, number: int) -> None:
        if not self.loses():
            super().perform(worker, task, number)


class Replayer:
    """Recomputation of a run from its trace, opened with ``correct_clocks=False``; it prints a line a second.

    `InputError` is raised if the trace cannot be replayed, `Difference` if an attribute that the
    configuration determines differs.

    Attributes
    ----------
    timed : bool
        Whether times are recomputed, as for runs on the virtual clock.
    untimed_reason : str
        Reason why injected delays and virtual times cannot be recomputed; else empty.
    compared : RunComparison
        Counts of compared rows.
    """

    def __init__(self, trace: TraceReader, print_line: Print) -> None:
        self._trace, self._print_line = trace, print_line
        first, *self._following = recorded_presets(trace)
        components = prepare(first.config, str(trace.path), check=False)
        self._refuse_other_arithmetic(first.config, components)
        model, self.untimed_reason = None, ""
        try:
            model = delay_model(components.config)
        except InputError as error:  # a file of delays is missing; θ does not depend on it
            self.untimed_reason = str(error)
        virtual = trace.attributes.get("clock") == "virtual"
        if virtual and not self._costs_of_today:
            model, self.untimed_reason = None, "the virtual clock of that version had other costs"
        self.timed, self._model = virtual and model is not None, model
        self.compared = RunComparison(trace, self.timed)
        self._status, self._measured = trace.arrivals["status"], trace.progress["version"]
        pauses = np.isin(trace.faults["kind"], ("hold", "release"))
        # When tasks are held back: arrivals, time, kind.
        self._pauses = deque(rows_of(trace.faults, pauses, "task", "t_ns", "kind"))
        self._final = trace.checkpoint, trace.counters  # damage is found before the work
        stops = (trace.faults["kind"] == "stop") & ~np.char.startswith(trace.faults["message"], "diverged")
        self._interrupted_ns: int = min(trace.faults["t_ns"][stops].tolist(), default=NEVER_NS)
        self._start_ns = self._line_ns = time.perf_counter_ns()
        self._build(first, components)

    def _build(
        self,
        part: RecordedPreset,
        components: Components,
        before: TrainingRun | None = None,
        earlier: Simulation | None = None,
    ) -> None:
        """Build the recomputation of a part of the run, which follows that with another preset."""
        trace, config = self._trace, part.config
        self._part, self._config, self._components = part, config, components
        components.scheme.recall(trace)
        self._reset = self._tasks("reset")
        self._missing = dict(() if part.changes else self._tasks("missing"))
        self._others = ~np.isin(trace.arrivals["worker"], [*self._missing])
        self._compare_attributes(part, components)  # before the workers are built
        if not part.changes:
            codes = {f"{blocks}/matrix": matrix for blocks, matrix in trace.code.items()}
            found = {k: code_arrays(code) for k, code in components.state.designs.items()}
            dense = {f"{k}/matrix": arrays["matrix"] for k, arrays in found.items() if "matrix" in arrays}
            compare("code", codes, dense)
        self._simulation = None
        if self.timed:
            if before is None or earlier is None:
                self._simulation = Simulation(components)
            else:
                self._simulation = earlier.continued(before, components)
            self._fleet = self._simulation.fleet
            if not part.changes:
                compare("attributes", trace.attributes, {"task_ns": self._simulation.task_ns.max()})
            self._simulation.schedule.cancel_interrupts_delays = "drain_s" in trace.config["stop"]
        else:
            self._fleet = self._recorded_fleet(part, components)
            components.state.recorded = self._tasks("omitted")
        # All recorded replies arrive within 1 ns, as the clock of a trace stands still meanwhile.
        drain = 1 if self._simulation is None else NEVER_NS if part.changes else drain_ns(config)
        self._training = TrainingRun(
            config, components, self._fleet, self.compared, lambda line: None, drain_ns=drain, before=before
        )
        if not self.timed or "why" not in trace.updates:  # older runs did not detect overdue workers
            self._training.coordinator.liveness.disable()
        self._training.monitor.review = self._review

    def _recorded_fleet(self, part: RecordedPreset, components: Components) -> VirtualFleet:
        """Return a fleet whose replies arrive as recorded."""
        components.simulate()
        layouts, workers = components.layouts, part.config.workers.count
        schedule = RecordedSchedule(
            self._trace, part, workers, self._model, self._has_ended, self._resume, components.delay_fractions
        )
        executor = ReplayExecutor(layouts, workers, worker_builder(part.config, components))
        if loses_tasks(part.config):
            executor.loses = schedule.loses
        exchanged, sizes = components.exchanged, components.reply_bytes
        companion = part.config.shuffle.companion(part.config, components.source)
        return VirtualFleet(
            layouts, workers, executor, schedule, exchanged=exchanged, reply_bytes=sizes, companion=companion
        )

    @property
    def theta(self) -> np.ndarray:
        """θ after the last recomputed update, or its average, if that is what the run returns, shape (N,)."""
        return self._training.arrays["theta"]

    def _tasks(self, kind: str) -> set[tuple[int, int]]:
        """Return worker and task of each recorded fault of a kind."""
        faults = self._trace.faults
        named = (faults["kind"] == kind) & (faults["worker"] < self._config.workers.count)
        return set(rows_of(faults, named, "worker", "task"))

    def run(self) -> None:
        """Recompute the run and compare; raise `Difference` at the first value that is unequal."""
        with np.errstate(all="ignore"), suppress(EndOfTrace):  # floating point errors as in the run
            self._recompute()
            for part in self._following:
                before, source = self._training, self._components.source
                components = prepare(part.config, str(self._trace.path), source, check=False)
                self._build(part, components, before, self._simulation)
                self._recompute()
        self.compared.arrivals.end()
        if self._trace.finished:
            for table in (self.compared.updates, self.compared.measurements, self.compared.faults):
                table.end()
            self._compare_checkpoint()

    def _recompute(self) -> None:
        """Recompute the run with one preset."""
        self._training.start(self._part.begin_ns)
        self._training.coordinator.run(self._observe)

    def _review(self, now_ns: int, coordinator: Coordinator) -> str:
        """Hold tasks back, send them again, and return that the preset changes, as recorded."""
        while self._pauses and coordinator.roster.arrivals >= self._pauses[0][0]:
            _, at_ns, kind = self._pauses[0]
            if self.timed and now_ns < at_ns:
                break
            self._pauses.popleft()
            released_ns = self._pauses[0][1] if self._pauses and self._pauses[0][2] == "release" else NEVER_NS
            coordinator.held_until_ns = released_ns if kind == "hold" else 0
        part = self._part
        due = self.timed and now_ns >= part.change_ns and coordinator.version >= part.versions.stop
        return "another preset" if due else ""

    def _observe(self, now_ns: int, coordinator: Coordinator) -> str:
        """Observe the run, and return the reason to stop, or an empty string."""
        done, rows = self.compared.arrivals.equal, self.compared.arrivals.rows
        reason = (self._observe_model if self.timed else self._observe_trace)(now_ns, coordinator)
        if (wall_ns := time.perf_counter_ns()) >= self._line_ns + LINE_NS:
            self._line_ns, took_s = wall_ns, 1e-9 * (wall_ns - self._start_ns)
            self._print_line(f"{took_s:7.1f} s  {done} of {rows} arrivals  {done / took_s:7.0f} arrivals/s")
        if done == rows and not self._trace.finished:
            raise EndOfTrace
        return reason

    def _observe_trace(self, now_ns: int, coordinator: Coordinator) -> str:
        """Measure the versions that the run measured, and the last version; stop where the trace ends."""
        self._review(now_ns, coordinator)
        ended, version, row = self._has_ended(), coordinator.version, self.compared.measurements.equal
        recorded = int(self._measured[row]) if row < len(self._measured) else NEVER_NS
        if recorded < version:
            raise Difference("progress", row, {"version": (recorded, version)})
        if recorded == version or ended or coordinator.stopping:
            self._training.monitor.measure(now_ns, version, *coordinator.points)
        return "the trace ends" if ended else ""

    def _observe_model(self, now_ns: int, coordinator: Coordinator) -> str:
        """Observe as the run did, and interrupt it at the recorded time."""
        if now_ns >= self._interrupted_ns and (coordinator.stopping or self._has_ended()):
            self._fleet.interrupted = coordinator.interrupted = signal.SIGINT
        return self._training.monitor(now_ns, coordinator)

    @property
    def _costs_of_today(self) -> bool:
        return self._trace.attributes.get("costs", 1) == COSTS

    def _compare_attributes(self, part: RecordedPreset, components: Components) -> None:
        """Compare the attributes that the configuration determines."""
        attributes = config_attributes(part.config, components)
        for key in (LATER_ATTRIBUTES - part.attributes.keys()) | (set() if self._costs_of_today else CHARGED):
            del attributes[key]
        compare("attributes", part.attributes, attributes)

    def _refuse_other_arithmetic(self, config: Config, components: Components) -> None:
        """Refuse a trace whose θ this version of pdcode computes otherwise.

        Version 1 had other random numbers for rounding, an ``int2`` of four scales, and another order of
        codewords where a task has a multiple of their weight. Up to version 2 whitened steps did not shrink.
        """
        recorded = self._trace.attributes.get("arithmetic", 1)
        if recorded == ARITHMETIC:
            return
        assignment = components.state.assignment
        formats = [field.format for layout in components.layouts for field in layout.fields]
        changed, reason = {each.name for each in formats if each.rounding != "none"}, ""
        if recorded < 2 and changed:
            reason = f"rounds to {', '.join(sorted(changed))} otherwise"
        elif recorded < 2 and isinstance(assignment, Rotating) and assignment.reordered:
            reason = "gives tasks their codewords in another order"
        elif config.code.whiten != "none":
            reason = "shrinks whitened steps with the loss"
        if reason or recorded > ARITHMETIC:
            by = self._trace.attributes.get("creator", "an older pdcode")
            commit = self._trace.attributes.get("git_commit")
            raise InputError(
                f"{self._trace.path}: has arithmetic {recorded}, this pdcode {ARITHMETIC}"
                f"{f', which {reason}' if reason else ''}: replay it with the version that wrote it, {by}"
                f"{f', commit {commit}' if commit else ''}"
            )

    def _has_ended(self) -> bool:
        """Return whether the recorded run was stopped at this point.

        That is so if all recorded tasks are sent, those whose replies are missing too, all updates are made,
        and the next finite payload was not used, or there is none.
        """
        coordinator, part, missing = self._training.coordinator, self._part, self._missing
        roster, rows = coordinator.roster, slice(coordinator.roster.arrivals, part.rows.stop)
        if coordinator.stopping or coordinator.version < part.versions.stop:
            return False
        if isinstance(schedule := self._fleet.schedule, RecordedSchedule) and schedule.posts_before_stop:
            return False
        sent = roster.outstanding - sum(roster.awaited[worker] for worker in missing)
        if sent < np.count_nonzero(self._others[rows]):
            return False
        if any(roster.tasks[worker] <= task for worker, task in missing.items()):
            return False
        left = self._status[rows]
        fit = left[left != REFUSED]
        return bool(fit[0] == DRAINED) if len(fit) else self._trace.finished or part.changes

    def _resume(self, now_ns: int) -> bool:
        """Repeat a resumption from a checkpoint of this time, at which the payloads in flight are lost.

        Return whether the state asks to be woken.
        """
        coordinator, state = self._training.coordinator, self._components.state
        roster, coordinator.update.now_ns = coordinator.roster, now_ns
        flags = zip(roster.awaited, roster.flags, strict=True)
        lost = [RETURNED if awaited else flag for awaited, flag in flags]
        if loses_tasks(self._config):
            lost = [0] * len(lost)
        roster.restart(self._config.workers.count)
        roster.flags = lost
        state.resumed()
        for worker, task in enumerate(roster.tasks):
            if (worker, task) in self._reset:
                roster.flags[worker] = 0
                self._fleet.executor.rebuild(worker)
                state.joined(worker)
        self._fleet.companion.restart()
        coordinator.dispatch_idle()
        self._fleet.flush()
        return state.wake_ns is not None

    def _compare_checkpoint(self) -> None:
        """Compare the final θ, the optimizer's state and the counters."""
        (arrays, recorded), counted = self._final, counters(self._training)
        del counted["audited"]  # without tasks in flight at a checkpoint
        compare("checkpoint", arrays, self._training.arrays)
        if self._simulation is None:  # times and set-up messages depend on the machine
            for key in ("spent_evaluate_ns", "t_stop_ns", "bytes_up", "bytes_down", "strays"):
                del counted[key]
        else:
            coordinator, schedule = self._training.coordinator, self._simulation.schedule
            work = coordinator.roster.used / self._components.replies
            counted |= {
                "length_ns": schedule.now_ns,
                **self._simulation.loads(self._training),
                "oracle_s": oracle.time_s(self._config, self._simulation.task_ns, work),
            }
        # Older traces lack some numbers.
        compare("checkpoint", recorded, {key: value for key, value in counted.items() if key in recorded})


def loses_tasks(config: Config) -> bool:
    """Return whether in a resumed run the memories of workers are those before their lost tasks."""
    return config.reduction.workers_step and config.reduction.reproducible


def replay(trace: TraceReader, print_line: Print) -> Replayer:
    """Recompute a run from its trace, and compare everything that is deterministic bit for bit.

    Parameters and exceptions are as for `Replayer`, which is returned after the run.
    """
    try:
        replayer = Replayer(trace, print_line)
        replayer.run()
    except Difference as difference:
        changed = [f"{path} has changed" for path in changed_files(config_of(trace), trace)]
        if causes := [*changed, *other_arithmetic(trace)]:
            difference.args = (f"{difference}; possible causes: {', '.join(causes)}",)
        raise
    return replayer


def recorded_presets(trace: TraceReader) -> list[RecordedPreset]:
    """Return the presets of a run in order; refuse a trace of a run that cannot be replayed."""
    if "config_resolved" not in trace.attributes:
        raise InputError(f"{trace.path}: config_resolved: missing, so the run cannot be recomputed")
    rows, versions = trace.arrivals.rows, trace.updates.rows
    parts = [(config_of(trace, each["config"]), each) for each in trace.earlier_presets]
    parts.append((config_of(trace), trace.attributes))
    changes = np.flatnonzero(trace.segments["preset"])
    starts = [(0, 0, None), *rows_of(trace.segments, changes, "arrivals", "version", "t_ns")]
    decided_ns = trace.faults["t_ns"][trace.faults["kind"] == "preset"].tolist()
    found, ends = list[RecordedPreset](), [*starts[1:], (rows, versions, NEVER_NS)]
    for (config, attributes), first, last in zip(parts, starts, ends, strict=True):
        (row, version, begin_ns), (end, until, end_ns) = first, last
        if not (0 <= row <= end <= rows and 0 <= version <= until <= versions):
            raise InputError(f"{trace.path}: damaged: the preset changes at arrival {end}, update {until}")
        within = [each for each in decided_ns if (begin_ns or 0) <= each <= end_ns]
        changes = end_ns < NEVER_NS
        change_ns = min(within, default=end_ns) if changes else NEVER_NS
        config, spans = replayable(config, trace), (range(row, end), range(version, until))
        found.append(RecordedPreset(config, attributes, *spans, begin_ns, change_ns, changes))
    return found


def replayable(config: Config, trace: TraceReader) -> Config:
    """Return a configuration of a trace, without faults that would end the replay.

    Refuse the trace of a run that cannot be replayed, or whose data would have other sizes than recorded.
    """
    if not config.stop.ends:  # no run of pdcode's own
        raise InputError(f"{trace.path}: a recorded script: the trace has no arithmetic to recompute")
    if not config.reduction.reproducible and trace.attributes.get("clock") == "real":
        raise InputError(
            f"{trace.path}: reduce.kind: '{config.reduce.kind}': MPI adds payloads in an order of its own, "
            "which no trace records, so theta cannot be recomputed to the last bit (reduce.bits has sums "
            "that do not depend on it); digests of the theta that all workers had are in updates/digest, to "
            "compare with another run of the same MPI"
        )
    if trace.segments["version"][:1].any() or trace.segments["t_ns"][:1].any():
        raise InputError(
            f"{trace.path}: the run went on from a checkpoint of another number of workers, and another trace"
        )
    if config.trace.arrivals != "all":
        raise InputError(
            f"{trace.path}: trace.arrivals: '{config.trace.arrivals}': a replay needs every arrival; "
            "set it to 'all' for a run that is to be replayed"
        )
    if not trace.attributes.get("numerics", True):
        raise InputError(f"{trace.path}: numerics: False: only times were simulated; there is no theta")
    with prefix_errors(str(trace.path)):  # before the data are read or generated
        ensure_same_data(config, trace, "since the run")
        for name, size in problems.synthetic_sizes(config.problem, config.code.blocks).items():
            recorded = trace.attributes.get(name, size)
            if size != recorded:
                raise InputError(f"config_resolved: problem: {size:,} {name}, but the run had {recorded:,}")
    return config.with_keys(faults={"events": [each for each in config.faults.events if not each.ends]})
