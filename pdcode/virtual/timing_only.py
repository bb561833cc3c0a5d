"""Timing-only simulation: arrival times of tasks and replies, and their outcomes, without numerics.

The loop, `pdcode.kernels.rounds`, gives the same times as the coordinator over a virtual fleet, to the
nanosecond, about a thousand times faster. Delays are keyed, and drawn in advance for each worker.
"""

import math
import time

import numpy as np

from .. import stragglers
from ..config import Config, kinds, requirements
from ..config.requirements import Needs, having, none_of, one_of
from ..kernels import events, rounds
from ..schemes import delay_model
from ..session.monitor import LINE_NS, Print, Report, ignore
from ..session.setup import Components
from ..trace.recorder import Recorder
from ..training.incidents import missing_message
from ..util.errors import InputError
from ..util.formats import counted
from .costs import processor_ns
from .result import Result
from .schedule import bytes_per_coordinator, make_events

MAX_WORKERS: int = events.WORKERS
BUFFER_ROWS = 65_536  # rows between two writes to the trace
FEW = 256  # workers; `BUFFER_ROWS` of their arrivals take so little time that a signal can wait
MAX_AHEAD_TOTAL = 1 << 21  # delays drawn in advance, of all workers together
MIN_AHEAD, MAX_AHEAD = 8, 1024  # of each worker
MAX_DRAWN = 1 << 15  # delays drawn at a time: small enough for the cache
MAX_INTERVALS = 1 << 20  # times between updates stored for the median


NEEDS: Needs = {
    "update.mode": having("by_count", "a mode that counts payloads", "has no payloads"),
    "update.count": none_of("auto", needed="a number", why="has no coordinator that would adapt it"),
    "downlink.kind": one_of("full", why="has no payloads, whose number decides the size of a task"),
    "reduce.kind": "star",
    "shuffle.kind": one_of("none", why="has no rows"),
    "update.clip": one_of("none", why="has no payloads"),
}
"""Needs of a run without numerics."""


def is_timeable(config: Config) -> bool:
    """Return whether the timing of a run is independent of its numerics."""
    steps_by_update = kinds.find("schemes", config.scheme.name).steps_by_update
    plain = steps_by_update and not config.faults and config.stop.epochs is None
    return plain and requirements.is_met(config, NEEDS)


def uses_plain_policy(components: Components) -> bool:
    """Return whether the policy of ``[update]`` alone decides when rank 0 steps, by whole replies."""
    return components.state.default_rule and components.replies == 1


def check_captured(config: Config) -> None:
    """Refuse a policy by the captured fraction if that depends on payloads."""
    if not config.update.by_fraction:
        return
    for key, value, adapts in (
        ("decoder.kind", config.decoder.kind, config.decoder.adapts),
        ("code.family", config.code.family, config.code.adapts),
    ):
        if adapts:
            raise InputError(f"update.mode: '{config.update.mode}' depends on payloads with {key} '{value}'")


def ensure_timeable(config: Config) -> None:
    """Refuse timing that depends on numerics, too many workers, and a run without an end."""
    name = config.scheme.name
    if not kinds.find("schemes", name).steps_by_update:
        raise InputError(f"scheme.name: '{name}' has rounds or an update policy of its own")
    requirements.ensure(config, "a run without numerics", NEEDS)
    if config.stop.epochs is not None:
        raise InputError("stop.epochs: the timing-only loop counts updates; give stop.updates")
    if config.faults:
        raise InputError("faults: they need payloads, which a run without numerics does not compute")
    if (workers := config.workers.count) > MAX_WORKERS:
        raise InputError(f"workers.count: {workers} is more than the {MAX_WORKERS} of the virtual clock")
    if config.stop.updates is None and config.stop.seconds is None:
        raise InputError("stop.updates: without numerics, updates or seconds must end the run")


class Intervals:
    """Times between updates: all, or an evenly spaced sample if they are too many."""

    def __init__(self) -> None:
        self._kept = np.empty(0, np.int64)
        self._every = 1
        self._seen = self._last_ns = 0

    def add(self, t_update_ns: np.ndarray) -> None:
        """Add the times of further updates."""
        if not len(t_update_ns):
            return
        intervals = np.diff(t_update_ns, prepend=self._last_ns)
        chosen = intervals[-self._seen % self._every :: self._every]
        self._kept = np.concatenate((self._kept, chosen))
        self._seen, self._last_ns = self._seen + len(intervals), int(t_update_ns[-1])
        while len(self._kept) > MAX_INTERVALS:
            self._kept, self._every = self._kept[::2].copy(), 2 * self._every

    def median_s(self) -> float:
        """Return the median time between updates in seconds; nan without any."""
        return 1e-9 * float(np.median(self._kept)) if self._seen else float("nan")


class TimingOnly:
    """A timing-only run of a configuration that passes `ensure_timeable`, ready to start.

    `task_ns` is the compute time of a task, of all workers or of each, see `costs.times_ns`; `body_bytes` and
    `own_bytes` are the bytes of a task common to all workers, and specific to each; `exchanged` is as for
    `make_events`, and `model` of the delays, by default the configuration's.
    """

    def __init__(
        self,
        config: Config,
        task_ns: int | np.ndarray,
        reply_bytes: int,
        body_bytes: int,
        own_bytes: int,
        exchanged: int | None = None,
        model: stragglers.DelayModel | None = None,
    ) -> None:
        ensure_timeable(config)
        n, update, stop, trace = config.workers.count, config.update, config.stop, config.trace
        update = update.resolved(n)
        self.config, self.task_ns = config, np.atleast_1d(task_ns)
        self._task_ns = np.broadcast_to(task_ns, n)
        self.interrupted = 0  # set from outside to end the run
        self._bytes = reply_bytes, body_bytes + own_bytes
        self._model = model or delay_model(config)
        self.events = make_events(config, reply_bytes, exchanged)
        split = config.machine.coordinators
        ahead = min(MAX_AHEAD, max(MIN_AHEAD, 1 << max(1, MAX_AHEAD_TOTAL // n).bit_length() - 1))
        self._half = ahead // 2
        self.rounds = rounds.Rounds(
            self.events,
            self.task_ns,
            ahead,
            bytes_per_coordinator(body_bytes, split),
            bytes_per_coordinator(own_bytes, split),
            wanted=update.min_payloads(n),
            waste=update.late == "waste",
            updates=stop.updates,
            until_ns=None if stop.seconds is None else max(1, round(1e9 * stop.seconds)),
            drain_ns=None if stop.drain_s is None else round(1e9 * stop.drain_s),
            every={"all": 1, "sampled": trace.sample, "none": 0}[trace.arrivals],
            room=BUFFER_ROWS,
        )

    def run(
        self, trace: Recorder | None = None, print_line: Print | None = None, report: Report = ignore
    ) -> Result:
        """Run, with or without a trace; ``[trace]`` gives `arrivals` and `sample`.

        Raise a RuntimeError if all workers with a task are dead, and no time limit ends the run.
        """
        self._intervals = Intervals()
        start_s = line_s = time.perf_counter()
        before, most = 0, max(1, BUFFER_ROWS * FEW // max(FEW, self.config.workers.count))
        while not self.interrupted and (why := self.rounds.run(most)) != rounds.DONE:
            if why == rounds.DRY:
                self._draw()
                continue
            if why == rounds.STUCK:
                raise RuntimeError("virtual clock: no reply will ever arrive, and nothing ends the run")
            self._record(trace)
            now_s = time.perf_counter()
            wall_ns = round(1e9 * (now_s - start_s))
            if trace is not None and trace.due(wall_ns):
                trace.flush(wall_ns)
            if print_line is not None and now_s >= line_s + 1e-9 * LINE_NS:
                arrived = self.events.arrived
                rate = (arrived - before) / (now_s - line_s)
                print_line(
                    f"{1e-9 * self.events.now_ns:7.1f} s  update {self.rounds.version:<9d} "
                    f"{arrived:,} arrivals, {rate:,.0f} per second"
                )
                line_s, before = now_s, arrived
                report(self.config.stop.fraction(1e-9 * self.events.now_ns, self.rounds.version))
        self._record(trace)
        if trace is not None and self.interrupted:
            trace.fault(self.events.now_ns, -1, -1, "stop", "interrupted")
        elif trace is not None:
            for worker in np.flatnonzero(self.events.flights["state"]):  # 0: idle
                flight = self.events.flights[worker]
                task, sent_ns = int(flight["task"]) - 1, int(flight["t_dispatch"])
                what = missing_message(int(worker), task, sent_ns)
                trace.fault(self.events.now_ns, int(worker), task, "missing", what)
        return self._result()

    def _draw(self) -> None:
        """Draw delays for workers with few left."""
        workers, first = self.rounds.short()
        step = max(1, MAX_DRAWN // self._half)
        for start in range(0, len(workers), step):
            part = slice(start, start + step)
            self.rounds.fill(
                workers[part],
                stragglers.delays_ns(
                    self._model, workers[part], first[part], self._half, self._task_ns[workers[part]]
                ),
            )

    def _record(self, trace: Recorder | None) -> None:
        """Write the recorded rows to the trace."""
        steps, arrivals = self.rounds.steps(), self.rounds.arrivals()
        self._intervals.add(steps[:, 1])
        if trace is None:
            return
        columns = dict(zip(rounds.ARRIVAL, arrivals.T, strict=True))
        columns |= {"code_row": -1, "bytes_up": self._bytes[0], "bytes_down": self._bytes[1]}
        trace.extend("arrivals", len(arrivals), columns | {"captured": np.nan, "loss": np.nan})
        columns = dict(zip(rounds.UPDATE, steps.T, strict=True))
        trace.extend("updates", len(steps), columns | {"captured": np.nan, "step_norm": np.nan})

    def _result(self) -> Result:
        loop, clock, stop = self.rounds, self.events, self.config.stop
        used, wasted, _ = loop.outcomes
        reason = f"{stop.seconds:g} s" if stop.seconds is not None else ""
        if stop.updates is not None and loop.version >= stop.updates:
            reason = counted(loop.version, "update")
        bytes_up = clock.arrived * self._bytes[0]
        return Result(
            config=self.config,
            task_ns=self.task_ns,
            reason="interrupted" if self.interrupted else reason,
            code=int(self.interrupted > 0),
            updates=loop.version,
            seconds=1e-9 * (clock.now_ns if self.interrupted else loop.stopped_ns),
            target_s=math.inf,
            above_s=math.inf,
            loss=math.nan,
            accuracy=math.nan,
            arrivals=clock.arrived,
            used=used,
            replies=1,
            wasted=wasted,
            refused=0,
            bytes_up=bytes_up,
            bytes_down=clock.dispatched * self._bytes[1],
            length_ns=clock.now_ns,
            processor_ns=processor_ns(self.config, clock.arrived, bytes_up, loop.version),
            ingress_ns=clock.ingress_ns,
            egress_ns=clock.egress_ns,
            update_s=self._intervals.median_s(),
            theta=np.zeros(0),
        )
