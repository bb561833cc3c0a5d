"""Formatting of times, sizes, numbers and lists for people."""

import math
from collections.abc import Iterable, Sequence

DASH = "–"
BARS = " ▁▂▃▄▅▆▇█"
SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
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
    scale, unit = next((each for each in SCALES if abs(ns) >= 0.9995 * each[0]), SCALES[-1])
    return f"{three_digits(ns / scale)} {unit}"


def reached(low_ns: float, high_ns: float) -> str:
    """Say when something happened: "after 1.10 s", "between 1.01 and 1.11 s", or "not reached"."""
    if not math.isfinite(high_ns):
        return "not reached"
    low, high = duration(low_ns), duration(high_ns)
    return f"after {high}" if low == high else f"between {span(low, high).replace(f' {DASH} ', ' and ')}"


def listing(items: Sequence[str], last: str = "and") -> str:
    """Join items as "a, b and c"."""
    return f" {last} ".join(filter(None, (", ".join(items[:-1]), *items[-1:])))


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


def counted(count: int, noun: str) -> str:
    """Format a number of things: "1 step", "2,000 steps"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def three_digits(value: float) -> str:
    """Format a number with three digits."""
    digits = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:.{digits}f}"


def two_digits(value: float) -> str:
    """Format an estimate with two digits, or all of its integer part: 0.51, 7.2, 29, 135."""
    return f"{value:,.0f}" if abs(value) >= 9.95 else f"{value:.2g}"


def number(value: float, digits: int = 4) -> str:
    """Format a number with this many significant digits, or as a dash for nan."""
    return DASH if math.isnan(value) else f"{value:.{digits}g}"


def score(value: float) -> str:
    """Format an accuracy or another score, of a descent that fails as a power of ten: 0.9583, -3.49e+40."""
    return f"{value:.4f}" if abs(value) < 1e5 else f"{value:.3g}"


def size(count: float) -> str:
    """Format a number of bytes in decimal units: 1.23 MB."""
    scale, unit = next((each for each in SIZES if abs(count) >= 0.9995 * each[0]), (1.0, "B"))
    return f"{three_digits(count / scale)} {unit}" if scale > 1 else f"{count:.0f} B"


def rate(count: float) -> str:
    """Format bytes per second, in bytes and in bits: 125 MB/s, 1 Gbit/s."""
    texts = []
    for value, unit in ((count, "B/s"), (8 * count, "bit/s")):
        scale, prefix = next(((each, name[0]) for each, name in SIZES if value >= 0.9995 * each), (1.0, ""))
        texts.append(f"{value / scale:.3g} {prefix}{unit}")
    return ", ".join(texts)


def percent(part: float, whole: float) -> str:
    """Format a fraction in percent with one decimal, or as a dash if the whole is 0."""
    return f"{100 * part / whole:.1f}" if whole > 0 and not math.isnan(part) else DASH


def rough_percent(fraction: float) -> str:
    """Format an estimated fraction in percent with two digits, below 1 % with one decimal."""
    return two_digits(100 * fraction) if 100 * fraction >= 0.95 else f"{abs(100 * fraction):.1f}"


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
