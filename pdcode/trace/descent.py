"""How the measured loss of a run went: whether the descent diverged, rose for long, or missed its target.

The loss is measured on the same rows each time, so that all noise is in θ. A run has diverged if its last
loss is not finite, or above the first by more than `FAR` times the scale of the loss: the first loss itself,
or what the run gained, if that is more. Where the user chooses θ at the start, which may be near the best, or
where the loss has values of both signs, it is `FAR_OWN` times. Less than that is a warning: a last loss that
is above the first by more than `NOISE` times the scale, or a loss that in the last quarter of the
updates was never near its least again.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..util.formats import counted, duration, number
from ..util.stateful import Stateful

if TYPE_CHECKING:
    import numpy.typing as npt

FAR, FAR_OWN = 1.0, 9.0  # rise above the first loss, in scales of the loss, by which a run has diverged
NOISE = 0.01  # rise above the first loss, in scales, that means nothing
BACK = 0.2  # fraction of its gain that a run loses again, at least, if its loss rises
LONG, FEW = 4, 6  # a loss rises for long in the last quarter of the updates, if there are FEW measurements
STEADY, MULTIPLE = 8, 10.0  # or at each of so many measurements, to this multiple of the least loss
LESS, USUAL = 10, 1.0  # a rate to try is the too high rate over LESS, and at most USUAL
MODERATE = 1e6  # parameters up to this size do not make a loss other than a number by themselves
KEPT = 256  # measurements, at most, that a `History` keeps
COLUMNS = "version", "t_ns", "loss", "accuracy"


@dataclass(frozen=True)
class Descent:
    """Faults of the descent of a run; false if there is none.

    Attributes
    ----------
    diverged : bool
        Whether the last loss is not finite, or far above the first.
    what : str
        What the loss did, since when, and by how much; empty if nothing is wrong.
    cause : str
        The likely cause, and what to try; empty if there is none to name.
    missed : bool
        Whether only a target was missed, and the loss is as it should be.
    """

    diverged: bool = False
    what: str = ""
    cause: str = ""
    missed: bool = False

    @property
    def text(self) -> str:
        """Both in one line; empty if nothing is wrong."""
        return "; ".join(filter(None, (self.what, self.cause)))

    @property
    def line(self) -> str:
        """`text` as a warning, unless the run has diverged."""
        return self.text if self.diverged or not self else f"warning: {self.text}"

    def ended(self, reason: str) -> Descent:
        """Return this descent with the reason of the end of a run that diverged, such as refused payloads."""
        if self.what.startswith(reason):
            return self
        loss = self.what.removeprefix("diverged: ") if self.diverged else ""
        return Descent(True, "; ".join(filter(None, (reason, loss))), self.cause)

    def __bool__(self) -> bool:
        return bool(self.what)

    def __str__(self) -> str:
        return self.text


FINE = Descent()


class History(Stateful):
    """Measurements of a run so far: of many every second, then every fourth, and so on.

    The first, the last, the one of the least loss and the one of the best accuracy are always among them.
    """

    state_names = ("rows",)
    state_types = (("rows", list[list[float]]),)

    def __init__(self) -> None:
        self.rows: list[list[float]] = []

    def add(self, *row: float) -> None:
        """Add version, time in ns, loss and accuracy of a measurement."""
        if len(self.rows) == KEPT:
            best = min(self.rows, key=lambda each: each[2]), max(self.rows, key=lambda each: each[3])
            self.rows = [each for i, each in enumerate(self.rows) if i % 2 == 0 or each in best]
        self.rows.append([*row])

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """The measurements as `judge` takes them."""
        return dict(zip(COLUMNS, np.array(self.rows).reshape(-1, len(COLUMNS)).T, strict=True))


def judge(
    measured: Mapping[str, npt.ArrayLike],
    config: Mapping[str, Any],
    *,
    ended: bool,
    text: str = "",
    theta: Callable[[], np.ndarray | None] | None = None,
) -> Descent:
    """Judge the descent of a run by its measurements.

    Parameters
    ----------
    measured : mapping of str to array_like
        ``version``, ``t_ns``, ``loss`` and ``accuracy`` of each measurement, as in ``/progress``.
    config : mapping
        The resolved configuration.
    ended : bool
        Whether the run has ended by itself, so that a target can be missed.
    text : str, optional
        The user's TOML file, which tells where the rate comes from.
    theta : callable, optional
        Returns the last parameters: a loss that is not a number does not come from the rate if they are
        moderate.

    Returns
    -------
    Descent
    """
    loss, accuracy = (np.asarray(measured[key], np.float64) for key in ("loss", "accuracy"))
    version, t_ns = (np.asarray(measured[key], np.int64) for key in ("version", "t_ns"))
    rows = Rows(version, t_ns, loss)
    if not len(loss):
        return FINE
    if not math.isfinite(loss[-1]):
        return _not_finite(rows, _cause(config, text), None if theta is None else theta())
    stop = config.get("stop") or {}
    aims = [
        Aim(name, values, sign, float(stop[name]))
        for name, values, sign in (("loss", loss, 1), ("accuracy", accuracy, -1))
        if stop.get(name) is not None
    ]
    if any(aim.reached for aim in aims):
        return FINE
    if found := _above_first(rows, config, ended) or _risen(rows):
        return replace(found, cause=_cause(config, text))
    return _missed(rows, aims[0]) if ended and aims else FINE


class Rows(NamedTuple):
    """The measurements of a run."""

    version: np.ndarray
    t_ns: np.ndarray
    loss: np.ndarray

    def at(self, row: int, when: bool = True) -> str:
        """Name the update of a measurement, and its time."""
        text = f"update {int(self.version[row]):,}"
        return f"{text} ({duration(self.t_ns[row])})" if when else text

    @property
    def tail(self) -> np.ndarray:
        """The losses of the last updates, during which a loss that rises does so for long."""
        last, first = int(self.version[-1]), int(self.version[0])
        count = int(np.count_nonzero(self.version >= last - (last - first) // LONG))
        return self.loss[-max(2, count) :]


class Aim(NamedTuple):
    """A target: values of loss (less is better) or accuracy (more is better), and the level to reach."""

    name: str
    values: np.ndarray
    sign: int
    level: float

    @property
    def reached(self) -> bool:
        """Whether a measurement has reached it."""
        return bool((self.sign * self.values <= self.sign * self.level).any())


def _not_finite(rows: Rows, cause: str, theta: np.ndarray | None) -> Descent:
    """Describe a run whose last loss is not finite."""
    last = float(rows.loss[-1])
    what = f"diverged: loss is {last} at {rows.at(-1, False)}"
    if len(rows.loss) > 1:
        what += f", after {number(rows.loss[-2])} at {rows.at(-2, False)}"
    largest = math.inf if theta is None else float(np.abs(theta).max(initial=0.0))
    if math.isinf(last) or not largest <= MODERATE:
        return Descent(True, what, cause)
    what += f"; all parameters are finite, at most {number(largest, 3)}"
    return Descent(True, what, f"probably the model returned it for some rows; else {cause}")


def _above_first(rows: Rows, config: Mapping[str, Any], ended: bool) -> Descent:
    """Describe a loss that is above its first; nothing is wrong if it is not, by more than noise."""
    loss = rows.loss[np.isfinite(rows.loss)]
    first, last, least = float(loss[0]), float(loss[-1]), float(loss.min())
    scale = max(abs(first), first - least)
    if last - first <= NOISE * scale:
        return FINE
    positive = least >= 0 and first > 0  # so that 0, below which no value is, gives the scale
    far = FAR if positive and _starts_at_random(config) else FAR_OWN
    diverged = last - first > far * scale > 0
    how = ("diverged: " if ended else "diverging: ") if diverged else ""
    what = (
        f"{how}the loss {'ended' if ended else 'is'} above its first: {number(last)} at {rows.at(-1, False)}"
    )
    what += f", {number(last / first, 3)} times the first, {number(first)}" if positive else ""
    what += "" if positive else f", the first was {number(first)}"
    since = len(rows.loss) - int(np.argmin(rows.loss[::-1] > first))  # of the last that are all above
    what += f"; above since {rows.at(since)}" if since < len(rows.loss) - 1 else ""
    return Descent(diverged, what)


def _risen(rows: Rows) -> Descent:
    """Describe a loss that rises for long."""
    first, low = float(rows.loss[0]), int(np.argmin(rows.loss))
    last, least, tail = float(rows.loss[-1]), float(rows.loss[low]), rows.tail
    back = tail.min() > least + BACK * (first - least) > least
    steady = len(tail) >= STEADY and (np.diff(tail) > 0).all() and last > MULTIPLE * least > 0
    if len(rows.loss) < FEW or not (back or steady):
        return FINE
    what = f"the loss rose: {number(last)} at {rows.at(-1, False)}, after {number(least)} at {rows.at(low)}"
    return Descent(False, what)


def _missed(rows: Rows, aim: Aim) -> Descent:
    """Describe a run that has ended before its target."""
    signed = aim.sign * aim.values
    before, after = _least(signed[: -len(rows.tail)]), _least(signed[-len(rows.tail) :])
    best = aim.sign * min(before, after)
    shown = number(best) if number(best) != number(aim.level) else f"{best:.9g}"
    what = f"target missed: {aim.name} {shown if math.isfinite(best) else number(math.nan)} at best in"
    what += f" {counted(int(rows.version[-1]), 'update')}, and stop.{aim.name} is {aim.level:g}"
    improves = math.isfinite(before) and before - after > NOISE * (signed[0] - after)
    more = "it was still improving: give the run longer (stop.updates, stop.seconds)"
    return Descent(False, what, more if improves else "", True)


def _least(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.min()) if len(finite) else math.inf


def _starts_at_random(config: Mapping[str, Any]) -> bool:
    """Return whether θ is drawn, and does not come from a file or a program of the user."""
    problem = config.get("problem") or {}
    return "hidden" in problem and problem.get("init") is None


def _cause(config: Mapping[str, Any], text: str) -> str:
    """Return the likely cause of a loss that rises, and what to try."""
    optimizer, scheme = config.get("optimizer") or {}, config.get("scheme") or {}
    rate = optimizer.get("rate")
    if not isinstance(rate, int | float):
        return "usually the learning rate is too high"
    given = given_keys(text)
    origin = keep = ""
    if get(given, "optimizer", "rate") == rate:
        origin = ", as the file says"
    elif preset := scheme.get("preset"):
        origin = f", with preset '{preset}'"
        if not get(given, "scheme", "preset"):  # a rate undoes auto
            keep = f"--set scheme.preset={preset} "
    kinds = sorted({str(each.get("kind")) for each in (config.get("faults") or {}).get("events") or ()})
    faults = f" (or injected faults: {', '.join(kinds)})" if kinds else ""
    return (
        f"usually the learning rate is too high{faults}: optimizer.rate is {number(rate)}{origin}; "
        f"try {keep}--set optimizer.rate={number(min(rate / LESS, USUAL), 2)}"
    )


def given_keys(text: str) -> dict[str, Any]:
    """Return the tables of a user's file as a trace has it; none if it has no text that can be read."""
    with suppress(tomllib.TOMLDecodeError):
        return tomllib.loads(text)
    return {}


def get(tables: Mapping[str, Any], table: str, key: str) -> Any:
    """Return the value of a key in a user's file, which may be none."""
    found = tables.get(table)
    return found.get(key) if isinstance(found, dict) else None
