"""[machine] and [link] fitted to traces of runs whose costs are known."""

import heapq
from pathlib import Path
from typing import Any

import h5py
import msgspec
import numpy as np
import pytest
import traces
from tables import delayed

from pdcode import stragglers
from pdcode.bench import machine as bench
from pdcode.config import Config, LinkTable, MachineTable
from pdcode.config.load import resolve
from pdcode.session import setup
from pdcode.trace.reader import TraceReader
from pdcode.trace.schema import DRAINED, USED
from pdcode.trace.writer import TraceWriter
from pdcode.util.errors import InputError
from pdcode.virtual import calibration, costs
from pdcode.virtual.calibration import MeasuredTimes

MACHINE = MachineTable(
    flops_per_s=2e8, task_s=0.0, oversleep_s=3e-4, arrival_s=6e-5, dispatch_s=2e-5, update_s=9e-5
)
LINK = LinkTable(latency_s=4e-4, bandwidth=1e9, broadcast="star")


def made(**options: Any) -> tuple[Config, setup.Components]:
    """A run of four workers that costs MACHINE and LINK."""
    tables = {
        "problem": {"data": "digits", "hidden": [12], "batch": 8},
        "code": {"blocks": [4, 1], "weight": 2, "rows_per_task": 2},
        "workers": {"count": 4},
        "stop": {"updates": 1},
    }
    config = resolve(tables | options)
    return msgspec.structs.replace(config, machine=MACHINE, link=LINK), setup.prepare(config)


def record(
    path: Path, config: Config, made_of: setup.Components, wanted: int, rounds: int, **options: Any
) -> TraceReader:
    """The trace of a run over MPI that steps at `wanted` arrivals and costs what its configuration says, but
    for the bandwidth, which is LINK's; sleeps last oversleep_s longer, and computing has only the flops."""
    random = np.random.default_rng(3)
    machine, link, workers = config.machine, config.link, config.workers.count
    compute = 1e9 * made_of.flops() / machine.flops_per_s
    spread = {
        name: 1e9 * getattr(machine, name) for name in ("oversleep_s", "arrival_s", "dispatch_s", "update_s")
    }
    members = traces.members(workers)
    rate, latency = options.pop("bandwidth", link.bandwidth) / 1e9, 1e9 * link.latency_s
    down = options.pop("down", lambda task: made_of.layout.task_bytes)
    metadata = {"config": config, "workers": workers, "clock": options.pop("clock", "real")}
    metadata["task_flops"] = options.pop("flops", made_of.flops())
    trace = TraceWriter(path, "", [], metadata, members, **options)
    up = made_of.layout.reply_bytes
    now = leaving = received = 0.0
    heap: list[tuple[float, int, tuple[int, ...]]] = []
    version, waiting, tasks = 0, list(range(workers)), [0] * workers

    def about(mean: float) -> float:
        return mean * random.uniform(0.9, 1.1)

    while version < rounds:
        for worker in waiting:
            now += about(spread["dispatch_s"])
            size = down(tasks[worker])
            leaving = max(leaving, now) + size / rate
            start = leaving + about(latency)
            ready = start + about(compute)
            delay = int(1e6 + random.exponential(4e6))
            send = ready + delay + about(spread["oversleep_s"])
            stamps = (tasks[worker], version, int(now), int(start), int(ready), int(send), delay, size)
            heapq.heappush(heap, (send + about(latency), worker, stamps))
            tasks[worker] += 1
        waiting = []
        while heap and len(waiting) < wanted:
            reach, worker, stamps = heapq.heappop(heap)
            received = max(received, reach) + up / rate
            recv = max(received, now)
            now = recv + about(spread["arrival_s"])
            task, at, sent, start, ready, send, delay, size = stamps
            trace.arrival(
                worker, task, at, version, 0, version - at, sent, start, ready, send, int(recv), int(now),
                delay, up, size, 0.5, USED, 1.0, 0, 0,
            )  # fmt: skip
            waiting.append(worker)
        version += 1
        trace.update(version, int(now), len(waiting), 0.5, 0.1, 0, -1, 0, 0)
        now += about(spread["update_s"])
    trace.arrival(
        *(0, 0, 0, 0, 0, 0), *(int(now) + 10**9 * i for i in (0, 1, 2, 3, 4, 5)), 0, up, 9, 0.5, DRAINED, 1.0,
        0, 0,
    )  # fmt: skip
    trace.close(np.zeros(1))
    return TraceReader(path)


@pytest.mark.parametrize("wanted", [1, 3, 4])
def test_a_fit_recovers_what_a_run_cost(tmp_path: Path, wanted: int) -> None:
    config, made_of = made()
    trace = record(tmp_path / "t.h5", config, made_of, wanted, 200)
    machine, link = calibration.fit(trace, made_of.flops())
    assert machine.flops_per_s == pytest.approx(MACHINE.flops_per_s, rel=0.02)
    assert machine.oversleep_s == pytest.approx(MACHINE.oversleep_s, rel=0.02)
    assert machine.task_s == 0
    assert machine.arrival_s == pytest.approx(MACHINE.arrival_s, rel=0.02)
    assert machine.update_s + machine.dispatch_s == pytest.approx(1.1e-4, rel=0.03)
    assert machine.dispatch_s == pytest.approx(MACHINE.dispatch_s, rel=0.1)
    assert link == msgspec.structs.replace(LINK, latency_s=link.latency_s)
    assert link.latency_s == pytest.approx(LINK.latency_s, rel=0.02)
    trace.attributes["step_flops"] = 3e4  # in the time of an update
    charged, _ = calibration.fit(trace, made_of.flops())
    update_s = 3e4 / (charged.coordinator_speed * charged.flops_per_s)
    assert (charged.update_s, update_s) == pytest.approx((0.0, machine.update_s), abs=1e-9)
    trace.attributes |= {"arrival_flops": 9e4, "dispatch_flops": 1e3}
    charged, _ = calibration.fit(trace, made_of.flops())
    speed = charged.coordinator_speed * charged.flops_per_s
    assert (charged.arrival_s, 9e4 / speed) == pytest.approx((0.0, machine.arrival_s), abs=1e-9)
    assert charged.dispatch_s + 1e3 / speed == pytest.approx(machine.dispatch_s)
    assert charged.update_s + 3e4 / speed == pytest.approx(machine.update_s)


def test_a_fit_finds_the_bandwidth_where_tasks_differ_in_size(tmp_path: Path) -> None:
    config, made_of = made()
    trace = record(
        tmp_path / "t.h5", config, made_of, 1, 300, bandwidth=2e8, down=lambda task: (2000, 60_000)[task % 2]
    )
    _, link = calibration.fit(trace, made_of.flops())
    assert link.bandwidth == pytest.approx(2e8, rel=0.05)
    assert link.latency_s == pytest.approx(LINK.latency_s, rel=0.05)
    same = record(tmp_path / "s.h5", config, made_of, 1, 300, down=lambda task: (2000, 2400)[task % 2])
    assert calibration.fit(same, made_of.flops())[1].bandwidth == LINK.bandwidth


@pytest.mark.parametrize("wanted", [1, 4])
def test_a_fit_finds_the_bandwidth_where_tasks_are_larger_than_payloads(tmp_path: Path, wanted: int) -> None:
    config, made_of = made()
    trace = record(tmp_path / "t.h5", config, made_of, wanted, 100, bandwidth=5e6, down=lambda task: 150_000)
    _, link = calibration.fit(trace, made_of.flops())  # the trace has [link] as by default
    assert link.bandwidth == pytest.approx(5e6, rel=0.05)
    assert link.latency_s == pytest.approx(LINK.latency_s, rel=0.1)


def test_messages_quicker_than_the_configured_link_have_a_bandwidth_of_their_own(tmp_path: Path) -> None:
    config, made_of = made()
    link = msgspec.structs.replace(LINK, latency_s=1e-9, bandwidth=1e9)
    config = msgspec.structs.replace(config, link=msgspec.structs.replace(link, bandwidth=1e8))
    trace = record(tmp_path / "t.h5", config, made_of, 1, 300, bandwidth=1e9)
    _, fitted = calibration.fit(trace, made_of.flops())
    assert fitted.bandwidth == pytest.approx(1e9, rel=0.05)
    assert fitted.latency_s == pytest.approx(0.0, abs=1e-7)


def test_a_run_on_the_virtual_clock_has_the_costs_that_it_was_given(tmp_path: Path) -> None:
    config, made_of = made()
    trace = record(tmp_path / "t.h5", config, made_of, 1, 5, clock="virtual")
    assert calibration.fit(trace, made_of.flops()) == (MACHINE, LINK)


def test_a_trace_without_arrivals_cannot_be_fitted(tmp_path: Path) -> None:
    config, made_of = made()
    trace = record(tmp_path / "t.h5", config, made_of, 1, 5, arrivals="none")
    with pytest.raises(InputError, match="no arrivals"):
        calibration.fit(trace, made_of.flops())


def test_costs_of_a_trace_are_loaded(tmp_path: Path) -> None:
    config, made_of = made()
    trace = record(tmp_path / "t.h5", config, made_of, 3, 30)
    loaded = costs.load(str(tmp_path / "t.h5"), Config())
    assert (loaded.machine, loaded.link) == calibration.fit(trace, made_of.flops())
    assert msgspec.structs.replace(loaded, machine=MachineTable(), link=LinkTable()) == Config()
    older = record(tmp_path / "older.h5", config, made_of, 3, 30, flops=None)
    assert costs.load(str(older.path), Config()) == loaded


def test_costs_of_a_trace_need_no_data(tmp_path: Path) -> None:
    """The trace may be on another machine, or claim data that do not fit into memory."""
    config, made_of = made()
    problem = {"kind": "least-squares", "data": "synthetic", "samples": 10**9, "features": 10**6}
    claimed = resolve({"problem": problem, "workers": {"count": 4}, "stop": {"updates": 1}})
    expected = record(tmp_path / "t.h5", config, made_of, 3, 30)
    moved = record(tmp_path / "moved.h5", config, made_of, 3, 30)
    with h5py.File(moved.path, "r+") as file:
        file.attrs["config_resolved"] = msgspec.json.encode(claimed).decode()
    loaded = costs.load(str(moved.path), Config())
    assert loaded.machine == costs.load(str(expected.path), Config()).machine


def test_a_trace_is_known_by_its_content_and_costs_what_its_stragglers_expect(tmp_path: Path) -> None:
    """A what-if costs base and delays; both have to mean the same base."""
    config, made_of = made()
    trace = record(tmp_path / "t.trace", config, made_of, 3, 30)
    loaded = costs.load(str(trace.path), config, base="low")
    assert loaded.machine.task_s == 0
    (made_ns,) = costs.times_ns(loaded.machine, made_of.flops())
    assert made_ns == pytest.approx(stragglers.base_ns(trace), abs=1)
    model = delayed(kind="trace", path=str(trace.path), draw="replay").make(1, 4)
    rows = trace.arrivals
    mine = rows["worker"] == 2
    took = (rows["t_send_ns"] - rows["t_start_ns"])[mine][np.argsort(rows["task"][mine])]
    delays = stragglers.delays_ns(model, [2], [0], len(took), [made_ns])[0]
    np.testing.assert_allclose(made_ns + delays, took, rtol=0, atol=2)


def test_two_sizes_tell_fixed_costs_from_those_of_flops_and_bytes() -> None:
    flops, sizes = (1_000_000, 50_000_000), (20_000.0, 600_000.0)
    seen = [
        MeasuredTimes(2e-5 + f / 4e9, 0.0, 3e-5 + b / 2e9, 5e-5 + b / 2e9, 7e-6 + b / 5e9, 3e-6, 8e-6)
        for f, b in zip(flops, sizes, strict=True)
    ]
    machine, link = calibration.fit_two_sizes(seen, flops, sizes, sizes)
    assert machine.flops_per_s == pytest.approx(4e9)
    assert machine.task_s == pytest.approx(2e-5)
    assert (machine.arrival_s, machine.decode_bandwidth) == pytest.approx((7e-6, 5e9))
    assert machine.dispatch_s == 3e-6
    assert machine.update_s == pytest.approx(5e-6)
    assert link.bandwidth == pytest.approx(2e9)
    assert link.latency_s == pytest.approx(4e-5)


def test_sizes_that_do_not_tell_leave_no_fixed_part() -> None:
    """The large run was no slower: noise. Rates are then those of the large one."""
    seen = [MeasuredTimes(1e-3, 0.0, 1e-4, 1e-4, 7e-6, np.nan, np.nan)] * 2
    machine, link = calibration.fit_two_sizes(seen, (1000, 2000), (10.0, 30.0), (10, 20))
    assert (machine.flops_per_s, link.bandwidth) == (2000 / 1e-3, 30 / 1e-4)
    assert (machine.dispatch_s, machine.update_s) == (0.0, 0.0)
    assert (machine.arrival_s, machine.decode_bandwidth) == (7e-6, None)
    assert machine.task_s == pytest.approx(5e-4)


def test_printed_tables_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "costs.toml"
    path.write_text(bench.text({"machine": MACHINE, "link": LINK}))
    loaded = costs.load(str(path), Config())
    assert (loaded.machine, loaded.link) == (MACHINE, LINK)
