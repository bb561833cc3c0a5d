"""What-ifs of a recorded run: its time under changes, by the virtual clock under its recorded delays."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np

from ..api import configs
from ..choice.preset import prepare
from ..choice.timing import RepeatedDelays, Timing
from ..config import Config, StopTable, StragglersTable
from ..config import load as configfile
from ..schemes import delay_model
from ..session import setup
from ..stragglers import bases, delays_ns
from ..stragglers.trace import RecordedDelays
from ..trace.reader import TraceReader
from ..trace.recorder import Recorder
from ..util.errors import InputError
from ..util.formats import duration, ratio, rough_percent, span
from ..util.threads import one_thread
from ..virtual import costs
from ..virtual.schedule import allreduce_s
from ..virtual.simulation import Simulation
from . import gain, statistics, timing
from .account import PAUSED, account, first_tasks
from .summary import summarise
from .timing import by_worker, once

SEEDS = 4  # of simulated descents
DRAWS = 8  # of the recorded delays in blocks, whose spread gives an interval
EXACT = {"progress_s": None, "progress_updates": None}  # measures as the virtual clock does by itself
MEASUREMENTS = 100  # of a simulated descent, approximately
LIMIT = 3  # multiple of its expected time at which it ends
FORWARD = 3  # multiple of a measurement's arithmetic that a gradient of as many rows takes
MOST_FLOPS = 2e10  # of a run that is simulated with its arithmetic
EACH_FLOPS = 4e9  # of such a run, where several are
MOST_ARRIVALS = 1 << 18  # simulated without
EARLY = 0.25  # part of a run after which a change of its preset is late
DOUBT = 1.25  # factor between the predicted and the recorded time beyond which a prediction is in doubt
STUDENT = {SEEDS - 1: 2.353, DRAWS - 1: 1.895}
"""95 % quantiles of Student's t, by degrees of freedom: both sides of 90 % intervals."""

FREE: dict[str, dict[str, dict[str, Any]]] = {
    "rank 0": {
        "machine": {
            "arrival_s": 0.0,
            "decode_bandwidth": None,
            "dispatch_s": 0.0,
            "update_s": 0.0,
            "coordinator_speed": 1e9,
        }
    },
    "the link": {"link": {"latency_s": 0.0, "bandwidth": 1e18}},
}
FREE["the reduction"] = FREE["the link"]
"""The table of each bottleneck, and its keys with which that takes no time."""
START = "the start"  # what comes before the first task, and first tasks that take all workers long


@dataclass(frozen=True)
class Change:
    """A change of a recorded run.

    Attributes
    ----------
    settings : tuple of str
        Keys ``KEY=VALUE`` that it sets.
    replaced, dropped : tuple of int
        Workers with the delays of a usual one, and workers that are left out.
    free : str
        What takes no time: a bottleneck of `FREE`, a pause of rank 0's, of `PAUSED`, a script's phase, or
        `START`, in which first tasks then take as long as others.
    uneven : tuple of int, optional
        Workers whose delays stay as they are; all tasks of another one have its mean delay. None: all stay.
    """

    settings: tuple[str, ...] = ()
    replaced: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()
    free: str = ""
    uneven: tuple[int, ...] | None = None

    def config(self, trace: TraceReader) -> Config:
        """Return the configuration of the changed run, under the recorded costs, and delays in their order.

        Raises
        ------
        InputError
            If the settings do not go with the run's other keys.
        """
        fewer = [f"workers.count={trace.worker_count - len(self.dropped)}"] if self.dropped else []
        given = configs.overrides({"stragglers": self._delays(trace)}), fewer, self.settings
        settings = [each for group in given for each in group]
        config = costs.under_delays(trace, configs.read(trace, settings).config)
        config = costs.load(str(trace.path), config, self.settings, base="low")
        return config.with_keys(**FREE.get(self.free, {}))

    def update_s(self, trace: TraceReader, arrivals: int = MOST_ARRIVALS, draws: int = 0) -> np.ndarray:
        """Return times of an update in s, or of a payload if each is one, under the recorded delays.

        The first is the mean of as many payloads, at most the recorded ones, in their order; then come those
        of so many `draws`.

        Raises
        ------
        InputError
            If the virtual clock cannot predict such a run.
        """
        if trace.is_script:
            return self._script_step_s(trace, draws)
        config = self.config(trace)
        timing = Timing(components := setup.prepare(config, str(trace.path), check=False))
        if len(components.layouts) > 1:
            raise InputError("an update has several rounds")
        count = config.workers.count
        rounds = max(1, min(trace.arrivals.rows, arrivals, MOST_ARRIVALS) // count)
        by_draw = [
            msgspec.structs.replace(
                config.with_seed(config.seed ^ draw), stragglers=StragglersTable.of(self._delays(trace, draw))
            )
            for draw in range(count != trace.worker_count, 1 + draws)
        ]
        models = [self._evened(delay_model(each), timing, rounds) for each in by_draw]
        times_s = [timing.round_s([model], rounds) for model in models]
        if count != trace.worker_count:  # no order is recorded of so many
            times_s.insert(0, float(np.mean(times_s)))
        return np.array(times_s) / (count if config.update.asynchronous else 1)

    def _delays(self, trace: TraceReader, draw: int = 0) -> dict[str, Any]:
        """Return the table of the recorded delays, in their order, or in blocks for a `draw` above 0."""
        whole = trace.attributes.get("arrivals", "all") == "all"
        table = {"kind": "trace", "path": str(trace.path), "skipped": first_tasks(trace)[0]}
        workers = {"replaced": [*self.replaced], "dropped": [*self.dropped]}
        return {**table, **workers, "draw": "replay" if whole and not draw else "block"}

    def _evened(self, model: Any, timing: Timing, rounds: int) -> Any:
        """Return a model of delays, or of their means."""
        if self.uneven is None:
            return model
        task_ns, n = np.rint(1e9 * timing.tasks_s.min(axis=1)), len(timing.tasks_s)
        delays_s = 1e-9 * delays_ns(model, np.arange(n), np.zeros(n, np.int64), rounds, task_ns)
        return RepeatedDelays(self._means(delays_s))

    def _means(self, delays_s: np.ndarray) -> np.ndarray:
        """Replace the times of workers that are not to stay, shape (n, m), by their means."""
        others = np.setdiff1d(np.arange(len(delays_s)), self.uneven or ())
        delays_s[others] = delays_s[others].mean(axis=1, keepdims=True)
        return delays_s

    def _script_step_s(self, trace: TraceReader, draws: int) -> np.ndarray:
        """Return the times of a script's step, at whose end all wait for the slowest, as `update_s`.

        Where ranks do not wait for each other, a step is a task, and they wait for their manager as recorded.
        """
        count = trace.worker_count - len(self.dropped)
        links_s = 1e-9 * bases.shared_link_ns(trace)
        for setting in self.settings:
            keys, value = configfile.parse_override(setting)
            if keys == ["link", "bandwidth"] and (recorded := link_of_script(trace)):
                links_s *= recorded / configs.read({}, [setting]).config.link.bandwidth
            elif keys == ["workers", "count"]:
                count = int(value)
            else:
                raise InputError(f"{'.'.join(keys)}: the times of another program do not answer this key")
        workers, base_s = np.arange(count), 1e-9 * bases.base_ns(trace)
        steps = max(1, min(trace.updates.rows, MOST_ARRIVALS // count))
        waits, phase_s = self.free not in FREE, _shared_phase_s(trace, self.free)
        times_s = []
        for draw in range(count != trace.worker_count, 1 + draws):
            model = StragglersTable.of(self._delays(trace, draw)).make(draw, count)
            own_s = model.delays_s(workers, np.zeros_like(workers), steps)
            own_s += base_s * (1 + model.stretch(workers))[:, None]
            if phase_s is not None and isinstance(model, RecordedDelays):
                places = model.places(workers, np.zeros_like(workers), steps)
                own_s = np.maximum(own_s - np.take(phase_s, places, mode="clip"), 0.0)
            if self.uneven is not None:
                own_s = self._means(own_s)
            own_s = own_s[np.isfinite(own_s).any(axis=1)]  # a manager has no tasks
            if trace.is_unordered:
                each_s = own_s.mean(axis=1) + waits * _waits_s(trace)
                times_s.append(float(1 / (1 / each_s).sum()))
            else:
                times_s.append(float(own_s.max(axis=0).mean() + waits * links_s.mean()))
        if count != trace.worker_count:
            times_s.insert(0, float(np.mean(times_s)))
        return np.array(times_s)


def link_of_script(trace: TraceReader) -> float:
    """Return the bandwidth in bytes/s by which a script's reductions are all transfer; 0: not known.

    Each rank's link then carries what the quickest algorithm of `allreduce_s` sends, without latency.
    """
    size, n = trace.attributes.get("payload_bytes", 0), trace.worker_count
    mean_s = 1e-9 * float(bases.shared_link_ns(trace).mean())
    known = size and n > 1 and mean_s > 0 and trace.summed.all()
    return allreduce_s(n, size, 0.0, 1.0) / mean_s if known else 0.0


def _shared_phase_s(trace: TraceReader, phase: str) -> np.ndarray | None:
    """Return the time of a phase in each task, worker by worker, in s; None if it is no recorded phase.

    Of a worker whose mean is above a usual one's it is less, by the ratio: what it takes longer is its own.
    """
    phases = timing.phases_of(trace) if phase in timing.PHASES else None
    if phases is None:
        return None
    rows, times_s = trace.arrivals, 1e-9 * phases[timing.PHASES.index(phase)]
    counts = np.bincount(rows["worker"], minlength=trace.worker_count)
    means_s = np.bincount(rows["worker"], times_s, trace.worker_count) / np.maximum(counts, 1)
    usual = np.minimum(1.0, np.median(means_s[counts > 0]) / np.maximum(means_s, 1e-12))
    order = np.lexsort((rows["task"], rows["worker"]))
    shared_s: np.ndarray = (times_s * usual[rows["worker"]])[order]
    return shared_s


def _waits_s(trace: TraceReader) -> float:
    """Return the mean time from one task of a worker to its next one, in s."""
    rows = trace.arrivals
    waits_ns = [
        rows["t_start_ns"][own][1:] - rows["t_send_ns"][own][:-1]
        for own in by_worker(rows, trace.worker_count)
    ]
    return 1e-9 * float(np.concatenate(waits_ns).mean())


class Factor(NamedTuple):
    """A predicted time relative to a recorded one, and the 90 % interval of a run that is made so.

    The interval is by the spread of other draws of the recorded delays, in blocks, which counts for the run
    to come, and for the recorded one, by which is predicted, there the more the fewer workers are not
    replaced; and by the factor's spread over seeds of the descent.
    """

    mean: float
    low: float
    high: float

    def less(self) -> str:
        """Return the part that is saved."""
        if self.mean >= 1:
            return "not less"
        saved, low, high = (rough_percent(max(0.0, 1 - each)) for each in self.ordered)
        return f"{saved} % less" + (f" ({span(low, high)})" if low != high else "")

    @property
    def ordered(self) -> tuple[float, float, float]:
        """The mean and the bounds, in the order of what is saved."""
        return self.mean, self.high, self.low


class Prediction:
    """Times of a run until a loss, or of all of it, under changes, relative to its own.

    The loss is the target. If that was not reached, or is not given, it is the last of the listed ones that
    was, unless a number of updates ended the run: then all of them count.

    Where all wait for all, the number of updates stays the same, and times are per update. Elsewhere
    a slow worker also contributes less of its rows: the descents are simulated, under several seeds. If that
    takes too long here, times are for as many payloads. What comes before the first task, and rank 0's pauses
    for which something waits, stay as they are.

    Raises
    ------
    InputError
        If the virtual clock cannot predict such a run.
    """

    def __init__(self, trace: TraceReader) -> None:
        run, stop = summarise(trace), trace.table("stop")
        if trace.config.get("plugins"):  # programs, which only a user may have run
            raise InputError("it has plug-ins")
        if not trace.arrivals.rows:
            raise InputError("no arrival is recorded")
        changed_ns = trace.segments["t_ns"][trace.segments["preset"] == 1].max(initial=0)
        if changed_ns > 1e9 * EARLY * run.seconds:
            raise InputError("it has changed its preset")
        self.trace = trace
        self.config = None if trace.is_script else configs.read(trace, []).config
        self.single = self.config is not None and self.config.update.asynchronous
        self.goal, self.recorded_s, self.updates = run.target, run.target_s, run.updates
        if not 0 < run.target_s < math.inf:
            reached = statistics.milestones(trace.progress)
            whole = not reached or run.updates >= (stop.get("updates") or math.inf)
            level = 0.0 if whole else reached[-1][0]
            self.goal = "" if whole else f"loss {level:g}"
            self.recorded_s = run.seconds if whole else gain.time_s(trace, level)
            if not whole:
                self.updates = int(np.sum(trace.updates["t_ns"] <= 1e9 * self.recorded_s))
        # First tasks that took all workers long; steps of a script that did are not recorded.
        self.first_tasks, first_ns = first_tasks(trace)
        if trace.is_script:
            self.first_tasks = int(trace.arrivals["version"].min())
        else:
            self.updates -= int(np.sum(trace.updates["t_ns"] <= first_ns))
        ends_ns = trace.arrivals["t_recv_ns"]
        self.arrivals = int(np.sum((ends_ns <= 1e9 * self.recorded_s) & (ends_ns > first_ns)))
        start_ns = max(first_ns, int(trace.arrivals["t_dispatch_ns"].min()))
        start_s = min(1e-9 * start_ns, self.recorded_s)
        self.apart_s = {START: start_s}  # what stays, by name
        if trace.pauses.rows and (spent := account(trace)):
            parts = {name: spent.by_part.get(name, 0.0) / spent.length_ns for name in PAUSED}
            self.apart_s |= {name: part * self.recorded_s for name, part in parts.items()}
        self.rest_s = max(0.0, self.recorded_s - sum(self.apart_s.values()))
        self.own_s = float(Change().update_s(trace, self.arrivals)[0])
        if not 0 < self.own_s < math.inf:
            raise InputError("a worker never answers")
        took = f"{self.goal} after" if self.goal else "the run took"
        self.took = f"{took} {duration(1e9 * self.recorded_s)}"
        self.of = f"the time to {self.goal}" if self.goal else "the run's time"
        self._own_descents_s: dict[int, float] = {}  # of the run itself, by seed
        # Where all wait for all, a cause of lateness does not change the number of updates.
        cheap = self.config is not None and not self.config.update.complete and self.flops() <= EACH_FLOPS
        self.descends = cheap and self._own_s(SEEDS) is not None
        predicted_s = self._own_descents_s[0] if self.descends else self.own_s * self.updates
        fit = predicted_s / self.rest_s if self.rest_s else math.inf
        self.doubt = f"in doubt, as the clock predicts {ratio(fit)} the recorded time"
        if 1 / DOUBT <= fit <= DOUBT:
            self.doubt = ""

    def relative(self, change: Change, seeds: int = SEEDS, descends: bool = False) -> Factor:
        """Return the time under a change relative to the run's own; infinite if it would not end.

        It is of as many updates, or payloads, unless the change `descends`, or the run does not wait for all:
        then of simulations to the loss, if they do not take too long. Errors are as of `Change.update_s`.
        """
        spread, pace = 0.0, 1.0
        try:
            times_s = change.update_s(self.trace, self.arrivals, DRAWS)
            pace = float(times_s[0]) / self.own_s
        except InputError:
            if not descends:
                raise
        else:
            if not math.isfinite(pace):
                return Factor(math.inf, math.inf, math.inf)
            longer = max(1.0, self.arrivals / MOST_ARRIVALS)  # than the simulated part
            n = self.trace.worker_count
            counts = 1 + n / max(1, n - len(change.replaced))  # few usual workers stand for all
            spread = STUDENT[DRAWS - 1] ** 2 * counts * float(np.log(times_s[1:]).var(ddof=1)) / longer
        if descends or (self.descends and not change.free and change.uneven is None):
            found = self._descended(change, max(1.0, pace), seeds, LIMIT)
            if descends or math.isfinite(found[0]):
                pace, spread = found[0], spread + found[1]
        return self._whole(pace, spread, change.free)

    def descended(self, change: Change, limit: float) -> float:
        """Return the time to the loss under a change over the run's own, for its own seed.

        It is infinite if it is above the `limit`. Errors are as of `Change.config`.
        """
        return self._descended(change, 1.0, 1, limit)[0]

    def _whole(self, factor: float, spread: float, free: str) -> Factor:
        """Return a factor of all the time from one of the `rest_s`, and the square of its half interval."""
        kept_s = sum(time_s for name, time_s in self.apart_s.items() if name != free)
        if free == START:
            kept_s += self.first_tasks * self.own_s * (self.trace.worker_count if self.single else 1)
        wider = math.exp(math.sqrt(spread))
        times_s = (kept_s + self.rest_s * each for each in (factor, factor / wider, factor * wider))
        return Factor(*(time_s / self.recorded_s for time_s in times_s))

    def _own_s(self, seeds: int) -> np.ndarray | None:
        """Return when the run reaches the loss on the clock, by seed; None if it does not, or at once."""
        for seed in range(len(self._own_descents_s), seeds):
            (self._own_descents_s[seed],) = self.simulated_s(Change(), LIMIT * self.recorded_s, [seed])
        own_s = np.array([self._own_descents_s[seed] for seed in range(seeds)])
        return own_s if (np.isfinite(own_s) & (own_s > 0)).all() else None

    def _descended(self, change: Change, expected: float, seeds: int, limit: float) -> tuple[float, float]:
        """Return the time to the loss over the run's own, and the square of half the interval of its log."""
        own_s = self._own_s(seeds)
        if own_s is None:
            return math.inf, 0.0
        times_s = self.simulated_s(change, limit * expected * float(own_s.max()), range(seeds))
        if not np.isfinite(times_s).all():
            return math.inf, 0.0
        logs = np.log(times_s / own_s)  # the job's own seed is one of them: pairs count
        deviation = STUDENT[SEEDS - 1] * float(logs.std(ddof=1)) if seeds > 1 else 0.0
        return math.exp(logs.mean()), deviation**2 * (1 + 1 / seeds)

    def time(self, factor: Factor) -> str:
        """Return a multiple of the time, as text, with its interval."""
        mean, low, high = (duration(1e9 * self.recorded_s * each) for each in factor)
        return mean if low == high else f"{mean} ({span(low, high)})"

    def flops(self) -> float:
        """Return the arithmetic of a simulated descent to the loss; infinite if it is not known."""
        if self.config is None or not self.goal:
            return math.inf
        known = self.trace.attributes
        rows = min(known.get("rows", math.inf), self.config.problem.evaluate)
        gradients = rows / max(1, known.get("task_rows", 1)) / FORWARD
        return float(known.get("task_flops", math.inf) * (self.arrivals + MEASUREMENTS * gradients))

    def simulated_s(self, change: Change, limit_s: float, seeds: Iterable[int]) -> np.ndarray:
        """Return when runs under a change reach the loss, in s, by seed, 0 for the run's own seed.

        It is infinite for runs that take longer than the limit. Errors are as of `Change.config`.
        """
        name, level = self.goal.split()
        config = change.config(self.trace)
        config = msgspec.structs.replace(config, stop=StopTable(seconds=limit_s)).with_keys(
            stop={name: float(level)}, trace=EXACT
        )
        times_s = []
        for seed in seeds:
            components = prepare(config.with_seed(config.seed ^ seed), str(self.trace.path), check=False)
            with np.errstate(all="ignore"), one_thread():  # the monitor checks the loss
                times_s.append(Simulation(components).run(Recorder())[1].target_s)
        return np.array(times_s)


@once
def prediction(trace: TraceReader) -> Prediction:
    """Return the prediction of a run, made once."""
    return Prediction(trace)
