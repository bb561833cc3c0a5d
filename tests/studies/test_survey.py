"""The map: scaled delays, cells, schemes that move into them, and the figure."""

from __future__ import annotations

import math

import msgspec
import pytest

from pdcode import stragglers
from pdcode.analysis import style
from pdcode.config import StragglersTable
from pdcode.config import load as configfile
from pdcode.studies import chart, survey
from pdcode.studies import search_space as space
from pdcode.studies.trial import Outcome, Score, score


def delayed(**table: object):
    """A configuration with these delays."""
    return configfile.resolve({"stragglers": table}, ["stop.loss=1.0", "workers.count=4"])


def test_delays_are_scaled():
    made = delayed(
        kind="bimodal", shift_s=1.0, extra_s=2.0, probability=0.5, slowdown=3.0, slow=[1], dead=[2]
    )
    half = survey.scaled(made, 0.5)
    assert (half.shift_s, half.extra_s, half.probability, half.slowdown) == (0.5, 1.0, 0.5, 3.0)
    assert survey.scaled(made, 1.0) == made.stragglers
    assert all(
        stragglers.dead_workers(survey.scaled(made, severity), 4) == [2] for severity in (0.0, 0.5, 1.0, 4.0)
    )
    calm = survey.scaled(made, 0.0).make(1, 4)
    times = stragglers.delays_ns(calm, [0, 1, 2, 3], [0] * 4, 3, [1_000_000] * 4)
    assert times.tolist() == [[0] * 3, [0] * 3, [-1] * 3, [0] * 3]
    with pytest.raises(ValueError, match=r"^--severities 1e\+18: stragglers\.shift_s would be more"):
        survey.scaled(made, 1e18)
    assert survey.scaled(delayed(kind="slow-set", slow=[1], slowdown=5.0), 0.5).slowdown == 3.0


def test_without_delays_they_become_multiples_of_the_compute_time():
    none = delayed(kind="none")
    task = survey.task_s(none)
    assert 5e-5 < task < 1e-2
    assert survey.scaled(none, 0.0).kind == "none"
    assert [survey.scaled(none, factor).mean_s for factor in (1.0, 2.0)] == pytest.approx([task, 2 * task])


def test_recorded_delays_can_only_be_lengthened():
    none, recorded = delayed(kind="none"), StragglersTable.of({"kind": "trace", "path": "x.h5"})
    config = msgspec.structs.replace(none, stragglers=recorded)
    assert survey.scaled(config, 1.0) == recorded
    longer = survey.scaled(config, 4.0)
    assert (longer.slow, longer.slowdown, longer.path) == ([0, 1, 2, 3], 4.0, "x.h5")
    with pytest.raises(ValueError, match=r"^--severities 0\.5: recorded delays"):
        survey.scaled(config, 0.5)


def test_who_is_first_in_a_cell():
    def cell(*pairs: tuple[str, float]) -> survey.Cell:
        return survey.Cell(1e6, 1.0, [(name, Score(mean, 0.1)) for name, mean in pairs])

    found = cell(("a", 2.0), ("b", 3.0), ("c", math.inf))
    assert (found.best, found.factor, chart.lead(found)) == ("a", 1.5, "1.50×")
    alone = cell(("a", 2.0), ("b", math.inf))
    assert (alone.best, alone.factor, chart.lead(alone)) == ("a", math.inf, "alone")
    nobody = cell(("a", math.inf), ("b", math.inf))
    assert (nobody.best, chart.lead(nobody)) == ("", "")


def test_a_cell_tells_the_multiple_of_the_oracle_in_the_figure_too(tmp_path):
    def scored(seconds: float, *oracle_s: float) -> Score:
        return score([Outcome(seconds, seconds, 0.1, oracle_s=each) for each in oracle_s], len(oracle_s))

    first = survey.Cell(1e6, 1.0, [("a", scored(2.0, 1.0, 1.6)), ("b", scored(3.0, 0.1, 0.1))])
    assert first.oracle == pytest.approx(1.625)
    assert chart.oracle(first) == "oracle ×1.62"
    without = survey.Cell(1e6, 0.0, [("a", scored(2.0, math.inf)), ("b", scored(3.0, 1.0))])
    nobody = survey.Cell(1e6, 2.0, [("a", scored(math.inf, 1.0))])
    unknown = survey.Cell(1e6, 0.0, [("a", Score(2.0, 0.1))])
    assert [chart.oracle(cell) for cell in (without, nobody, unknown)] == ["", "", ""]
    grid = survey.Grid((1e6,), (0.0, 1.0, 2.0))
    style.save(
        chart.draw_map([first, without, nobody], grid, ["a", "b"], "title", "delays"), tmp_path / "map.svg"
    )
    drawn = (tmp_path / "map.svg").read_text(encoding="utf-8")
    assert drawn.count("<!-- oracle ×1.62 -->") == 1
    assert "<!-- oracle ×: -->" in drawn


def test_a_scheme_moves_into_a_cell_with_all_else_as_it_was():
    config = configfile.resolve({}, ["stop.loss=1.0", "stragglers.kind=slow-set", "stragglers.shift_s=0.01"])
    cell = survey.in_cell(config, 1e6, 2.0)
    assert (cell.link.bandwidth, cell.stragglers.shift_s) == (1e6, 0.02)
    candidate = space.candidates(config, 2, 1)[1]
    moved = survey.move(candidate, cell)
    assert (moved.config.link, moved.config.stragglers) == (cell.link, cell.stragglers)
    back = msgspec.structs.replace(moved.config, link=config.link, stragglers=config.stragglers)
    assert back == candidate.config
