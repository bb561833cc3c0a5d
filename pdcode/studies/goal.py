"""The target of runs: a training loss or an accuracy."""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from ..analysis import statistics
from ..config import Config, StopTable
from ..trace.reader import TraceReader
from ..util import formats
from ..util.errors import InputError


@dataclass(frozen=True)
class Goal:
    """A training loss to fall to, or an accuracy (R² of least squares) to reach."""

    kind: str  # {"loss", "accuracy"}
    level: float
    source: str = ""  # option, key or file of the target

    @property
    def bound(self) -> float:
        """Bound that `value` must not exceed."""
        return self.level if self.kind == "loss" else 1.0 - self.level

    def value(self, loss: Any, accuracy: Any) -> Any:
        """Return the loss, or 1 - accuracy, of numbers or arrays: less is better."""
        return loss if self.kind == "loss" else 1.0 - accuracy

    def stop(self, seconds: float | None, updates: int | None) -> StopTable:
        """Return the table ``[stop]`` of a run that ends at the target, or at a limit of time or updates."""
        return StopTable(seconds=seconds, updates=updates, **{self.kind: self.level})

    def seconds(self, trace: TraceReader) -> float:
        """Return when a recorded run reached the target, in s, interpolated; infinity if it never did."""
        values = self.value(trace.progress["loss"], trace.progress["accuracy"])
        t_ns, versions = trace.progress["t_ns"], trace.progress["version"]
        return 1e-9 * statistics.crossing(t_ns, values, self.bound, versions)

    def reached(self, trace: TraceReader) -> str:
        """Say when a recorded run reached the target, as it is known: between two measurements."""
        values = self.value(trace.progress["loss"], trace.progress["accuracy"])
        return formats.reached(*statistics.reached_ns(trace.progress, values, self.bound))

    def format_value(self, value: float) -> str:
        """Format a `value` as loss or accuracy."""
        return f"loss {value:.3g}" if self.kind == "loss" else f"accuracy {1 - value:.3g}"

    def __str__(self) -> str:
        return f"{'training loss' if self.kind == 'loss' else 'accuracy'} {self.level:.4g}"


def choose_goal(config: Config, trace: TraceReader | None, target: float | None) -> Goal:
    """Choose the target: the given loss, else the configuration's ``[stop]``, else the trace's.

    If the recorded run had no target, its last measured loss is taken.
    """
    if target is not None:
        config.problem.ensure_reachable("--target", target)
        return Goal("loss", target, "--target")
    stops = [(msgspec.to_builtins(config.stop), "[stop]")]
    if trace is not None:
        stops.append((trace.table("stop"), f"[stop] of {trace.path}"))
    for stop, source in stops:
        for kind in ("loss", "accuracy"):
            if stop.get(kind) is not None:
                return Goal(kind, stop[kind], source)
    if trace is None:
        raise InputError("stop.loss: a plan needs a target: stop.loss, stop.accuracy or --target")
    losses = trace.progress["loss"]
    losses = losses[np.isfinite(losses)]
    if not len(losses):
        raise InputError(f"--trace {trace.path}: no loss was measured; give --target")
    return Goal("loss", float(losses[-1]), f"the last loss of {trace.path}")
