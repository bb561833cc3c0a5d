"""Faults on the virtual clock: what they do to times and to the descent, the same each time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pdcode
from pdcode import Trace
from pdcode.__main__ import main
from pdcode.util.errors import Failure, InputError
from pdcode.virtual.faults import end_of_work, merged, next_free

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("read_at_once")]

JOB: dict[str, Any] = {
    "problem": {"hidden": [16], "batch": 16},
    "code": {"blocks": [8, 1]},
    "optimizer": {"rate": 0.2},
    "workers": {"count": 8},
    "stragglers": {"kind": "shifted-exponential", "shift_s": 0.002, "mean_s": 0.003},
    "stop": {"loss": 0.5, "seconds": 30.0},
    "trace": {"progress_s": 0.02},
}
MODES = {
    "async": ["update.mode=async"],
    "first": ["update.mode=first", "update.count=6"],
    "relayed": ["update.mode=async", "downlink.kind=codewords"],
}
ALL = """[
    {kind="kill", worker=0, at_s=0.1}, {kind="join", worker=0, at_s=0.15}, {kind="exit", worker=1, task=9},
    {kind="stop", worker=2, at_s=0.05, for_s=0.1}, {kind="hang", worker=2, task=20, for_s=0.05},
    {kind="slow", worker=3, at_s=0.02, factor=50.0}, {kind="nan", worker=3, task=5, for_s=0.0},
    {kind="lie", worker=4, at_s=0.1, for_s=0.02}, {kind="corrupt", worker=4, at_s=0.2, for_s=0.02, bits=3},
    {kind="drop", worker=5, at_s=0.05, share=0.5, timeout_s=0.02}, {kind="delay", worker=5, task=3},
    {kind="duplicate", worker=6, task=2}, {kind="cut", worker=7, at_s=0.1, for_s=0.1}]"""


def run(path: Path, events: str = "[]", *settings: str) -> Trace:
    every = [f"faults.events={events}", *settings]
    return pdcode.simulate(JOB, output=path, set=every, progress=False)


def rows(trace: Trace) -> dict[str, np.ndarray]:
    """All rows, but for times of the machine."""
    tables = "arrivals", "updates", "progress", "faults"
    return {f"{name}/{key}": column for name in tables for key, column in getattr(trace, name).items()}


spans = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 15)), max_size=4).map(
    lambda found: merged((at, at + length) for at, length in found)
)


@given(spans, st.integers(0, 60), st.integers(0, 30))
def test_work_stands_still_while_it_is_halted(halts: list[tuple[int, int]], start: int, work: int) -> None:
    now, left = start, work
    while left:
        left -= not any(begin <= now < end for begin, end in halts)
        now += 1
    assert end_of_work(start, work, halts) == now
    while any(begin <= now < end for begin, end in halts):
        now += 1
    assert next_free(end_of_work(start, work, halts), halts) == now


@pytest.mark.parametrize("mode", MODES)
def test_the_same_table_gives_the_same_trace(tmp_path: Path, mode: str, capsys: Any) -> None:
    first, second = (run(tmp_path / name, ALL, *MODES[mode]) for name in ("a.h5", "b.h5"))
    assert rows(first).keys() == rows(second).keys()
    for name, column in rows(first).items():
        np.testing.assert_array_equal(column, rows(second)[name], err_msg=name)
    assert {"dead", "joined", "refused", "stray"} <= set(first.faults["kind"].tolist())
    back = first.arrivals["worker"] == 0
    assert (first.arrivals["t_start_ns"][back] > 0.15e9).any()
    assert main(["replay", str(tmp_path / "a.h5")]) == 0, capsys.readouterr()


@pytest.mark.every(2)
@pytest.mark.parametrize("mode", ["async", "first"])
@pytest.mark.parametrize("count", [1, 4, 7])
def test_runs_reach_the_target_without_workers_that_are_killed(tmp_path: Path, mode: str, count: int) -> None:
    for seed in range(3):
        kills = [f"{{worker={(seed + i) % 8}, at_s={0.02 + 0.007 * i}}}" for i in range(count)]
        settings = [*MODES[mode], f"seed={seed}", "stop.loss=1.0"]
        trace = run(tmp_path / f"{seed}.h5", f"[{', '.join(kills)}]", *settings)
        assert trace.summary()["target_s"] < 20
        assert trace.faults["kind"].tolist() == ["dead"] * count
        last_ns = trace.faults["t_ns"].max()
        assert len(set(trace.arrivals["worker"][trace.arrivals["t_recv_ns"] > last_ns])) == 8 - count


@pytest.mark.parametrize("kind", ["stop", "hang", "cut"])
def test_nothing_is_sent_meanwhile(tmp_path: Path, kind: str) -> None:
    sent = "update.mode=async"
    trace = run(tmp_path / "a.h5", f"[{{kind='{kind}', worker=3, at_s=0.1, for_s=0.2}}]", sent)
    free = run(tmp_path / "b.h5", "[]", sent)
    mine = trace.arrivals["t_send_ns"][trace.arrivals["worker"] == 3]
    assert not ((mine >= 0.1e9) & (mine < 0.3e9)).any()
    assert (mine == 0.3e9).sum() == 1
    early = free.arrivals["t_recv_ns"] < 0.1e9
    same = trace.arrivals["t_recv_ns"][: early.sum()]
    np.testing.assert_array_equal(free.arrivals["t_recv_ns"][early], same)


def test_what_is_halted_for_good_is_not_waited_for_at_the_end(tmp_path: Path) -> None:
    trace = run(tmp_path / "a.h5", "[{kind='stop', worker=3, at_s=0.1}]", "update.mode=async")
    assert trace.finished
    assert trace.faults["kind"].tolist() == ["missing"]
    gone = {"events": [{"kind": "exit", "worker": 3, "at_s": 0.1}]}
    endless = {**JOB, "stop": {"loss": 0.5}, "update": {"mode": "all"}, "faults": gone}
    with pytest.raises(Failure, match="no reply will ever arrive"):
        pdcode.simulate(endless, output=tmp_path / "b.h5", progress=False)


def test_a_reply_that_comes_twice_counts_once(tmp_path: Path) -> None:
    twice = run(tmp_path / "a.h5", "[{kind='duplicate', worker=3, task=0}]", "update.mode=first")
    once = run(tmp_path / "b.h5", "[]", "update.mode=first")
    np.testing.assert_array_equal(twice.theta, once.theta)
    assert twice.faults["kind"].tolist() == ["stray"]


@pytest.mark.parametrize("wire", ["float32", "int8"])
def test_a_lie_and_its_opposite_and_a_slower_message(tmp_path: Path, wire: str) -> None:
    """A worker that lies knows nothing of it: its memory is that of one that does not."""
    settings = ["update.mode=all", f"wire.dtype={wire}", "memory.kind=worker", "stop.loss=1.2"]
    plain = run(tmp_path / "a.h5", "[]", *settings)
    lies = [f"{{kind='lie', worker={worker}, task=0, how='scale', value=1.0}}" for worker in range(8)]
    same = run(tmp_path / "b.h5", f"[{', '.join(lies)}]", *settings)
    if wire == "float32":
        np.testing.assert_array_equal(same.theta, plain.theta)
    flips = run(tmp_path / "c.h5", "[{kind='lie', worker=0, task=3, for_s=0.0}]", *settings)
    assert not np.array_equal(flips.theta, plain.theta)
    assert flips.summary()["target_s"] < 20
    late = "worker=2, at_s=0.1, for_s=0.1"
    dropped = run(tmp_path / "d.h5", f"[{{kind='drop', {late}, timeout_s=0.05}}]", *settings)
    delayed = run(tmp_path / "e.h5", f"[{{kind='delay', {late}, delay_s=0.05}}]", *settings)
    np.testing.assert_array_equal(dropped.arrivals["t_recv_ns"], delayed.arrivals["t_recv_ns"])


def test_faults_of_rank_0_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"rank 0 was killed at 0\.1 s") as caught:
        run(tmp_path / "a.h5", "[{kind='kill-rank-0', at_s=0.1}]")
    assert not caught.value.trace.finished
    with pytest.raises(Failure, match=r"a\.h5: cannot write the trace: No space left on device"):
        run(tmp_path / "a.h5", "[{kind='full-disk', at_s=0.1}]")


def test_an_allreduce_needs_everybody(tmp_path: Path) -> None:
    settings = ["scheme.name=allreduce", "code.blocks=1"]
    slow = run(tmp_path / "a.h5", "[{kind='stop', worker=2, at_s=0.1, for_s=0.1}]", *settings)
    assert slow.finished
    with pytest.raises(Failure, match="worker 2 died; the run cannot continue without"):
        run(tmp_path / "b.h5", "[{worker=2, at_s=0.1}]", *settings)


def test_without_numerics_there_are_faults_of_time(tmp_path: Path) -> None:
    job = {**JOB, "stop": {"updates": 300}, "update": {"mode": "async"}}
    for events, died in (([{"worker": 2, "at_s": 0.05}], 1), ([], 0)):
        trace = pdcode.simulate(
            {**job, "faults": {"events": events}}, output=tmp_path / "a.h5", timing_only=True, progress=False
        )
        assert trace.faults.rows == died
    with pytest.raises(InputError, match="kind 'lie': there are no payloads without numerics"):
        pdcode.simulate(
            {**job, "faults": {"events": [{"kind": "lie", "worker": 2, "at_s": 0.05}]}},
            output=tmp_path / "a.h5", timing_only=True, progress=False,
        )  # fmt: skip


def test_nodes_come_and_go(tmp_path: Path) -> None:
    path = tmp_path / "nodes.csv"
    path.write_text("0,add,a\n0,add,b\n50,remove,a\n90,remove,b\n120,add,c\n150,add,d\n", encoding="utf-8")
    for end, kind in (("kill", "dead"), ("leave", "left")):
        nodes = {"spot": str(path), "spot_end": end}
        trace = pdcode.simulate(
            {**JOB, "faults": nodes}, output=tmp_path / f"{end}.h5", set=MODES["async"], progress=False
        )
        assert trace.summary()["target_s"] < 20
        begun_ns = trace.arrivals["t_start_ns"]
        assert not ((begun_ns > 0.09e9) & (begun_ns < 0.12e9)).any()  # nobody was there
        assert set(trace.arrivals["worker"][begun_ns > 0.15e9]) == set(range(8))
        kinds, counts = np.unique(trace.faults["kind"], return_counts=True)
        assert dict(zip(kinds, counts, strict=True)) == {kind: 8, "joined": 8}
        assert trace.counters["lost"] == (8 if kind == "dead" else 0)
        assert main(["replay", str(trace.path)]) == 0


@pytest.mark.parametrize("mode", MODES)
def test_a_worker_leaves_with_its_first_reply_that_it_sends_from_then_on(tmp_path: Path, mode: str) -> None:
    leave = "[{kind='leave', worker=2, at_s=0.05}, {kind='leave', worker=5, task=4}]"
    trace = run(tmp_path / "a.h5", leave, *MODES[mode])
    assert trace.faults["kind"].tolist() == ["left", "left"]
    arrivals, last = trace.arrivals, {}
    for worker in (2, 5):
        (own,) = np.nonzero(arrivals["worker"] == worker)
        last[worker] = {key: arrivals[key][own[-1]] for key in ("t_send_ns", "task")}
        if worker == 2:
            assert arrivals["t_send_ns"][own[-2]] < 0.05e9 <= last[2]["t_send_ns"]
    assert last[5]["task"] == 4
    assert trace.counters["lost"] == 0


def test_spare_ranks_take_places_at_once_but_for_those_of_whom_the_table_says_when(tmp_path: Path) -> None:
    kills = ", ".join(f"{{worker={worker}, at_s={0.04 + 0.01 * worker}}}" for worker in (1, 2, 3))
    events = f"[{kills}, {{kind='join', worker=1, at_s=0.2}}]"
    trace = run(tmp_path / "a.h5", events, "workers.spares=1", "stop.seconds=0.3", "stop.loss=1e-9")
    told = list(zip(*(trace.faults[key].tolist() for key in ("kind", "worker", "t_ns")), strict=True))
    assert told == [
        ("dead", 1, 50_000_000), ("dead", 2, 60_000_000), ("joined", 2, 60_000_000), ("dead", 3, 70_000_000),
        ("joined", 1, 200_000_000),
    ]  # fmt: skip
