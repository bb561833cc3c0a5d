"""Replicas that follow arrived codewords: the same bits as rank 0's θ, whatever comes late, or an error."""

from collections import Counter

import numpy as np
import pytest
from descents import Descent

from pdcode.coding.relay import RelayedState
from pdcode.coding.replica import ReplicaError, digest
from pdcode.schemes.lwpd import LWPD
from pdcode.transport.base import Arrival
from pdcode.transport.layout import CHECK, HEADER, RETURNED, SNAPSHOT
from pdcode.transport.log import LogFormat, read_excluded
from pdcode.transport.messages import NO_WORKERS, Order, Task
from pdcode.util.errors import InputError

pytestmark = pytest.mark.slow

MODES = {
    "async": ["update.mode=async"],
    "all": ["update.mode=all"],
    "first": ["update.mode=first", "update.count=2"],
    "captured": ["update.mode=captured", "update.fraction=0.12"],
    "waste": ["update.mode=first", "update.count=2", "update.late=waste"],
}
OPTIMIZERS = {
    "sgd": [],
    "nesterov": ["optimizer.momentum=0.7", "optimizer.nesterov=true", "optimizer.rate=0.02"],
    "adam": ["optimizer.kind=adam", "optimizer.rate=0.002"],
    "schedule-free": ["optimizer.kind=schedule-free", "optimizer.longest=0.4"],
    "proximal": [
        "optimizer.momentum=0.5",
        "optimizer.rate=0.02",
        "optimizer.proximal={kind='l1', weight=0.01}",
    ],
    "adjusted": [
        "optimizer.schedule=cosine", "optimizer.updates=15", "optimizer.warmup=4", "optimizer.final=0.1",
        "optimizer.weight_decay=0.5", "optimizer.vector_decay=0.1", "optimizer.clip=0.5",
    ],
}  # fmt: skip
DECODERS = {
    "sum": [],
    "mean": ["memory.kind=none"],
    "inverse": ["memory.kind=none", "optimizer.staleness=inverse"],
    "tracking": ["memory.kind=coordinator"],
    "summing": ["memory.kind=difference"],
    "energy": ["code.family=energy"],
    "static": ["code.rotate=false"],
    "matched": ["code.family=matched", "code.rows_per_task=2", "code.weight=6"],
}
WIRES = ["float32", "bfloat16", "float16", "int8"]
TIMES_MS = [1, 1.3, 1.7, 55.5]  # the last one falls so far behind that it needs whole states
START = ["downlink.kind=codewords", "downlink.check=3", "workers.count=4", "code.blocks=[16,8]"]
KINDS = "codewords", "exchange"


def follow(made: Descent) -> Counter[str]:
    """Run; compare every θ that a worker computes at with rank 0's of that version; count the tasks."""
    seen: Counter[str] = Counter()
    if made.config.downlink.exchanges:
        restore(made, seen)
    for worker in made.workers:
        update = worker.replica.update

        def compare(task: Task, update=update) -> np.ndarray:
            seen["snapshot" if task.flags & SNAPSHOT else "log"] += 1
            seen["check"] += bool(task.flags & CHECK)
            seen["returned"] += bool(task.flags & RETURNED)
            if task.flags & SNAPSHOT and task.task and made.coordinator.update.used:
                seen["amid an update"] += 1
            theta = update(task)
            np.testing.assert_array_equal(theta, made.thetas[task.version])
            assert len(task.body) <= made.state._state.max_snapshot_bytes
            return theta

        worker.replica.update = compare
    assert made.run() == "enough"
    seen["tasks"] = sum(made.coordinator.roster.tasks)
    return seen


def restore(made: Descent, seen: Counter[str]) -> None:
    """Check that a task's log with the payloads of the workers' own messages is the whole log."""
    relay, layout = made.state, made.components.layout
    fold, order, sizes, sent = relay.fold, relay.order, LogFormat(layout), dict[tuple[int, int], np.ndarray]()
    told = [NO_WORKERS] * len(made.workers)  # workers that were excluded when each worker got its task

    def watch(arrival: Arrival) -> float:
        seen["excluded"] += len(told[arrival.worker])
        relay._codeword_view.write(arrival.codewords, arrival.row) if relay._codeword_view else None
        words = relay._scratch[HEADER.size :] if relay._codeword_view else []
        message = np.concatenate([np.zeros(HEADER.size), words, arrival.body]).astype(np.uint8)
        sent[arrival.worker, arrival.task] = message
        return fold(arrival)

    def compare(worker: int, task: int) -> Order:
        made_of = order(worker, task)
        excluded, log = read_excluded(np.concatenate(made_of.segments))
        told[worker] = made_of.excluded
        np.testing.assert_array_equal(excluded, made_of.excluded)
        flags, whole = made_of.standalone()
        if not made_of.flags & SNAPSHOT:
            room = np.zeros(len(log) * 100 + 100000, np.uint8)
            asked: list[tuple[int, int]] = []

            def payload(*number: int) -> np.ndarray:
                asked.append(number)
                return sent[number]

            size = sizes.restore(log, payload, lambda size: room)
            seen["restored"] += 1
            # What rank 0 would send is what the worker asks others for.
            owed = {
                HEADER.unpack_from(each.data)[slice(0, 4, 3)]: each
                for each in relay.undelivered_payloads(worker)
            }
            assert list(owed) == [number for number in asked if number[0] != worker]
            for number, message in owed.items():
                np.testing.assert_array_equal(message[HEADER.size :], sent[number][HEADER.size :])
            if not flags & SNAPSHOT:
                np.testing.assert_array_equal(room[:size], np.concatenate([np.zeros(0, np.uint8), *whole]))
        return made_of

    relay.fold, relay.order = watch, compare


@pytest.mark.every(6)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("mode", "decoder"),
    [(mode, decoder) for mode in MODES for decoder in DECODERS if (mode, decoder) != ("captured", "matched")],
)
def test_replicas_are_rank_0s_theta_to_the_last_bit(mode: str, decoder: str, kind: str) -> None:
    number = [*MODES].index(mode) + [*DECODERS].index(decoder) + KINDS.index(kind)
    # Each of three optimizers and wire format comes with each mode, decoder and kind, and with each other.
    optimizer, wire = [*OPTIMIZERS.values()][number % 3], WIRES[number % 4]
    updates = 20 if mode == "all" else 140 if mode in ("async", "captured") else 80
    overrides = [*MODES[mode], *DECODERS[decoder], *optimizer, f"wire.dtype={wire}"]
    overrides += [f"downlink.kind={kind}", f"stop.updates={updates}"]
    made = Descent([*START, *overrides], TIMES_MS)
    seen = follow(made)
    assert seen["log"] > seen["snapshot"]
    assert seen["check"] >= seen["tasks"] // 3
    if mode != "all":
        assert seen["snapshot"] > 0  # the slow worker's
    if kind == "exchange":
        assert seen["restored"] > seen["tasks"] / 2
        assert (mode == "all") == (seen["excluded"] == 0)
    assert np.isfinite(made.state.theta).all()


@pytest.mark.every(3)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("decoder", ["sum", "mean", "tracking", "summing"])
def test_a_replica_continues_from_a_snapshot_within_an_update(decoder: str, optimizer: str) -> None:
    """In the mode `first`, a late worker gets its task when part of an update has arrived."""
    made = Descent(
        [
            *START, *DECODERS[decoder], *OPTIMIZERS[optimizer], "update.mode=first", "update.count=3",
            "workers.count=6", "stop.updates=150", "code.rows_per_task=2",
        ],
        [1, 1.3, 1.7, 2.1, 17.3, 23.9],
    )  # fmt: skip
    assert follow(made)["amid an update"] >= 2


@pytest.mark.parametrize("late", ["use", "waste"])
def test_refused_and_wasted_payloads_return_to_the_memory_and_are_not_relayed(late: str) -> None:
    made = Descent(
        [
            *START, "update.mode=first", "update.count=2", f"update.late={late}", "wire.dtype=int8",
            'faults.events=[{kind="nan", worker=1, task=4}]', "stop.updates=60",
        ],
        [1, 1.3, 1.7, 7.5],
    )  # fmt: skip
    with np.errstate(invalid="ignore"):
        seen = follow(made)
    statuses = Counter(made.trace.column("status"))
    assert statuses[3] >= 10
    assert (statuses[1] > 0) == (late == "waste")
    assert seen["returned"] >= statuses[3] + statuses[1] - 4
    assert np.isfinite(made.state.theta).all()


def test_a_replica_that_differs_in_one_bit_is_an_error_at_its_next_check() -> None:
    made = Descent([*START, "stop.updates=200"], [1, 1.3, 1.7, 2.1])
    perform = made.workers[2].perform

    def flip(task: Task) -> float:
        if task.task == 10:
            made.workers[2].replica._state.theta[7:8].view(np.uint32)[0] ^= 1
        return perform(task)

    made.workers[2].perform = flip
    with pytest.raises(ReplicaError, match=r"the replica of θ differs from rank 0's at version \d+"):
        made.run()
    assert 10 <= made.coordinator.roster.tasks[2] - 1 <= 12


def test_digests_of_different_thetas_differ() -> None:
    theta = np.random.default_rng(0).normal(size=1000).astype("f4")
    other = theta.copy()
    assert digest(theta) == digest(other)
    other.view(np.uint32)[999] ^= 1
    assert digest(theta) != digest(other)
    assert -(2**63) <= digest(theta) < 2**63


def test_a_log_is_never_longer_than_the_state_and_a_task_never_longer_than_that() -> None:
    made = Descent([*START, "workers.count=3", "stop.updates=300", "code.rows_per_task=3"], [1, 1.5, 40])
    relay = made.state
    assert isinstance(relay, RelayedState)
    least, longest, fold = relay._state.min_snapshot_bytes, 0, relay.fold

    def watch(arrival: Arrival) -> float:
        nonlocal longest
        captured = fold(arrival)
        longest = max(longest, sum(len(entry.content) for entry in relay._log))
        assert longest <= least
        assert relay._bytes == sum(len(entry.content) for entry in relay._log)
        assert relay._next - relay._first == len(relay._log)
        return captured

    relay.fold = watch
    made.run()
    assert longest > least / 2
    assert made.trace.column("bytes_down").max() <= made.components.layout.task_bytes


def test_the_downlink_is_as_compressed_as_the_uplink() -> None:
    overrides = ["problem.hidden=[64]", "code.blocks=[64,1]", "code.rows_per_task=4", "wire.dtype=int8"]
    relayed = Descent([*START, *overrides, "stop.updates=400"], [1, 1.1, 1.2, 1.3])
    full = Descent([*overrides, "workers.count=4", "stop.updates=400"], [1, 1.1, 1.2, 1.3])
    relayed.run()
    full.run()
    np.testing.assert_array_equal(relayed.state.theta, full.state.theta)
    assert relayed.fleet.bytes_down < full.fleet.bytes_down / 3
    assert relayed.fleet.bytes_up == full.fleet.bytes_up


def test_replies_in_parts_cannot_be_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = LWPD.layouts

    def in_parts(*arguments):
        (layout,) = whole(*arguments)
        layout.messages = 2
        return [layout]

    monkeypatch.setattr(LWPD, "layouts", in_parts)
    with pytest.raises(
        InputError, match=r"downlink\.kind: 'exchange' .* 'lwpd', which answers a task in several"
    ):
        Descent(["downlink.kind=exchange"], [1, 1, 1])


def test_exchanged_payloads_lead_to_the_same_theta_with_less_traffic_at_rank_0() -> None:
    overrides = ["problem.hidden=[64]", "code.blocks=[64,1]", "code.rows_per_task=4", "wire.dtype=int8"]
    made = [
        Descent([*START, *overrides, f"downlink.kind={kind}", "stop.updates=400"], [1, 1.1, 1.2, 1.3])
        for kind in KINDS
    ]
    for each in made:
        each.run()
    np.testing.assert_array_equal(made[0].state.theta, made[1].state.theta)
    assert made[1].fleet.bytes_down < made[0].fleet.bytes_down / 4
    assert made[1].fleet.bytes_up == made[0].fleet.bytes_up
