"""Formatting of times, numbers and lists for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

DASH = "–"
SCALES = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns"))


def duration(ns: float) -> str:
    """Format a time in ns with three digits and a unit (12.3 ms), or as a dash for nan and infinity."""
    if not math.isfinite(ns):
        return DASH
    if ns == 0:
        return "0 s"
    if ns >= 600e9:
        hours, seconds = divmod(round(ns / 1e9), 3600)
        return f"{hours} h {seconds // 60:02} min" if hours else f"{seconds // 60} min {seconds % 60:02} s"
    scale, unit = next(((scale, unit) for scale, unit in SCALES if abs(ns) >= scale), SCALES[-1])
    return f"{three_digits(ns / scale)} {unit}"


def listing(items: Sequence[str]) -> str:
    """Join items as "a, b and c"."""
    return " and ".join(filter(None, (", ".join(items[:-1]), *items[-1:])))


def ranges(numbers: Iterable[int]) -> str:
    """List ascending numbers, three or more consecutive ones by their ends: "2, 4 – 7 and 9"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    texts: list[str] = []
    for run in runs:
        texts += [f"{run[0]} – {run[-1]}"] if len(run) > 2 else map(str, run)
    return listing(texts)


def workers_named(workers: Iterable[int], few: int = 12) -> str:
    """List workers, of many the first `few`: "worker 3", "workers 1, 2 and 5"."""
    names = [str(worker) for worker in workers]
    if len(names) > few:
        names[few:] = [f"{len(names) - few} more"]
    return f"worker{'s' * (len(names) != 1)} {listing(names)}"


def three_digits(value: float) -> str:
    """Format a number with three digits."""
    digits = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:.{digits}f}"
