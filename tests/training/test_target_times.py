"""When a run is measured: so that the time to its target is known, by every command alike."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interrupted import built, interrupted

import pdcode
from pdcode.__main__ import main
from pdcode.analysis import tables, what_if
from pdcode.config.load import resolve
from pdcode.config.write import to_toml
from pdcode.session import checkpoint
from pdcode.session.pace import Pace
from pdcode.studies.goal import Goal
from pdcode.studies.limits import Limits, with_limits
from pdcode.studies.trial import Trial
from pdcode.trace.reader import TraceReader
from pdcode.util.formats import duration

LOSS = 0.4
JOB: dict[str, Any] = {
    "problem": {"data": "digits", "hidden": [16], "evaluate": 300, "standardise": False},
    "update": {"mode": "async"},
    "workers": {"count": 4},
    "stragglers": {"kind": "shifted-exponential", "mean_s": 0.002, "shift_s": 0.002},
    "stop": {"loss": LOSS, "seconds": 5.0},
}
EVERY = {"trace.progress_updates": 1, "trace.progress_s": 1e9}


def simulated(path: Path, **settings: Any) -> pdcode.Trace:
    return pdcode.simulate(JOB, output=path, set=settings, progress=False)


@pytest.mark.parametrize("mode", ["async", "all"])
def test_the_update_that_reaches_the_target_is_found(mode: str, tmp_path: Path) -> None:
    trace = simulated(tmp_path / "a.h5", **{"update.mode": mode})
    every = simulated(tmp_path / "every.h5", **{"update.mode": mode}, **EVERY).progress["loss"]
    progress, summary = trace.progress, trace.summary()
    at = int(np.flatnonzero(progress["loss"] <= LOSS)[0])
    version = int(progress["version"][at])
    assert every[version - 1] > LOSS >= every[version]
    assert summary["target_s"] == summary["above_s"] == trace.updates["t_ns"][version - 1] / 1e9
    np.testing.assert_array_equal(progress["loss"], every[progress["version"]])
    assert np.all(np.diff(progress["version"]) > 0)
    assert len(progress["loss"]) < max(70, len(every) / 3)
    assert len(trace.replay(progress=False)) == len(trace.theta)


def test_all_commands_agree_on_the_time_to_the_target(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = simulated(tmp_path / "a.h5")
    seconds = trace.summary()["target_s"]
    goal, config = Goal("loss", LOSS), resolve(JOB)
    measured = [
        Trial(with_limits(config, goal, Limits(5.0), None), 1, goal, trace=path).perform()
        for path in ("", str(tmp_path / "b.h5"))  # of a plan, and of a comparison
    ]
    assert [run.seconds for run in measured] == [seconds, seconds]
    predicted = what_if.Prediction(TraceReader(trace.path))
    assert predicted.simulated_s(what_if.Change(), seconds, [0]) == [seconds]
    text = duration(1e9 * seconds)
    assert main(["show", str(trace.path)]) == 0
    assert f"{LOSS:g} (the target) after {text}" in " ".join(capsys.readouterr().out.split())


def test_a_given_period_is_obeyed_and_the_target_known_as_well_as_it_is(tmp_path: Path) -> None:
    trace = simulated(tmp_path / "a.h5", **{"trace.progress_s": 0.05})
    summary, times = trace.summary(), trace.progress["t_ns"]
    assert np.all(np.diff(times) >= 0.05e9)
    assert (summary["above_s"], summary["target_s"]) == (times[-2] / 1e9, times[-1] / 1e9)
    shown = " ".join(map(str, tables._loss(TraceReader(trace.path))[1:]))
    low, high = map(duration, times[-2:])
    assert f"{LOSS:g} (the target) between {low.removesuffix(' s')} and {high}" in shown


def test_the_lines_of_a_simulation_say_when_the_target_was_reached(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.toml").write_text(to_toml(resolve(JOB)))
    command = ["simulate", str(tmp_path / "job.toml"), "-o", str(tmp_path / "a.h5"), "--set", "stop.loss=1.0"]
    assert main(command) == 0
    exact = pdcode.Trace(tmp_path / "a.h5").summary()["target_s"]
    assert f"loss 1: after {duration(1e9 * exact)}\n" in capsys.readouterr().out
    assert main([*command, "--set", "trace.progress_s=9", "--set", "stop.seconds=0.7"]) == 0
    assert "loss 1: between 0 s and 700 ms\n" in capsys.readouterr().out


def test_a_resumed_simulation_finds_the_same_update(tmp_path: Path) -> None:
    job = {**JOB, "trace": {"path": str(tmp_path / "a.h5")}, "stop": {"loss": 1.0, "seconds": 5.0}}
    whole = interrupted(resolve(job), arrivals=200).monitor
    found = checkpoint.find(resolve(job))
    assert found is not None
    run = built(found.resumed_config(resolve(job)))
    found.restore(run.stateful, run.components.config)
    assert run.monitor.pace.state_dict()["_kept"]  # it was taken between two measurements
    run.coordinator.resumed = True
    run.coordinator.run(run.monitor)
    assert run.monitor.reached
    assert (run.monitor.above_ns, run.monitor.reached_ns) == (whole.above_ns, whole.reached_ns)
    assert run.coordinator.t_stop_ns >= whole.reached_ns == whole.above_ns


@given(st.lists(st.floats(0, 10), min_size=1, max_size=40))
def test_bisection_ends_at_two_neighbours(values: list[float]) -> None:
    """Whatever the curve between a value above the target and one below."""
    pace = Pace(resolve({"stop": {"loss": 1.0}}), virtual=True)
    pace.measured(0)
    pace.plan(0, 0, 0, 1.0)
    pace.due_version = len(values) + 1
    for version, value in enumerate(values, 1):
        pace.keep(version, version, [np.full(1, value, np.float32)])
    rows = pace.missed(
        lambda points: (float(points[0][0]), 0.0, 0.0), lambda row: row[0] <= 1.0, np.zeros(1, np.float32)
    )
    assert [row[0] for row in rows] == sorted({row[0] for row in rows})
    curve = [9.0, *map(float, np.float32(values)), 0.0]
    measured = {0, len(values) + 1, *(int(row[0]) for row in rows)}
    first = min(version for version in measured if curve[version] <= 1.0)
    assert first - 1 in measured
    assert curve[first - 1] > 1.0
    assert len(rows) <= len(values).bit_length()


def test_little_of_large_models_is_kept() -> None:
    pace = Pace(resolve({"stop": {"loss": 1.0}}), virtual=True)
    pace.measured(1000)
    pace.plan(0, 1000, 0, 1.0)
    theta = np.zeros(1 << 20, np.float32)
    for version in range(1001, 1126):
        if version >= pace.keep_version:
            pace.keep(version, version, [theta])
    kept = pace.state_dict()["_kept"]
    assert 5 <= len(kept) <= 10  # of 4 MiB each
    pace.measured(1125)
    assert not pace.state_dict()["_kept"]


def test_over_mpi_a_run_is_measured_often_at_the_start_and_near_the_target() -> None:
    """For a twentieth of the time at most, and at least once a second."""
    second = 10**9
    pace = Pace(resolve({"stop": {"loss": 1.0}}), virtual=False)
    for at_ns, cost_ns, distance, due_ns in (
        (0, 10**6, 2.0, 20 * 10**6),
        (second, 10**6, 2.0, second + second // 4),
        (second, 10**6, 0.8, second + second // 10),
        (second, 10**6, 0.01, second + 20 * 10**6),
        (60 * second, 10**6, 2.0, 61 * second),
        (60 * second, second // 10, 2.0, 62 * second),
    ):
        pace.plan(at_ns, 7, cost_ns, distance)
        assert pace.due_ns == pytest.approx(due_ns, rel=1e-12)
        assert pace.due_version == np.inf
    assert pace.keep_version == np.inf
    given = Pace(resolve({"stop": {"loss": 1.0}, "trace": {"progress_s": 0.5, "progress_updates": 3}}), False)
    given.plan(second, 7, 0, 0.01)
    assert (given.due_ns, given.due_version) == (1.5 * second, 10)
