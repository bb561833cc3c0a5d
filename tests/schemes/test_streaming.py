"""Streaming: gradients in parts, one message each."""

import numpy as np
import pytest
from descents import Descent, Rows
from hypothesis import given
from hypothesis import strategies as st

from pdcode.config import load as configfile
from pdcode.rivals.streaming import part_segments
from pdcode.session.setup import prepare
from pdcode.trace.schema import DRAINED, USED, WASTED
from pdcode.util.errors import InputError
from pdcode.virtual.executor import NullExecutor
from pdcode.virtual.result import Result
from pdcode.virtual.simulation import Simulation

JOB = [
    "problem.hidden=[8]", "problem.dtype=float64", "problem.axis=output", "workers.count=4", "stop.updates=8",
]  # fmt: skip
WHOLE = ["scheme.name=uncoded", "code.blocks=1"]
TIMES = 1.0, 1.3, 2.1, 3.7  # ms a part


def parts(count: int, *overrides: str) -> list[str]:
    return [*JOB, "scheme.name=streaming", f"code.blocks={count}", *overrides]


def descent(*overrides: str, times: tuple[float, ...] = TIMES) -> Descent:
    made = Descent(overrides, times)
    made.run()
    return made


def simulated(*overrides: str, numerics: bool = True) -> tuple[Rows, Simulation, Result]:
    made = Simulation(prepare(configfile.resolve({}, [*JOB, "problem.batch=8", *overrides])))
    if not numerics:
        made = Simulation(prepare(made.config), executor=NullExecutor(made.components.layouts))
    rows = Rows()
    return rows, made, made.run(rows)[1]


@pytest.mark.parametrize("mode", ["all", "first", "async"])
def test_one_part_is_an_uncoded_gradient_bit_for_bit(mode: str) -> None:
    others = f"update.mode={mode}", "optimizer.momentum=0.5", "problem.l2=0.01"
    one, whole = descent(*parts(1), *others), descent(*JOB, *WHOLE, *others)
    np.testing.assert_array_equal(one.thetas, whole.thetas)
    for name in ("worker", "task", "version", "t_recv_ns", "status", "loss", "part"):
        np.testing.assert_array_equal(one.trace.column(name), whole.trace.column(name))


@given(
    st.integers(2, 20),
    st.sampled_from(["output", "input"]),
    st.sampled_from(["problem.hidden=[8]", "problem.hidden=[]", "problem.task=regression"]),
    st.sampled_from(["problem.batch=5", "problem.batch=0"]),
    st.booleans(),
)
def test_all_parts_together_are_the_gradient(count, axis, kind, batch, sparse):
    """Of any number, blocks without any rows among them, of dense and sparse inputs, with a penalty."""
    others = [
        "problem.data=synthetic", "problem.samples=60", "problem.features=7", kind, batch,
        f"problem.axis={axis}", "problem.l2=0.1", "stop.updates=3", "update.mode=all",
        f"problem.density={0.4 if sparse else 1.0}",
    ]  # fmt: skip
    streamed, whole = descent(*parts(count), *others), descent(*JOB, *WHOLE, *others)
    assert len(streamed.thetas) == len(whole.thetas) == 4
    np.testing.assert_allclose(streamed.thetas, whole.thetas, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("wire", "size"), [("float64", 8), ("int8", 1)])
def test_bytes_are_those_of_the_parts_and_a_header_each(wire: str, size: int) -> None:
    made = descent(*parts(4, "update.mode=all", f"wire.dtype={wire}"))
    rows = [2 * 65, 3 * 9]  # of 8 and of 10 outputs, with biases
    if size == 8:
        expected = 64 + sum(-(-8 * elements // 64) * 64 for elements in rows)  # whole cache lines
    else:
        expected = 64 + sum(4 + -(-elements // 4) * 4 for elements in rows)  # a scale, and whole words
    table = made.trace
    assert set(table.column("bytes_up")) == {expected}
    assert table.column("part").tolist().count(3) == 8 * 4
    down = table.column("bytes_down")
    theta = 8 * (8 * 65 + 10 * 9)
    assert (down == np.where(table.column("part") == 0, 64 + theta, 0)).all()
    assert made.fleet.bytes_up == table.column("bytes_up").sum()
    assert made.fleet.bytes_down == down.sum()


def test_a_step_of_async_moves_the_part_alone() -> None:
    made = descent(*parts(3, "update.mode=async", "stop.updates=30"))
    layers = made.components.problem.layers
    used = [row for row in made.trace.arrivals if row["status"] == USED]
    for row, before, after in zip(used, made.thetas, made.thetas[1:], strict=False):
        moved = np.zeros(len(before), bool)
        for _, unit in part_segments(layers, row["part"]):
            moved[unit.offset : unit.offset + unit.length] = True
        assert (before != after)[moved].mean() > 0.5
        np.testing.assert_array_equal(before[~moved], after[~moved])
    seen = {(row["worker"], row["task"]): [] for row in used}
    for row in used:
        seen[row["worker"], row["task"]].append((row["version"], row["part"]))
    for task in seen.values():  # one θ a task
        assert len({version for version, _ in task}) == 1
        assert [part for _, part in task] == list(range(len(task)))


@pytest.mark.parametrize("late", ["use", "waste"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_first_waits_for_every_part(count: int, late: str) -> None:
    made = descent(*parts(4, "update.mode=first", f"update.count={count}", f"update.late={late}"))
    for version in range(8):
        used = [row["part"] for row in made.trace.arrivals if row["applied_version"] == version]
        assert min(np.bincount(used, minlength=4)) == count
    wasted = sum(row["status"] == WASTED for row in made.trace.arrivals)
    assert (wasted > 0) == (late == "waste")


def test_captured_is_the_share_of_the_pieces_that_are_here() -> None:
    equal = "problem.hidden=[]", "problem.axis=input"  # 65 inputs
    made = descent(*parts(5, "update.mode=captured", "update.fraction=0.6", *equal))
    pending = 0
    for row in made.trace.arrivals:
        if row["status"] == USED:
            pending += 1
            assert row["captured"] == pytest.approx(pending / 20)
            pending = 0 if row["captured"] >= 0.6 - 1e-9 else pending
    assert [row["n_used"] for row in made.trace.updates] == 8 * [12]


STRAGGLERS = {
    "none": [],
    "pareto": ["stragglers.kind=pareto", "stragglers.shift_s=0.001", "stragglers.shape=1.5"],
    "slow": ["stragglers.kind=slow-set", "stragglers.slow=[2]", "stragglers.slowdown=7"],  # times compute
}
FREE = [
    "link.bandwidth=1e15", "link.latency_s=0", "machine.flops_per_s=1e7", "machine.arrival_s=0",
    "machine.dispatch_s=0", "machine.update_s=0", "machine.coordinator_speed=1e9",
]  # fmt: skip


@pytest.mark.parametrize("stragglers", STRAGGLERS)
def test_a_task_in_parts_takes_as_long_and_is_as_late_as_a_whole_one(stragglers: str) -> None:
    """Cutting a task differently neither gains nor loses time: work and delay are shared by its parts."""
    others = [*FREE, *STRAGGLERS[stragglers], "update.mode=all"]
    whole, _, _ = simulated(*WHOLE, *others)
    halves, made, _ = simulated("scheme.name=streaming", "code.blocks=2", *others)
    (shares,) = made.components.delay_fractions
    assert sum(shares) == pytest.approx(1)
    assert shares[0] > shares[1] > 0
    ends = {(row["worker"], row["task"]): row for row in whole.arrivals}
    assert len(halves.arrivals) == 2 * len(whole.arrivals)
    sums = dict.fromkeys(ends, 0), dict.fromkeys(ends, 0)
    last: dict[tuple[int, int], int] = {}
    for row in halves.arrivals:
        key = row["worker"], row["task"]
        sums[0][key] += row["t_compute_ns"] - row["t_start_ns"]
        sums[1][key] += row["injected_delay_ns"]
        assert row["t_start_ns"] == last.get(key, row["t_start_ns"])  # where the part before was sent
        last[key] = row["t_send_ns"]
    for key, row in ends.items():
        compute_ns = row["t_compute_ns"] - row["t_start_ns"]
        assert sums[0][key] == pytest.approx(compute_ns, rel=0.03)  # copies of blocks besides
        rel = 0.03 if stragglers == "slow" else 0
        assert sums[1][key] == pytest.approx(row["injected_delay_ns"], abs=3, rel=rel)
    assert halves.updates[-1]["t_ns"] == pytest.approx(whole.updates[-1]["t_ns"], rel=0.03)


def test_times_are_those_of_a_run_without_numerics() -> None:
    others = ["scheme.name=streaming", "code.blocks=3", *STRAGGLERS["pareto"], "stop.updates=40"]
    full, made, _ = simulated(*others)
    timed, _, _ = simulated(*others, numerics=False)
    for name in ("worker", "task", "part", "status", "t_start_ns", "t_send_ns", "t_recv_ns"):
        np.testing.assert_array_equal(full.column(name), timed.column(name))
    link = made.components.layout.reply_bytes * len(full.arrivals) / made.config.link.bandwidth
    assert made.schedule.ingress_ns == pytest.approx(1e9 * link, rel=0.01)


@pytest.mark.parametrize("stop", ["stop.updates=21", "stop.seconds=0.01"])
def test_parts_in_flight_at_the_stop_are_drained_without_delay(stop: str) -> None:
    """Of every task all parts arrive, those of a dead worker at last."""
    limit = [stop] if "seconds" in stop else [stop, "stop.seconds=9.0"]
    rows, _, result = simulated(
        "scheme.name=streaming", "code.blocks=3", *STRAGGLERS["pareto"], "stragglers.dead=[1]", *limit
    )
    tasks: dict[tuple[int, int], list[int]] = {}
    stopped = False
    for row in rows.arrivals:
        tasks.setdefault((row["worker"], row["task"]), []).append(row["part"])
        stopped |= row["status"] == DRAINED
        assert (row["status"] == DRAINED) == stopped
        if row["worker"] == 1:
            assert row["injected_delay_ns"] == -1
    assert set(map(tuple, tasks.values())) == {(0, 1, 2)}
    drained = [row for row in rows.arrivals if row["status"] == DRAINED]
    assert {row["worker"] for row in drained} > {1}
    stop_ns = 1e9 * result.seconds + 100_000  # with rank 0's work at the stop
    assert all(row["t_send_ns"] <= max(row["t_compute_ns"], stop_ns) for row in drained)
    assert rows.faults == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["code.blocks=[4,1]"], r"code\.blocks: .*one number"),
        (["code.family=net"], r"code\.family: 'net' has no effect with scheme 'streaming'"),
        (["memory.kind=worker"], r"memory\.kind: 'worker' has no effect"),
        (["decoder.kind=least_squares"], r"decoder\.kind: 'least_squares' has no effect"),
        (["update.mode=async", "update.late=waste"], r"update\.late: 'waste' .* last parts"),
        (["update.mode=captured", "update.late=waste"], r"update\.late: 'waste' .* last parts"),
        (["downlink.kind=codewords"], r"downlink\.kind: 'codewords' .*'streaming', which sends θ"),
    ],
)
def test_what_cannot_work_is_refused_by_name(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Descent([*parts(4), *overrides], TIMES)
