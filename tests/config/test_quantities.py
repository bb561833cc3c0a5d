"""Keys that are times, rates and sizes, also as text with a unit."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from outcomes import refused

from pdcode.__main__ import main
from pdcode.config import Config, FaultEvent, Seconds, StragglersTable, building, kinds
from pdcode.config import load as configfile
from pdcode.util.formats import rate

GIVEN = {
    "link.bandwidth": ("1 Gbit/s", 1.25e8),
    "link.latency_s": ("50us", 5e-5),
    "stop.seconds": ("10s", 10.0),
    "stop.drain_s": ("0 s", 0.0),
    "machine.task_s": ("0.05 ms", 5e-5),
    "machine.decode_bandwidth": ("2 GB/s", 2e9),
    "trace.progress_s": ("100 ms", 0.1),
    "trace.checkpoint_s": ("5 min", 300.0),
    "faults.mtbf_s": ("1 h", 3600.0),
}


@pytest.mark.parametrize("key", GIVEN)
def test_a_unit_in_a_file_and_on_the_command_line_gives_the_number(key: str) -> None:
    text, number = GIVEN[key]
    table, _, last = key.partition(".")
    plain = configfile.resolve({table: {last: number}})
    assert configfile.resolve({table: {last: text}}) == plain
    for setting in (f"{key}={text}", f'{key}="{text}"', f"{table}={{{last}='{text}'}}"):
        assert configfile.resolve({}, [setting]) == plain


def test_units_in_kinds_and_lists_of_tables() -> None:
    tables: dict[str, Any] = {
        "stragglers": {"kind": "shifted-exponential", "shift_s": "1 ms", "mean_s": "10 ms"},
        "faults": {"events": [{"kind": "slow", "worker": 1, "factor": 2.0, "at_s": "1 min", "for_s": "3 s"}]},
        "link": {"broadcast": "chain", "segment": "64 KiB"},
        "scheme": {"name": "mindflayer", "options": {"limit_s": "5ms"}},
    }
    config = configfile.resolve(tables)
    assert (config.stragglers.shift_s, config.stragglers.mean_s) == (0.001, 0.01)
    assert (config.faults.events[0].at_s, config.faults.events[0].for_s) == (60.0, 3.0)
    assert (config.link.segment, config.scheme.options.limit_s) == (65536, 0.005)


REFUSED = {
    "link.bandwidth=1 gb/s": "a rate such as 1.25e8 (bytes per second) or '1 Gbit/s' (got '1 gb/s')",
    "link.bandwidth=fast": "a rate such as",
    "link.bandwidth=0": "a rate >= 1 bytes/s (got 0)",
    "stop.seconds=-5ms": "a time > 0 s (got '-5ms')",
    "stop.seconds=true": "a time such as 0.01 (seconds) or '10 ms' (got True)",
    "stragglers={kind='pareto',shift_s='10 mss',shape=2}": "a time such as",
    "faults={events=[{kind='slow',worker=1,at_s='soon'}]}": "a time such as",
    "link={broadcast='chain',segment='1.5 B'}": "a size such as 65536 (bytes) or '64 KiB'",
}


@pytest.mark.parametrize("setting", REFUSED)
def test_a_refusal_names_the_quantity_and_its_unit(setting: str) -> None:
    with refused(f"expected {REFUSED[setting]}"):
        configfile.resolve({}, [setting])


def test_every_key_of_seconds_and_bytes_takes_units() -> None:
    """Those of all kinds: by their names, and none else."""
    tables = [type(getattr(Config(), name)) for name in ("machine", "link", "faults", "stop", "trace")]
    members = [each for base in (StragglersTable, FaultEvent) for _, each in kinds.members(base.group)]
    tables += [each for each in members if each.__module__.startswith("pdcode.")]  # no other test's plug-ins
    for table in tables:
        named = {
            key for key in table.__struct_fields__ if key.endswith(("_s", "seconds", "bandwidth", "segment"))
        }
        assert named - {"flops_per_s"} == {*building.quantities(table)}


def test_a_plug_ins_keys_take_units_too() -> None:
    class Mine(msgspec.Struct):
        pause_s: Seconds = 0.0

    assert building.build(Mine, {"pause_s": "2 ms"}, "mine").pause_s == 0.002
    with refused("mine.pause_s: expected a time such as"):
        building.build(Mine, {"pause_s": "2 lightyears"}, "mine")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.25e8, "125 MB/s, 1 Gbit/s"),
        (1e9, "1 GB/s, 8 Gbit/s"),
        (1.25e7, "12.5 MB/s, 100 Mbit/s"),
        (3, "3 B/s, 24 bit/s"),
    ],
)
def test_rates_in_bytes_and_bits(value: float, text: str) -> None:
    assert rate(value) == text


def test_the_link_is_echoed_in_bits_before_and_at_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "job.toml"
    path.write_text('problem = {kind = "softmax"}\nstop = {updates = 1}\nlink = {bandwidth = 1e9}\n', "utf-8")
    assert main(["run", str(path), "--dry-run"]) == 0
    assert "bandwidth = 1000000000.0        # file; 1 GB/s, 8 Gbit/s" in capsys.readouterr().out
    assert main(["simulate", str(path), "-o", str(tmp_path / "o.h5"), "-n", "2"]) == 0
    assert "; link of 1 GB/s, 8 Gbit/s\n" in capsys.readouterr().out
