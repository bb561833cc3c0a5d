"""`pdcode plan` from end to end on a small job: what it prints and writes, and what it refuses."""

from __future__ import annotations

import math
import os
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest
import traces
from tables import delayed

from pdcode import stragglers
from pdcode.__main__ import main
from pdcode.config import load as configfile
from pdcode.planning import chart, phase, plan, space
from pdcode.planning.goal import Goal
from pdcode.planning.phase import Grid
from pdcode.planning.plan import Plan, search
from pdcode.planning.trials import Outcome, Score, score
from pdcode.util.processes import Pool

JOB = """
[problem]
hidden = [16]
[scheme]
name = "uncoded"
[update]
mode = "all"
[optimizer]
rate = 0.5
[workers]
count = 4
[stragglers]
kind = "bimodal"
shift_s = 0.001
extra_s = 0.05
probability = 0.2
[stop]
loss = 1.5
updates = 200
[trace]
path = "results/job.h5"
progress_s = 0.05
"""
MS = 1_000_000
QUICK = ["--candidates", "8", "--seeds", "2", "--processes", "1"]


@pytest.fixture
def job(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "job.toml"
    path.write_text(JOB, encoding="utf-8")
    return path


def test_a_plan(job, capsys):
    assert main(["plan", "job.toml", *QUICK]) == 0
    text = capsys.readouterr().out
    assert "target: training loss 1.5 ([stop]); 4 workers" in text
    assert "rung 1 of 1: 8 candidates" in text
    assert "(seeds 1 – 2)" in " ".join(text.split())
    assert "plan: results/job.plan.toml (pdcode run results/job.plan.toml)" in text
    config, written = configfile.load("results/job.plan.toml")
    user = configfile.load(job)[0]
    for table in ("problem", "workers", "stragglers", "machine", "link", "seed"):
        assert getattr(config, table) == getattr(user, table)
    assert config.trace.path == "results/job.plan.h5"
    assert config.stop.loss == 1.5
    assert written.startswith("# Written by `pdcode plan job.toml --candidates 8")
    assert "# Predicted on the virtual clock: training loss 1.5 after " in written
    assert (config.update, config.memory, config.code) != (user.update, user.memory, user.code)
    assert main(["run", "results/job.plan.toml", "--dry-run"]) == 0
    # With the same numbers it is the same plan; it may be written over an older one, not over the job.
    capsys.readouterr()
    assert main(["plan", "job.toml", *QUICK]) == 0
    assert capsys.readouterr().out == text
    assert main(["plan", "job.toml", *QUICK, "-o", "job.toml"]) == 2
    assert "would overwrite the configuration" in capsys.readouterr().err
    assert job.read_text(encoding="utf-8") == JOB


def test_a_plan_of_which_nobody_reads_the_lines_is_written(job, monkeypatch):
    reads, writes = os.pipe()
    os.close(reads)
    with monkeypatch.context() as patch, os.fdopen(writes, "w", encoding="utf-8") as broken:
        patch.setattr(sys, "stdout", broken)
        assert main(["plan", "job.toml", *QUICK]) == 0
    assert configfile.load("results/job.plan.toml")[0].stop.loss == 1.5


def test_waiting_for_slow_workers_is_beaten_by_far_and_the_users_own_stays():
    tables = configfile.resolve(tomllib.loads(JOB))
    lines: list[str] = []
    with Pool(1) as pool:
        found = search(Plan(tables, Goal("loss", 1.5), candidates=8, seeds=2), pool, lines.append)
    assert found.candidates == 8
    assert found.own.candidate.config == tables
    assert found.lines[0].ratio.interval.high < 0.5
    assert found.lines[-1] is found.own
    assert len(found.lines) == 1 + plan.FINALISTS
    assert {line.missed for line in found.lines} == {0}
    (ranking,) = found.rankings
    assert len(ranking.ranked) == 8
    assert ranking.ranked[0][1].reached
    assert set(map(id, ranking.kept)) == {id(line.candidate) for line in found.lines[:-1]}


def test_a_target_that_is_not_reached_is_said(job, capsys):
    assert main(["plan", "job.toml", *QUICK, "--target", "0.001", "--seconds", "0.2"]) == 1
    text = capsys.readouterr().out
    assert "target: training loss 0.001 (--target)" in text
    assert "your own configuration does not reach it within 20" in text
    assert "0 of 2" in text
    assert "no candidate reached training loss 0.001: no plan was written" in text
    assert not Path("results/job.plan.toml").exists()


def test_what_is_not_a_plan_is_not_overwritten(job, capsys):
    for name, content in (("other.toml", "seed = 1\n"), ("trace.h5", "\x89HDF")):
        Path(name).write_text(content, encoding="utf-8")
        assert main(["plan", "job.toml", "-o", name]) == 2
        assert "something is there that no plan has written" in capsys.readouterr().err
        assert Path(name).read_text(encoding="utf-8") == content
    assert main(["plan", "job.toml", "-o", "/dev/null"]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--candidates", "1"], "--candidates 1: expected 2 or more"),
        (["--seeds", "0"], "--seeds 0: expected 1 or more"),
        (["--processes", "0"], "--processes 0"),
        (["--workers", "0"], "--workers 0"),
        (["--eta", "1"], "--eta 1: expected more than 1"),
        (["--seconds", "-1"], "--seconds -1"),
        (["--target", "nan"], "--target nan"),
        (["--set", "stop.loss=x"], "job.toml: stop.loss"),
        (["--trace", "none.h5"], "none.h5"),
        (["-o", "job.toml/x.toml"], "job.toml/x.toml: cannot write the plan"),
        (["--figure", "x.png"], "--figure x.png: goes with --map"),
        (["--target", "nan"], "--target nan: expected a loss"),
        (["--set", "faults.raise_worker=0"], "job.toml: faults.raise_worker: worker 0 would end every"),
        (["-n", "70000"], "job.toml: workers.count: 70000 is more than the 65535"),
        (["--bandwidths", "1e6"], "--bandwidths 1e6: goes with --map"),
        (["--map", "-o", "x.toml"], "--output x.toml: goes without --map"),
        (["--map", "--figure", "x.doc"], "--figure x.doc: expected a file that ends in .png"),
        (["--map", "--figure", "/proc/none/x.png"], "--figure /proc/none/x.png: cannot write there"),
        (["--map", "--bandwidths", "fast"], "--bandwidths fast: expected numbers"),
        (["--map", "--bandwidths", "0.1,10"], "--bandwidths 0.1,10: expected numbers of at least 1"),
        (["--map", "--severities", "0,1e18"], "--severities 1e+18: stragglers.shift_s would be more than"),
        (["--seeds", "2000"], "--seeds 2000: expected 1000 or less"),
        (["--set", f"seed={2**63 - 1}"], "job.toml: seed: 9223372036854775807: a plan takes the seeds after"),
        (["--map", "--severities", "1,-1"], "--severities 1,-1: expected numbers of at least 0"),
    ],
)
def test_bad_input(job, capsys, options, message):
    assert main(["plan", "job.toml", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not Path("results/job.plan.toml").exists()


def test_a_configuration_without_a_target_or_that_cannot_run(job, capsys):
    job.write_text(JOB.replace("loss = 1.5", ""), encoding="utf-8")
    assert main(["plan", "job.toml"]) == 2
    assert "stop.loss: a plan needs what is to be reached" in capsys.readouterr().err
    job.write_text(JOB.replace("hidden = [16]", "data = 'none.npz'"), encoding="utf-8")
    assert main(["plan", "job.toml"]) == 2
    assert "none.npz" in capsys.readouterr().err


def test_a_target_that_is_no_target(job, capsys):
    assert main(["plan", "job.toml", *QUICK, "--target", "5.0"]) == 2
    assert "job.toml: nothing to plan: it begins with loss 2." in capsys.readouterr().err


def test_a_plan_from_a_trace(job, capsys):
    assert main(["simulate", "job.toml", "-o", "slow.h5"]) == 0
    capsys.readouterr()
    assert main(["plan", "job.toml", *QUICK, "--trace", "slow.h5", "-o", "fast.toml"]) == 0
    text = capsys.readouterr().out
    assert "4 workers, delays and costs of slow.h5" in text
    assert "recorded in slow.h5: training loss 1.5 after " in text
    assert "predicted under its delays: " in text
    config, user = configfile.load("fast.toml")[0], configfile.load(job)[0]
    assert (config.stragglers, config.machine, config.link) == (user.stragglers, user.machine, user.link)
    ground = plan.measured(user, "slow.h5")
    assert (ground.stragglers.kind, ground.stragglers.draw) == ("trace", "bootstrap")


def test_a_target_beside_that_of_the_file_is_the_only_one(job, capsys):
    job.write_text(JOB.replace("loss = 1.5", "accuracy = 0.2"), encoding="utf-8")
    assert main(["plan", "job.toml", *QUICK, "--target", "1.6", "-o", "won.toml"]) == 0
    assert "stop.accuracy is left out: the plan is for one target" in capsys.readouterr().out
    stop = configfile.load("won.toml")[0].stop
    assert (stop.loss, stop.accuracy) == (1.6, None)


def test_a_trace_that_tells_nothing(job, capsys):
    writer = traces.writer(job.parent / "empty.h5")
    writer.close([0.0], {}, traces.members(8), {})
    assert main(["plan", "job.toml", "--trace", "empty.h5"]) == 2
    assert "empty.h5" in capsys.readouterr().err


def test_a_map(job, capsys):
    options = ["--bandwidths", "1e5,1e9", "--severities", "0,1", "--seeds", "1", "--processes", "1"]
    assert main(["plan", "job.toml", "--map", *options]) == 0
    text = capsys.readouterr().out
    assert "4 of 4 cells" in text
    assert "100 kB/s" in text
    assert text.count("genie ×") == 5  # in each cell, and what it means
    assert "genie ×: the first's time over the genie's, who knows all delays" in " ".join(text.split())
    assert "figure: results/job.map.png" in text
    data = Path("results/job.map.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert int.from_bytes(data[16:20]) > 800


def bimodal(**values: float):
    return delayed("bimodal", shift_s=1.0, extra_s=2.0, probability=0.5, **values)


def test_delays_are_scaled():
    config = configfile.resolve({}, ["stop.loss=1.0", "workers.count=4"])
    made = msgspec.structs.replace(config, stragglers=bimodal(slowdown=3.0, slow=[1]))
    assert phase.scaled(made, 1.0) == made.stragglers
    assert phase.scaled(made, 0.0).kind == "none"
    dying = msgspec.structs.replace(config, stragglers=bimodal(dead=[2]))
    for severity in (0.0, 0.5, 1.0, 4.0):
        assert stragglers.dead(phase.scaled(dying, severity), 4) == [2]
    calm = phase.scaled(dying, 0.0).make(1, 4)
    assert stragglers.delays_ns(calm, [0, 1, 2, 3], [0] * 4, 3, [MS] * 4).tolist() == [[0] * 3] * 2 + [
        [-1] * 3,
        [0] * 3,
    ]
    with pytest.raises(ValueError, match=r"^--severities 1e\+18: stragglers\.shift_s would be more"):
        phase.scaled(made, 1e18)
    half = phase.scaled(made, 0.5)
    assert (half.shift_s, half.extra_s, half.probability, half.slowdown) == (0.5, 1.0, 0.5, 3.0)
    stretched = configfile.resolve(
        {}, ["stop.loss=1.0", "stragglers.kind=slow-set", "stragglers.slow=[1]", "stragglers.slowdown=5.0"]
    )
    assert phase.scaled(stretched, 0.5).slowdown == 3.0
    task = phase.task_s(config)
    assert 5e-5 < task < 1e-2
    assert phase.scaled(config, 2.0).mean_s == pytest.approx(2 * task)
    assert phase.scaled(config, 1.0).mean_s == pytest.approx(task)
    recorded = msgspec.structs.replace(config, stragglers=delayed("trace", path="x.h5"))
    assert phase.scaled(recorded, 1.0) == recorded.stragglers
    longer = phase.scaled(recorded, 4.0)
    assert (longer.slow, longer.slowdown, longer.path) == ([0, 1, 2, 3], 4.0, "x.h5")
    with pytest.raises(ValueError, match=r"^--severities 0\.5: recorded delays"):
        phase.scaled(recorded, 0.5)


def test_who_is_first_in_a_cell():
    def cell(*pairs: tuple[str, float, bool]) -> phase.Cell:
        return phase.Cell(1e6, 1.0, [(name, Score(mean, reached, 0.1, ())) for name, mean, reached in pairs])

    found = cell(("a", 2.0, True), ("b", 3.0, True), ("c", 4.0, False))
    assert (found.winner, found.factor, chart.lead(found)) == ("a", 1.5, "1.50×")
    alone = cell(("a", 2.0, True), ("b", 3.0, False))
    assert (alone.winner, alone.factor, chart.lead(alone)) == ("a", float("inf"), "alone")
    nobody = cell(("a", 2.0, False), ("b", 3.0, False))
    assert (nobody.winner, chart.lead(nobody)) == ("", "")
    assert chart.lead(cell(("a", 1.0, True), ("b", 25.4, True))) == "25×"


def test_a_cell_tells_the_multiple_of_the_genie_in_the_figure_too(tmp_path):
    def scored(seconds: float, *genie_s: float) -> Score:
        return score(
            [Outcome(seconds, seconds, seconds, 0.1, genie_s=each) for each in genie_s], len(genie_s)
        )

    first = phase.Cell(1e6, 1.0, [("a", scored(2.0, 1.0, 1.6)), ("b", scored(3.0, 0.1, 0.1))])
    assert first.genie == pytest.approx(1.625)
    assert chart.genie(first) == "genie ×1.62"
    without = phase.Cell(1e6, 0.0, [("a", scored(2.0, math.inf)), ("b", scored(3.0, 1.0))])
    nobody = phase.Cell(1e6, 2.0, [("a", scored(math.inf, 1.0))])
    unknown = phase.Cell(1e6, 0.0, [("a", Score(2.0, True, 0.1, ()))])
    assert [chart.genie(cell) for cell in (without, nobody, unknown)] == ["", "", ""]
    grid = Grid((1e6,), (0.0, 1.0, 2.0))
    chart.draw([first, without, nobody], grid, ["a", "b"], "title", "delays", tmp_path / "map.svg")
    drawn = (tmp_path / "map.svg").read_text(encoding="utf-8")
    assert drawn.count("<!-- genie ×1.62 -->") == 1
    assert "<!-- genie ×: -->" in drawn


def test_a_scheme_moves_into_a_cell_with_all_else_as_it_was():
    config = configfile.resolve({}, ["stop.loss=1.0", "stragglers.kind=slow-set", "stragglers.shift_s=0.01"])
    cell = phase.ground(config, 1e6, 2.0)
    assert (cell.link.bandwidth, cell.stragglers.shift_s) == (1e6, 0.02)
    candidate = space.candidates(config, 2, 1)[1]
    moved = phase.move(candidate, cell)
    assert (moved.config.link, moved.config.stragglers) == (cell.link, cell.stragglers)
    back = msgspec.structs.replace(moved.config, link=config.link, stragglers=config.stragglers)
    assert back == candidate.config
    assert Grid((1e5, 1e6), (0.0, 1.0)).bandwidths == (1e5, 1e6)


def test_colours_stay_with_their_names():
    some = chart.colours(["yours", "uncoded all", "preset default"])
    assert chart.colours(["preset default", "yours", "uncoded all"]) == some
    assert len(set(some.values())) == 3
    assert len(set(chart.colours([str(number) for number in range(8)]).values())) == 8
