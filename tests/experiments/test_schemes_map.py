"""The map: scaled delays, cells, schemes that move into them, and the figure."""

import math
from pathlib import Path

import msgspec
import pytest
from outcomes import error_line

from experiments.schemes_map import (
    Grid,
    MapCell,
    draw_map,
    format_lead,
    format_oracle,
    in_cell,
    in_cell_of,
    main,
    scaled,
)  # fmt: skip
from pdcode import stragglers
from pdcode.analysis import style
from pdcode.config import StragglersTable
from pdcode.config import load as configfile
from pdcode.studies import search_space
from pdcode.studies.cells import task_s
from pdcode.studies.halving import Runs
from pdcode.studies.measurement import Measured


def delayed(**table: object):
    """A configuration with these delays."""
    return configfile.resolve({"stragglers": table}, ["stop.loss=1.0", "workers.count=4"])


def run(seconds: float, loss: float = 0.1, **figures: float) -> Measured:
    return Measured(seconds=seconds, stop_s=min(seconds, 9.0), loss=loss, **figures)


def mean_of(seconds: float, *oracle_s: float) -> Runs:
    runs = [run(seconds, oracle_s=each) for each in oracle_s or [math.nan]]
    return Runs(runs, len(runs))


def test_delays_are_scaled():
    made = delayed(
        kind="bimodal", shift_s=1.0, extra_s=2.0, probability=0.5, slowdown=3.0, slow=[1], dead=[2]
    )
    half = scaled(made, 0.5)
    assert (half.shift_s, half.extra_s, half.probability, half.slowdown) == (0.5, 1.0, 0.5, 3.0)
    assert scaled(made, 1.0) == made.stragglers
    for severity in (0.0, 0.5, 1.0, 4.0):
        assert stragglers.dead_workers(scaled(made, severity), 4) == [2]
    calm = scaled(made, 0.0).make(1, 4)
    times = stragglers.delays_ns(calm, [0, 1, 2, 3], [0] * 4, 3, [1_000_000] * 4)
    assert times.tolist() == [[0] * 3, [0] * 3, [-1] * 3, [0] * 3]
    with pytest.raises(ValueError, match=r"^--severities 1e\+18: stragglers\.shift_s would be more"):
        scaled(made, 1e18)
    assert scaled(delayed(kind="slow-set", slow=[1], slowdown=5.0), 0.5).slowdown == 3.0


def test_without_delays_they_become_multiples_of_the_compute_time():
    none = delayed(kind="none")
    task = task_s(none)
    assert 5e-5 < task < 1e-2
    assert scaled(none, 0.0).kind == "none"
    assert [scaled(none, factor).mean_s for factor in (1.0, 2.0)] == pytest.approx([task, 2 * task])


def test_recorded_delays_can_only_be_lengthened():
    none, recorded = delayed(kind="none"), StragglersTable.of({"kind": "trace", "path": "x.h5"})
    config = msgspec.structs.replace(none, stragglers=recorded)
    assert scaled(config, 1.0) == recorded
    longer = scaled(config, 4.0)
    assert (longer.slow, longer.slowdown, longer.path) == ([0, 1, 2, 3], 4.0, "x.h5")
    with pytest.raises(ValueError, match=r"^--severities 0\.5: recorded delays"):
        scaled(config, 0.5)


def test_who_is_first_in_a_cell():
    def cell(*pairs: tuple[str, float]) -> MapCell:
        return MapCell(1e6, 1.0, [(name, mean_of(seconds)) for name, seconds in pairs])

    found = cell(("a", 2.0), ("b", 3.0), ("c", math.inf))
    assert (found.best, found.factor, format_lead(found)) == ("a", 1.5, "1.50×")
    alone = cell(("a", 2.0), ("b", math.inf))
    assert (alone.best, alone.factor, format_lead(alone)) == ("a", math.inf, "alone")
    nobody = cell(("a", math.inf), ("b", math.inf))
    assert (nobody.best, format_lead(nobody)) == ("", "")


def test_a_cell_tells_the_multiple_of_the_oracle_in_the_figure_too(tmp_path):
    first = MapCell(1e6, 1.0, [("a", mean_of(2.0, 1.0, 1.6)), ("b", mean_of(3.0, 0.1, 0.1))])
    assert first.oracle == pytest.approx(1.625)
    assert format_oracle(first) == "oracle ×1.62"
    without = MapCell(1e6, 0.0, [("a", mean_of(2.0, math.inf)), ("b", mean_of(3.0, 1.0))])
    nobody = MapCell(1e6, 2.0, [("a", mean_of(math.inf, 1.0))])
    unknown = MapCell(1e6, 0.0, [("a", mean_of(2.0))])
    assert [format_oracle(cell) for cell in (without, nobody, unknown)] == ["", "", ""]
    grid = Grid((1e6,), (0.0, 1.0, 2.0))
    drawn = draw_map([first, without, nobody], grid, ["a", "b"], "title", "delays")
    style.save(drawn, tmp_path / "map.svg")
    text = (tmp_path / "map.svg").read_text(encoding="utf-8")
    assert text.count("<!-- oracle ×1.62 -->") == 1
    assert "<!-- oracle ×: -->" in text


def test_a_scheme_moves_into_a_cell_with_all_else_as_it_was():
    config = configfile.resolve({}, ["stop.loss=1.0", "stragglers.kind=slow-set", "stragglers.shift_s=0.01"])
    cell = in_cell(config, 1e6, 2.0)
    assert (cell.link.bandwidth, cell.stragglers.shift_s) == (1e6, 0.02)
    candidate = search_space.candidates(config, 2, 1)[1]
    moved = in_cell_of(candidate, cell)
    assert (moved.config.link, moved.config.stragglers) == (cell.link, cell.stragglers)
    back = msgspec.structs.replace(moved.config, link=config.link, stragglers=config.stragglers)
    assert back == candidate.config


JOB = """
stop = {loss = 1.5, updates = 200}
problem = {hidden = [16]}
scheme = {name = "uncoded"}
update = {mode = "all"}
optimizer = {rate = 0.5}
workers = {count = 4}
stragglers = {kind = "bimodal", shift_s = 0.001, extra_s = 0.05, probability = 0.2}
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "job.toml"
    path.write_text(JOB, encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_map(job, capsys):
    options = ["--bandwidths", "1e5,1e9", "--severities", "0,1", "--seeds", "1", "--processes", "1"]
    assert main(["job.toml", *options]) == 0
    text = capsys.readouterr().out
    assert "4 of 4 cells" in text
    assert "100 kB/s" in text
    assert text.count("oracle ×") == 5  # in each cell, and what it means
    assert "figure: results/job.map.png" in text
    data = Path("results/job.map.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert int.from_bytes(data[16:20]) > 800


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--figure", "x.doc"], "--figure x.doc: expected a file that ends in .png"),
        (["--figure", "/proc/none/x.png"], "--figure /proc/none/x.png: cannot write there"),
        (["--figure", "job.png"], "the existing file is not a figure of pdcode"),
        (["--bandwidths", "fast"], "--bandwidths fast: expected numbers"),
        (["--bandwidths", "0.1,10"], "--bandwidths 0.1,10: expected numbers from 1 to 1e18"),
        (["--bandwidths", "1e19"], "--bandwidths 1e19: expected numbers from 1 to 1e18"),
        (["--severities", "0,1e18"], "--severities 1e+18: stragglers.shift_s would be more than"),
        (["--severities", "1,-1"], "--severities 1,-1: expected numbers from 0 to 1e18"),
    ],
)
def test_bad_input_is_one_line(job, capsys, options, message):
    Path("job.png").write_text("precious")
    assert main(["job.toml", *options]) == 2
    assert message in error_line(capsys)
    assert Path("job.png").read_text() == "precious"
