"""Times, rates and sizes as people write them: "10 ms", "1 Gbit/s", "64 KiB"."""

import re
from decimal import Decimal
from typing import NamedTuple

PREFIXES = {prefix: Decimal(10) ** (3 * power) for power, prefix in enumerate(("", "k", "M", "G", "T", "P"))}
BINARY = {f"{prefix}i": Decimal(1024) ** power for power, prefix in enumerate("KMGTP", 1)}
TIMES = {
    "ns": Decimal("1e-9"),
    **dict.fromkeys(("us", "µs", "μs"), Decimal("1e-6")),
    "ms": Decimal("1e-3"),
    **dict.fromkeys(("s", "sec", "second", "seconds"), Decimal(1)),
    **dict.fromkeys(("min", "minute", "minutes"), Decimal(60)),
    **dict.fromkeys(("h", "hour", "hours"), Decimal(3600)),
    **dict.fromkeys(("d", "day", "days"), Decimal(86400)),
}
NUMBER = re.compile(r"([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*(\S.*)")
BYTES = re.compile(r"([kKMGTP]?i?)(?:B|[bB]ytes?)")
BITS = re.compile(r"([kmgtp]?)bits?", re.IGNORECASE)


class Quantity(NamedTuple):
    """A kind of number with a unit."""

    name: str  # in "expected a …"
    unit: str  # the unit of a plain number
    example: str  # of a plain number, and of one with another unit


QUANTITIES = {
    "time": Quantity("time", "s", "0.01 (seconds) or '10 ms'"),
    "rate": Quantity("rate", "bytes/s", "1.25e8 (bytes per second) or '1 Gbit/s'"),
    "size": Quantity("size", "bytes", "65536 (bytes) or '64 KiB'"),
}


def number(text: str, quantity: str) -> float:
    """Return a number with a unit in the quantity's own: s, bytes/s or bytes.

    Bits are eighths of bytes; "Gb" are bits and "GB" bytes, and "gb", which could be either, is refused.

    Raises
    ------
    ValueError
        If the text is none, with a message without the text.
    """
    found = NUMBER.fullmatch(text.strip())
    factor = _factor(found[2], quantity) if found else None
    if found is None or factor is None:
        raise ValueError(f"expected a {described(quantity)}")
    value = float(Decimal(found[1]) * factor)  # exact before it is rounded: 50 µs are 5e-05 s
    return int(value) if quantity == "size" and value.is_integer() else value


def described(quantity: str) -> str:
    """Return "time such as 0.01 (seconds) or '10 ms'"."""
    return f"{quantity} such as {QUANTITIES[quantity].example}"


def _factor(unit: str, quantity: str) -> Decimal | None:
    """Return a unit as a multiple of the quantity's own; None if it is no such unit."""
    if quantity == "time":
        return TIMES.get(unit)
    if quantity == "rate":
        unit = re.sub(r"(\s*/\s*s|ps|/sec|/second)$", "", unit)
        if bits := BITS.fullmatch(unit) or re.fullmatch(r"([kKMGTP]?)b", unit):
            return PREFIXES[bits[1].upper().replace("K", "k")] / 8
    if not (found := BYTES.fullmatch(unit)):
        return None
    prefix = found[1].upper().replace("I", "i")
    return BINARY.get(prefix) if prefix.endswith("i") else PREFIXES[prefix.replace("K", "k")]
