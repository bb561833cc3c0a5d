"""The loop without numerics against the coordinator over a virtual fleet, arrival by arrival."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from descents import Rows
from hypothesis import given
from hypothesis import strategies as st

from pdcode.config import Config, StopTable
from pdcode.config import load as configfile
from pdcode.kernels import events, rounds
from pdcode.session.setup import prepare
from pdcode.util.errors import InputError
from pdcode.virtual import timing_only
from pdcode.virtual.executor import NullExecutor
from pdcode.virtual.result import Result
from pdcode.virtual.simulation import Simulation, simulate_timing

TINY = ["problem.kind=least-squares", "problem.data=synthetic", "problem.samples=40", "problem.features=3"]
MIXED = ["workers.count=9", "stragglers.kind=shifted-exponential", "stragglers.mean_s=0.002"]
NUMBERS = [
    "reason", "updates", "seconds", "arrivals", "used", "wasted", "bytes_up", "bytes_down", "length_ns",
    "processor_ns", "ingress_ns", "egress_ns",
]  # fmt: skip


class Sink(Rows):
    """A trace in memory, of which either loop writes its part."""

    def __init__(self) -> None:
        super().__init__()
        self.columns: dict[str, list[Mapping[str, Any]]] = {"arrivals": [], "updates": []}

    def extend(self, table: str, count: int, columns: Mapping[str, Any]) -> None:
        kept = {key: np.array(np.broadcast_to(column, count)) for key, column in columns.items()}
        self.columns[table].append(kept)

    def whole(self, table: str, name: str) -> np.ndarray:
        return np.concatenate([part[name] for part in self.columns[table]])


def load(overrides: list[str]) -> Config:
    return configfile.resolve({"memory": {"kind": "worker"}}, [*TINY, *overrides])


def ready(config: Config, simulation: Simulation) -> timing_only.TimingOnly:
    layout = simulation.components.layout
    return timing_only.TimingOnly(
        config, simulation.task_ns, layout.reply_bytes, layout.gradient_bytes, layout.body_offset
    )


def compare(overrides: list[str]) -> tuple[Sink, Result]:
    """Run both; all that the fast loop knows must be what the coordinator found."""
    config = load(overrides)
    components = prepare(config)
    simulation = Simulation(components, NullExecutor(components.layouts))
    slow, fast = Sink(), Sink()
    _, result = simulation.run(slow)
    quick = ready(simulation.charged, simulation)
    times = quick.run(fast)
    for table, names in (("arrivals", rounds.ARRIVAL), ("updates", rounds.UPDATE)):
        for name in names:
            expected = np.array([row[name] for row in getattr(slow, table)], np.int64)
            np.testing.assert_array_equal(fast.whole(table, name), expected, f"{table}/{name}")
    for name in ("bytes_up", "bytes_down"):
        np.testing.assert_array_equal(fast.whole("arrivals", name), slow.column(name))
    for name in NUMBERS:
        assert getattr(times, name) == getattr(result, name), name
    assert times.update_s == pytest.approx(result.update_s, nan_ok=True)
    assert times.arrivals == sum(quick.rounds.outcomes)
    found = [row for row in slow.faults if row["kind"] not in ("overdue", "returned")]
    assert fast.faults == found  # of the workers that were not waited for
    return fast, times


@st.composite
def runs(draw: st.DrawFn) -> list[str]:
    workers = draw(st.integers(1, 12))
    mode = draw(st.sampled_from(["all", "first", "async"]))
    overrides = [f"workers.count={workers}", f"update.mode={mode}", f"seed={draw(st.integers(0, 99))}"]
    if mode == "first":
        overrides.append(f"update.count={draw(st.integers(1, workers))}")
    overrides.append(f"update.late={draw(st.sampled_from(['use', 'waste']))}")
    overrides.append(f"link.broadcast={draw(st.sampled_from(['tree', 'star']))}")
    overrides.append(f"link.half_duplex={draw(st.sampled_from(['true', 'false']))}")
    overrides.append(f"link.bandwidth={draw(st.sampled_from([1e5, 1e6, 1e9]))}")
    if "link.broadcast=tree" in overrides:
        overrides.append(f"link.fanout={draw(st.integers(1, 3))}")
    costs = ("task_s", "arrival_s", "dispatch_s", "update_s")
    overrides += [f"machine.{key}={draw(st.sampled_from([0.0, 1e-6, 1e-3]))}" for key in costs]
    overrides += [f"machine.decode_bandwidth={draw(st.sampled_from([1e5, 1e9]))}"] * draw(st.integers(0, 1))
    overrides.append(f"machine.coordinators={draw(st.integers(1, 3))}")
    if draw(st.booleans()):
        overrides += ["stragglers.kind=shifted-exponential", "stragglers.mean_s=1e-3"]
        overrides.append(f"stragglers.slow={[draw(st.integers(0, workers - 1))]}")
        overrides.append(f"stragglers.slowdown={draw(st.sampled_from([1.0, 7.0]))}")
        dead = draw(st.lists(st.integers(0, workers - 1), max_size=2, unique=True))
        overrides.append(f"stragglers.dead={dead}")
    overrides.append(f"stop.updates={draw(st.integers(1, 60))}")
    overrides.append(f"stop.seconds={draw(st.sampled_from([0.15, 0.4]))}")
    if draw(st.booleans()):
        overrides.append(f"stop.drain_s={draw(st.sampled_from([0.0, 1e-4, 2e-3]))}")
    return overrides


@given(runs())
def test_arrivals_are_those_of_the_coordinator(overrides: list[str]) -> None:
    compare(overrides)


@pytest.mark.parametrize("mode", ["all", "first", "async"])
def test_many_workers_and_updates_are_those_of_the_coordinator_too(mode: str) -> None:
    """More than have room in the heap, in a bitmap's word, in the ring of delays and in the record."""
    sink, times = compare(
        [
            "workers.count=300", f"update.mode={mode}", "stragglers.kind=pareto", "stragglers.shift_s=1e-3",
            "stragglers.shape=1.1", "stop.updates=" + ("40" if mode != "async" else "6000"),
        ]
    )  # fmt: skip
    assert times.arrivals > 6000
    if mode == "all":
        assert times.updates == 40
        assert (sink.whole("updates", "n_used") == 300).all()


def test_a_tree_brings_scales_of_integers_to_all_workers_at_once() -> None:
    summed = ["code.family=uncoded", "code.blocks=1", "memory.kind=worker", "reduce.bits=8"]
    link = ["link.broadcast=tree", "link.bandwidth=1e5"]
    config = load([*MIXED, *summed, *link, "update.mode=all", "stop.updates=5"])
    components = prepare(config)
    _, result = Simulation(components, NullExecutor(components.layouts)).run()
    assert simulate_timing(config, components).seconds == result.seconds


def test_dead_workers_answer_when_the_run_is_over() -> None:
    dead = ["stragglers.dead=[3, 1]", "update.mode=first", "update.count=7", "stop.updates=20"]
    sink, times = compare([*MIXED, *dead])
    late = sink.whole("arrivals", "injected_delay_ns") == -1
    assert sink.whole("arrivals", "worker")[late].tolist() == [1, 3]
    assert sink.whole("arrivals", "status")[late].tolist() == [2, 2]
    assert (sink.whole("arrivals", "t_send_ns")[late] >= round(1e9 * times.seconds)).all()


def test_a_run_that_waits_for_a_dead_worker_ends_in_time() -> None:
    _, times = compare([*MIXED, "stragglers.dead=[3]", "update.mode=all", "stop.seconds=0.5"])
    assert (times.seconds, times.updates, times.reason) == (0.5, 0, "0.5 s")
    assert times.arrivals == 9


@pytest.mark.parametrize("mode", ["all", "async"])
def test_rank_0_pays_for_an_update_when_it_makes_it(mode: str) -> None:
    overrides = [f"update.mode={mode}", "machine.update_s=10", "stop.updates=3"]
    overrides.append("machine.coordinator_speed=1e9")
    sink, times = compare([*MIXED, *overrides])
    gaps = np.diff(sink.whole("updates", "t_ns"), prepend=0)
    assert (gaps >= 10**10).all()
    assert times.seconds == 1e-9 * sink.whole("updates", "t_ns")[-1]
    drained = sink.whole("arrivals", "status") == 2
    used = sink.whole("arrivals", "t_decoded_ns")[~drained]
    assert used[-1] + 10**10 == sink.whole("updates", "t_ns")[-1]


@pytest.mark.parametrize("seconds", [0.001, 0.0155, 0.103])
def test_a_run_ends_in_time_though_nothing_arrives(seconds: float) -> None:
    slow = ["machine.task_s=0.1", "update.mode=all", f"stop.seconds={seconds}"]
    assert compare(["workers.count=3", *slow])[1].seconds == pytest.approx(seconds, abs=1e-12)


def test_a_run_ends_if_rank_0_is_busy_past_its_end_and_only_dead_workers_have_tasks() -> None:
    busy = ["machine.arrival_s=1", "machine.task_s=0.01", "stop.seconds=0.5", "update.mode=all"]
    _, times = compare([*MIXED[1:], "stragglers.dead=[1]", "workers.count=2", *busy])
    assert (times.updates, times.arrivals) == (0, 2)
    assert 1 <= times.seconds < 1.1


def test_one_that_nothing_ends_is_an_error() -> None:
    config = load([*MIXED, "stragglers.dead=[3]", "update.mode=all", "stop.seconds=5"])
    config = msgspec.structs.replace(config, stop=StopTable(updates=5))
    with pytest.raises(RuntimeError, match="no reply will ever arrive"):
        timing_only.TimingOnly(config, 1000, 100, 100, 0).run()


@pytest.mark.parametrize(("arrivals", "sample"), [("none", 7), ("sampled", 7), ("sampled", 1)])
def test_the_record_has_the_arrivals_that_the_trace_is_to_hold(arrivals: str, sample: int) -> None:
    config = load([*MIXED, "stop.updates=300"])
    sampled = [f"trace.sample={sample}"] if arrivals == "sampled" else []
    kept = load([*MIXED, "stop.updates=300", f"trace.arrivals={arrivals}", *sampled])
    every, some = Sink(), Sink()
    times = timing_only.TimingOnly(config, 1000, 100, 100, 0).run(every)
    again = timing_only.TimingOnly(kept, 1000, 100, 100, 0).run(some)
    for name in NUMBERS:
        assert getattr(again, name) == getattr(times, name), name
    worker, task = every.whole("arrivals", "worker"), every.whole("arrivals", "task")
    expected = task % sample == worker % sample if arrivals == "sampled" else task < 0
    np.testing.assert_array_equal(
        some.whole("arrivals", "t_recv_ns"), every.whole("arrivals", "t_recv_ns")[expected]
    )
    np.testing.assert_array_equal(some.whole("updates", "t_ns"), every.whole("updates", "t_ns"))


@pytest.mark.parametrize(
    ("message", "overrides"),
    [
        ("update.mode: 'captured'", ["update.mode=captured", "stop.updates=5"]),
        ("downlink.kind: 'codewords'", ["downlink.kind=codewords", "memory.kind=worker", "stop.updates=5"]),
        ("faults: ", ['faults.events=[{kind="nan", worker=1, task=0}]', "stop.updates=5"]),
        ("stop.updates: ", ["stop.loss=0.1"]),
        ("update.count: 10", ["update.mode=first", "update.count=10", "stop.updates=5"]),
    ],
)
def test_refuses_what_depends_on_the_numerics(message: str, overrides: list[str]) -> None:
    with pytest.raises(InputError, match=message):
        timing_only.TimingOnly(load([*MIXED, *overrides]), 1000, 100, 100, 0)


def test_the_loop_refuses_numbers_out_of_range() -> None:
    def made(workers: int = 3, **options: Any) -> rounds.Rounds:
        clock = events.Events(workers, 8, 1e9, 5)
        arguments = {"compute_ns": np.array([7]), "ring": 8, "body_bytes": 1, "own_bytes": 1} | options
        return rounds.Rounds(clock, **arguments)

    for message, options in {
        "ring is 6": {"ring": 6},
        "compute_ns has 2 times": {"compute_ns": np.array([1, 2])},
        "compute_ns: must be": {"compute_ns": np.array([-1])},
        "wanted is 0": {"wanted": 0},
        "updates is 0": {"updates": 0},
        "room is 0": {"room": 0},
        "a message of -1 bytes": {"own_bytes": -1},
    }.items():
        with pytest.raises(ValueError, match=message):
            made(**options)
    loop = made()
    assert loop.run() == rounds.DRY
    workers, first = loop.short()
    assert (workers.tolist(), first.tolist()) == ([0, 1, 2], [0, 0, 0])
    with pytest.raises(ValueError, match=r"delays_ns is \(3, 8\): must be \(3, 4\)"):
        loop.fill(workers, np.zeros((3, 8), np.int64))
    with pytest.raises(ValueError, match="delays_ns: must be up to"):
        loop.fill(workers, np.full((3, 4), 2**62))
    loop.fill(workers, np.zeros((3, 4), np.int64))
    loop.fill(workers, np.zeros((3, 4), np.int64))
    with pytest.raises(ValueError, match="less than half"):
        loop.fill(workers[:1], np.zeros((1, 4), np.int64))


def test_the_median_interval_is_that_of_all_or_of_many_at_equal_distances(monkeypatch):
    monkeypatch.setattr(timing_only, "MAX_INTERVALS", 64)
    intervals = np.random.default_rng(1).integers(1, 1000, 64 * 40)
    updates = np.cumsum(intervals)
    few, many = timing_only.Intervals(), timing_only.Intervals()
    assert np.isnan(few.median_s())
    for part in (updates[:1], updates[1:1], updates[1:50], updates[50:64]):
        few.add(part)
    assert few.median_s() == 1e-9 * np.median(intervals[:64])
    for part in np.array_split(updates, 77):
        many.add(part)
    assert len(many._kept) <= 64
    np.testing.assert_array_equal(many._kept, intervals[:: many._every])
    assert many.median_s() == pytest.approx(1e-9 * np.median(intervals), rel=0.3)


def test_a_long_run_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing_only, "LINE_NS", 0)
    monkeypatch.setattr(timing_only, "BUFFER_ROWS", 100)
    said: list[str] = []
    config = load([*MIXED, "stop.updates=300"])
    timing_only.TimingOnly(config, 1000, 100, 100, 0).run(None, said.append)
    assert len(said) >= 3
    assert "update 100 " in said[0]
    assert "100 arrivals, " in said[0]
