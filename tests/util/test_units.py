"""Numbers with units."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode.util import units

KNOWN = {
    "time": {
        "10 ms": 0.01, "50us": 5e-5, "50 µs": 5e-5, "3ns": 3e-9, "2 s": 2.0, "1.5 min": 90.0, "2h": 7200.0,
        "1 day": 86400.0, "1_000 ms": 1.0, "1e-3 s": 0.001, "-5 ms": -0.005, ".5 s": 0.5, " 10  seconds ": 10,
    },
    "rate": {
        "1 Gbit/s": 1.25e8, "1Gbit": 1.25e8, "100mbit/s": 1.25e7, "1 Gbps": 1.25e8, "1 Gb/s": 1.25e8,
        "125 MB/s": 1.25e8, "1 GB / s": 1e9, "1 GiB/s": 2.0**30, "8 kbit/s": 1e3, "1 Kb/s": 125.0,
        "5 bytes/s": 5.0, "8 bits/s": 1.0, "1 MBps": 1e6, "1 Tbit/s": 1.25e11,
    },
    "size": {"64 KiB": 65536, "64 kB": 64000, "2 GiB": 2**31, "1 MB": 10**6, "7 bytes": 7, "0.5 KiB": 512},
}  # fmt: skip
UNKNOWN = {
    "time": ["10", "ten ms", "10 m", "10 mss", "ms", "", "1,5 s", "10 ms 3", "0x10 s", "nan s", "1e9999 s"],
    "rate": ["1 gb/s", "1 Gbit/min", "1 G", "10 ms", "1 iB/s", "125e6", "1 GiBit"],
    "size": ["1 Gbit", "64 K", "64 KiB/s", "-", "1 iB"],
}


@pytest.mark.parametrize(("quantity", "text"), [(each, text) for each in KNOWN for text in KNOWN[each]])
def test_units_that_people_write(quantity: str, text: str) -> None:
    assert units.number(text, quantity) == KNOWN[quantity][text]


@pytest.mark.parametrize(("quantity", "text"), [(each, text) for each in UNKNOWN for text in UNKNOWN[each]])
def test_text_that_is_none_is_refused_with_an_example(quantity: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"^expected a {quantity} such as "):
        units.number(text, quantity)


@given(st.floats(1e-6, 1e9), st.sampled_from([("time", "s"), ("rate", "bytes/s"), ("size", "bytes")]))
def test_the_own_unit_of_a_quantity_changes_nothing(value: float, unit: tuple[str, str]) -> None:
    assert units.number(f"{value!r} {unit[1]}", unit[0]) == value


@given(st.text(max_size=20), st.sampled_from(sorted(units.QUANTITIES)))
def test_any_text_is_a_number_or_refused(text: str, quantity: str) -> None:
    with suppress(ValueError):
        assert isinstance(units.number(text, quantity), int | float)
