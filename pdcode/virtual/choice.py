"""Preset "auto": the preset with the shortest predicted time to a target.

The candidates are those of `Scheme.candidates` that suit the data and the keys that are given. The time of a
candidate is the number of updates that it needs, by constants from trials (docs/choosing.md), times the mean
time of these updates, by simulations without numerics: at the speeds of ``[machine]`` and ``[link]`` or at
measured ones, and under the law of the delays, but not under those that the run will have.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .. import faults, problems, stragglers
from ..coding import flops
from ..coding.auto_keys import whitening_gain
from ..coding.policies import REPEATED, best_count, relative_updates
from ..config import (
    MAX_VALUE,
    Config,
    DownlinkTable,
    FaultsTable,
    ReduceTable,
    ShuffleTable,
    StopTable,
    TraceTable,
    UpdateTable,
    kinds,
)
from ..config import load as configfile
from ..problems import DataSource, Problem
from ..schemes import Scheme, delay_model
from ..stragglers.laws import NoDelays
from ..trace import Recorder
from ..trace.schema import USED
from ..training import setup
from ..training.coordinator import Coordinator
from ..training.link_sizing import FRACTIONS
from ..training.setup import Components
from ..training.shuffling import make_row_sender
from ..transport.layout import ensure_sendable
from ..transport.log import LogFormat
from ..transport.speeds import Speeds
from ..util.errors import InputError, prefix_errors
from ..util.formats import ratio
from . import costs
from .costs import cost_model_schedule, task_times_ns
from .schedule import AllreduceSchedule, CostModelSchedule, FirstSchedule
from .timing_only import TimingOnly

MAX_WORKERS = 2**16  # the message header has 16 bits for their number
RUNS, DRAWS = 16, 1 << 16  # simulated runs, and at most so many payloads in all
DELAYS = 8  # delays of a worker of which the mean is taken
OTHER_SEED = 1 << 40  # added to the seed, as the delays of the run are not known before it
WORKERS = 16  # of the trials of the constants
MEAN_EXPONENT = 0.25  # of the number of updates, in one over that of averaged payloads (2 to 64 workers)
SHARE_EXPONENT = 0.4  # of the number of updates, in one over the fraction of a gradient that a task sends
MARGIN = 1.05  # a candidate that waits for every worker must be better by this factor
FOLLOWING = 1.05  # time with a count that follows tasks that vary, over that with the best fixed count
LASTING, FIRST = 2, 64  # last tasks, all long if a worker is slow for good, and first ones, as are expected
SLOWER, GAIN = 1.5, 1.2  # multiple of the expected time of long tasks, and least multiple gained by a change
PATIENCE, LEAST_NS = 0.05, 100_000_000  # part of the run's time, and time, for which tasks have to be long


def prepare(
    config: Config, path: str = "", source: DataSource | None = None, check: bool = True
) -> Components:
    """Build rank 0's components as `setup.prepare`, after the choice of the preset if it is "auto"."""
    if not config.scheme.is_auto:
        return setup.prepare(config, path, source, check)
    with prefix_errors(path):
        source = source or problems.load_source(config.problem)
        problem = Problem.from_dataset(config.problem, source.dataset, config.code.blocks)
        # First, as it may depend on gradients whether a candidate suits.
        ensure_sendable(f"problem.{config.problem.sized_by}", problem.size * problem.dtype.itemsize)
        choice = Choice(config)
        for name, made in configfile.candidates(config):
            if not choice.scheme.suits(name, problem):
                continue
            try:
                if isinstance(made, InputError):
                    raise made
                scaled = made.problem != config.problem
                choice.add(name, setup.prepare(made, "", None if scaled else source, check))
            except InputError as error:
                choice.excluded[name] = error
        return choice.made()


def prepare_ranks(config: Config, path: str) -> Components:
    """Build the components of a run over MPI; refuse more workers than training rows, a likely mistake."""
    workers = config.workers.count
    with prefix_errors(path):
        faults.check_real(config)
        check_count(config)
        source = problems.load_source(config.problem)
        if workers > source.rows and config.problem.shards == "auto":
            raise InputError(
                f"workers.count: {workers} workers are more than the {source.rows} training rows of "
                "problem.data; problem.shards = 'replicated' gives all rows to each"
            )
    return prepare(config, path, source)


def check_count(config: Config) -> None:
    """Refuse more workers than the message header can number."""
    if config.workers.count > MAX_WORKERS:
        raise InputError(
            f"workers.count: {config.workers.count} is more than the {MAX_WORKERS} workers that messages can "
            "name; without numerics (simulate --timing-only), policies that count payloads can have more"
        )


def settle(components: Components, speeds: Speeds) -> Components:
    """Return the components that are best at measured speeds, of those that are possible."""
    if components.auto is None:
        return components.rebuild(speeds)
    choice = Choice(components.auto, speeds)
    for name, rebuild in components.alternatives.items():
        choice.add(name, rebuild(speeds))
    return choice.made()


class Choice:
    """The choice among candidates, given one after another; the components of only the best are kept.

    With `delayed`, the times of tasks in `speeds` include all delays.
    """

    def __init__(self, config: Config, speeds: Speeds | None = None, delayed: bool = False) -> None:
        self._config, self._speeds, self._delayed = config, speeds, delayed
        self.scheme: type[Scheme] = kinds.find("schemes", config.scheme.name)
        self._builds: dict[str, Callable[[Speeds], Components]] = {}
        self._times: dict[str, tuple[float, float]] = {}  # rank, and predicted time to the target, in s
        self.excluded: dict[str, InputError] = {}

    def add(self, name: str, components: Components) -> None:
        """Predict the time of a candidate."""
        config, needed, workers = components.config, self.scheme.candidates[name], components.scheme.workers
        batch, code, preset = config.problem.batch, config.code, str(config.scheme.preset)
        needed *= math.sqrt(max(1.0, 2 * config.optimizer.fewest_samples / max(1, workers * batch)))
        usual = components.scheme.presets[preset].get("code", {}).get("whiten", "none")
        if usual != "none" and code.whiten == "none":
            needed *= whitening_gain(batch)  # the constant is of whitened steps
        if not config.update.asynchronous:
            needed *= (WORKERS / workers) ** MEAN_EXPONENT
        runs = max(1, min(RUNS, int(DRAWS / (needed * workers))))
        time_s = needed * round_s(components, self._speeds, math.ceil(needed), runs, self._delayed)
        if components.requested.code.rows_per_task == "auto" and code.share:
            time_s *= (FRACTIONS[0] / code.share) ** SHARE_EXPONENT
        rank = time_s * MARGIN**config.update.complete
        self._builds[name], self._times[name] = components.rebuild, (rank, time_s)
        if min(self._times, key=self._times.__getitem__) == name:
            self._best = components

    def change(self, before: str) -> tuple[Components, float] | None:
        """Return the components and relative time of another preset, if it is well below the one before."""
        chosen = min(self._times, key=self._times.__getitem__)
        time_s, before_s = self._times[chosen][1], self._times[before][1]
        if chosen == before or not GAIN * time_s < before_s:
            return None
        return self._best, time_s / before_s

    def made(self) -> Components:
        """Return the components of the best, with a line on the reason; refuse if there is no candidate."""
        if not self._times:
            none = InputError("scheme.preset: no candidate of 'auto' suits the model and problem.batch")
            raise next(iter(self.excluded.values()), none)
        chosen, *others = sorted(self._times, key=self._times.__getitem__)
        least = self._times[chosen][1]
        line = f"preset '{chosen}' (scheme.preset 'auto')"
        if others and 0 < least < math.inf:
            multiples = (f"{name} {ratio(self._times[name][1] / least)}" for name in others)
            line += f": others would take {', '.join(multiples)}"
        configured = "by [machine] and [link]; a run over MPI measures first"
        line += f" ({configured if self._speeds is None else 'by measured speeds'})"
        if self.excluded:
            line += f"; against the given keys: {', '.join(self.excluded)}"
        self._best.notes.insert(0, line)
        self._best.alternatives, self._best.auto = self._builds, self._config
        return self._best


class Review:
    """Review of a preset that waits for every worker: whether another has become faster.

    A monitor calls it during the run. Once the longest of the workers' last tasks, each the shortest of
    `LASTING`, has grown, and that for `PATIENCE` of the time so far, the times of the other presets are
    predicted from the last tasks. A worker that soon recovers is thus not left.

    Parameters
    ----------
    components : Components
        Those of the run, from a `Choice`.
    speeds : Speeds or None
        Measured ones; None on the virtual clock.

    Attributes
    ----------
    chosen : Components or None
        Those of the preset with which the run is to go on.
    reason : str
        Why; empty before.
    """

    def __init__(self, components: Components, speeds: Speeds | None = None) -> None:
        self._components, bandwidth = components, components.config.link.bandwidth
        self._links = (bandwidth, bandwidth) if speeds is None else (speeds.ingress, speeds.egress)
        self._usual_ns, self._version = usual_ns(components, speeds), 0
        self._usual_until_ns = 0  # time of the last update without slow workers
        self.chosen: Components | None = None
        self.reason = ""

    @classmethod
    def of(cls, components: Components, speeds: Speeds | None = None) -> "Review | None":
        """Return the review of a run; None if its preset was given, or waits for no worker that is slow."""
        config = components.config
        needed = components.auto is not None and config.update.complete and config.shuffle.kind == "none"
        return cls(components, speeds) if needed else None

    def __call__(self, now_ns: int, coordinator: Coordinator) -> str:
        """Return why to go on with another preset; usually an empty string."""
        if coordinator.version == self._version:
            return ""
        self._version = coordinator.version
        workers = np.arange(len(coordinator.roster))
        own_ns = coordinator.roster.own_times.last(workers, LASTING)
        longest_ns = own_ns.min(axis=1)
        if not longest_ns.max() > SLOWER * self._usual_ns:  # or nan: no times yet
            self._usual_until_ns = now_ns
        if now_ns - self._usual_until_ns <= max(PATIENCE * now_ns, LEAST_NS):
            return ""
        self._usual_ns = float(longest_ns.max())
        self._predict(1e-9 * own_ns)
        if self.chosen is not None:
            multiple = ratio(float(longest_ns.max() / np.median(longest_ns)))
            self.reason += f", as tasks of worker {int(longest_ns.argmax())} take {multiple} the median"
        return self.reason

    def _predict(self, own_s: np.ndarray) -> None:
        """Choose by the times of the last tasks, shape (n, m)."""
        components, config = self._components, self._components.auto
        assert config is not None
        before = str(components.config.scheme.preset)
        gradients_s = own_s * gradient_share(components)[:, None]
        speeds = Speeds(*self._links, gradients_s.mean(axis=1), gradients_s)
        choice = Choice(config, speeds, delayed=True)
        for name, rebuild in components.alternatives.items():
            made = rebuild(speeds)
            if name == before or not made.config.update.complete:
                choice.add(name, made)
        if (found := choice.change(before)) is not None:
            self.chosen, part = found
            self.chosen.source = components.source
            self.reason = f"preset '{self.chosen.config.scheme.preset}' in place of '{before}'"
            self.reason += f" would take {part:.2g} of the time"


def gradient_share(components: Components) -> np.ndarray:
    """Return the part of a task's operations that are the full gradient's, shape (n,)."""
    whole = flops.gradient_flops(components.config, components.problem, components.shard)
    return np.broadcast_to(whole / components.flops_by_worker(), components.scheme.workers)


def task_samples_s(components: Components, speeds: Speeds | None) -> np.ndarray:
    """Return times of tasks without delays in s, shape (n, m): by measured gradients, or the cost model."""
    n = components.scheme.workers
    if speeds is None:
        task_s = 1e-9 * np.broadcast_to(task_times_ns(components.config, components), n)
        return np.asarray(task_s)[:, None]
    samples_s = speeds.compute_s[:, None] if speeds.samples_s is None else speeds.samples_s
    return samples_s / gradient_share(components)[:, None]


def usual_ns(components: Components, speeds: Speeds | None) -> float:
    """Return the longest of the workers' first tasks, each the shortest of `LASTING`, under the law in ns."""
    config, n = components.config, components.scheme.workers
    task_ns = np.rint(1e9 * task_samples_s(components, speeds).min(axis=1)).astype(np.int64)
    model = delay_model(msgspec.structs.replace(config, seed=config.seed ^ OTHER_SEED))
    delays_ns = stragglers.delays_ns(model, np.arange(n), np.zeros(n, np.int64), FIRST, task_ns)
    own_ns = np.where(delays_ns < 0, math.inf, task_ns[:, None] + delays_ns)
    return float(sliding_window_view(own_ns, LASTING, axis=1).min(axis=2).max())


class MeasuredDelays:
    """Delays of a model, and the time by which measured tasks exceed the shortest of their worker.

    `excess_s` has shape (n, m); the tasks of a worker take its columns in turn.
    """

    oversleep_s = 0.0  # measured times are whole

    def __init__(self, model: stragglers.DelayModel, excess_s: np.ndarray) -> None:
        self._model, self._excess_s, self.stretch = model, excess_s, model.stretch

    def delays_s(self, workers: Any, first: Any, count: int) -> np.ndarray:
        """Return delays as `DelayModel.delays_s`."""
        columns = (np.asarray(first)[:, None] + np.arange(count)) % self._excess_s.shape[1]
        excess_s = self._excess_s[np.asarray(workers)[:, None], columns]
        return self._model.delays_s(workers, first, count) + excess_s


def round_s(
    components: Components, speeds: Speeds | None, updates: int, runs: int = 1, delayed: bool = False
) -> float:
    """Return the predicted mean time of an update in s, or of n payloads if each is one.

    It is that of so many updates from the start, with which delays may grow, in so many runs. It is infinite
    if a dead worker would be waited for. Links and rank 0 are as on the virtual clock; if `speeds` are
    measured, links have the lower of the two bandwidths. With `delayed` their tasks include all delays.
    """
    config, n = costs.charged(components.config, components), components.scheme.workers
    samples_s = task_samples_s(components, speeds)
    task_s = samples_s.min(axis=1)
    law = msgspec.structs.replace(config, stragglers=NoDelays()) if delayed else config
    seeds = (config.seed ^ (OTHER_SEED + run) for run in range(runs))
    models: list[Any] = [delay_model(msgspec.structs.replace(law, seed=seed)) for seed in seeds]
    if speeds is not None:
        models = [MeasuredDelays(model, samples_s - task_s[:, None]) for model in models]
        config = config.with_keys(link={"bandwidth": min(speeds.ingress, speeds.egress)})
    task_ns = np.maximum(1, np.rint(1e9 * task_s)).astype(np.int64)
    schedule = cost_model_schedule(config, components)
    if isinstance(schedule, AllreduceSchedule):
        first = np.arange(n), np.zeros(n, np.int64), updates
        delays_ns = np.hstack([stragglers.delays_ns(model, *first, task_ns) for model in models])
        if (delays_ns < 0).any():
            return math.inf
        slowest_ns = (task_ns[:, None] + delays_ns).max(axis=0)
        return 1e-9 * float(slowest_ns.mean() + sum(schedule.allreduce_ns)) + config.machine.update_s
    update: Any = config.update
    star = partial(_star, config, components, task_ns, schedule)
    if getattr(update, "is_adaptive", False):
        total_s = 0.0
        for model in models:
            delays_ns = stragglers.delays_ns(model, np.arange(n), np.zeros(n, np.int64), REPEATED, task_ns)
            times_ns = (task_ns[:, None] + delays_ns)[(delays_ns >= 0).all(axis=1)]
            q = best_count(times_ns, update.late == "waste", update.full_step)
            more = relative_updates(q, n, update.full_step)
            made = msgspec.structs.replace(update, count=q)
            time_s, evenness = star(math.ceil(updates * more), made, [model])
            varies = (times_ns != times_ns[:, :1]).any()
            total_s += time_s * more / evenness * (FOLLOWING if varies else 1.0)
        return total_s / len(models)
    if not update.by_count:
        update = UpdateTable.of({"mode": "first", "count": update.typical_payloads(n), "late": update.late})
    return star(updates, update, models)[0]


def _epoch_rows(components: Components, schedule: CostModelSchedule) -> tuple[float, float]:
    """Return the bytes of a worker's rows of an epoch, and its wait for others in ns, in the mean."""
    sender = make_row_sender(components.config, components.source)
    if sender is None:
        return 0.0, 0.0
    for version in (0, components.config.shuffle.every):  # caches, then rows
        found = [sender.rows(worker, version) for worker in range(components.scheme.workers)]
    rows = [each for each in found if each is not None]
    waits_ns = [schedule.rows_ns(each.place, each.exchanged) for each in rows]
    return statistics.fmean(each.size for each in rows), statistics.fmean(waits_ns)


class _Used(Recorder):
    """Recorder of the number of payloads of each worker that are used, shape (n,)."""

    def __init__(self, workers: int) -> None:
        self.numbers = np.zeros(workers, np.int64)

    def extend(self, table: str, count: int, columns: Mapping[str, Any]) -> None:
        if table == "arrivals":
            used = columns["worker"][columns["status"] == USED]
            self.numbers += np.bincount(used, minlength=len(self.numbers))


def _evenness(parts: np.ndarray) -> float:
    """Return the effective number of workers with such parts of the payloads, over the number of workers."""
    return float(parts.sum() ** 2 / (len(parts) * (parts**2).sum())) if parts.any() else 1.0


def _star(
    config: Config,
    components: Components,
    task_ns: np.ndarray,
    schedule: CostModelSchedule,
    rounds: int,
    update: UpdateTable,
    models: Sequence[Any],
) -> tuple[float, float]:
    """Return the time of `round_s` where rank 0 steps, and the evenness, by a simulation without numerics.

    If workers have shards of their own, and payloads are dropped, those of some shards may be used less often
    than by asynchronous updates. The evenness is the effective number of workers relative to that of these.
    """
    layout, n, single = components.layout, config.workers.count, update.asynchronous
    epoch_rows = _epoch_rows(components, schedule)
    if isinstance(schedule, FirstSchedule):
        schedule.members = partial(update.typical_payloads, n)
        update_s = config.machine.update_s + 1e-9 * schedule.exchange_ns
        machine = msgspec.structs.replace(config.machine, update_s=update_s)
        config = msgspec.structs.replace(config, machine=machine, reduce=ReduceTable())
    (reply,), (body, own) = components.reply_bytes, components.state.body_bytes(n)
    own += layout.body_offset
    exchanged = LogFormat(layout).message_bytes if config.downlink.exchanges else None
    tasks = max(1.0, config.shuffle.every * update.typical_payloads(n) / n)  # of a worker in an epoch
    own += round(epoch_rows[0] / tasks)
    task_ns = task_ns + round(epoch_rows[1] / tasks)
    first = np.arange(n), np.zeros(n, np.int64), DELAYS
    delays_ns = np.hstack([stragglers.delays_ns(model, *first, task_ns) for model in models])
    one_by_one_s = n * (reply + body + own) / config.link.bandwidth
    longest_s = 1e-9 * float((task_ns + delays_ns.mean(axis=1)).max()) + one_by_one_s
    timed = msgspec.structs.replace(
        config,
        update=msgspec.structs.replace(update, clip="none"),
        downlink=DownlinkTable(),
        shuffle=ShuffleTable(),
        faults=FaultsTable(),
        trace=TraceTable(),
        stop=StopTable(updates=rounds * (n if single else 1), seconds=min(MAX_VALUE, 2 * rounds * longest_s)),
    )
    mean_s, used = 0.0, []
    for model in models:
        used.append(_Used(n))
        made = TimingOnly(timed, task_ns, reply, body, own, exchanged, model).run(used[-1])
        mean_s += made.seconds / made.updates / len(models) if made.updates else math.inf
    if config.problem.shards in ("replicated", "common") or update.late == "use":
        return mean_s * (n if single else 1), 1.0
    rates = (delays_ns[:, -1] >= 0) / (task_ns + delays_ns.mean(axis=1))
    evenness = sum(_evenness(each.numbers) for each in used)
    return mean_s * (n if single else 1), evenness / len(models) / _evenness(rates)
