"""A run with preset "auto" that leaves a preset which waits for all workers, on the virtual clock."""

import gc
import re
import weakref
from pathlib import Path

import h5py
import numpy as np
import pytest

from pdcode import Trace
from pdcode.__main__ import main
from pdcode.config import Config
from pdcode.config import load as configfile
from pdcode.config.write import to_toml
from pdcode.schemes.lwpd import LWPD
from pdcode.trace import Recorder
from pdcode.virtual.choice import Review, prepare
from pdcode.virtual.simulation import Simulation

SLOW = {"events": [{"kind": "slow", "worker": 3, "at_s": 0.06, "factor": 30.0}]}
JOB = {
    "problem": {"kind": "mlp", "data": "digits", "hidden": [32], "batch": 32},
    "workers": {"count": 6},
    "machine": {"flops_per_s": 1e18, "task_s": 0.005, "arrival_s": 1e-6, "dispatch_s": 1e-7},
    "link": {"bandwidth": 1e9},
    "stop": {"updates": 120},
    "trace": {"progress_s": 0.01},
}
SOFTMAX = {"problem": {"kind": "softmax", "data": "digits", "batch": 96}}


def simulated(folder: Path, name: str, *settings: str, **tables: object) -> Trace:
    job, trace = folder / "job.toml", folder / f"{name}.h5"
    job.write_text(to_toml({**JOB, **tables}))
    assert main(["simulate", str(job), "-o", str(trace), *(f"--set={each}" for each in settings)]) == 0
    return Trace(trace)


def among(monkeypatch: pytest.MonkeyPatch, first: str, then: str) -> None:
    """Have `first` win as long as no worker is slow, and `then` else."""
    monkeypatch.setattr(LWPD, "candidates", {first: 1.0, then: 8.0})


@pytest.mark.parametrize(
    ("first", "then", "tables"),
    [
        ("ring", "first", {}),
        ("ring", "default", {}),
        ("sharded", "sharded-first", {}),
        ("orthogonal", "default", SOFTMAX),
    ],
)
def test_it_is_left_once_a_worker_is_slow_for_good(
    first, then, tables, tmp_path, monkeypatch, capsys
) -> None:
    among(monkeypatch, first, then)
    kept = simulated(tmp_path, "kept", f"scheme.preset={first}", faults=SLOW, **tables)
    capsys.readouterr()
    trace = simulated(tmp_path, "changed", faults=SLOW, **tables)
    assert f"preset '{then}' in place of '{first}' would take" in capsys.readouterr().out
    assert trace.counters["t_stop_ns"] < kept.counters["t_stop_ns"] / 2
    assert trace.first_preset["config"]["scheme"]["preset"] == first
    assert trace.config["scheme"]["preset"] == then
    (began, changed), (_, version) = trace.segments["t_ns"], trace.segments["version"]
    assert (began, 3 < version < 25) == (0, True)
    # Until then it is the run with that preset.
    rows = int(trace.segments["arrivals"][1])
    for key in ("worker", "task", "t_send_ns", "loss"):
        used = np.flatnonzero(trace.arrivals["status"][:rows] == 0)
        assert np.array_equal(trace.arrivals[key][used], kept.arrivals[key][: len(used)])
    # Times, tasks and versions go on.
    assert trace.arrivals["t_dispatch_ns"][rows:].min() >= changed
    assert (np.diff(trace.updates["version"]) == 1).all()
    for worker in range(6):
        assert (np.diff(trace.arrivals["task"][trace.arrivals["worker"] == worker]) == 1).all()
    counters = trace.counters
    assert counters["arrivals"] == trace.arrivals.rows
    assert counters["bytes_up"] > trace.arrivals["bytes_up"][rows:].sum()
    assert main(["replay", str(trace.path)]) == 0
    assert main(["show", str(trace.path)]) == 0
    shown = capsys.readouterr().out
    assert f"before   lwpd (preset {first}) until" in shown
    assert re.search(r"worker 3 is .* since its\s+task", shown)
    assert "workers were out at once" not in shown  # others only waited for it


def test_a_run_without_slow_workers_keeps_its_preset(tmp_path, monkeypatch) -> None:
    among(monkeypatch, "ring", "default")
    kept, auto = simulated(tmp_path, "kept", "scheme.preset=ring"), simulated(tmp_path, "auto")
    assert not auto.first_preset
    assert np.array_equal(auto.theta, kept.theta)


def test_delays_that_the_law_has_from_the_start_are_no_reason(tmp_path, monkeypatch) -> None:
    among(monkeypatch, "ring", "default")
    law = {"kind": "slow-set", "slow": [3], "slowdown": 2.0}
    assert not simulated(tmp_path, "auto", stragglers=law).first_preset


def test_a_worker_that_recovers_within_a_twentieth_of_the_time_is_not_left(tmp_path, monkeypatch) -> None:
    among(monkeypatch, "ring", "default")
    for lasts_s, left in ((0.15, False), (0.5, True)):  # two tasks, and five
        spell = {"kind": "slow", "worker": 3, "at_s": 3.0, "for_s": lasts_s, "factor": 20.0}
        trace = simulated(tmp_path, "spell", faults={"events": [spell]}, stop={"updates": 700})
        assert bool(trace.first_preset) == left


def test_it_is_left_only_for_a_gain(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(LWPD, "candidates", {"ring": 1.0, "default": 1000.0})
    assert not simulated(tmp_path, "auto", faults=SLOW).first_preset


def test_the_target_wins_where_both_are_due(monkeypatch) -> None:
    among(monkeypatch, "ring", "default")
    config = Config.of({**JOB, "scheme": {"preset": "auto"}, "faults": SLOW})
    changed, _ = Simulation(config).run_preset()
    at = changed.coordinator.version
    config = config.with_keys(stop={"updates": at})
    descent, result = Simulation(config).run()
    assert (descent.next_components, result.updates, result.code) == (None, at, 0)


def test_a_given_preset_is_not_reviewed(monkeypatch) -> None:
    among(monkeypatch, "ring", "default")
    for settings, reviewed in (({"preset": "auto"}, True), ({"preset": "ring"}, False)):
        components = prepare(configfile.resolve({**JOB, "scheme": settings}))
        assert (Review.of(components) is not None) == reviewed


def test_a_study_without_traces_changes_as_well(tmp_path, monkeypatch) -> None:
    among(monkeypatch, "ring", "first")
    trace = simulated(tmp_path, "changed", faults=SLOW)
    config = Config.of({**JOB, "scheme": {"preset": "auto"}, "faults": SLOW})
    _, result = Simulation(config, shares=True).run(Recorder())
    assert np.array_equal(result.theta, trace.theta)
    assert result.seconds == pytest.approx(1e-9 * trace.counters["t_stop_ns"])
    for name in ("arrivals", "used", "wasted", "bytes_up", "bytes_down", "processor_ns", "egress_ns"):
        assert getattr(result, name) == trace.counters[name]


def test_a_fault_of_one_task_does_not_happen_again(tmp_path, monkeypatch) -> None:
    among(monkeypatch, "ring", "default")
    once = {"kind": "slow", "worker": 2, "task": 2, "for_s": 0.0, "factor": 3.0}
    trace = simulated(tmp_path, "once", faults={"events": [*SLOW["events"], once]})
    assert trace.first_preset
    rows = trace.arrivals["worker"] == 2
    took_ns = (trace.arrivals["t_compute_ns"] - trace.arrivals["t_start_ns"])[rows]
    assert trace.arrivals["task"][rows][took_ns > 2 * np.median(took_ns)].tolist() == [2]
    assert main(["replay", str(trace.path)]) == 0


def test_the_workers_of_the_first_preset_are_freed(monkeypatch) -> None:
    among(monkeypatch, "ring", "default")
    config = Config.of({**JOB, "scheme": {"preset": "auto"}, "faults": SLOW})
    simulation = Simulation(config)
    workers = [weakref.ref(each) for each in simulation.fleet.executor.local_workers]
    descent, _ = simulation.run_preset()
    assert simulation.next_simulation(descent) is not None
    gc.collect()
    assert [each() for each in workers] == [None] * 6


def test_damage_of_what_describes_the_change_is_found(tmp_path, monkeypatch, capsys) -> None:
    among(monkeypatch, "ring", "first")
    trace = simulated(tmp_path, "changed", faults=SLOW)
    for text in (None, "{", "[]", '{"config": 3}', '{"config": {"workers": 3}}'):
        with h5py.File(trace.path, "r+") as file:
            del file.attrs["first_preset"]
            if text is not None:
                file.attrs["first_preset"] = text
        assert main(["replay", str(trace.path)]) == 2
        assert "damaged" in capsys.readouterr().err
        with h5py.File(trace.path, "r+") as file:
            file.attrs["first_preset"] = "{}"


def test_epochs_count_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    among(monkeypatch, "ring", "default")
    trace = simulated(tmp_path, "changed", faults=SLOW, stop={"epochs": 8.0})
    assert trace.segments["preset"].any()
    used = np.count_nonzero(trace.arrivals["status"] == 0)
    assert used * 32 / trace.attributes["rows"] == pytest.approx(8.0, abs=0.03)
    assert "(8.0 epochs)" in capsys.readouterr().out
    assert main(["replay", str(trace.path)]) == 0
