"""Payloads scaled to the median norm: nobody leads θ astray, and replicas and replays follow."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from descents import Descent
from hypothesis import given
from hypothesis import strategies as st

import pdcode
from pdcode.coding.clipping import Clip, Votes, square
from pdcode.config import kinds
from pdcode.config import load as configfile
from pdcode.trace.schema import CLIPPED, FATES, REFUSED, USED, WASTED
from pdcode.training.worker import Worker
from pdcode.transport.layout import Layout, buffer
from pdcode.transport.messages import Reply
from pdcode.transport.units import Blocks
from pdcode.util.errors import InputError

FORMATS = {name: kinds.find("wires", name) for name in kinds.KINDS["wires"]}
PLAIN = ["scheme.name=uncoded", "workers.count=5", "stop.updates=150", "optimizer.rate=0.1"]


@given(st.lists(st.tuples(st.integers(0, 6), st.floats(0, 1e30)), min_size=1, max_size=60))
def test_the_median_is_that_of_each_workers_last(given: list[tuple[int, float]]) -> None:
    votes, last = Votes(), {}
    for worker, norm in given:
        votes.put(worker, norm)
        last[worker] = norm
        assert votes.median == np.sort(list(last.values()))[(len(last) - 1) // 2]
        assert len(votes) == len(last)


@pytest.mark.parametrize("wire", FORMATS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(seed=st.integers(0, 2**32), factor=st.sampled_from([0.5, 0.3, 1e-6]))
def test_a_message_is_scaled_as_its_payload_is(wire: str, dtype: str, seed: int, factor: float) -> None:
    if wire == "float64" and dtype == "float32":
        return
    layout = Layout([Blocks(0, "output", 4, 4, 1500, 0)], [2], [2], np.dtype(dtype), wire)
    reply, other = (Reply(layout, buffer(layout.reply_bytes)[0]) for _ in range(2))
    reply.payload[:] = np.random.default_rng(seed).normal(size=layout.payload_size)
    reply.quantise(1, 0, 0)
    before = reply.payloads[0].copy()
    reply.scale(factor)
    coarse = {"float16": 2e-3, "bfloat16": 1e-2}.get(wire, 1e-6)
    np.testing.assert_allclose(reply.payloads[0], factor * before, rtol=coarse, atol=1e-7 * coarse + 1e-7)
    other.body[:] = reply.body
    assert other.read()
    np.testing.assert_array_equal(other.payloads[0], reply.payloads[0])


def lying(monkeypatch: pytest.MonkeyPatch, worker: int, factor: float) -> None:
    """Have a worker's payloads multiplied before they are sent."""
    parts = Worker.parts

    def lie(self: Worker, task: Any) -> Any:
        for loss in parts(self, task):
            if self.worker == worker:
                self.replies[task.round].parts[task.part].scale(factor)
            yield loss

    monkeypatch.setattr(Worker, "parts", lie)


@pytest.mark.parametrize("factor", [1e6, -1e6])
@pytest.mark.parametrize(
    "more",
    [
        ["update.mode=all"],
        ["update.mode=async", "optimizer.rate=0.02", "stop.updates=600"],
        ["update.mode=quorum"],
    ],
)
def test_with_a_clip_a_run_converges_whoever_lies(monkeypatch, more, factor):
    lying(monkeypatch, 0, factor)
    losses = {}
    for clip in ("median", "none"):
        made = Descent([*PLAIN, *more, f"update.clip={clip}"], [1, 1.1, 1.2, 1.3, 1.4])
        with np.errstate(all="ignore"):
            made.run()
            losses[clip] = made.components.problem.loss(made.state.theta)
        if clip == "median":
            fates = {row["status"] for row in made.trace.arrivals if row["worker"] == 0}
            assert CLIPPED in fates
            assert USED not in fates
            counts = made.coordinator.roster.fates
            assert sum(counts) == sum(made.coordinator.roster.tasks) == len(made.trace.arrivals)
            assert counts[WASTED] >= 2, "of two payloads nobody can tell which is right"
            assert len(counts) == len(FATES)
    assert losses["median"] < 1.5, "from 2.3 on"
    assert not losses["none"] < 10


@pytest.mark.parametrize("value", [1.1e18, 1e20])
@pytest.mark.parametrize("mode", ["all", "first", "async"])
def test_one_huge_payload_does_not_stop_a_clipped_run(mode: str, value: float) -> None:
    """A norm beyond single precision, and a payload that is refused."""
    lie = f"faults.events=[{{kind='lie',how='constant',value={value},worker=3,task=0}}]"
    made = Descent([*PLAIN, f"update.mode={mode}", "update.clip=median", lie], [1, 1.1, 1.2, 1.3, 1.4])
    updates = made.config.stop.updates
    made.run()
    assert made.coordinator.version == updates
    fates = {row["status"] for row in made.trace.arrivals if row["worker"] == 3}
    assert (REFUSED if value > 1.2e18 else CLIPPED) in fates
    assert USED not in fates


def test_votes_of_zero_scale_to_zero() -> None:
    clip = Clip()
    for worker in range(3):
        clip(arrival(worker, 0.0), 5)
    huge = arrival(3, 1e30)
    assert clip(huge, 5) == 0.0
    assert not huge.payloads[0].any()


def arrival(worker: int, value: float) -> Any:
    """A payload of equal elements, as a clip sees it."""
    payload = np.full(4, value, "f4")
    scale = lambda factor: np.multiply(payload, np.float32(factor), out=payload)  # noqa: E731
    return SimpleNamespace(worker=worker, round=0, part=0, payloads=[payload], scale=scale)


@pytest.mark.parametrize(("element", "count"), [(1e18, 10_000), (1e-25, 10_000), (3.0, 7)])
def test_squares_are_those_of_double_precision(element: float, count: int) -> None:
    payload = np.full(count, element, "f4")
    assert square(payload) == pytest.approx(count * float(payload[0]) ** 2, rel=1e-5)


@pytest.mark.parametrize("wire", ["float32", "int8", "int2", "bfloat16"])
def test_replicas_follow_what_is_clipped(wire: str) -> None:
    made = Descent(
        [
            "workers.count=4", "update.clip=median", "downlink.kind=codewords", "downlink.check=1",
            f"wire.dtype={wire}", "memory.kind=worker" if wire != "int2" else "memory.kind=none",
        ],
        [1, 1.3, 2.2, 2.9],
    )  # fmt: skip
    made.run()  # compares the digests of θ at every task
    assert CLIPPED in made.trace.column("status")


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("downlink.kind=exchange", r"downlink\.kind: 'exchange' .* update\.clip 'median'"),
        ("workers.count=2", r"workers\.count: 2 .* update\.clip 'median'.* 3 or more"),
        ("scheme.name=allreduce", r"update\.clip: 'median' .* reduce\.kind 'allreduce'"),
    ],
)
def test_what_a_clip_does_not_go_with(override: str, key: str) -> None:
    with pytest.raises(InputError, match=key):
        configfile.resolve({}, ["update.clip=median", override])


def test_a_clipped_run_is_replayed_to_the_bit(tmp_path: Path) -> None:
    tables = {"update": {"clip": "median"}, "downlink": {"kind": "codewords"}, "stop": {"updates": 60}}
    trace = pdcode.simulate(tables, output=tmp_path / "clipped.h5", progress=False)
    assert CLIPPED in trace.arrivals["status"]
    np.testing.assert_array_equal(trace.replay(progress=False), trace.theta)
