"""What a descent is to reach, and when one that has not would."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config.tables import Config, Stop
from ..trace.reader import Trace
from ..util.errors import InputError

EARLY = 0.25  # share of a curve's time that says nothing of its future
FAR = 50.0  # orders of e in time beyond which nothing is extrapolated


@dataclass(frozen=True)
class Goal:
    """A training loss to come down to, or an accuracy (R² of least squares) to come up to.

    Attributes
    ----------
    kind : {"loss", "accuracy"}
    level : float
    source : str
        Who says so.
    """

    kind: str
    level: float
    source: str = ""

    @property
    def bound(self) -> float:
        """What `value` must come down to."""
        return self.level if self.kind == "loss" else 1.0 - self.level

    def value(self, loss: Any, accuracy: Any) -> Any:
        """The loss, or what the accuracy lacks of 1: the less, the better; of numbers or arrays."""
        return loss if self.kind == "loss" else 1.0 - accuracy

    def stop(self, seconds: float, updates: int) -> Stop:
        """The table ``[stop]`` of a descent that ends there, or when this is used up."""
        if self.kind == "loss":
            return Stop(seconds=seconds, updates=updates, loss=self.level)
        return Stop(seconds=seconds, updates=updates, accuracy=self.level)

    def shown(self, value: float) -> str:
        """A `value` in words."""
        return f"loss {value:.3g}" if self.kind == "loss" else f"accuracy {1 - value:.3g}"

    def __str__(self) -> str:
        return f"{'training loss' if self.kind == 'loss' else 'accuracy'} {self.level:.4g}"


def choose(config: Config, trace: Trace | None, target: float | None) -> Goal:
    """The loss that is asked for; else the target of the configuration's ``[stop]``; else the trace's.

    Of a trace whose run had no target it is the last loss that was measured.

    Raises
    ------
    InputError
        If nobody says what is to be reached.
    """
    if target is not None:
        return Goal("loss", target, "--target")
    if goal := _of_stop(config.stop.loss, config.stop.accuracy, "[stop]"):
        return goal
    if trace is None:
        raise InputError(
            "stop.loss: a plan needs what is to be reached: stop.loss, stop.accuracy or --target"
        )
    stop = trace.config.get("stop") or {}
    if goal := _of_stop(stop.get("loss"), stop.get("accuracy"), f"[stop] of {trace.path}"):
        return goal
    losses = trace.progress["loss"]
    losses = losses[np.isfinite(losses)]
    if not len(losses):
        raise InputError(f"--trace {trace.path}: no loss was measured in it; give --target")
    return Goal("loss", float(losses[-1]), f"the last loss of {trace.path}")


def _of_stop(loss: float | None, accuracy: float | None, source: str) -> Goal | None:
    if loss is not None:
        return Goal("loss", loss, source)
    return None if accuracy is None else Goal("accuracy", accuracy, source)


def extrapolate(times: Sequence[float], values: Sequence[float], bound: float) -> float:
    """When a curve would come down to a bound if it went on as in the last three quarters of its time.

    The law is a power of time, ln v = a - b ln t by least squares (v = a - b ln t if the bound or a value is
    not positive), v being the least value so far, so that a descent whose large steps make it rough is not
    taken for one that stands still. It bends as the curves of descents do. The steep first part of a curve
    that has levelled off is not its future: such a one comes late or never, however low it is.

    Parameters
    ----------
    times, values : sequence of float
        Of the curve, which has not come down to the bound.
    bound : float

    Returns
    -------
    float
        Not less than the last time; infinite if the curve does not fall.
    """
    t, v = np.asarray(times, np.float64), np.asarray(values, np.float64)
    if len(t) < 3 or not np.isfinite(v).all() or t[-1] <= 0:
        return math.inf
    begin = max(int(np.searchsorted(t, EARLY * t[-1])), int(t[0] <= 0))
    begin = min(begin, len(t) - 2)
    t, v = np.log(t[begin:]), np.minimum.accumulate(v)[begin:]
    if bound > 0 and v.min() > 0:
        v, bound = np.log(v), math.log(bound)
    centre, spread = t.mean(), ((t - t.mean()) ** 2).sum()
    slope = float(((t - centre) * v).sum() / spread) if spread > 0 else 0.0
    if slope >= 0:
        return math.inf
    log_time = float(centre + (bound - v.mean()) / slope)
    return math.inf if log_time > FAR else max(float(times[-1]), math.exp(log_time))
