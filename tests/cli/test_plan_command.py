"""`pdcode plan` from end to end on a small job: what it prints and writes, and what it refuses."""

import math
import os
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
import traces
from grids import LONG
from outcomes import error_line

from pdcode.__main__ import main
from pdcode.api.plans import Plan
from pdcode.config import load as configfile
from pdcode.studies import limits, search
from pdcode.studies.goal import Goal
from pdcode.studies.results_table import format_seconds
from pdcode.trace.reader import TraceReader
from pdcode.util.processes import Pool

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("read_at_once")]

JOB = """
problem = {hidden = [16], evaluate = 100}
scheme = {name = "uncoded"}
update = {mode = "all"}
optimizer = {rate = 0.5}
workers = {count = 4}
stragglers = {kind = "bimodal", shift_s = 0.001, extra_s = 0.05, probability = 0.2}
[stop]
loss = 1.5
updates = 200
[trace]
path = "results/job.h5"
progress_s = 0.05
"""
ALMOST = ["--workers", "2", "--set", "problem.evaluate=10000"]
ALMOST += ["--set", "problem.hidden=[8]", "--set", "stop.loss=2.41", "--set", "seed=7"]
FEW = ["--candidates", "3", "--seeds", "2", "--processes", "1"]


@pytest.fixture
def job(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "job.toml"
    path.write_text(JOB, encoding="utf-8")
    return path


def test_a_plan(job, capsys):
    assert main(["plan", "job.toml", *FEW]) == 0
    text = capsys.readouterr().out
    assert "target: training loss 1.5 ([stop]); 4 workers" in text
    assert "rung 1 of 3: 3 schemes, 9 candidates" in text
    assert "; seeds 1 – 2, with the same delays" in " ".join(text.split())
    assert "plan: results/job.plan.toml (pdcode run results/job.plan.toml)" in text
    config, written = configfile.load("results/job.plan.toml")
    user = configfile.load(job)[0]
    for table in ("problem", "workers", "stragglers", "machine", "link", "seed"):
        assert getattr(config, table) == getattr(user, table)
    assert config.trace.path == "results/job.plan.h5"
    assert config.stop.loss == 1.5
    assert written.startswith("# Written by `pdcode plan job.toml --candidates 3")
    assert "# Predicted on the virtual clock: training loss 1.5 after " in written
    plan = Plan(written)
    assert plan.price in text
    assert re.search(r"They took .* of processor time; a job is shorter by .* on each of 4 workers", text)
    assert (plan["stop"]["loss"], plan.predicted[:10]) == (1.5, "Predicted ")
    head, first, *_ = plan.ranking
    assert (head[1], first[0]) == ("time to training loss 1.5", "1")
    assert f"after {first[1]} " in plan.predicted
    assert f"<td style='text-align: left'>{first[-1]}</td>" in plan._repr_html_()
    assert (config.update, config.memory, config.code) != (user.update, user.memory, user.code)
    assert main(["run", "results/job.plan.toml", "--dry-run"]) == 0
    # With the same numbers it is the same plan; it may be written over an older one, not over the job.
    capsys.readouterr()
    assert main(["plan", "job.toml", *FEW]) == 0
    times = r"took .*? of processor time|after \d+ jobs?"
    assert re.sub(times, "", capsys.readouterr().out) == re.sub(times, "", text)
    assert main(["plan", "job.toml", *FEW, "-o", "job.toml"]) == 2
    assert "would overwrite the configuration" in capsys.readouterr().err
    assert job.read_text(encoding="utf-8") == JOB


@pytest.mark.system
def test_a_plan_of_which_nobody_reads_the_lines_is_written(job, monkeypatch):
    reads, writes = os.pipe()
    os.close(reads)
    with monkeypatch.context() as patch, os.fdopen(writes, "w", encoding="utf-8") as broken:
        patch.setattr(sys, "stdout", broken)
        assert main(["plan", "job.toml", *FEW]) == 0
    assert configfile.load("results/job.plan.toml")[0].stop.loss == 1.5


@pytest.mark.system
def test_waiting_for_slow_workers_is_beaten_by_far_with_any_number_of_processes():
    config = configfile.resolve(tomllib.loads(JOB))
    environment = search.Environment(config, config, Goal("loss", 1.5))
    plans = []
    for processes in (1, 2):
        lines: list[str] = []
        with Pool(processes) as pool:
            found = search.search(environment, pool, lines.append, candidates=8, seeds=3)
        plans.append((lines, found.rows, [result.survivors for result in found.rungs]))
    assert plans[0] == plans[1]
    assert found.schemes == 8
    assert found.own.candidate.config == config
    assert found.rows[0].speedup.ratio.high < 0.5
    assert found.rows[-1] is found.own
    assert len(found.rows) == 1 + search.FINALISTS
    assert not any(row.missed for row in found.rows)
    first, _, result = found.rungs
    assert len(first.ranked) == 3 * 8
    assert result.ranked[0][1].reached
    assert result.survivors[0] is found.rows[0].candidate  # chosen before the runs that judge it
    assert set(map(id, result.survivors)) == {id(row.candidate) for row in found.rows[:-1]}
    assert not {seed for rung in found.rungs for seed in rung.rung.seeds} & {*found.seeds}
    assert [len(rung.rung.seeds) for rung in found.rungs] == [2, 3, 8]
    assert found.spent_s > 4 * 4 * found.rows[0].time.mean


@pytest.mark.every(2)
@pytest.mark.parametrize("recorded", [False, True])
def test_the_file_takes_the_time_that_is_claimed(job, capsys, recorded):
    job.write_text(JOB.replace("progress_s = 0.05", ""), encoding="utf-8")
    assert main(["simulate", "job.toml", "-o", "slow.h5"]) == 0
    assert main(["plan", "job.toml", *FEW, *(["--trace", "slow.h5"] if recorded else [])]) == 0
    plan = Plan(Path("results/job.plan.toml").read_text(encoding="utf-8"))
    (command,) = re.findall("`(pdcode simulate .*)`", plan.repeat)
    times = []
    for seed in (1, 2):
        assert main([*shlex.split(command)[1:], "--set", f"seed={seed}", "-o", "again.h5"]) == 0
        times.append(Goal("loss", 1.5).seconds(TraceReader("again.h5")))
    mean = format_seconds(math.sqrt(times[0] * times[1]))
    assert f"training loss 1.5 after {mean} " in plan.predicted


@pytest.mark.system
def test_a_target_that_is_not_reached_is_said(job, capsys):
    assert main(["plan", "job.toml", *FEW, "--target", "0.001", "--seconds", "0.2"]) == 1
    text = capsys.readouterr().out
    assert "target: training loss 0.001 (--target)" in text
    assert "your own configuration: 200 ms, target not reached (loss " in text
    assert "0 of 2" in text
    assert "no candidate reached training loss 0.001: no plan was written" in text
    assert not Path("results/job.plan.toml").exists()


@pytest.mark.system
def test_a_time_limit_alone_ends_runs(job, capsys, monkeypatch):
    """The number of arrivals is limited, too, but so that nobody meets that; and who does is told."""
    job.write_text(JOB.replace("updates = 200", ""), encoding="utf-8")
    monkeypatch.setattr(limits, "ARRIVALS", 200)  # 100 updates
    command = ["plan", "job.toml", "--workers", "2", "--candidates", "2", "--seeds", "1", "--processes", "1"]
    assert main([*command, "--target", "0.005"]) == 1
    text = capsys.readouterr().out
    assert "target not reached" in text
    assert "1 of 1 runs ended at the limit of arrivals, after 200 at most; --seconds or" in text
    assert "stop.seconds allows more" in text
    ends = [["--set", "stop.seconds=60"], ["--seconds", "60"]]
    for end in ends if LONG else ends[:1]:
        assert main([*command, *end, "--target", "0.5"]) == 0
        assert "the limit of arrivals" not in capsys.readouterr().out
    monkeypatch.setattr(limits, "MAX_ARRIVALS", 202)
    for end in ends if LONG else ends[1:]:
        assert main([*command, *end, "--target", "0.001"]) == 1
        out = capsys.readouterr().out
        assert "1 of 1 runs ended at the limit of arrivals, after 202 at most\n" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--candidates", "1"], "--candidates 1: expected 2 to 10000"),
        (["--seeds", "0"], "--seeds 0: expected 1 to 1000"),
        (["--processes", "0"], "--processes 0"),
        (["--workers", "0"], "--workers 0"),
        (["--eta", "1"], "--eta 1: expected a number above 1"),
        (["--seconds", "-1"], "--seconds -1"),
        (["--target", "nan"], "--target nan: expected a number from -1e9"),
        (["--target", "0"], "--target 0: expected a number above 0, as losses of"),
        (["--set", "stop.loss=x"], "job.toml: stop.loss"),
        (["--set", "problem.data=none.npz"], "none.npz"),
        (["--candidates", "6", "--target", "5.0"], "job.toml: nothing to plan: it starts with loss 2."),
        ([*FEW, *ALMOST], "nothing to plan: it starts with loss 2.39 (seed 1008)"),
        (["--trace", "empty.h5"], "empty.h5"),
        (["--trace", "none.h5"], "none.h5"),
        (["-o", "job.toml/x.toml"], "job.toml/x.toml: cannot write there"),
        (["--set", 'faults.events=[{kind="raise", worker=0, task=0}]'], "kind 'raise' would end every"),
        (["-n", "70000"], "job.toml: workers.count: 70000 is more than the 65536"),
        (["--seeds", "2000"], "--seeds 2000: expected 1 to 1000"),
        (["--set", f"seed={2**63 - 1}"], "job.toml: seed: 9223372036854775807: larger seeds are used, too"),
    ],
)
def test_bad_input(job, capsys, options, message):
    writer = traces.writer(Path("empty.h5"))
    writer.close([0.0], {}, traces.members(8), {})
    assert main(["plan", "job.toml", *options]) == 2
    assert message in error_line(capsys)
    assert not Path("results/job.plan.toml").exists()


def test_a_configuration_without_a_target(job, capsys):
    job.write_text(JOB.replace("loss = 1.5", ""), encoding="utf-8")
    assert main(["plan", "job.toml"]) == 2
    assert "stop.loss: a plan needs a target" in capsys.readouterr().err


@pytest.mark.system
def test_a_plan_from_a_trace(job, capsys):
    assert main(["simulate", "job.toml", "-o", "slow.h5"]) == 0
    capsys.readouterr()
    options = [*FEW, "--trace", "slow.h5", "-o", "fast.toml", "--deadline", "1000"]
    assert main(["plan", "job.toml", *options]) == 0
    text = capsys.readouterr().out
    assert "P(T ≤ 16 min 40 s)" in text
    assert "P is a lower bound" in " ".join(text.split())
    assert "4 workers, delays and costs of slow.h5" in text
    assert re.search(r"recorded in slow\.h5: training loss 1\.5 (after|between) ", text)
    assert "predicted with its delays: " in text
    config, user = configfile.load("fast.toml")[0], configfile.load(job)[0]
    assert (config.stragglers, config.machine, config.link) == (user.stragglers, user.machine, user.link)
    planned = search.load_environment("job.toml", [], "slow.h5", None).config
    assert (planned.stragglers.kind, planned.stragglers.draw) == ("trace", "block")


def test_a_target_beside_that_of_the_file_is_the_only_one(job, capsys):
    job.write_text(JOB.replace("loss = 1.5", "accuracy = 0.2"), encoding="utf-8")
    assert main(["plan", "job.toml", *FEW, "--target", "1.6", "-o", "won.toml"]) == 0
    assert "stop.accuracy is ignored: a plan has one target" in capsys.readouterr().out
    stop = configfile.load("won.toml")[0].stop
    assert (stop.loss, stop.accuracy) == (1.6, None)
