"""Arrivals taken in by compiled calls: the same θ and rows, to the last bit, as by those they stand for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import traces
from descents import Descent
from hypothesis import given
from hypothesis import strategies as st

from pdcode.coding import state
from pdcode.kernels import intake
from pdcode.trace import Recorder, Trace
from pdcode.trace.schema import ARRIVALS, REFUSED, WASTED
from pdcode.transport.base import Arrival
from pdcode.virtual.schedule import CostModelSchedule
from pdcode.virtual.simulation import Simulation

TIMES_MS = [1, 1.3, 1.7, 25.5]
START = ["workers.count=4", "code.blocks=[16,8]", "stop.updates=25"]
SCHEMES = {
    "sum": [],
    "mean": ["memory.kind=none"],
    "tracking": ["memory.kind=coordinator"],
    "summing": ["memory.kind=difference"],
    "least squares": ["memory.kind=none", "decoder.kind=least_squares", "update.mode=all"],
    "energy": ["code.family=energy"],
    "static": ["code.rotate=false"],
    "random": ["code.family=random", "code.weight=3"],
    "matched": ["code.family=matched", "code.rows_per_task=2", "code.weight=6"],
    "momentum": ["optimizer.momentum=0.7"],
    "waste": ["update.mode=first", "update.count=2", "update.late=waste"],
    "relayed": ["downlink.kind=codewords", "downlink.check=3"],
}
WIRES = ["float32", "bfloat16", "int8", "int2"]


def whole(overrides: list[str]) -> tuple[bytes, list[dict[str, float]], list[dict[str, float]]]:
    """θ and rows of a run that ends, if it must, for want of finite payloads."""
    made = Descent([*START, *overrides], TIMES_MS)
    with np.errstate(all="ignore"):
        made.run()
    return made.state.theta.tobytes(), made.trace.arrivals, made.trace.updates


def without(patch: pytest.MonkeyPatch) -> None:
    """Take the general path everywhere."""
    patch.setattr(state, "adding", lambda decoders: None)
    patch.setattr(intake, "write_codewords", lambda *arrays: False)
    patch.setattr(intake, "read_codewords", lambda *arrays: False)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_runs_are_equal(scheme: str, wire: str) -> None:
    overrides = [*SCHEMES[scheme], f"wire.dtype={wire}"]
    fast = whole(overrides)
    with pytest.MonkeyPatch.context() as patch:
        without(patch)
        assert whole(overrides) == fast


@pytest.mark.parametrize("wire", ["float32", "int8"])
def test_payloads_that_are_not_finite_are_refused_alike(wire: str) -> None:
    overrides = [f"wire.dtype={wire}", "faults.nan_worker=1", "faults.nan_task=3"]
    fast = whole(overrides)
    assert any(row["status"] == REFUSED for row in fast[1])
    with pytest.MonkeyPatch.context() as patch:
        without(patch)
        assert whole(overrides)[:1] == fast[:1]
        assert repr(whole(overrides)) == repr(fast)  # losses are nan


def test_late_payloads_are_wasted_alike() -> None:
    fast = whole(SCHEMES["waste"])
    assert any(row["status"] == WASTED for row in fast[1])


@pytest.mark.parametrize("what", ["rows", "units", "twice"])
def test_odd_arrivals_go_the_general_way(what: str) -> None:
    made = Descent(START, TIMES_MS)
    coded, reply = made.state, made.fleet._replies[0][0]
    order = coded.order(0, 0)
    reply.payload[:] = np.random.default_rng(0).normal(size=reply.payload.size)
    words, payloads = list(order.codewords), list(reply.payloads)
    if what == "twice":  # the same arrival again is added again
        coded.add(words, payloads)
        once = [decoder.accumulator.copy() for decoder in coded.decoders]
        coded.add(words, payloads)
        for decoder, before in zip(coded.decoders, once, strict=True):
            assert decoder.count == 2 * len(words[coded.decoders.index(decoder)][0])
            np.testing.assert_array_equal(decoder.accumulator, 2 * before)
        return
    if what == "rows":
        words[0] = words[0][0][:0], words[0][1][:0]
    else:
        payloads.pop()
    with pytest.raises(ValueError, match=r"must have shape|shorter"):
        coded.add(words, payloads)
    if what == "rows":
        assert not any(decoder.accumulator.any() for decoder in coded.decoders)


@given(
    numbers=st.lists(st.integers(0, 2**31 - 1), min_size=15, max_size=15),
    reals=st.lists(st.floats(width=64), min_size=2, max_size=2),
)
def test_rows_of_replies_are_those_of_their_values(tmp_path_factory, numbers, reals) -> None:
    folder: Path = tmp_path_factory.mktemp("rows")
    reply = Arrival.__new__(Arrival)
    names = [
        "task", "version", "row", "t_start_ns", "t_compute_ns", "t_send_ns", "t_recv_ns", "injected_delay_ns",
        "bytes_up", "bytes_down", "round", "part",
    ]  # fmt: skip
    for name, number in zip(names, numbers, strict=False):
        setattr(reply, name, number)
    reply.worker, reply.loss = numbers[12] % 3, reals[0]
    rest = numbers[13], numbers[14], 5, 6, reals[1], 1
    rows = []
    for method in (Recorder.arrived, None):
        writer = traces.writer(folder / f"{len(rows)}.h5", 3)
        if method is None:
            writer.arrived(reply, *rest)
        else:
            method(writer, reply, *rest)
        writer.close()
        table = Trace(writer.path).arrivals
        rows.append([np.asarray(table[name]).tobytes() for name in ARRIVALS])
    assert rows[0] == rows[1]


@pytest.mark.parametrize("mode", ["async", "all"])
def test_tasks_sent_alone_leave_as_those_sent_together(mode: str) -> None:
    overrides = [f"update.mode={mode}", "stragglers.kind=shifted-exponential", "stragglers.mean_s=0.01"]
    results = []
    for alone in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not alone:
                patch.setattr(CostModelSchedule, "_send_one", lambda *arguments: False)
            made = Descent([*START, *overrides], TIMES_MS)
            _, result = Simulation(made.config).run()
            results.append((result.length_ns, result.theta.tobytes(), result.arrivals))
    assert results[0] == results[1]
