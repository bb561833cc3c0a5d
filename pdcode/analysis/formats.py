"""Formatting of numbers, times and sizes for people."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..util.formats import DASH as DASH
from ..util.formats import duration as duration
from ..util.formats import listing as listing
from ..util.formats import ranges as ranges
from ..util.formats import three_digits
from ..util.formats import workers_named as workers_named

BARS = " ▁▂▃▄▅▆▇█"
SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def number(value: float, digits: int = 4) -> str:
    """Format a number with this many significant digits, or as a dash for nan."""
    return DASH if math.isnan(value) else f"{value:.{digits}g}"


def size(count: float) -> str:
    """Format a number of bytes in decimal units: 1.23 MB."""
    scale, unit = next(((scale, unit) for scale, unit in SIZES if abs(count) >= scale), (1.0, "B"))
    return f"{three_digits(count / scale)} {unit}" if scale > 1 else f"{count:.0f} B"


def percent(part: float, whole: float) -> str:
    """Format a fraction in percent with one decimal, or as a dash if the whole is 0."""
    return f"{100 * part / whole:.1f}" if whole > 0 and not math.isnan(part) else DASH


def percents(parts: Sequence[float], whole: float) -> list[str]:
    """Format parts that sum to the whole in percent, rounded so that the texts sum to 100 %, too."""
    if not whole > 0:
        return [DASH] * len(parts)
    tenths = [1000 * part / whole for part in parts]
    rounded = [math.floor(each) for each in tenths]
    order = sorted(range(len(parts)), key=lambda place: rounded[place] - tenths[place])
    for place in order[: max(0, round(sum(tenths)) - sum(rounded))]:
        rounded[place] += 1
    return [f"{each / 10:.1f}" for each in rounded]


def ratio(value: float) -> str:
    """Format a factor with three digits (10.2×), or as a dash for nan and infinity."""
    if not math.isfinite(value):
        return DASH
    return f"{three_digits(value)}×" if value < 99.95 else f"{value:,.0f}×"


def span(low: str, high: str) -> str:
    """Join two formatted numbers to an interval; write a shared unit once: 1.25 – 1.88 s."""
    return f"{low.removesuffix(high.lstrip('0123456789.,'))} – {high}"


def bar(value: float, most: float, width: int) -> str:
    """Draw a bar of text, in eighths of a character; at least one eighth for positive values."""
    eighths = max(round(8 * width * value / most), 1) if value > 0 else 0
    return "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]


def spark(values: Sequence[int]) -> str:
    """Draw one character per value, its height in eighths of the largest."""
    most = max(values, default=0)
    return "".join(BARS[math.ceil(8 * value / most)] if value else " " for value in values)
