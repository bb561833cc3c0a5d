"""Figures of a run, computed from its trace."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np

from .. import stragglers
from ..analysis import comparison, description, statistics, timing
from ..config import Config
from ..schemes import delay_model
from ..trace.reader import TraceReader
from ..trace.schema import APPLIED, DRAINED
from ..virtual import oracle
from ..virtual.calibration import config_of
from .goal import Goal

CURVES = "t_s", "loss", "accuracy", "bytes"
Curves = dict[str, np.ndarray]
"""Time, training loss, test accuracy, and bytes up and down so far, for each measurement of a run."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """Figures of a run until its stop; nan: not measured."""

    # Time to the target, interpolated between measurements, or infinite; without a target, time of the stop.
    seconds: float = math.inf
    stop_s: float = math.nan  # time of the stop, at which rank 0 has its result
    # End of a job that waits for its stragglers: time at which the last payload in flight at the stop would
    # have arrived after its full injected delay. Tasks of dead workers do not count.
    job_s: float = math.nan
    updates: float = 0.0
    samples: float = math.nan  # training rows in computed gradients
    bytes_up: float = 0.0  # bytes of payloads
    bytes_down: float = 0.0  # bytes of tasks
    busy: float = math.nan  # fraction of the workers' time in which they computed
    wasted: float = math.nan  # fraction of the payloads that were not used
    staleness: float = math.nan  # mean number of updates between a used payload's θ and its use
    loss: float = math.nan  # last training loss
    accuracy: float = math.nan  # last test accuracy (R² for regression)
    oracle_s: float = math.nan  # time of an oracle for the work of the used payloads, see `virtual.oracle`
    failed: bool = False  # whether the run diverged or failed otherwise
    arrivals: float = math.nan  # number of payloads
    # Fraction of the time in which rank 0's processor and the directions of its link were busy; nan over MPI.
    processor: float = math.nan
    ingress: float = math.nan
    egress: float = math.nan
    curves: Curves = field(default_factory=lambda: {key: np.zeros(0) for key in CURVES}, repr=False)

    def __eq__(self, other: object) -> bool:
        """Compare the figures; nan equals nan."""
        if not isinstance(other, Measured):
            return NotImplemented
        return np.array_equal([*self.figures.values()], [*other.figures.values()], equal_nan=True)

    @property
    def figures(self) -> dict[str, float]:
        """The figures by name, without the curves."""
        return {name: getattr(self, name) for name in COLUMNS}

    def to_json(self) -> str:
        """Return the figures and curves as a line of text."""
        curves = {key: values.tolist() for key, values in self.curves.items()}
        return json.dumps({**self.figures, "curves": curves}, default=float)

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read what `to_json` returned."""
        values = json.loads(line)
        curves = {key: np.array(each, np.float64) for key, each in values.pop("curves").items()}
        return cls(**values, curves=curves)

    @property
    def reached(self) -> bool:
        """Whether the run reached the target."""
        return math.isfinite(self.seconds)

    @property
    def diverged(self) -> bool:
        """Whether the run failed with a measured loss above its first, or one that is not finite."""
        losses = self.curves["loss"]
        return self.failed and len(losses) > 0 and not losses[-1] <= losses[0]

    @property
    def spent_s(self) -> float:
        """Time to the target, or time of the stop if it was not reached."""
        return self.seconds if self.reached else self.stop_s

    def value(self, goal: Goal | None) -> float:
        """Return the last loss, or 1 - accuracy for a target accuracy: less is better."""
        return float(goal.value(self.loss, self.accuracy)) if goal else self.loss

    def value_at(self, goal: Goal | None, t_s: float) -> float:
        """Return the value at a time, or the last one before the end."""
        curves = self.curves
        if t_s >= self.stop_s or not len(curves["t_s"]):
            return self.value(goal)
        values = goal.value(curves["loss"], curves["accuracy"]) if goal else curves["loss"]
        return float(np.interp(t_s, curves["t_s"], values))

    def key(self, goal: Goal | None) -> tuple[float, float]:
        """Return the sort key of single runs: time to the target, then the last value."""
        value = self.value(goal)
        return self.seconds, value if math.isfinite(value) else math.inf


COLUMNS = [each.name for each in fields(Measured) if each.name != "curves"]
ADDED_COLUMNS = "arrivals", "processor", "ingress", "egress"  # not in files of earlier versions


def measure(trace: TraceReader, goal: Goal | None) -> Measured:
    """Compute the figures of a run from its trace, in which all arrivals must be recorded."""
    config, arrivals, progress = config_of(trace), trace.arrivals, trace.progress
    stop_ns, failed = description.stop_ns(trace), bool(description.failure(trace))
    replies = max(1, len(np.unique(_payload_numbers(arrivals))))
    in_time = arrivals["status"] != DRAINED
    used = np.isin(arrivals["status"], APPLIED)
    seconds = math.inf if failed else 1e-9 * stop_ns
    if goal is not None:
        seconds = goal.seconds(trace)
    split = timing.split({key: arrivals[key][in_time] for key in arrivals}, trace.worker_count, stop_ns)
    compute_ns = _task_ns(arrivals, trace.worker_count)
    work = int(used.sum()) / replies
    return Measured(
        seconds=seconds,
        stop_s=1e-9 * stop_ns,
        job_s=1e-9 * max(stop_ns, _last_ns(trace, config)),
        updates=trace.updates.rows,
        samples=int(in_time.sum()) / replies * trace.attributes.get("task_rows", math.nan),
        bytes_up=float(arrivals["bytes_up"][in_time].sum()),
        bytes_down=float(arrivals["bytes_down"][in_time].sum()),
        busy=float(split.compute.sum() / max(1, trace.worker_count * stop_ns)),
        wasted=1 - int(used.sum()) / max(1, int(in_time.sum())),
        staleness=float(arrivals["staleness"][used].mean()) if used.any() else math.nan,
        loss=float(progress["loss"][-1]) if progress.rows else math.nan,
        accuracy=float(progress["accuracy"][-1]) if progress.rows else math.nan,
        oracle_s=oracle.time_s(config, compute_ns, work) if work else math.nan,
        failed=failed,
        arrivals=int(in_time.sum()),
        **_busy_fractions(trace.counters, stop_ns),
        curves=curves(trace),
    )


def _busy_fractions(counters: Mapping[str, Any], stop_ns: int) -> dict[str, float]:
    """Return the fraction of the time in which each resource of rank 0 was busy, on the virtual clock."""
    names = "processor", "ingress", "egress"
    known = stop_ns > 0 and all(f"{name}_ns" in counters for name in names)
    return {name: timing.busy_ns(counters, name) / stop_ns for name in names} if known else {}


def curves(trace: TraceReader) -> Curves:
    """Return the measurements of a run."""
    progress = trace.progress
    return {
        "t_s": 1e-9 * progress["t_ns"],
        "loss": progress["loss"],
        "accuracy": progress["accuracy"],
        "bytes": comparison.sent(trace),
    }


def _payload_numbers(arrivals: statistics.Columns) -> np.ndarray:
    """Return the number of each payload among its worker's payloads in an update, by round and part."""
    numbers: np.ndarray = arrivals["round"] * (1 + int(arrivals["part"].max(initial=0))) + arrivals["part"]
    return numbers


def _task_ns(arrivals: statistics.Columns, workers: int) -> np.ndarray:
    """Return the median compute time of each worker's tasks of an update, int64 ns, shape (n,)."""
    compute_ns = arrivals["t_compute_ns"] - arrivals["t_start_ns"]
    total = np.zeros(workers)
    numbers = _payload_numbers(arrivals)
    for number in np.unique(numbers):
        rows = numbers == number
        usual = float(np.median(compute_ns[rows]))
        mine = {key: arrivals[key][rows] for key in ("worker", "t_start_ns")}
        for worker, own in enumerate(timing.by_worker(mine, workers)):
            total[worker] += float(np.median(compute_ns[rows][own])) if len(own) else usual
    return np.maximum(1, total).astype(np.int64)


def _last_ns(trace: TraceReader, config: Config) -> int:
    """Return the arrival time of the last payload after its full injected delay, ns."""
    arrivals = trace.arrivals
    late = np.flatnonzero(arrivals["status"] == DRAINED)
    if not len(late):
        return 0
    model, numbers = delay_model(config), _payload_numbers(arrivals)
    compute_ns = arrivals["t_compute_ns"] - arrivals["t_start_ns"]
    drawn = arrivals["version" if arrivals["round"].any() else "task"]
    whole_ns = stragglers.delays_ns(model, arrivals["worker"], drawn, 1, compute_ns)[:, 0]
    injected_ns = arrivals["injected_delay_ns"]
    left_ns = np.zeros(len(late), np.int64)
    for number in np.unique(numbers[late]):
        done = (numbers == number) & (arrivals["status"] != DRAINED) & (whole_ns > 0)
        share = float(np.median(injected_ns[done] / whole_ns[done])) if done.any() else 1.0
        mine = numbers[late] == number
        left_ns[mine] = np.maximum(share * whole_ns[late][mine] - injected_ns[late][mine], 0)
    # A worker's parts come one after the other: their remaining delays add up.
    left_ns = np.bincount(arrivals["worker"][late], left_ns)[arrivals["worker"][late]]
    return int((arrivals["t_recv_ns"][late] + left_ns)[whole_ns[late] >= 0].max(initial=0))
