"""`python -m benchmarks scale`: its cells, what it makes again, its tables and its figure."""

from pathlib import Path

import pytest
import tuning
from matplotlib.figure import Figure
from outcomes import error_line

from benchmarks import scale
from benchmarks.__main__ import main
from pdcode.bench import machine
from pdcode.config import LinkTable, MachineTable
from pdcode.studies.comparison import Comparison

SCHEMES = "lwpd:default,uncoded:async,allreduce"
COST = "[machine]\narrival_s = 1e-5\ndecode_bandwidth = 1e9\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    problem = {"kind": "mlp", "data": "digits", "hidden": [16], "batch": 16, "evaluate": 200}
    monkeypatch.setitem(scale.TABLES, "problem", problem)
    monkeypatch.setitem(scale.TABLES, "stop", {"loss": 0.9})
    tuning.without_runs(monkeypatch)
    (tmp_path / "cost.toml").write_text(COST)
    return tmp_path / "made"


def command(folder: Path, *options: str) -> list[str]:
    words = ["scale", "--schemes", SCHEMES, "--tune", "3", "--processes", "1", "-o", str(folder)]
    return [*words, *options]


@pytest.mark.slow
def test_cells_are_made_once_shown_and_drawn(folder, capsys, monkeypatch):
    asked = command(
        folder, "--workers", "16,4", "--coordinators", "1,2", "--cost", "cost.toml", "--link", "10M"
    )
    assert main(asked) == 0
    text = capsys.readouterr().out
    files = sorted(path.name for path in folder.glob("*.h5"))
    assert files == ["10M-16.h5", "10M-2-16.h5", "10M-2-4.h5", "10M-4.h5"]
    assert (folder / "scale.png").read_bytes().startswith(b"\x89PNG")
    few, many = (Comparison.load(folder / name) for name in ("10M-4.h5", "10M-16.h5"))
    assert "best of 3 runs" in " ".join(many.notes)
    assert "10M-4.h5" in " ".join(many.notes)  # whose rates the search begins with
    tables = dict(
        part.split("\n", 1) for part in text.split("\n\n") if part.startswith(tuple(SCHEMES.split(",")))
    )
    lines = [line.split() for line in tables["uncoded:async"].splitlines()]
    assert [line[:2] for line in lines[1:]] == [["4", "1"], ["16", "1"], ["4", "2"], ["16", "2"]]
    uncoded = many.measured[1][0]
    assert uncoded.egress > uncoded.ingress > 0.9  # its limit
    assert lines[2][-5] == "egress"
    assert f"{uncoded.arrivals / uncoded.stop_s:,.0f}" == lines[2][2]
    assert few.measured[2][0].egress == 0  # no coordinator
    monkeypatch.setattr(scale, "draw", lambda found: Figure())  # the same would take long
    assert main(asked) == 0
    again = capsys.readouterr().out
    assert again.count("there already") == 4
    assert again.partition("lwpd:default\n")[2] == text.partition("lwpd:default\n")[2]
    assert main([*asked, "--tune", "4"]) == 2
    assert "is there, of another bench" in capsys.readouterr().err


@pytest.mark.slow
def test_costs_are_measured_once(folder, capsys, monkeypatch):
    tables = {"machine": MachineTable(arrival_s=3e-6), "link": LinkTable(bandwidth=1.0)}
    monkeypatch.setattr(machine, "measure", lambda: (tables, ["measured"]))
    for time in range(2):
        assert main(command(folder, "--workers", "3", "--schemes", "uncoded:async")) == 0
        assert ("machine.toml: there already" in capsys.readouterr().out) == bool(time)
    (config, *_) = Comparison.load(folder / "1G-3.h5").read_configs("")
    assert config.machine.arrival_s == 3e-6
    assert config.link.bandwidth == 1.25e8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "8,x"], "--workers x: expected numbers from 2 to 65536, separated by commas"),
        (["--workers", "1"], "--workers 1: expected numbers from 2 to 65536"),
        (["--workers", "65537"], "--workers 65537: expected numbers"),
        (["--coordinators", "0"], "--coordinators 0: expected numbers from 1 to 1024"),
        (["--link", "2G"], "--link: expected one of 100G, 1G, 100M, 10M (got '2G')"),
        (["--cost", "nosuch.toml"], "nosuch.toml"),
        (["--schemes", "nosuch", "--cost", "cost.toml"], "--schemes nosuch"),
        (["--tune", "2"], "--tune 2: expected 3 to 99"),
    ],
)
def test_bad_input_is_one_line(folder, capsys, options, message):
    assert main(command(folder, "--workers", "4", *options)) == 2
    assert message in error_line(capsys)
