"""Arrivals taken in by compiled calls: the same θ and rows, to the last bit, as by those they stand for."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import traces
from descents import Descent
from hypothesis import given
from hypothesis import strategies as st

from pdcode.coding import replica, state
from pdcode.coding.policies import AsyncTable
from pdcode.kernels import codewords
from pdcode.schemes import coded_state
from pdcode.session.setup import prepare
from pdcode.trace.reader import TraceReader
from pdcode.trace.recorder import Recorder
from pdcode.trace.schema import ARRIVALS, REFUSED, UPDATES, WASTED
from pdcode.training.coordinator import Coordinator
from pdcode.training.fused import FusedCoordinator
from pdcode.transport import messages
from pdcode.transport.base import Arrival
from pdcode.transport.layout import Pair, buffer, buffer_sizes
from pdcode.virtual.schedule import CostModelSchedule
from pdcode.virtual.simulation import Simulation

TIMES_MS = [1, 1.3, 1.7, 25.5]
START = ["workers.count=4", "code.blocks=[16,8]", "stop.updates=25"]
RELAYED = ["downlink.kind=codewords", "downlink.check=3", "update.mode=async"]
SCHEDULED = ["optimizer.schedule=linear", "optimizer.updates=40", "optimizer.warmup=5"]
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
    "relayed, in groups": [*RELAYED, "code.blocks=[16,1]", "code.rows_per_task=8"],
    "relayed, by chance": [*RELAYED, "code.family=random", "code.weight=3"],
    "relayed, selected": [*RELAYED, "code.family=energy"],
    "relayed, a sample": [*RELAYED, "memory.kind=none", "optimizer.staleness=inverse"],
    "relayed, momentum": [*RELAYED, "optimizer.momentum=0.7"],
    "relayed, scheduled": [*RELAYED, *SCHEDULED],
    "relayed, several a step": [*RELAYED, "update.mode=first", "update.count=2"],
}
WIRES = ["float32", "bfloat16", "int8", "int4", "int2", "sign"]


def whole(overrides: list[str]) -> tuple[bytes, list[dict[str, float]], list[dict[str, float]]]:
    """θ and rows of a run that ends, if it must, for want of finite payloads."""
    made = Descent([*START, *overrides], TIMES_MS)
    with np.errstate(all="ignore"):
        made.run()
    return made.state.theta.tobytes(), made.trace.arrivals, made.trace.updates


def without(patch: pytest.MonkeyPatch) -> None:
    """Take the general path everywhere."""
    patch.setattr(state, "fused_accumulators", lambda decoders: None)
    patch.setattr(messages, "compiled_view", lambda sections: None)
    patch.setattr(replica, "fused_descents", lambda *arguments: None)
    patch.setattr(codewords, "write_codewords", lambda *arrays: False)
    patch.setattr(codewords, "read_codewords", lambda *arrays: False)
    patch.setattr(FusedCoordinator, "on_reply", Coordinator.on_reply)


@pytest.mark.every(3)
@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_runs_are_equal(scheme: str, wire: str) -> None:
    overrides = [*SCHEMES[scheme], f"wire.dtype={wire}"]
    fast = whole(overrides)
    with pytest.MonkeyPatch.context() as patch:
        without(patch)
        assert whole(overrides) == fast


@pytest.mark.parametrize("wire", ["float32", "int8", "int2"])
@pytest.mark.parametrize("relayed", [[], RELAYED])
def test_payloads_that_are_not_finite_are_refused_alike(wire: str, relayed: list[str]) -> None:
    overrides = [*relayed, f"wire.dtype={wire}", 'faults.events=[{kind="nan", worker=1, task=3}]']
    fast = whole(overrides)
    assert any(row["status"] == REFUSED for row in fast[1])
    with pytest.MonkeyPatch.context() as patch:
        without(patch)
        assert whole(overrides)[:1] == fast[:1]
        assert repr(whole(overrides)) == repr(fast)  # losses are nan


PLAIN = ["update.mode=async", "memory.kind=none"]
TURNS = {
    "plain": PLAIN,
    "whole gradients": [*PLAIN, "code.blocks=1"],
    "a memory": ["update.mode=async"],
    "damped": [*PLAIN, "optimizer.staleness=inverse"],
    "wasted": [*PLAIN, "update.late=waste"],
    "refused": [*PLAIN, 'faults.events=[{kind="nan", worker=1, task=3}]'],
    "momentum": [*PLAIN, "optimizer.momentum=0.7"],
    "energy": [*PLAIN, "code.family=energy"],
    "selected": ["update.mode=async", "code.family=matched"],
    "exchanged": [*RELAYED, "downlink.kind=exchange"],
    "scheduled": [*PLAIN, *SCHEDULED],
    "plateau": [*PLAIN, "optimizer.plateau=true", "optimizer.rate=1.0"],
    "clipped, decaying": [*PLAIN, "optimizer.clip=0.5", "optimizer.weight_decay=0.1"],
}


@pytest.mark.every(6)
@pytest.mark.parametrize("case", TURNS)
def test_turns_of_one_call_are_those_of_many(case: str, tmp_path: Path) -> None:
    ended = []
    for at_once in (True, False):
        writer = traces.writer(tmp_path / f"{at_once}.h5", 4)
        with pytest.MonkeyPatch.context() as patch:
            judged, judge = [], Coordinator.judge
            patch.setattr(Coordinator, "judge", lambda *each: judged.append(each) or judge(*each))  # noqa: B023
            if not at_once:
                patch.setattr(FusedCoordinator, "on_reply", Coordinator.on_reply)
            made = Descent([*START, *TURNS[case], "stop.updates=80"], TIMES_MS, writer)
            made.run()
        theta, counts = made.state.theta.tobytes(), made.coordinator.state_dict()
        writer.close()
        trace = TraceReader(writer.path)
        rows = [np.asarray(trace.arrivals[name]).tobytes() for name in ARRIVALS]
        rows += [np.asarray(trace.updates[name]).tobytes() for name in UPDATES]
        assert at_once == (len(judged) < made.coordinator.roster.arrivals)
        ended.append((theta, rows, repr(counts)))
    assert ended[0] == ended[1]


@pytest.mark.parametrize("case", ["plain", "energy", "exchanged", "momentum", "damped"])
def test_a_policy_may_shorten_the_steps_of_one_payload(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_steps = whole(TURNS[case])
    half = lambda table, payloads, workers: 0.5 if (payloads, workers) == (1, 4) else 1.0  # noqa: E731
    monkeypatch.setattr(AsyncTable, "step_factor", half)
    fast = whole(TURNS[case])
    assert fast[2] != whole_steps[2]
    without(monkeypatch)
    assert whole(TURNS[case]) == fast


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
    with pytest.raises(ValueError, match=r"arrays do not fit|shorter"):
        coded.add(words, payloads)
    if what == "rows":
        assert not any(decoder.accumulator.any() for decoder in coded.decoders)


class Relay:
    """Rank 0's state, and two replicas of it: one that takes in arrivals at once, and one that does not."""

    def __init__(self, *overrides: str) -> None:
        made = Descent([*START, *RELAYED, "memory.kind=none", "code.rows_per_task=8", *overrides], TIMES_MS)
        self.state, self.reply = made.state, made.fleet._replies[0][0]
        components, layouts = made.components, made.components.layouts
        self.task = messages.Task(layouts, buffer(buffer_sizes(layouts)[0])[0])
        weights = self.state.assignment.weights
        self.replicas = [
            replica.MirroredReplica(
                coded_state(components.scheme, components.problem, None, weights), at_once
            )
            for at_once in (True, False)
        ]
        self.random, self.tasks = np.random.default_rng(0), 0
        self.update()

    def arrive(self, bad: int | None = None, words: list[Pair] | None = None) -> None:
        """Fold a payload into rank 0's state; not finite in one unit, on request."""
        order = self.state.order(1, 0)
        self.reply.payload[:] = self.random.normal(size=self.reply.payload.size)
        if bad is not None:
            self.reply.payloads[bad][-1, -1] = np.nan
        self.reply.quantise(0, 0, self.tasks)
        self.reply.read()
        arrival = Arrival(self.reply, 0)
        arrival.answers(0, 0, 0, order.row, words or order.codewords, 0)
        self.state.fold(arrival)

    def update(self) -> int:
        """Bring both replicas up to date; return how many bytes of the log were taken in at once."""
        order = self.state.order(0, self.tasks)
        self.task.write(0, self.tasks, self.tasks, order, 0)
        self.tasks += 1
        self.task.read()
        taken = [0]

        class Watched:
            def take(self, body: np.ndarray, at: int, rate: float) -> int:
                end = descents.take(body, at, rate)
                taken[0] += end - at
                return end

        with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
            descents = self.replicas[0]._fused
            if descents is not None:
                patch.setattr(self.replicas[0], "_fused", Watched())
            thetas = [each.update(self.task).tobytes() for each in self.replicas]
        assert thetas == [self.state.theta.tobytes()] * 2
        for counts in zip(*(each._state.decoders for each in self.replicas), strict=True):
            assert len({decoder.count for decoder in counts}) == 1
            assert len({decoder.accumulator.tobytes() for decoder in counts}) == 1
        return taken[0]

    @property
    def pair(self) -> int:
        """Bytes of an arrival and its step."""
        return self.state.entry_bytes


CODED = ["int8", "int4", "int2", "sign", "qsgd"]


@pytest.mark.parametrize("wire", CODED)
@pytest.mark.parametrize("problem", [[], ["problem.dtype=float64"], ["code.blocks=[16,1]"]])
def test_relayed_arrivals_and_their_steps_are_taken_in_at_once(wire: str, problem: list[str]) -> None:
    memory = "none" if wire == "qsgd" else "worker"
    relay = Relay(f"wire.dtype={wire}", f"memory.kind={memory}", *problem)
    for damping in (1.0, 0.5, 1.0):
        for _ in range(3):
            relay.arrive()
            relay.state.step(damping)
        assert relay.update() == 3 * relay.pair


@pytest.mark.parametrize(
    "other",
    [
        ["wire.dtype=float32"],
        ["wire.dtype=bfloat16"],
        ['wire.dtype=["int8","float32"]'],
        ["optimizer.momentum=0.5"],
        ["optimizer.kind=adam"],
        ["optimizer.weight_decay=0.1"],
        ["optimizer.clip=0.1"],
        ["memory.kind=difference"],
        ["memory.kind=coordinator"],
    ],
)
def test_what_is_more_than_a_step_goes_the_general_way(other: list[str]) -> None:
    relay = Relay("wire.dtype=int2", *other)
    assert relay.replicas[0]._fused is None
    relay.arrive()
    relay.state.step(1.0)
    relay.update()


@pytest.mark.parametrize("wire", ["int8", "int2"])
def test_other_entries_of_a_log_go_the_general_way(wire: str) -> None:
    """Two arrivals of a step, an arrival without one, and what follows it."""
    relay = Relay(f"wire.dtype={wire}", "code.rows_per_task=4")
    for arrivals in (1, 2, 1):
        for _ in range(arrivals):
            relay.arrive()
        relay.state.step(1.0)
    relay.arrive()
    assert relay.update() == 2 * relay.pair
    relay.state.step(0.5)
    relay.arrive()
    relay.state.step(1.0)
    assert relay.update() == relay.pair


@pytest.mark.parametrize("unit", [0, 1])
@pytest.mark.parametrize("wire", CODED)
def test_what_is_not_finite_goes_the_general_way(wire: str, unit: int) -> None:
    relay = Relay(f"wire.dtype={wire}")
    relay.arrive()
    relay.state.step(1.0)
    with np.errstate(all="ignore"):
        relay.arrive(bad=unit)
        relay.state.step(1.0)
    assert relay.update() == relay.pair
    assert np.isnan(relay.state.theta).any()


@pytest.mark.parametrize("how", ["overlap", "twice", "apart", "padding"])
def test_codewords_that_share_a_block_go_the_general_way(how: str) -> None:
    relay = Relay("wire.dtype=int2", "code.rotate=false", "code.blocks=[16,1]")
    (indices, values), second = relay.state.order(1, 0).codewords
    indices, values = indices.copy(), values.copy()
    if how == "overlap":
        indices[:4, 0] = indices[4, 0]
    elif how == "twice":
        indices[:4, 0] = indices[0, 1]
    elif how == "apart":  # equal sets do not follow each other
        indices[[1, 7]], values[[1, 7]] = indices[[7, 1]], values[[7, 1]]
    else:
        indices[0, 2:], values[0, 2:] = 0, 0
    relay.arrive(words=[(indices, values), second])
    relay.state.step(1.0)
    assert relay.update() == 0


def test_rows_of_replies_are_those_of_their_values(tmp_path: Path) -> None:
    writer = traces.writer(tmp_path / "a.h5", 3)
    reply = Arrival.__new__(Arrival)
    names = [
        "task", "version", "row", "t_start_ns", "t_compute_ns", "t_send_ns", "t_recv_ns", "injected_delay_ns",
        "bytes_up", "bytes_down", "round", "part",
    ]  # fmt: skip

    @given(
        numbers=st.lists(st.integers(0, 2**31 - 1), min_size=15, max_size=15),
        reals=st.lists(st.floats(width=64), min_size=2, max_size=2),
    )
    def write(numbers: list[int], reals: list[float]) -> None:
        for name, number in zip(names, numbers, strict=False):
            setattr(reply, name, number)
        reply.worker, reply.loss = numbers[12] % 3, reals[0]
        for arrived in (partial(Recorder.arrived, writer), writer.arrived):
            arrived(reply, numbers[13], numbers[14], 5, 6, reals[1], 1)

    write()
    writer.close()
    table = TraceReader(writer.path, correct_clocks=False).arrivals
    assert table.rows >= 20
    for name in ARRIVALS:
        assert table[name][::2].tobytes() == table[name][1::2].tobytes(), name


@pytest.mark.parametrize("mode", ["async", "all"])
def test_tasks_sent_alone_leave_as_those_sent_together(mode: str) -> None:
    overrides = [f"update.mode={mode}", "stragglers.kind=shifted-exponential", "stragglers.mean_s=0.01"]
    results = []
    for alone in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not alone:
                patch.setattr(CostModelSchedule, "_send_one", lambda *arguments: False)
            made = Descent([*START, *overrides], TIMES_MS)
            _, result = Simulation(prepare(made.config)).run()
            results.append((result.length_ns, result.theta.tobytes(), result.arrivals))
    assert results[0] == results[1]
