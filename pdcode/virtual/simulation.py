"""Simulation: a run on the virtual clock, with the coordinator of real runs and virtual workers."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import numpy as np

from ..config import Config
from ..trace import Recorder, TraceWriter
from ..trace.schema import APPLIED, REFUSED, WASTED
from ..training.checkpoint import Checkpoint, Checkpoints
from ..training.monitor import Print
from ..training.session import TrainingRun
from ..training.setup import Components, prepare, worker_builder
from ..transport.log import LogFormat
from ..transport.sums import exchanged_bytes
from ..util.errors import InputError
from . import costs, timing_only
from .executor import Executor, InProcessExecutor
from .fleet import VirtualFleet
from .result import Result
from .schedule import NEVER_NS, AllreduceSchedule, CostModelSchedule, Schedule

MOST = 2**16  # workers, numbered by 16 bits of a message's header


class Simulation:
    """A simulated run, ready to start.

    Parameters
    ----------
    config : Config
    components : Components, optional
        Prebuilt components of `config`.
    executor : Executor, optional
        Computes the tasks; default: in this process.
    schedule : Schedule, optional
        Determines when replies arrive; default: the cost model.

    Attributes
    ----------
    fleet : VirtualFleet
    task_ns : ndarray of int64, shape (1,) or (n,)
        Compute time of the tasks of all rounds of an update, of all workers or of each.
    """

    def __init__(
        self,
        config: Config,
        components: Components | None = None,
        executor: Executor | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        check_count(config)
        self.components = components or prepare(config)
        self.config = config = self.components.config
        layouts, workers = self.components.layouts, config.workers.count
        every = [task_times_ns(config, self.components, number) for number in range(len(layouts))]
        self.task_ns = np.sum(every, axis=0)
        self.schedule = schedule or cost_model_schedule(config, self.components)
        executor = executor or InProcessExecutor(layouts, workers, worker_builder(config, self.components))
        until_ns = NEVER_NS if config.stop.seconds is None else max(1, round(1e9 * config.stop.seconds))
        exchanged = [exchanged_bytes(layout, workers) for layout in layouts] if config.reduce.summed else None
        self.fleet = VirtualFleet(layouts, workers, executor, self.schedule, until_ns, exchanged)

    def run(
        self,
        trace: Recorder | None = None,
        print_line: Print | None = None,
        found: Checkpoint | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> tuple[TrainingRun, Result]:
        """Run, with or without a trace, from a checkpoint if one was found."""
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
        )
        descent.coordinator.update.times_ns = []
        descent.checkpoints = checkpoints
        reason = descent.run()
        return descent, self._result(descent, reason)

    def _result(self, descent: TrainingRun, reason: str) -> Result:
        coordinator, monitor = descent.coordinator, descent.monitor
        roster = coordinator.roster
        seconds = 1e-9 * coordinator.t_stop_ns
        intervals = np.diff([0, *coordinator.update.times_ns])
        return Result(
            config=self.config,
            task_ns=self.task_ns,
            reason=reason,
            code=descent.code,
            updates=coordinator.version,
            seconds=seconds,
            target_s=seconds if monitor.reached else math.inf,
            loss=monitor.loss,
            accuracy=monitor.accuracy,
            arrivals=roster.arrivals,
            used=sum(roster.fates[fate] for fate in APPLIED),
            replies=self.components.replies,
            wasted=roster.fates[WASTED],
            refused=roster.fates[REFUSED],
            bytes_up=self.fleet.bytes_up,
            bytes_down=self.fleet.bytes_down,
            length_ns=self.schedule.now_ns,
            processor_ns=processor_ns(self.config, roster.arrivals, self.fleet.bytes_up, self.schedule.steps),
            ingress_ns=getattr(self.schedule, "ingress_ns", 0),
            egress_ns=getattr(self.schedule, "egress_ns", 0),
            update_s=1e-9 * statistics.median(intervals) if len(intervals) else math.nan,
            theta=coordinator.theta,
        )


def check_count(config: Config) -> None:
    """Refuse more workers than the message header can number.

    Raises
    ------
    InputError
        Naming key and value.
    """
    if config.workers.count > MOST:
        raise InputError(
            f"workers.count: {config.workers.count} is more than the {MOST} workers that messages can "
            "name; without numerics (--timing-only), policies that count payloads can have more"
        )


def drain_ns(config: Config) -> int | None:
    """Return the longest wait for the tasks in flight after the stop, ns; None: as over MPI."""
    if config.stop.drain_s is not None:
        return round(1e9 * config.stop.drain_s)
    return None if config.faults else NEVER_NS


def cost_model_schedule(config: Config, components: Components) -> CostModelSchedule:
    """Build the schedule of ``[machine]``, ``[link]`` and ``[stragglers]``."""
    task_ns = [task_times_ns(config, components, number) for number in range(len(components.layouts))]
    if config.reduce.summed:
        sizes = [layout.payload_bytes for layout in components.layouts]
        return AllreduceSchedule(config, task_ns, sizes, components.shares)
    sizes = [layout.reply_bytes for layout in components.layouts]
    exchanged = LogFormat(components.layout).message_bytes if config.downlink.exchanges else None
    return CostModelSchedule(config, task_ns, sizes, components.shares, exchanged)


def task_times_ns(config: Config, components: Components, number: int = 0) -> np.ndarray:
    """Return the compute time in ns of a task in round `number`, on the average number of rows.

    Of all workers, shape (1,), or of each, shape (n,).
    """
    return costs.times_ns(config.machine, components.flops_by_worker(number))


def processor_ns(config: Config, arrivals: int, bytes_up: float, steps: int) -> int:
    """Return the busy time of rank 0's processor in ns, all tasks having been answered."""
    machine = config.machine
    seconds = machine.update_s * steps
    if not config.reduce.summed:
        part = bytes_up / machine.coordinators
        seconds += (machine.arrival_s + machine.dispatch_s) * arrivals + part / (
            machine.decode_bandwidth or math.inf
        )
    return min(NEVER_NS, round(1e9 * seconds))  # as the clock


def without_numerics(
    config: Config,
    components: Components,
    trace: TraceWriter | None = None,
    watch: Callable[[timing_only.TimingOnly], object] = lambda run: None,
    print_line: Print | None = None,
) -> Result:
    """Simulate only the timing of a run, which requires `timing_only.is_timeable`.

    `watch` is called with the run before it starts, and may interrupt it; `print_line` prints a line.
    """
    layout, task_ns = components.layout, task_times_ns(config, components)
    body, size = layout.gradient_bytes, layout.task_bytes
    run = timing_only.TimingOnly(config, task_ns, layout.reply_bytes, body, size - body)
    watch(run)
    done = run.run(trace, print_line)
    return Result(
        config=config,
        task_ns=task_ns,
        reason=done.reason,
        code=int(run.interrupted > 0),
        updates=done.updates,
        seconds=done.seconds,
        target_s=math.inf,
        loss=math.nan,
        accuracy=math.nan,
        arrivals=done.arrivals,
        used=done.used,
        replies=1,
        wasted=done.wasted,
        refused=0,
        bytes_up=done.bytes_up,
        bytes_down=done.bytes_down,
        length_ns=done.now_ns,
        processor_ns=processor_ns(config, done.arrivals, done.bytes_up, done.updates),
        ingress_ns=done.ingress_ns,
        egress_ns=done.egress_ns,
        update_s=done.update_s,
        theta=np.zeros(0),
    )


def simulate(config: Config, executor: Executor | None = None, trace: Recorder | None = None) -> Result:
    """Run a configuration on the virtual clock.

    Parameters
    ----------
    config : Config
        Resolved configuration.
    executor : Executor, optional
        Computes the tasks; default: in this process.
    trace : Recorder, optional
        Records rows.

    Returns
    -------
    Result

    Raises
    ------
    InputError
        Naming key and value.
    """
    return Simulation(config, executor=executor).run(trace)[1]
