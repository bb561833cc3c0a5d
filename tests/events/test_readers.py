"""Recordings: AEDAT 4 as `aedat` reads it, others by the published rules; damaged files are refused.

No recording is at hand without a network. The files of AEDAT 4 are written by Google's `flatbuffers`, and
compressed by pyarrow.
"""

import struct
from contextlib import suppress
from pathlib import Path

import aedat
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outcomes import refused
from recordings import COMPRESSIONS, FORMATS, aedat4, example, made

from pdcode import InputError
from pdcode.events import Events, read_events


@pytest.mark.parametrize("table", [False, True])
@pytest.mark.parametrize("how", COMPRESSIONS)
def test_aedat_4_is_what_the_package_aedat_reads(how: str, table: bool, tmp_path: Path) -> None:
    """It does not read a file's table of packets, here only a place beyond which there are no packets."""
    path, events = tmp_path / "a.aedat4", made()
    path.write_bytes(aedat4(events, how, table))
    found = read_events(path)
    for mine, written in zip(found, events, strict=True):
        np.testing.assert_array_equal(mine, written)
    if not table:
        packets = [each["events"] for each in aedat.Decoder(str(path)) if "events" in each]
        theirs = np.concatenate([each for each in packets if len(each)])
        for name, mine in zip(("t", "x", "y", "on"), found, strict=True):
            np.testing.assert_array_equal(mine, theirs[name])


# Addresses of pixels (x, y) with the polarity of their events, by other readers' rules: of DAVIS346 as tonic
# 1.7.0 reads them, of DAVIS240 with columns from the right as jAER writes those of any DAVIS.
ADDRESSES = {
    "davis.Davis346B": {(0, 0, True): 0x40D59800, (345, 0, False): 0x40C00000, (0, 259, True): 0x00159800,
                        (345, 119, False): 0x23000000},
    "DAVIS240C": {(0, 0, True): 0x2CCEF800, (239, 179, False): 0, (10, 100, True): 0x13CE5800},
    "DVS128": {(0, 0, True): 0x7FFE, (127, 0, False): 0x7F01, (0, 127, True): 0x00FE, (1, 2, False): 0x7DFD},
}  # fmt: skip


@pytest.mark.parametrize("chip", ADDRESSES)
def test_aedat_2_has_the_addresses_of_its_chip(chip: str, tmp_path: Path) -> None:
    """Events of images, inertia and triggers are left out; an address may begin with the byte of '#'."""
    others = [0x8000] if chip == "DVS128" else [0x80000005, 0x400]
    addresses = [*ADDRESSES[chip].values(), *others]
    rows = b"".join(struct.pack(">II", address, 7 + place) for place, address in enumerate(addresses))
    header = f"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.{chip}\r\n#End Of ASCII Header\r\n"
    (tmp_path / "a.aedat").write_bytes(header.encode() + rows)
    times, *found = read_events(tmp_path / "a.aedat")
    assert times.tolist() == [7 + place for place in range(len(ADDRESSES[chip]))]
    assert [*zip(*(each.tolist() for each in found), strict=True)] == [*ADDRESSES[chip]]


@pytest.mark.parametrize(("names", "separator"), [("t,x,y,p", ","), ("polarity;Y;X;timestamp", ";")])
def test_csv_columns_are_found_by_name(names: str, separator: str, tmp_path: Path) -> None:
    events = made(50)
    columns = {"t": events.times_us, "timestamp": events.times_us, "x": events.x, "y": events.y}
    columns |= {"p": events.on.astype(int), "polarity": np.where(events.on, 1, -1)}
    rows = zip(*(columns[each.lower()].tolist() for each in names.split(separator)), strict=True)
    text = "\n".join([names, *(separator.join(map(str, row)) for row in rows)])
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    for mine, given_ in zip(read_events(tmp_path / "a.csv"), events, strict=True):
        np.testing.assert_array_equal(mine, given_)


def test_one_of_several_streams_is_chosen(tmp_path: Path) -> None:
    path, events = tmp_path / "stereo.aedat4", made(90)
    path.write_bytes(aedat4(events, "none", second=3))
    with refused("has the streams of events [0, 3]: choose one by --stream", start=str(path)):
        read_events(path)
    with refused("stream 2 is none of its streams of events, [0, 3]"):
        read_events(path, stream=2)
    for stream, part in ((0, slice(30)), (3, slice(30, None))):
        for mine, written in zip(read_events(path, stream=stream), events, strict=True):
            np.testing.assert_array_equal(mine, written[part])
    (tmp_path / "a.csv").write_text("t,x,y,p\n1,2,3,1\n")
    with refused("files of text have one stream of events"):
        read_events(tmp_path / "a.csv", stream=0)


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_read_by_their_published_rules(name: str, tmp_path: Path) -> None:
    events = example(name)
    (tmp_path / name).write_bytes(FORMATS[name](events))
    for mine, written in zip(read_events(tmp_path / name), events, strict=True):
        np.testing.assert_array_equal(mine, written[:-1] if name == "a.aedat" else written)


def test_counts_are_those_of_the_window(tmp_path: Path) -> None:
    ones = Events(
        np.array([0, 5, 9, 10]), np.array([1, 1, 0, 0]), np.array([0, 0, 2, 2]), np.array([1, 1, 0, 1]) > 0
    )
    np.testing.assert_array_equal(ones.counts(0, 10, ones.shape), [[0, 2], [0, 0], [-1, 0]])


WRONG = {
    "empty": (b"", "no column t or timestamp"),
    "no columns": (b"a,b\n1,2\n", "no column t or timestamp in 'a,b'"),
    "text": (b"t,x,y,p\n1,2,3,up\n", "line 2: '1,2,3,up' has more than numbers"),
    "width": (b"t,x,y,p\n1,2,3,1\n1,2,3\n", "line 3: 3 values, but 4 columns"),
    "fractions": (b"t,x,y,p\n1,2.5,3,1\n", "event 0: t [µs], x and y must be whole numbers"),
    "negative": (b"t,x,y,p\n1,-2,3,1\n", "x -2 of event 0 is not in [0, 16384)"),
    "no events": (b"t,x,y,p\n", "no events"),
    "version": (b"#!AER-DAT3.0\r\n", "none of the formats of recordings: aedat4, aedat3"),
    "compressed": (b"#!AER-DAT3.1\r\n#Format: PNG\r\n#!END-HEADER\r\n", "format 'PNG' of AEDAT 3.1; RAW is"),
    "packet": (b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, 9, 9, 9),
               "damaged or cut off at byte 56 of 56"),
    "chip": (b"#!AER-DAT2.0\r\n\0\0\0\1\0\0\0\1", "names neither a DVS128 nor a DAVIS of 128, 208"),
    "length": (b"#!AER-DAT2.0\r\n# DVS128\r\n\0\0\0\1", "4 bytes of events, which is no multiple of 8"),
    "header": (b"#!AER-DAT2.0\r\n# DVS128", "its header does not end"),
    "aedat4": (b"#!AER-DAT4.0\r\n", "damaged or cut off at byte 14"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("a.bin", bytes(7), "7 bytes, which is no multiple of the 5 of an event of N-MNIST"),
        ("a.raw", b"% evt 9.0\n", "faery cannot read it: unknown version"),
        ("a.es", b"Event", "faery cannot read it: "),
        ("a.raw", b"% evt 3.0\n", "no events"),
        ("a.xyz", bytes(100), "none of the formats of recordings"),
    ],
)
def test_malformed_binary_files_are_refused(name: str, data: bytes, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with refused(text, start=str(tmp_path / name)):
        read_events(tmp_path / name)


@pytest.mark.parametrize("case", WRONG)
def test_malformed_files_are_refused(case: str, tmp_path: Path) -> None:
    data, text = WRONG[case]
    (tmp_path / "a").write_bytes(data)
    with refused(text, start=str(tmp_path / "a")):
        read_events(tmp_path / "a")


@pytest.mark.parametrize("how", COMPRESSIONS)
@settings(max_examples=60)
@given(place=st.floats(0, 1), value=st.integers(0, 255), cut=st.booleans())
def test_damage_is_refused_or_changes_values(
    how: str, place: float, value: int, cut: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = bytearray(aedat4(made(30), how))
    at = min(int(place * len(data)), len(data) - 1)
    if cut:
        del data[at:]
    else:
        data[at] = value
    path = tmp_path_factory.mktemp("damaged") / "a.aedat4"
    path.write_bytes(data)
    with suppress(InputError):
        assert len(read_events(path).x) <= 60
