"""Simulation: a run on the virtual clock, with the coordinator of real runs and virtual workers."""

import math
import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np

from ..config import Config
from ..session.checkpoint import Checkpoint, CheckpointWriter
from ..session.monitor import Print, Report, ignore
from ..session.run import TrainingRun
from ..session.setup import Components, check_count, prepare, worker_builder
from ..trace.recorder import Recorder
from ..trace.schema import REFUSED, WASTED
from ..trace.writer import TraceWriter
from ..util.formats import rate
from . import costs, timing_only
from .costs import cost_model_schedule, task_times_ns
from .executor import Executor, InProcessExecutor, NullExecutor
from .fleet import VirtualFleet
from .result import Result
from .schedule import NEVER_NS

NO_LOADS = dict.fromkeys(("processor_ns", "ingress_ns", "egress_ns"), 0)


class Simulation:
    """A simulated run, ready to start.

    Without `executor` workers compute in this process; if `shares`, they use rank 0's θ in place of replicas:
    the same bits, sooner. `before` is the same run with another preset, which this continues, and `loads`
    its `loads`.
    """

    def __init__(
        self,
        components: Components,
        executor: Executor | None = None,
        shares: bool = False,
        before: TrainingRun | None = None,
        loads: Mapping[str, int] = NO_LOADS,
    ) -> None:
        assert not components.config.scheme.is_auto  # `choice.preset.prepare` chooses the preset
        check_count(components.config)
        self._own_executor, self._shares, self._before = executor is None, shares, before
        self.components = components
        self.components.simulate()
        self.config = config = components.config
        layouts, workers = components.layouts, config.workers.count
        by_round = [task_times_ns(config, self.components, number) for number in range(len(layouts))]
        self.task_ns = np.sum(by_round, axis=0)  # of all rounds of an update, shape (1,) or (n,)
        self.charged = costs.charged(config, self.components)
        self.schedule = cost_model_schedule(self.charged, self.components)
        build = worker_builder(config, self.components, shares)
        executor = executor or InProcessExecutor(layouts, workers, build, shares)
        until_ns = NEVER_NS if config.stop.seconds is None else max(1, round(1e9 * config.stop.seconds))
        exchanged, sizes = self.components.exchanged, self.components.reply_bytes
        companion = config.shuffle.companion(config, self.components.source)
        self.fleet = VirtualFleet(
            layouts, workers, executor, self.schedule, until_ns, exchanged, sizes, companion
        )
        self.fleet.step_bytes = config.reduction.step_bytes(self.components.layout)
        self._loads, self._counts = loads, (0, 0)
        self._review: object = None  # the review of the preset before
        if before is not None:
            self._counts = before.coordinator.roster.arrivals, before.fleet.bytes_up
            self._review = before.review

    def run(self, trace: Recorder | None = None) -> tuple[TrainingRun, Result]:
        """Run, with any further preset, and with a trace or without."""
        descent, result = self.run_preset(trace)
        following = self.next_simulation(descent)
        return (descent, result) if following is None else following.run(trace)

    def next_simulation(self, descent: TrainingRun) -> "Simulation | None":
        """Return the simulation that continues the run with another preset; None if the run has ended.

        `descent` is what `run_preset` has returned.
        """
        components = descent.next_components
        return None if components is None else self.continued(descent, components)

    def continued(self, descent: TrainingRun, components: Components) -> "Simulation":
        """Return the simulation of the rest of a run, with another preset."""
        executor = None if self.fleet.executor.numerics else NullExecutor(components.layouts)
        made = Simulation(components, executor, self._shares, descent, self.loads(descent))
        made.schedule.continue_from(self.schedule, descent.coordinator.roster.tasks)
        if isinstance(self.fleet.executor, InProcessExecutor):
            self.fleet.executor.local_workers.clear()  # frees their memories, though callers keep this run
        return made

    def run_preset(
        self,
        trace: Recorder | None = None,
        print_line: Print | None = None,
        found: Checkpoint | None = None,
        checkpoints: CheckpointWriter | None = None,
        report: Report = ignore,
    ) -> tuple[TrainingRun, Result]:
        """Run with this preset; `found` is a checkpoint to resume from."""
        self.fleet.network = f"link of {rate(self.config.link.bandwidth)}"
        descent = TrainingRun(
            self.config,
            self.components,
            self.fleet,
            trace or Recorder(),
            print_line or (lambda line: None),
            time.perf_counter_ns,
            self.fleet.executor.numerics,
            drain_ns(self.config),
            found,
            self._before,
        )
        if self._own_executor or not self.fleet.executor.numerics:
            descent.review = self.components.review(self._review)
        if self._before is None:
            descent.coordinator.update.times_ns = []
        self._before = None
        descent.checkpoints, descent.monitor.report = checkpoints, report
        reason = descent.run()
        return descent, self._result(descent, reason)

    def _result(self, descent: TrainingRun, reason: str) -> Result:
        coordinator, monitor = descent.coordinator, descent.monitor
        roster, fleet, schedule = coordinator.roster, self.fleet, self.schedule
        seconds = 1e-9 * coordinator.t_stop_ns
        intervals = np.diff([0, *coordinator.update.times_ns])
        return Result(
            config=self.config,
            task_ns=self.task_ns,
            reason=reason,
            code=descent.code,
            updates=coordinator.version,
            seconds=seconds,
            target_s=1e-9 * monitor.reached_ns if monitor.reached else math.inf,
            above_s=1e-9 * monitor.above_ns if monitor.reached else math.inf,
            loss=monitor.loss,
            accuracy=monitor.accuracy,
            arrivals=roster.arrivals,
            used=roster.used,
            replies=self.components.replies,
            wasted=roster.fates[WASTED],
            refused=roster.fates[REFUSED],
            bytes_up=fleet.bytes_up,
            bytes_down=fleet.bytes_down,
            length_ns=schedule.now_ns,
            **self.loads(descent),
            update_s=1e-9 * statistics.median(intervals) if len(intervals) else math.nan,
            theta=descent.arrays["theta"],
            descent=descent.descent,
        )

    def loads(self, descent: TrainingRun) -> dict[str, int]:
        """Return the busy times of rank 0's processor and link in ns, with earlier presets."""
        arrivals, bytes_up = self._counts
        arrivals, bytes_up = descent.coordinator.roster.arrivals - arrivals, self.fleet.bytes_up - bytes_up
        own = {
            "processor_ns": costs.processor_ns(self.charged, arrivals, bytes_up, self.schedule.steps),
            "ingress_ns": self.schedule.ingress_ns,
            "egress_ns": self.schedule.egress_ns,
        }
        return {name: own[name] + self._loads[name] for name in own}


def drain_ns(config: Config) -> int | None:
    """Return the longest wait for the tasks in flight after the stop, ns; None: as over MPI."""
    if config.stop.drain_s is not None:
        return round(1e9 * config.stop.drain_s)
    return None if config.faults else NEVER_NS


def simulate_timing(
    config: Config,
    components: Components,
    trace: TraceWriter | None = None,
    watch: Callable[[timing_only.TimingOnly], object] = lambda run: None,
    print_line: Print | None = None,
    report: Report = ignore,
) -> Result:
    """Simulate only the timing of a run, which requires `timing_only.is_timeable`.

    `watch` is called with the run before it starts, and may interrupt it; `print_line` prints a line,
    `report` gets the fraction of the run that is done.
    """
    layout, task_ns = components.layout, task_times_ns(config, components)
    body, own = components.state.body_bytes(config.workers.count)
    own += layout.body_offset
    charged = costs.charged(config, components)
    run = timing_only.TimingOnly(charged, task_ns, layout.reply_bytes, body, own)
    watch(run)
    return run.run(trace, print_line, report)


def simulate(config: Config, executor: Executor | None = None, trace: Recorder | None = None) -> Result:
    """Run a resolved configuration on the virtual clock; `executor` as for `Simulation`."""
    return Simulation(prepare(config), executor).run(trace)[1]
