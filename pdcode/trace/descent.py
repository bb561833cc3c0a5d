"""How the measured loss of a run went: whether the descent diverged, rose for long, or missed its target.

The loss is measured on the same rows each time, so that all noise is in θ. A run has diverged if its last
loss is not finite, or above the first by more than `FAR` times the scale of the loss: the first loss itself,
or what the run gained, if that is more. Where the user chooses θ at the start, which may be near the best, or
where the loss has values of both signs, it is `FAR_OWN` times. Less than that is a warning: a last loss that
is above the first by more than `NOISE` times the scale, or a loss that in the last quarter of the
measurements was never near its least again.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..util.formats import counted, duration, number

if TYPE_CHECKING:
    import numpy.typing as npt

FAR, FAR_OWN = 1.0, 9.0  # rise above the first loss, in scales of the loss, by which a run has diverged
NOISE = 0.01  # rise above the first loss, in scales, that means nothing
BACK = 0.2  # fraction of its gain that a run loses again, at least, if its loss rises
LONG, FEW = 4, 6  # a loss rises for long in the last quarter of the measurements, of which there are FEW
STEADY, MULTIPLE = 8, 10.0  # or at each of so many measurements, to this multiple of the least loss
LESS = 10  # factor between a rate that is too high and the next to try


@dataclass(frozen=True)
class Descent:
    """What is wrong with the descent of a run; it is false if nothing is.

    Attributes
    ----------
    diverged : bool
        Whether the last loss is not finite, or far above the first.
    what : str
        What the loss did, since when, and by how much; empty if nothing is wrong.
    cause : str
        The likely cause, and what to try; empty if there is none to name.
    """

    diverged: bool = False
    what: str = ""
    cause: str = ""

    @property
    def text(self) -> str:
        """Both in one line; empty if nothing is wrong."""
        return "; ".join(filter(None, (self.what, self.cause)))

    def __bool__(self) -> bool:
        return bool(self.what)

    def __str__(self) -> str:
        return self.text


def judge(
    measured: Mapping[str, npt.ArrayLike],
    config: Mapping[str, Any],
    *,
    ended: bool,
    text: str = "",
    theta: np.ndarray | None = None,
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
    theta : ndarray, optional
        The last parameters: a loss that is not a number does not come from the rate if they are moderate.

    Returns
    -------
    Descent
    """
    loss, accuracy = (np.asarray(measured[key], np.float64) for key in ("loss", "accuracy"))
    version, t_ns = (np.asarray(measured[key], np.int64) for key in ("version", "t_ns"))
    if not len(loss):
        return Descent()
    cause = _cause(config, text)
    last, at = float(loss[-1]), f"at update {int(version[-1]):,}"
    if not math.isfinite(last):
        what = f"diverged: loss is {last} {at}"
        if len(loss) > 1:
            what += f", after {number(loss[-2])} at update {int(version[-2]):,}"
        if theta is not None and np.isfinite(theta).all() and not math.isinf(last):
            return Descent(
                True,
                f"{what}; all parameters are finite, at most {number(np.abs(theta).max(initial=0.0), 3)}",
                f"if that is moderate, the model returned it for rows of its own; else {cause}",
            )
        return Descent(True, what, cause)
    stop = config.get("stop") or {}
    aims = [("loss", loss, stop.get("loss"), 1), ("accuracy", accuracy, stop.get("accuracy"), -1)]
    aims = [each for each in aims if each[2] is not None]
    if any((sign * values <= sign * level).any() for _, values, level, sign in aims):
        return Descent()
    finite = loss[np.isfinite(loss)]
    first, least = float(finite[0]), float(finite.min())
    scale = max(abs(first), first - least)
    comparable = least >= 0 and first > 0  # with 0, below which no value is
    far = FAR if comparable and _starts_at_random(config) else FAR_OWN
    if last - first > NOISE * scale:
        diverged = last - first > far * scale > 0
        since = len(loss) - int(np.argmin(loss[::-1] > first))  # of the last measurements that are above
        times = f", {number(last / first, 3)} times the first, {number(first)}" if comparable else ""
        times = times or f", the first was {number(first)}"
        how = ("diverged: " if ended else "diverging: ") if diverged else ""
        ends = "ended above its first" if ended else "is above its first"
        what = f"{how}the loss {ends}: {number(last)} {at}{times}"
        if since < len(loss) - 1:
            what += f"; above since update {int(version[since]):,} ({duration(t_ns[since])})"
        return Descent(diverged, what, cause)
    low = int(np.argmin(loss))
    tail = loss[-max(2, len(loss) // LONG) :]
    back = bool(tail.min() > least + BACK * (first - least) > least)
    steady = len(tail) >= STEADY and bool((np.diff(tail) > 0).all()) and last > MULTIPLE * least > 0
    if len(loss) >= FEW and (back or steady):
        what = f"the loss rose: {number(last)} {at}, after {number(least)} at update {int(version[low]):,}"
        return Descent(False, f"{what} ({duration(t_ns[low])})", cause)
    if not (ended and aims):
        return Descent()
    name, values, level, sign = aims[0]
    best = sign * float(np.nanmin(sign * values)) if np.isfinite(values).any() else math.nan
    what = f"target missed: {name} {number(best)} at best in {counted(int(version[-1]), 'update')}"
    falls = low >= len(loss) - len(tail) and len(loss) > 1
    more = "it was still falling: give the run longer (stop.updates, stop.seconds)"
    return Descent(False, f"{what}, and stop.{name} is {number(level)}", more if falls else "")


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
    origin, given = "", {}
    with suppress(tomllib.TOMLDecodeError):
        given = tomllib.loads(text).get("optimizer")
    if isinstance(given, dict) and given.get("rate") == rate:
        origin = ", as the file says"
    elif scheme.get("preset"):
        origin = f", with preset '{scheme['preset']}'"
    kinds = sorted({str(each.get("kind")) for each in (config.get("faults") or {}).get("events") or ()})
    faults = f" (or injected faults: {', '.join(kinds)})" if kinds else ""
    return (
        f"usually the learning rate is too high{faults}: optimizer.rate is {number(rate)}{origin}; "
        f"try --set optimizer.rate={number(rate / LESS, 2)}"
    )
