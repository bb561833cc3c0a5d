"""A run with preset "auto" that changes its preset by its own tasks, on the virtual clock."""

import gc
import json
import math
import re
import weakref
from pathlib import Path

import h5py
import numpy as np
import pytest
from interrupted import built

from pdcode import Trace
from pdcode.__main__ import main
from pdcode.choice.preset import prepare
from pdcode.config import Config
from pdcode.config import load as configfile
from pdcode.config.write import to_toml
from pdcode.schemes import delay_model
from pdcode.schemes.lwpd import LWPD
from pdcode.session import checkpoint
from pdcode.session.checkpoint import CheckpointWriter
from pdcode.stragglers import delays_ns
from pdcode.trace.recorder import Recorder
from pdcode.virtual.simulation import Simulation

SLOW = {"events": [{"kind": "slow", "worker": 3, "at_s": 0.06, "factor": 30.0}]}
JOB = {
    "problem": {"kind": "mlp", "data": "digits", "hidden": [32], "batch": 32, "evaluate": 100},
    "workers": {"count": 6},
    "machine": {"flops_per_s": 1e18, "task_s": 0.005, "arrival_s": 1e-6, "dispatch_s": 1e-7},
    "link": {"bandwidth": 1e9},
    "stop": {"updates": 120},
    "trace": {"progress_s": 0.01},
}
SOFTMAX = {"problem": {"kind": "softmax", "data": "digits", "batch": 96, "evaluate": 100}}


def simulated(folder: Path, name: str, *settings: str, **tables: object) -> Trace:
    job, trace = folder / "job.toml", folder / f"{name}.h5"
    job.write_text(to_toml({**JOB, **tables}))
    assert main(["simulate", str(job), "-o", str(trace), *(f"--set={each}" for each in settings)]) == 0
    return Trace(trace)


def among(monkeypatch: pytest.MonkeyPatch, **needed: float) -> None:
    """Have these candidates alone, with so many updates needed; begin with one that waits for nobody."""
    monkeypatch.setattr("pdcode.choice.preset.HELD", -math.inf)
    named = {name.replace("_", "-"): each for name, each in needed.items()}
    monkeypatch.setattr(LWPD, "candidates", named)


def presets(trace: Trace) -> list[str]:
    """The presets of a run in order."""
    return [
        each["scheme"]["preset"] for each in (*(p["config"] for p in trace.earlier_presets), trace.config)
    ]


def assert_whole(trace: Trace, capsys: pytest.CaptureFixture[str]) -> str:
    """Times, tasks and versions go on, and a replay finds the same; return what `show` prints."""
    assert (np.diff(trace.updates["version"]) == 1).all()
    for worker in range(6):
        assert (np.diff(trace.arrivals["task"][trace.arrivals["worker"] == worker]) == 1).all()
    changes = np.flatnonzero(trace.segments["preset"])
    for rows, t_ns in zip(*(trace.segments[key][changes] for key in ("arrivals", "t_ns")), strict=True):
        assert (
            trace.arrivals["t_recv_ns"][:rows].max() <= t_ns <= trace.arrivals["t_dispatch_ns"][rows:].min()
        )
    assert trace.counters["arrivals"] == trace.arrivals.rows
    capsys.readouterr()
    assert main(["replay", str(trace.path)]) == 0
    assert main(["show", str(trace.path)]) == 0
    return capsys.readouterr().out


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("waits", "then", "tables"),
    [
        ("ring", "default", {}),
        ("sharded", "default", {}),
        ("orthogonal", "default", SOFTMAX),
    ],
)
def test_it_waits_for_all_while_they_are_even_and_not_once_one_is_slow(
    waits, then, tables, tmp_path, monkeypatch, capsys
) -> None:
    among(monkeypatch, **{waits: 1.0, then: 8.0})
    kept = simulated(tmp_path, "kept", f"scheme.preset={waits}", faults=SLOW, **tables)
    capsys.readouterr()
    trace = simulated(tmp_path, "changed", faults=SLOW, **tables)
    printed = capsys.readouterr().out
    assert f"preset '{waits}' in place of '{then}' would take" in printed
    assert f"preset '{then}' in place of '{waits}' would take" in printed
    assert trace.counters["t_stop_ns"] < kept.counters["t_stop_ns"] / 2
    assert presets(trace) == [then, waits, then]
    _, begun, ended = trace.segments["arrivals"]
    np.testing.assert_array_equal(np.flatnonzero(trace.summed), np.arange(begun, ended))
    _, even, slow = trace.segments["version"]
    assert (even, slow - even < 25) == (6, True)  # after a task of each
    shown = assert_whole(trace, capsys)
    assert f"before   lwpd (preset {then}) until" in shown
    assert re.search(r"worker 3 is .* since its\s+task", shown)


def test_delays_go_on_with_the_tasks(tmp_path, monkeypatch) -> None:
    among(monkeypatch, ring=1.0, default=8.0)
    law = {"kind": "shifted-exponential", "mean_s": 0.001}
    trace = simulated(tmp_path, "changed", stragglers=law)
    assert presets(trace) == ["default", "ring"]
    rows, model = trace.arrivals, delay_model(Config.of(trace.config))
    drawn_ns = delays_ns(model, rows["worker"], rows["task"], 1, 0)
    np.testing.assert_array_equal(rows["injected_delay_ns"], drawn_ns[:, 0])


def test_theta_goes_on_whatever_axis_its_weights_are_stored_along(tmp_path, monkeypatch, capsys) -> None:
    """Of a linear model `default` stores weights by input, `ring` by output."""
    among(monkeypatch, ring=1.0, default=8.0)
    late = {"events": [SLOW["events"][0] | {"at_s": 0.5}]}
    trace = simulated(tmp_path, "changed", faults=late, **SOFTMAX)
    assert presets(trace) == ["default", "ring", "default"]
    assert_whole(trace, capsys)
    measured = trace.progress
    for rows, version in list(zip(trace.segments["arrivals"], trace.segments["version"], strict=True))[1:]:
        (before,) = measured["loss"][measured["version"] == version][:1]
        after = trace.arrivals["loss"][rows : rows + 6].mean()  # of a mini-batch of each worker
        assert 0.5 < after / before < 1.5


@pytest.mark.system
def test_delays_that_differ_are_no_reason_to_wait(tmp_path, monkeypatch, capsys) -> None:
    among(monkeypatch, ring=24.0, default=34.0)
    for number, law in enumerate(
        (
            {"kind": "slow-set", "slow": [3], "slowdown": 4.0},
            {"kind": "shifted-exponential", "mean_s": 0.02},
            {"kind": "slow-set", "dead": [3]},
        )
    ):
        trace = simulated(tmp_path, f"auto{number}", stragglers=law, stop={"seconds": 0.5})
        assert presets(trace) == ["default"]
        assert trace.faults["kind"][:2].tolist() == ["hold", "release"]
        assert_whole(trace, capsys)


def test_a_worker_that_recovers_within_a_twentieth_of_the_time_is_not_left(tmp_path, monkeypatch) -> None:
    among(monkeypatch, ring=1.0, default=8.0)
    for lasts_s, left in ((0.15, False), (0.5, True)):  # two tasks, and five
        spell = {"kind": "slow", "worker": 3, "at_s": 3.0, "for_s": lasts_s, "factor": 20.0}
        trace = simulated(tmp_path, "spell", faults={"events": [spell]}, stop={"updates": 700})
        assert (len(presets(trace)) > 2) == left


def test_it_is_left_only_for_a_gain(tmp_path, monkeypatch) -> None:
    among(monkeypatch, ring=1.0, default=1000.0)
    assert presets(simulated(tmp_path, "auto", faults=SLOW)) == ["default", "ring"]


@pytest.mark.system
def test_a_run_that_recovers_waits_again_and_changes_ever_more_rarely(tmp_path, monkeypatch, capsys) -> None:
    among(monkeypatch, ring=20.0, default=60.0)
    spells = [
        {"kind": "slow", "worker": 3, "at_s": at_s, "for_s": 0.7, "factor": 20.0}
        for at_s in (0.5, 2.5, 4.5, 6.5)
    ]
    trace = simulated(tmp_path, "spells", faults={"events": spells}, stop={"seconds": 3.5})
    assert presets(trace)[:4] == ["default", "ring", "default", "ring"]
    assert len(presets(trace)) <= 7
    assert_whole(trace, capsys)


def test_a_change_waits_until_the_slow_worker_has_answered(tmp_path, monkeypatch, capsys) -> None:
    among(monkeypatch, first=2.0, default=40.0)
    slow = {"events": [{"kind": "slow", "worker": 3, "at_s": 0.0, "factor": 10.0}]}
    trace = simulated(tmp_path, "changed", faults=slow, stop={"updates": 400})
    assert presets(trace) == ["default", "first"]
    (row,) = trace.segments["arrivals"][trace.segments["preset"] == 1]
    last = np.flatnonzero(trace.arrivals["worker"][:row] == 3)[-1]
    assert 0 < row - last <= 10  # the others end the tasks that they had then
    assert_whole(trace, capsys)


@pytest.mark.every(2)
@pytest.mark.parametrize("kind", ["hang", "kill"])
def test_a_change_is_called_off_where_a_worker_does_not_answer(kind, tmp_path, monkeypatch, capsys) -> None:
    among(monkeypatch, first=2.0, default=40.0)
    events = [
        {"kind": "slow", "worker": 3, "at_s": 0.0, "factor": 3.0},
        {"kind": kind, "worker": 2, "at_s": 0.0155},
    ]
    trace = simulated(tmp_path, "off", faults={"events": events}, stop={"seconds": 0.5, "drain_s": 0.1})
    assert trace.faults["kind"].tolist().count("release") == 2
    assert presets(trace) == ["default"]
    assert trace.counters["t_stop_ns"] == pytest.approx(0.5e9, rel=0.05)
    assert_whole(trace, capsys)


def test_the_target_wins_where_both_are_due(monkeypatch) -> None:
    among(monkeypatch, ring=1.0, default=8.0)
    config = Config.of({**JOB, "scheme": {"preset": "auto"}, "faults": SLOW})
    changed, _ = Simulation(prepare(config)).run_preset()
    at = changed.coordinator.version
    config = config.with_keys(stop={"updates": at})
    descent, result = Simulation(prepare(config)).run()
    assert (descent.next_components, result.updates, result.code) == (None, at, 0)


def test_a_given_preset_and_a_single_candidate_are_not_reviewed(monkeypatch) -> None:
    for settings, reviewed in (({"preset": "auto"}, True), ({"preset": "ring"}, False)):
        components = prepare(configfile.resolve({**JOB, "scheme": settings}))
        assert (components.review() is not None) == reviewed
    components = prepare(configfile.resolve({**JOB, "problem": {**JOB["problem"], "batch": 0}}))
    assert components.choice is not None
    assert components.review() is None


def test_a_study_without_traces_changes_as_well(tmp_path, monkeypatch) -> None:
    among(monkeypatch, ring=1.0, first=2.0, default=8.0)
    trace = simulated(tmp_path, "changed", faults=SLOW)
    config = Config.of({**JOB, "scheme": {"preset": "auto"}, "faults": SLOW})
    _, result = Simulation(prepare(config), shares=True).run(Recorder())
    assert np.array_equal(result.theta, trace.theta)
    assert result.seconds == pytest.approx(1e-9 * trace.counters["t_stop_ns"])
    for name in ("arrivals", "used", "wasted", "bytes_up", "bytes_down", "processor_ns", "egress_ns"):
        assert getattr(result, name) == trace.counters[name]


def test_a_fault_of_one_task_does_not_happen_again(tmp_path, monkeypatch) -> None:
    among(monkeypatch, ring=1.0, default=8.0)
    once = {"kind": "slow", "worker": 2, "task": 2, "for_s": 0.0, "factor": 3.0}
    trace = simulated(tmp_path, "once", faults={"events": [*SLOW["events"], once]})
    assert len(presets(trace)) == 3
    rows = trace.arrivals["worker"] == 2
    took_ns = (trace.arrivals["t_compute_ns"] - trace.arrivals["t_start_ns"])[rows]
    assert trace.arrivals["task"][rows][took_ns > 2 * np.median(took_ns)].tolist() == [2]
    assert main(["replay", str(trace.path)]) == 0


def test_the_workers_of_an_earlier_preset_are_freed(monkeypatch) -> None:
    among(monkeypatch, ring=1.0, default=8.0)
    config = Config.of({**JOB, "scheme": {"preset": "auto"}, "faults": SLOW})
    simulation = Simulation(prepare(config))
    workers = [weakref.ref(each) for each in simulation.fleet.executor.local_workers]
    descent, _ = simulation.run_preset()
    assert simulation.next_simulation(descent) is not None
    gc.collect()
    assert [each() for each in workers] == [None] * 6


def test_damage_of_what_describes_the_changes_is_found(tmp_path, monkeypatch, capsys) -> None:
    among(monkeypatch, ring=1.0, default=8.0)
    trace = simulated(tmp_path, "changed", faults=SLOW)
    right = trace.attributes["earlier_presets"]
    for text in (None, "{", "[]", '[{"config": 3}]', '[{"config": {"workers": 3}}]', right[:-1] + ", {}]"):
        with h5py.File(trace.path, "r+") as file:
            del file.attrs["earlier_presets"]
            if text is not None:
                file.attrs["earlier_presets"] = text
        assert main(["replay", str(trace.path)]) == 2
        assert "damaged" in capsys.readouterr().err
        with h5py.File(trace.path, "r+") as file:
            file.attrs["earlier_presets"] = "[]"


def test_traces_with_one_earlier_preset_in_another_attribute_can_be_read(
    tmp_path, monkeypatch, capsys
) -> None:
    among(monkeypatch, ring=1.0, default=1000.0)
    trace = simulated(tmp_path, "changed")
    with h5py.File(trace.path, "r+") as file:
        (first,) = json.loads(file.attrs["earlier_presets"])
        del file.attrs["earlier_presets"]
        file.attrs["first_preset"] = json.dumps(first)
    assert presets(Trace(trace.path)) == ["default", "ring"]
    assert_whole(Trace(trace.path), capsys)


def test_epochs_count_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    among(monkeypatch, ring=1.0, default=8.0)
    trace = simulated(tmp_path, "changed", faults=SLOW, stop={"epochs": 8.0})
    assert trace.segments["preset"].any()
    used = np.count_nonzero(trace.arrivals["status"] == 0)
    assert used * 32 / trace.attributes["rows"] == pytest.approx(8.0, abs=0.03)
    assert "(8.0 epochs)" in capsys.readouterr().out
    assert main(["replay", str(trace.path)]) == 0


def test_a_resumed_run_counts_the_epochs_of_the_presets_before_it(tmp_path, monkeypatch) -> None:
    among(monkeypatch, **{"default": 1000.0, "local:four-steps": 1.0})  # whose tasks have four times the rows
    named = {"trace": {"path": str(tmp_path / "t.h5"), "checkpoint_s": 0.02}, "stop": {"epochs": 8.0}}
    config = configfile.resolve({**JOB, **named})
    first = Simulation(prepare(config))
    changed, _ = first.run_preset()
    second = first.next_simulation(changed)
    writer = CheckpointWriter(Path(config.trace.path), "it", config, second.config, print)
    done, _ = second.run_preset(checkpoints=writer)
    found = checkpoint.find(config)
    resumed = built(found.resumed_config(config))
    found.restore(resumed.stateful, resumed.components.config)
    assert changed.coordinator.version < resumed.coordinator.version < done.coordinator.version
    assert resumed.coordinator.run(resumed.monitor) == "8 epochs"
    assert resumed.coordinator.version == done.coordinator.version
