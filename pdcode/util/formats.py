"""Formatting of times, numbers and lists for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

NOTHING = "–"
SCALES = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns"))


def duration(ns: float) -> str:
    """Format a time in ns with three digits and a unit (12.3 ms); a dash for nan and infinity."""
    if not math.isfinite(ns):
        return NOTHING
    if ns == 0:
        return "0 s"
    if ns >= 600e9:
        hours, seconds = divmod(round(ns / 1e9), 3600)
        return f"{hours} h {seconds // 60:02} min" if hours else f"{seconds // 60} min {seconds % 60:02} s"
    scale, unit = next(((scale, unit) for scale, unit in SCALES if abs(ns) >= scale), SCALES[-1])
    return f"{three(ns / scale)} {unit}"


def listing(items: Sequence[str]) -> str:
    """Join items as "a, b and c"."""
    return " and ".join(filter(None, (", ".join(items[:-1]), *items[-1:])))


def ranges(numbers: Iterable[int]) -> str:
    """List ascending numbers, three or more in a row by their ends: "2, 4 – 7 and 9"."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][-1] + 1:
            found[-1].append(number)
        else:
            found.append([number])
    shown: list[str] = []
    for row in found:
        shown += [f"{row[0]} – {row[-1]}"] if len(row) > 2 else map(str, row)
    return listing(shown)


def workers_named(workers: Iterable[int], few: int = 12) -> str:
    """Name workers, the first few of many: "worker 3", "workers 1, 2 and 5"."""
    names = [str(worker) for worker in workers]
    shown = listing(names) if len(names) <= few else f"{', '.join(names[:few])} and {len(names) - few} more"
    return f"worker{'s' * (len(names) != 1)} {shown}"


def three(value: float) -> str:
    """Format a number with three digits."""
    digits = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:.{digits}f}"
