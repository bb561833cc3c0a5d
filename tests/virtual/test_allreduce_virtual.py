"""Allreduce on the virtual clock: what a round takes, and that it computes what rank 0 would."""

import math

import numpy as np
import pytest
from descents import Rows
from hypothesis import given
from hypothesis import strategies as st

from pdcode.coding.flops import owner_flops
from pdcode.config import load as configfile
from pdcode.session.setup import prepare
from pdcode.trace.schema import DRAINED, USED, WASTED
from pdcode.transport.sums import segment_bytes
from pdcode.util.errors import InputError
from pdcode.virtual import timing_only
from pdcode.virtual.schedule import AllreduceSchedule, TreeSchedule, allreduce_s
from pdcode.virtual.simulation import Simulation

JOB = ["problem.hidden=[8]", "problem.batch=8", "stop.updates=12", "optimizer.rate=0.2"]
ADDED = ["scheme.name=uncoded", "memory.kind=worker", "update.mode=all"]
LATE = ["stragglers.kind=shifted-exponential", "stragglers.mean_s=0.001", "stragglers.slow=[1]"]


def simulated(*overrides: str) -> tuple[Rows, Simulation, np.ndarray]:
    simulation, rows = Simulation(prepare(configfile.resolve({}, [*JOB, *overrides]))), Rows()
    descent, _ = simulation.run(rows)
    return rows, simulation, descent.coordinator.theta


@given(
    st.integers(1, 9),
    st.sampled_from([1e5, 1e8, 1e11]),
    st.sampled_from([0.0, 1e-5, 1e-2]),
    st.booleans(),
    st.lists(st.integers(1, 10**8), min_size=2, max_size=2),
)  # fmt: skip
def test_a_round_takes_the_slowest_worker_and_the_sum(workers, bandwidth, latency_s, half, sizes):
    """Recursive doubling or reduce-scatter and allgather, whichever is faster for the size."""
    config = configfile.resolve(
        {},
        [
            f"workers.count={workers}", f"link.bandwidth={bandwidth}", f"link.latency_s={latency_s}",
            f"link.half_duplex={str(half).lower()}", "machine.update_s=0.5", *LATE[:2],
        ],
    )  # fmt: skip
    steps, byte_s = math.ceil(math.log2(workers)), (2 if half else 1) / bandwidth
    sums_ns = [round(1e9 * allreduce_s(workers, size, latency_s, byte_s)) for size in sizes]
    schedule = AllreduceSchedule(config, [10_000, 7], sizes, sums_ns, [[0.5], [0.5]])
    schedule.start()
    now_ns = 0
    for task, number in enumerate([0, 1, 0]):
        schedule.send([(worker, task) for worker in range(workers)], 999, 99, number)
        assert schedule.next(now_ns) == -1
        found = sorted(schedule.next(2**61) for _ in range(workers))
        assert found == list(range(workers))
        slowest = [10_000, 7][number] + int(np.max(schedule.injected_delay_ns))
        doubling = steps * (latency_s + sizes[number] * byte_s)
        scatter = 2 * steps * latency_s + 2 * (workers - 1) / workers * sizes[number] * byte_s
        expected = now_ns + slowest + 1e9 * min(doubling, scatter)
        assert schedule.now_ns == schedule.t_recv_ns == pytest.approx(expected, abs=2)
        schedule.stepped()
        now_ns = schedule.now_ns
        assert now_ns == pytest.approx(expected + 5e8, abs=2)


@pytest.mark.parametrize("owners", [[], ["reduce.kind=allreduce", "memory.kind=worker", "wire.dtype=int4"]])
def test_a_step_of_half_of_the_payloads_of_a_full_step_has_half_of_the_rate(owners: list[str]) -> None:
    first = [
        "scheme.name=uncoded",
        "update.mode=first",
        "update.count=2",
        "update.late=waste",
        *owners,
        *LATE,
    ]
    _, _, shorter = simulated(*first, "update.full_step=4", "optimizer.rate=0.2")
    _, _, whole = simulated(*first, "optimizer.rate=0.1")
    np.testing.assert_array_equal(shorter, whole)


@pytest.mark.parametrize(
    ("late", "expected_s"),
    [
        ({}, 4.0 + 2 * (1 + 2) + 2 * (2 + 1)),  # each worker receives two messages, and sends two
        ({6: 9.0}, 9.0 + 1 + 1 + 1 + 1 + 2 * (2 + 1)),  # the sums of all others have been received
    ],
)
def test_the_sum_of_a_tree_goes_up_and_down(late: dict[int, float], expected_s: float) -> None:
    """Seven workers, two below each; a message takes 1 s on a link, and 1 s of latency."""
    tree = ["reduce.kind=tree", "reduce.fanout=2", "reduce.bits=8", "workers.count=7"]
    config = configfile.resolve({}, [*tree, *ADDED, "link.bandwidth=1000", "link.latency_s=1"])
    times_ns = np.array([round(1e9 * late.get(worker, 4.0)) for worker in range(7)])
    schedule = TreeSchedule(config, [times_ns], [1000])
    schedule.start()
    schedule.send([(worker, 0) for worker in range(7)], 0, 0)
    assert {schedule.next(2**61) for _ in range(7)} == {*range(7)}
    assert schedule.now_ns == pytest.approx(1e9 * expected_s, abs=10)


@pytest.mark.parametrize("scheme", ["uncoded", "powersgd", "local"])
@pytest.mark.parametrize("late", [[], LATE])
def test_it_computes_what_rank_0_would(scheme: str, late: list[str]) -> None:
    """To the last bit where payloads are folded in the same order."""
    common = [f"scheme.name={scheme}", "update.mode=all", "workers.count=4", "problem.dtype=float64", *late]
    star, summed = (simulated(*common, *more) for more in ([], ["reduce.kind=allreduce"]))
    if late:
        np.testing.assert_allclose(summed[2], star[2], rtol=1e-9, atol=1e-9)
    else:
        assert summed[2].tobytes() == star[2].tobytes()
    rows, simulation, _ = summed
    arrivals = rows.arrivals
    for row in arrivals:
        payload = simulation.components.layouts[row["round"]].payload_bytes
        assert row["bytes_up"] == row["bytes_down"] == round(1.5 * payload)
    assert (
        simulation.fleet.bytes_up == simulation.fleet.bytes_down == sum(row["bytes_up"] for row in arrivals)
    )
    assert len({row["t_recv_ns"] for row in arrivals}) == len(arrivals) // 4


def test_theta_is_measured_at_the_time_of_its_update() -> None:
    """Not when the next sum arrives, before rank 0 steps by it."""
    rows, _, _ = simulated(
        "scheme.name=allreduce", *LATE, "trace.progress_s=0.001", "machine.update_s=0.0001"
    )
    stepped = {0: 0} | {row["version"]: row["t_ns"] for row in rows.updates}
    assert len(rows.measured) > 8
    assert all(row["t_ns"] == stepped[row["version"]] for row in rows.measured)


def test_a_dead_worker_holds_all_up_until_the_end() -> None:
    rows, _, _ = simulated(
        "scheme.name=allreduce", "workers.count=3", *LATE, "stragglers.dead=[2]", "stop.seconds=0.1"
    )
    assert [row["status"] for row in rows.arrivals] == [DRAINED] * 3
    assert rows.updates == []
    assert min(row["t_recv_ns"] for row in rows.arrivals) >= 100_000_000


def test_it_has_no_loop_without_gradients() -> None:
    assert not timing_only.is_timeable(configfile.resolve({}, [*JOB, "scheme.name=allreduce"]))


def test_votes_do_not_add_up() -> None:
    settings = ["scheme.name=signsgd", "reduce.kind=allreduce", "wire.dtype=float32"]
    with pytest.raises(InputError, match=r"reduce\.kind: 'allreduce' .*'signsgd', which needs each worker's"):
        configfile.resolve({}, [*JOB, *settings])


def test_the_first_payloads_are_exchanged_after_the_last_of_them_and_a_death_ends_nothing() -> None:
    how = "workers.count=4", "machine.arrival_s=0", "machine.dispatch_s=0", "link.bandwidth=1e6", *LATE
    kill = 'faults.events=[{kind="kill", worker=2, at_s=0.02}]'
    rows, simulation, _ = simulated(
        "scheme.name=lwpd", "scheme.preset=sharded-first", "update.count=3", *how, kill
    )
    layout, config = simulation.components.layout, simulation.config
    owner_s = owner_flops(config, simulation.components.problem, layout) / config.machine.flops_per_s
    least_s = owner_s + simulation.charged.machine.update_s + 3 * config.link.latency_s
    used = [row for row in rows.arrivals if row["status"] == USED]
    assert len(rows.updates) == 12
    for version, update in enumerate(rows.updates):
        own = [row for row in used if row["applied_version"] == version]
        took_ns = update["t_ns"] - max(row["t_recv_ns"] for row in own)
        # Of three members two of a payload's three segments, and three times that of a mean; of two, one and
        # two of twice the length.
        segments_s = {3: 5, 2: 6}[len(own)] * max(segment_bytes(layout, 3)) / 1e6
        assert took_ns == pytest.approx(1e9 * (least_s + segments_s), abs=2)
    assert {row["worker"] for row in used if row["applied_version"] == 11} == {0, 1, 3}
    assert any(row["status"] == WASTED for row in rows.arrivals)
    assert {row["bytes_up"] for row in rows.arrivals} == {128}
