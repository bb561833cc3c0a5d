"""`pdcode plan --trace --like`: times of a script's trace, the loss of a stand-in, and chances in time."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import traces
from outcomes import error_line

import pdcode
from pdcode.__main__ import main
from pdcode.choice.preset import prepare
from pdcode.choice.timing import Timing
from pdcode.schemes import delay_model
from pdcode.studies import search, what_ifs
from pdcode.util.errors import InputError

RANKS, STEPS, REDUCTION_S = 4, 60, 0.02
JOB = "problem = {hidden = [8]}\noptimizer = {rate = 0.5}\nstop = {updates = 3}\n"


def work_s() -> np.ndarray:
    """Times of ranks, of which rank 2 turns slow half-way."""
    times = 0.1 * np.exp(0.1 * np.random.default_rng(1).standard_normal((STEPS, RANKS)))
    times[STEPS // 2 :, 2] *= 2
    return times


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    monkeypatch.chdir(tmp_path)
    Path("job.toml").write_text(JOB, encoding="utf-8")
    times = work_s()
    traces.script(Path("ddp.h5"), times, REDUCTION_S)
    return times


def step_s(candidate: what_ifs.Candidate) -> float:
    """Time of a step of a candidate, with the recorded delays in their order."""
    ordered = msgspec.structs.replace(candidate.config.stragglers, draw="replay")
    config = msgspec.structs.replace(candidate.config, stragglers=ordered)
    components = prepare(config)
    return Timing(components).round_s([delay_model(components.config)], STEPS)


def test_times_are_those_of_the_recording_with_one_change_each(recorded: np.ndarray) -> None:
    environment = search.load_environment("job.toml", [], "ddp.h5", 1.0, like=True)
    assert environment.config.workers.count == RANKS
    assert environment.config.reduce.kind == "allreduce"
    assert environment.config.stop == environment.goal.stop(None, None)  # without the stand-in's limits
    job = what_ifs.Candidate("job", environment.config)
    usual = recorded.max(axis=1).mean() + REDUCTION_S
    assert step_s(job) == pytest.approx(usual, rel=0.01)
    changed = {each.title: each for each in what_ifs.changes(environment)}
    assert step_s(changed["half the bandwidth"]) == pytest.approx(usual + REDUCTION_S, rel=0.01)
    without = np.delete(recorded, 2, axis=1).max(axis=1).mean()
    fewer = changed["without worker 2"]
    assert fewer.config.workers.count == RANKS - 1
    assert step_s(fewer) == pytest.approx(without + REDUCTION_S, rel=0.02)  # fewer messages
    recorded[STEPS // 2 :, 2] /= 2
    healthy = recorded.max(axis=1).mean() + REDUCTION_S
    assert step_s(changed["worker 2 replaced by a usual one"]) == pytest.approx(healthy, rel=0.03)
    first = changed["first q"].config
    assert (first.update.mode, first.reduce.kind) == ("first", "allreduce")
    assert changed["local steps"].config.scheme.options.rate == environment.config.optimizer.rate == 0.5


def test_slow_links_of_single_workers_are_delays(tmp_path: Path) -> None:
    from pdcode.importers.job import in_turn
    from pdcode.stragglers.trace import Recorded, load_records

    links = np.full((20, 3), 0.1)
    links[:, 1] = 0.3
    in_turn("", ["a", "b", "c"], "a test", np.ones((20, 3)), links).write(tmp_path / "links.h5")
    found = load_records(Recorded(path=str(tmp_path / "links.h5")))
    np.testing.assert_allclose(found.delays_s.reshape(3, 20).T, links - 0.1, atol=1e-8)


def test_two_slow_workers(tmp_path: Path) -> None:
    times = work_s()
    times[:, 0] *= 2
    trace = traces.script(tmp_path / "two.h5", times, REDUCTION_S)
    (tmp_path / "job.toml").write_text(JOB, encoding="utf-8")
    assert what_ifs.slowest_workers(trace) == [0, 2]
    environment = search.load_environment(str(tmp_path / "job.toml"), [], str(trace.path), 1.0, like=True)
    changed = {each.title: each.config.stragglers for each in what_ifs.changes(environment)}
    assert changed["worker 0 alone slow"].replaced == [2]
    assert changed["worker 2 alone slow"].replaced == [0]
    job, settings = str(tmp_path / "job.toml"), "workers.count={}"
    for count, without in (2, {"without worker 0"}), (5, set[str]()):  # the fifth is another worker 0
        environment = search.load_environment(job, [settings.format(count)], str(trace.path), 1.0, like=True)
        names = {each.title for each in what_ifs.changes(environment)}
        assert {each for each in names if each.startswith("without")} == without
        assert ("worker 2 replaced by a usual one" in names) == (count > 2)


def test_jobs_of_few_workers_and_steps(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(JOB, encoding="utf-8")
    alone = traces.script(tmp_path / "alone.h5", work_s()[:, 2:3], REDUCTION_S)
    assert what_ifs.slowest_workers(alone) == []
    path = str(traces.script(tmp_path / "none.h5", work_s()[:0], REDUCTION_S).path)
    with pytest.raises(InputError, match="has no step yet"):
        search.load_environment(str(tmp_path / "job.toml"), [], path, 1.0, like=True)


@pytest.mark.filterwarnings("error")
def test_no_work_is_moved_where_no_step_has_all_workers(tmp_path: Path) -> None:
    from pdcode.importers.job import in_turn

    times = work_s()[:, :3]
    times[np.arange(STEPS), np.arange(STEPS) % 3] = np.nan
    times[:, 2] *= 5
    in_turn("", ["a", "b", "c"], "a test", times).write(tmp_path / "few.h5")
    assert "replace worker 2's machine" in pdcode.Trace(tmp_path / "few.h5").diagnose().next


def test_chances() -> None:
    assert what_ifs.chance(0, 20) == "0.0 % (0.0 – 16.8)"
    assert what_ifs.chance(17, 20) == "85.0 % (62.1 – 96.8)"
    assert what_ifs.chance(20, 20) == "100.0 % (83.2 – 100.0)"


@pytest.mark.system
@pytest.mark.slow
def test_a_plan_for_a_recorded_job(recorded: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["plan", "--trace", "ddp.h5", "--like", "job.toml", "--target", "1.5", "--processes", "1"]
    assert main([*command, "--candidates", "2", "--seeds", "4"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith(
        "times of ddp.h5, a recorded job; loss of job.toml, a stand-in for what it trains;"
    )
    start = next(number for number, line in enumerate(lines) if line == "What if")
    assert "P(T ≤ " in lines[start + 1]
    names = {line.strip().partition("  ")[0] for line in lines[start + 2 :]}
    assert {"yours", "without worker 2", "half the bandwidth", "first q", "local steps"} <= names
    assert any("the job's own time, with its delays in their order" in line for line in lines)
    tables = pdcode.plan(
        "job.toml", trace="ddp.h5", like=True, target=1.5, candidates=2, seeds=2, processes=1, progress=False
    )
    assert tables["workers"]["count"] == RANKS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--like", "job.toml"], "plan: expected CONFIG, or --trace TRACE --like CONFIG"),
        (["job.toml", "--trace", "ddp.h5", "--like", "job.toml"], "plan: expected CONFIG, or --trace"),
        (["--trace", "ddp.h5"], "plan: expected CONFIG, or --trace"),
        (
            ["job.toml", "--trace", "ddp.h5"],
            "ddp.h5: has the times of a script, without its loss; give --like",
        ),
        (["--trace", "ddp.h5", "--like", "job.toml"], "--trace ddp.h5: no loss was measured; give --target"),
        (["--trace", "own.h5", "--like", "job.toml"], "--like job.toml: own.h5 is a run of pdcode"),
        (["job.toml", "--deadline", "0"], "--deadline 0: expected a time above 0"),
    ],
)
@pytest.mark.usefixtures("recorded", "read_at_once")
def test_bad_input(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "own.h5" in options:
        traces.simulate(Path("own.h5"), 0.1)
    assert main(["plan", *options]) == 2
    assert message in error_line(capsys)
