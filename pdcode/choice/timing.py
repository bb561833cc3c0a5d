"""Predicted times of updates, by simulations without numerics."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from .. import stragglers
from ..coding import flops
from ..coding.policies import REPEATED, best_count, relative_updates
from ..config import (
    MAX_VALUE,
    DownlinkTable,
    FaultsTable,
    ReduceTable,
    ShuffleTable,
    StopTable,
    TraceTable,
    UpdateTable,
)
from ..fitted import FOLLOWING
from ..session.setup import Components
from ..stragglers.laws import NoDelays
from ..trace.recorder import Recorder
from ..trace.schema import USED
from ..transport.speeds import Speeds
from ..virtual import costs
from ..virtual.costs import cost_model_schedule, task_times_ns
from ..virtual.schedule import CostModelSchedule
from ..virtual.timing_only import TimingOnly

DELAYS = 8  # delays of a worker in the mean
MUCH = 1000  # times the length of a run of usual tasks, after which it is given up; single tasks may be long


class RepeatedDelays:
    """Delays of tasks that take given times in turn: their excess over the shortest task of their worker.

    `excess_s` has shape (n, m).
    """

    oversleep_s = 0.0

    def __init__(self, excess_s: np.ndarray) -> None:
        self._excess_s = excess_s

    def delays_s(self, workers: Any, first: Any, count: int) -> np.ndarray:
        """Return delays as `DelayModel.delays_s`."""
        columns = (np.asarray(first)[:, None] + np.arange(count)) % self._excess_s.shape[1]
        delays_s: np.ndarray = self._excess_s[np.asarray(workers)[:, None], columns]
        return delays_s

    def stretch(self, workers: Any) -> np.ndarray:
        """Return the stretch as `DelayModel.stretch`."""
        return np.zeros(len(workers))


class Timing:
    """Inputs of the time of a run's updates, without its θ: costs, sizes of messages, the policy.

    Delays are given to each prediction; ``[stragglers]`` and ``[faults]`` are not read.

    Attributes
    ----------
    tasks_s : ndarray of float64, shape (n, m)
        Times of tasks without delays: of measured gradients, or one by ``[machine]``.
    work : ndarray of float64, shape (n,)
        To which the times of tasks of several presets are proportional.
    """

    def __init__(self, components: Components, speeds: Speeds | None = None) -> None:
        n, flops_by_worker = components.scheme.workers, components.flops_by_worker()
        config = msgspec.structs.replace(components.config, stragglers=NoDelays(), faults=FaultsTable())
        if speeds is None:
            self.work = 1e-9 * np.broadcast_to(task_times_ns(config, components), n)
            self.tasks_s = self.work[:, None]
        else:
            whole = flops.gradient_flops(config, components.problem, components.shard)
            self.work = np.broadcast_to(flops_by_worker, n)
            samples_s = speeds.compute_s[:, None] if speeds.samples_s is None else speeds.samples_s
            self.tasks_s = samples_s * (self.work / whole)[:, None]
            config = config.with_keys(link={"bandwidth": min(speeds.ingress, speeds.egress)})
        self._config = costs.charged(config, components)
        self._schedule = cost_model_schedule(self._config, components)
        (self._reply,), (body, own) = components.reply_bytes[:1], components.state.body_bytes(n)
        self._body, self._own = body, own + components.layout.body_offset
        self._exchanged = config.downlink.peer_bytes(components.layout)
        self._epoch = _epoch_rows(components, self._schedule)

    def repeated_s(self, tasks_s: np.ndarray, updates: int) -> float:
        """Return `round_s` where the workers' tasks take given times in turn, shape (n, m)."""
        shortest_s = tasks_s.min(axis=1)
        return self.round_s([RepeatedDelays(tasks_s - shortest_s[:, None])], updates, shortest_s)

    def round_s(self, models: Sequence[Any], updates: int, task_s: np.ndarray | None = None) -> float:
        """Return the predicted mean time of an update in s, or of n payloads if each is one.

        The mean is over so many updates from the start, with which delays may grow, in a run by each model of
        delays. It is infinite if a dead worker would be waited for. Links and rank 0 are as on the virtual
        clock. `task_s` are the times of the workers' tasks without delays; default: the shortest `tasks_s`.
        """
        config, n = self._config, self._config.workers.count
        task_ns = np.maximum(
            1, np.rint(1e9 * (self.tasks_s.min(axis=1) if task_s is None else task_s))
        ).astype(np.int64)
        if (sums_ns := self._schedule.sums_ns) is not None:
            first = np.arange(n), np.zeros(n, np.int64), updates
            delays_ns = np.hstack([stragglers.delays_ns(model, *first, task_ns) for model in models])
            if (delays_ns < 0).any():
                return math.inf
            slowest_ns = (task_ns[:, None] + delays_ns).max(axis=0)
            return 1e-9 * float(slowest_ns.mean() + sums_ns) + config.machine.update_s
        update: Any = config.update
        if getattr(update, "is_adaptive", False):
            total_s = 0.0
            for model in models:
                delays_ns = stragglers.delays_ns(
                    model, np.arange(n), np.zeros(n, np.int64), REPEATED, task_ns
                )
                times_ns = (task_ns[:, None] + delays_ns)[(delays_ns >= 0).all(axis=1)]
                q = best_count(times_ns, update.late == "waste", update.full_step)
                more = relative_updates(q, n, update.full_step)
                made = msgspec.structs.replace(update, count=q)
                time_s, evenness = self._star(task_ns, math.ceil(updates * more), made, [model])
                varies = (times_ns != times_ns[:, :1]).any()
                total_s += time_s * more / evenness * (FOLLOWING if varies else 1.0)
            return total_s / len(models)
        if not update.by_count:
            count = update.typical_payloads(n)
            update = UpdateTable.of({"mode": "first", "count": count, "late": update.late})
        return self._star(task_ns, updates, update, models)[0]

    def _star(
        self, task_ns: np.ndarray, rounds: int, update: UpdateTable, models: Sequence[Any]
    ) -> tuple[float, float]:
        """Return the time of `round_s` where rank 0 steps, and the evenness, by runs without numerics.

        If workers have shards of their own, and payloads are dropped, some shards' payloads may be used less
        often than by asynchronous updates. The evenness is the effective number of workers relative to that
        of these.
        """
        config, n, single = self._config, self._config.workers.count, update.asynchronous
        step_ns = self._schedule.step_ns(update.typical_payloads(n))
        tasks = max(1.0, config.shuffle.every * update.typical_payloads(n) / n)  # of a worker in an epoch
        rows_bytes, wait_ns = self._epoch
        own = self._own + round(rows_bytes / tasks)
        task_ns = task_ns + round(wait_ns / tasks)
        first = np.arange(n), np.zeros(n, np.int64), DELAYS
        delays_ns = np.hstack([stragglers.delays_ns(model, *first, task_ns) for model in models])
        one_by_one_s = n * (self._reply + self._body + own) / config.link.bandwidth
        longest_s = 1e-9 * float((task_ns + delays_ns.mean(axis=1)).max()) + one_by_one_s
        timed = msgspec.structs.replace(
            config,
            update=msgspec.structs.replace(update, clip="none"),
            machine=msgspec.structs.replace(
                config.machine, update_s=config.machine.update_s + 1e-9 * step_ns
            ),
            reduce=ReduceTable.of({}),
            downlink=DownlinkTable.of({}),
            shuffle=ShuffleTable.of({}),
            trace=TraceTable(),
            stop=_stop(rounds * (n if single else 1), MUCH * rounds * longest_s),
        )
        mean_s, used = 0.0, []
        for model in models:
            used.append(_Used(n))
            run = TimingOnly(timed, task_ns, self._reply, self._body, own, self._exchanged, model)
            made = run.run(used[-1])
            mean_s += made.seconds / made.updates / len(models) if made.updates else math.inf
        if config.problem.shards in ("replicated", "common") or update.late == "use":
            return mean_s * (n if single else 1), 1.0
        rates = (delays_ns[:, -1] >= 0) / (task_ns + delays_ns.mean(axis=1))
        evenness = sum(_evenness(each.numbers) for each in used)
        return mean_s * (n if single else 1), evenness / len(models) / _evenness(rates)


def _stop(updates: int, seconds: float) -> StopTable:
    return StopTable(updates=updates, seconds=min(MAX_VALUE, seconds))


def _epoch_rows(components: Components, schedule: CostModelSchedule) -> tuple[float, float]:
    """Return the bytes of a worker's rows of an epoch, and its wait for others in ns, in the mean."""
    shuffle = components.config.shuffle
    if not shuffle.moves:
        return 0.0, 0.0
    companion = shuffle.companion(components.config, components.source)
    for version in (0, shuffle.every):  # caches, then rows
        found = [companion.freight(worker, version) for worker in range(components.scheme.workers)]
    rows = [each for each in found if each is not None]
    waits_ns = [schedule.others_ns(each.place, each.exchanged) for each in rows]
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
