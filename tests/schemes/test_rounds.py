"""Updates of several rounds, through a plug-in: their times, their late replies, and what they compute."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from descents import Descent, Rows
from hypothesis import given
from hypothesis import strategies as st
from outcomes import assert_replays, error_line
from paths import SUPPORT

from pdcode.__main__ import main
from pdcode.config import Config, kinds
from pdcode.config import load as configfile
from pdcode.schemes import delay_model
from pdcode.session import setup
from pdcode.session.setup import prepare
from pdcode.trace.reader import TraceReader
from pdcode.trace.schema import DRAINED, USED, WASTED
from pdcode.transport.layout import RETURNED
from pdcode.util.errors import InputError
from pdcode.virtual import costs, timing_only
from pdcode.virtual.executor import NullExecutor
from pdcode.virtual.result import Result
from pdcode.virtual.simulation import Simulation

PLUGIN = f'plugins=["{SUPPORT / "clipped.py"}"]'
CLIPPED = [PLUGIN, "scheme.name=clipped"]
JOB = [
    "problem.hidden=[8]", "problem.batch=8", "problem.dtype=float64", "workers.count=4", "stop.updates=15",
    "optimizer.rate=0.2",
]  # fmt: skip
WHOLE = ["scheme.name=uncoded", "code.blocks=1", "update.mode=all"]
TIMES = ("t_dispatch_ns", "t_start_ns", "t_compute_ns", "t_send_ns", "t_recv_ns", "t_decoded_ns")


def resolve(*overrides: str) -> Config:
    return configfile.resolve({}, [*JOB, *overrides])


def trace_of(*overrides: str, numerics: bool = True) -> tuple[Rows, Simulation, Result]:
    """The rows of a run, with payloads or without."""
    config = resolve(*overrides)
    components = prepare(config)
    executor = None if numerics else NullExecutor(components.layouts)
    simulation, rows = Simulation(components, executor), Rows()
    return rows, simulation, simulation.run(rows)[1]


def test_a_first_round_that_changes_nothing_leaves_the_second() -> None:
    """Without a bound on the norm updates are those of full gradients; with one, no step is longer."""
    free = Descent([*JOB, *CLIPPED, "scheme.options.limit=1e9"], [1, 2, 3, 4])
    full = Descent([*JOB, *WHOLE], [1, 2, 3, 4])
    assert free.run() == full.run() == "enough"
    np.testing.assert_allclose(free.thetas, full.thetas, rtol=1e-12, atol=1e-12)
    assert [row["round"] for row in free.trace.arrivals] == 15 * [0, 0, 0, 0, 1, 1, 1, 1]
    assert [row["version"] for row in free.trace.arrivals] == [row for row in range(15) for _ in range(8)]
    tight = Descent([*JOB, *CLIPPED, "scheme.options.limit=0.01"], [1, 2, 3, 4])
    tight.run()
    steps = [np.linalg.norm(after - before) for before, after in pairwise(tight.thetas)]
    assert 0.2 * 0.003 < min(steps) <= max(steps) <= 0.2 * 0.01  # of a mean of gradients of that mean norm


@given(st.sampled_from(["all", "first", "async"]), st.lists(st.floats(0.1, 9), min_size=4, max_size=4))
def test_late_replies_of_another_round_are_wasted_and_given_back(mode: str, times: list[float]) -> None:
    made = Descent([*JOB, *CLIPPED, f"update.mode={mode}", "stop.updates=6"], times)
    given_back, dispatch = [0] * 4, made.fleet.dispatch

    def count(worker: int, task: int, version: int, order: object, flags: int = 0) -> int:
        given_back[worker] += bool(flags & RETURNED)
        return dispatch(worker, task, version, order, flags)

    made.fleet.dispatch = count  # type: ignore[method-assign]
    made.run()
    now = 0, 0  # version and round of the last that was used
    for row in made.trace.arrivals:
        if row["status"] == USED:
            now = row["applied_version"], row["round"]
            assert row["version"] == row["applied_version"]
        elif row["status"] == WASTED:
            assert mode != "all"
            assert (row["version"], row["round"]) <= now
    rolled = [sum(each.rolled for each in worker.encoders) for worker in made.workers]
    assert rolled == given_back
    assert np.isfinite(made.state.theta).all()


def test_a_reply_of_the_round_before_is_late_at_the_same_version() -> None:
    made = Descent([*JOB, *CLIPPED, "update.mode=first", "update.count=3"], [1, 1, 1, 1.5])
    made.run()
    wasted = [row for row in made.trace.arrivals if row["status"] == WASTED]
    assert any(row["staleness"] == 0 and row["round"] == 0 for row in wasted)
    assert sum(each.rolled for each in made.workers[3].encoders) >= len(wasted) - 1
    assert all(row["worker"] == 3 for row in wasted)


@pytest.mark.parametrize("mode", ["all", "first", "async"])
@pytest.mark.parametrize(
    "stragglers",
    [
        [],
        ["stragglers.kind=shifted-exponential", "stragglers.mean_s=0.001"],
        ["stragglers.kind=slow-set", "stragglers.slow=[2]", "stragglers.slowdown=7"],  # times compute
    ],
)  # fmt: skip
def test_the_clock_charges_each_round_what_is_its_own(mode: str, stragglers: list[str]) -> None:
    costly = [
        "machine={flops_per_s=1e8,update_s=1e-5,coordinator_speed=1e9}",
        "link.bandwidth=1e7",
        "link.broadcast=star",
    ]
    job = [*CLIPPED, f"update.mode={mode}", *costly, *stragglers]
    rows, simulation, result = trace_of(*job)
    expected_ns = 35_000 * result.arrivals + 10_000 * (2 * result.updates)
    assert result.processor_ns == pytest.approx(expected_ns, abs=9)
    machine, components = simulation.config.machine, simulation.components
    compute = [costs.times_ns(machine, components.flops(number)) for number in range(2)]
    assert compute[0] != compute[1]
    for row in rows.arrivals:
        number, layout = row["round"], components.layouts[row["round"]]
        assert row["t_compute_ns"] - row["t_start_ns"] == compute[number]
        assert (row["bytes_up"], row["bytes_down"]) == (layout.reply_bytes, layout.task_bytes)
        link_ns = round(1e9 * layout.reply_bytes / 1e7) + 20_000
        assert row["t_recv_ns"] - row["t_send_ns"] >= link_ns
        slow = "stragglers.slowdown=7" in stragglers and row["worker"] == 2
        if slow and row["status"] != DRAINED:  # the stop cuts delays short
            assert row["injected_delay_ns"] == pytest.approx(6 * compute[number], abs=2)
    link_ns = sum(round(1e9 * row["bytes_up"] / 1e7) for row in rows.arrivals)
    assert simulation.schedule.ingress_ns == link_ns
    timed, without, _ = trace_of(*job, numerics=False)
    for name in (*TIMES, "worker", "task", "version", "round", "status", "bytes_up", "bytes_down"):
        np.testing.assert_array_equal(timed.column(name), rows.column(name), name)
    assert without.schedule.now_ns == simulation.schedule.now_ns
    assert not timing_only.is_timeable(simulation.config)


def words(*overrides: str) -> list[str]:
    return [word for each in (*JOB, *overrides) for word in ("--set", each)]


def test_the_commands_take_a_scheme_of_two_rounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job, path = tmp_path / "job.toml", str(tmp_path / "trace.h5")
    job.write_text(f'plugins = ["{SUPPORT / "clipped.py"}"]\n[scheme]\nname = "clipped"\n', encoding="utf-8")
    late = words("stragglers.kind=shifted-exponential", "stragglers.mean_s=0.001", "update.mode=first")
    assert main(["run", str(job), "--dry-run", *late]) == 0
    assert "round 1)" in capsys.readouterr().out
    assert main(["simulate", str(job), "-o", path, *late]) == 0
    columns = TraceReader(path).arrivals
    assert set(columns["round"]) == {0, 1}
    assert (columns["status"] == WASTED).any()
    assert_replays(path, capsys)
    assert main(["show", path]) == 0
    assert main(["simulate", str(job), "-o", path, "--timing-only", *late]) == 0
    again = TraceReader(path).arrivals
    for name in TIMES:
        np.testing.assert_array_equal(again[name], columns[name])
    capsys.readouterr()
    assert main(["simulate", str(job), "-o", path, *words("update.late=use")]) == 2
    assert "update.late: 'use'" in error_line(capsys)


def test_a_scheme_that_does_not_say_that_it_has_rounds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = resolve(*CLIPPED)
    monkeypatch.setattr(kinds.find("schemes", "clipped"), "steps_by_update", True)
    with pytest.raises(
        InputError, match=r"scheme\.name: .*'clipped' has several rounds.*steps_by_update = False"
    ):
        prepare(config)


def test_a_state_that_sends_theta_has_no_relay() -> None:
    with pytest.raises(InputError, match=r"downlink\.kind: 'codewords' .* 'clipped', which sends θ"):
        prepare(resolve(*CLIPPED, "downlink.kind=codewords"))


def test_there_are_no_more_rounds_than_a_header_can_name(monkeypatch: pytest.MonkeyPatch) -> None:
    config = resolve(*CLIPPED)
    monkeypatch.setattr(setup, "MAX_ROUNDS", 1)
    with pytest.raises(InputError, match=r"scheme\.name: 'clipped' has more than 1 rounds"):
        prepare(config)


@pytest.mark.parametrize("mode", ["all", "first"])
def test_a_worker_meets_as_much_delay_in_one_round_as_in_two(mode: str) -> None:
    """Delays belong to the worker's time: those of the two rounds of an update add up to that of one task."""
    slow = [
        "stragglers.kind=pareto",
        "stragglers.shift_s=0.001",
        "stragglers.shape=1.5",
        f"update.mode={mode}",
    ]
    whole, _, _ = trace_of(*WHOLE[:2], *slow)
    halves, simulation, _ = trace_of(*CLIPPED, *slow)
    met = {(row["worker"], row["task"]): row["injected_delay_ns"] for row in whole.arrivals}
    shares = [share for (share,) in simulation.components.delay_fractions]
    assert sum(shares) == pytest.approx(1)
    assert min(shares) > 0
    compared = 0
    for row in halves.arrivals:
        update = row["worker"], row["version"]
        if row["status"] != DRAINED and update in met:
            model = delay_model(simulation.config)
            drawn_s = model.delays_s([row["worker"]], [row["version"]], 1)[0, 0]
            assert row["injected_delay_ns"] == pytest.approx(1e9 * shares[row["round"]] * drawn_s, abs=1)
            if mode == "all":  # tasks are numbered as updates
                assert drawn_s == pytest.approx(1e-9 * met[update])
            compared += 1
    assert compared > 60
