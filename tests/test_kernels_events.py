"""The virtual clock: against its plain twin on random sequences, and by laws of queues."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from clocks import LAST, both
from hypothesis import given, settings
from hypothesis import strategies as st

from pdcode.kernels import events, reference

MEAN_NS = 10_000_000

SPANS = st.sampled_from([0, 0, 1, 3, 10, 1000])  # few values, so that there are ties
OPTIONS = st.fixed_dictionaries(
    {
        "workers": st.integers(1, 40),
        "bytes_up": st.integers(0, 30),
        "bandwidth": st.sampled_from([1e9, 3e8, 1e12]),
        "latency_ns": SPANS,
        "arrival_ns": SPANS,
        "dispatch_ns": SPANS,
        "update_ns": SPANS,
        "half_duplex": st.booleans(),
        "tree": st.booleans(),
        "fanout": st.integers(1, 5),
        "segment": st.integers(1, 40),
    }
)
TIMES = ("now_ns", "t_recv_ns", "ingress_ns", "egress_ns", "outstanding", "dispatched", "arrived")
COLUMNS = ("t_dispatch_ns", "t_start_ns", "t_compute_ns", "t_send_ns")


def send(clock: Any, workers: list[int], compute: Any, delay: Any, body: int = 0, own: int = 0) -> None:
    count = len(workers)
    clock.send(
        np.array(workers, np.int32),
        np.broadcast_to(np.asarray(compute, np.int64), count).copy(),
        np.broadcast_to(np.asarray(delay, np.int64), count).copy(),
        body,
        own,
    )


@given(options=OPTIONS, data=st.data())
@settings(max_examples=300, deadline=None)
def test_is_its_plain_twin(options: dict[str, Any], data: st.DataObject) -> None:
    fast, plain = both(options)
    idle, dead = list(range(options["workers"])), set[int]()
    for _ in range(data.draw(st.integers(1, 30))):
        what = data.draw(st.sampled_from(["send", "send", "pop", "pop", "pop", "recall", "step", "jump"]))
        if what == "send" and idle:
            group = data.draw(st.lists(st.sampled_from(idle), unique=True, min_size=1))
            compute = data.draw(st.lists(SPANS, min_size=len(group), max_size=len(group)))
            delay = data.draw(st.lists(SPANS | st.just(-1), min_size=len(group), max_size=len(group)))
            body, own = data.draw(st.integers(0, 99)), data.draw(st.integers(0, 9))
            for clock in (fast, plain):
                send(clock, group, compute, delay, body, own)
            idle = [worker for worker in idle if worker not in group]
            dead.update(worker for worker, span in zip(group, delay, strict=True) if span < 0)
        elif what == "pop":
            span = data.draw(SPANS | st.just(LAST))
            got = fast.pop(fast.now_ns + span)
            assert got == plain.pop(plain.now_ns + span)
            if got >= 0:
                idle.append(got)
        elif what == "recall" and dead:
            worker = data.draw(st.sampled_from(sorted(dead)))
            dead.remove(worker)
            for clock in (fast, plain):
                clock.recall(worker)
        elif what == "step":
            for clock in (fast, plain):
                clock.step()
        elif what == "jump":
            for clock in (fast, plain):
                clock.now_ns = clock.now_ns + 5
        for name in TIMES:
            assert getattr(fast, name) == getattr(plain, name), name
    for name in COLUMNS:
        assert getattr(fast, name).tolist() == getattr(plain, name), name


LAWS = {  # delays of so many workers, after so many turns of all
    "exponential": lambda random, count, turns: random.exponential(1e6, count),
    "heavy-tailed": lambda random, count, turns: 1e3 * random.pareto(0.4, count),
    "ties": lambda random, count, turns: random.integers(0, 3, count) * 1000,
    "equal": lambda random, count, turns: np.full(count, 7),
    "bursts": lambda random, count, turns: 10.0 ** random.integers(-1, 13, count),
    "slower": lambda random, count, turns: random.exponential(10.0 ** (turns // 4), count),
    "faster": lambda random, count, turns: random.exponential(10.0 ** (9 - turns // 4), count),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("mean_group", [1, 30, 10_000])
def test_many_workers_of_whom_most_are_in_the_calendar_too(law: str, mean_group: int) -> None:
    """Its slots are made anew at times, overflow, are too many, or too short for the future."""
    random, workers = np.random.default_rng(len(law) + mean_group), events.MANY + 57
    fast, plain = both({"workers": workers, "bytes_up": 5, "bandwidth": 1e9, "latency_ns": 50})
    idle = list(range(workers))
    while fast.arrived < 40 * workers:
        delays = LAWS[law](random, len(idle), fast.arrived // workers)
        delays = np.minimum(delays, 1e17).astype(np.int64)
        delays[random.random(len(idle)) < 0.002] = -1
        for clock in (fast, plain):
            clock.send(np.array(idle, np.int32), np.zeros(len(idle), np.int64), delays, 3, 1)
        idle.clear()
        for worker in np.flatnonzero(fast.t_send_ns < 0)[:1]:
            for clock in (fast, plain):
                clock.recall(int(worker))
        for _ in range(random.geometric(1 / mean_group)):
            got = fast.pop()
            assert got == plain.pop()
            if got < 0:
                break
            idle.append(got)
        assert fast.now_ns == plain.now_ns


@given(st.lists(st.integers(0, 50), min_size=1, max_size=300), st.integers(1, 7))
@settings(deadline=None)
def test_replies_never_overtake_and_ties_go_by_dispatch(delays: list[int], bytes_up: int) -> None:
    clock = events.Events(len(delays), bytes_up, 1e9, 5)
    order = list(range(len(delays)))[::-1]
    send(clock, order, 0, [delays[worker] for worker in order])
    got = [clock.pop() for _ in order]
    assert got == sorted(order, key=lambda worker: (delays[worker], -worker))
    assert clock.pop() == -1
    assert clock.outstanding == 0


def test_far_times_become_the_end_of_time() -> None:
    fast, plain = both({"workers": 4, "bytes_up": 9, "bandwidth": 1e-9, "latency_ns": LAST, "tree": True})
    for clock in (fast, plain):
        send(clock, [2, 0, 1, 3], LAST, LAST, 7, 7)
        assert [clock.pop() for _ in range(5)] == [2, 0, 1, 3, -1]
        assert clock.now_ns == clock.t_recv_ns == clock.ingress_ns == LAST


@pytest.mark.parametrize("tree", [False, True])
def test_bytes_are_conserved_and_a_saturated_link_is_never_idle(tree: bool) -> None:
    """Workers that answer at once keep the ingress link busy from the first reply to the last."""
    workers, rounds, up, down = 50, 20, 1000, 40
    clock = events.Events(workers, up, 1e9, 100, 10, 1, tree=tree)
    send(clock, list(range(workers)), 0, 0, down)
    first_ns = int(clock.t_send_ns.min()) + 100
    for _ in range(workers * (rounds - 1)):
        send(clock, [clock.pop()], 0, 0, down)
    for _ in range(workers):
        clock.pop()
    assert (clock.arrived, clock.outstanding) == (rounds * workers, 0)
    assert clock.ingress_ns == clock.arrived * up == clock.t_recv_ns - first_ns  # a byte takes 1 ns
    bodies = (2 if tree else workers) + workers * (rounds - 1)  # that rank 0 itself sends
    assert clock.egress_ns == bodies * down


def test_a_half_duplex_link_carries_one_message_at_a_time() -> None:
    workers, up, down = 20, 1000, 400
    clock = events.Events(workers, up, 1e9, 0, half_duplex=True)
    send(clock, list(range(workers)), 0, 0, down)
    for _ in range(1000):
        send(clock, [clock.pop()], 0, 0, down)
    assert clock.ingress_ns + clock.egress_ns - down == clock.t_recv_ns  # the last task leaves after that


def test_arrivals_of_exponential_services_are_order_statistics() -> None:
    """The q-th of n has mean Σ 1/(n-i), i < q, and variance Σ 1/(n-i)² in units of the mean service."""
    n, rounds = 64, 400
    clock = events.Events(n, 0, 1e9, 0)
    words = reference.philox(1, 2, 3, 4, n * rounds) >> np.uint64(11)
    delays = (-MEAN_NS * np.log1p(-(words * 2.0**-53))).astype(np.int64).reshape(rounds, n)
    times = np.empty((rounds, n))
    for delay, mine in zip(delays, times, strict=True):
        start = clock.now_ns
        send(clock, list(range(n)), 0, delay)
        for q in range(n):
            clock.pop()
            mine[q] = clock.t_recv_ns - start
    terms = 1.0 / (n - np.arange(n))
    error = np.sqrt(np.cumsum(terms**2) / rounds)
    assert (np.abs(times.mean(axis=0) / MEAN_NS - np.cumsum(terms)) < 5 * error).all()


BAD = {
    "workers is 0": {"workers": 0},
    "workers is 16777217": {"workers": 2**24 + 1},
    "bandwidth is 0": {"bandwidth": 0.0},
    "bandwidth is nan": {"bandwidth": float("nan")},
    "latency_ns is -1": {"latency_ns": -1},
    "arrival_ns is": {"arrival_ns": 2**62},
    "fanout is 0": {"fanout": 0},
    "segment is 0": {"segment": 0},
    "a message of -1 bytes": {"bytes_up": -1},
}


@pytest.mark.parametrize("message", BAD)
def test_refuses_numbers_out_of_range(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        events.Events(**{"workers": 3, "bytes_up": 8, "bandwidth": 1e9, "latency_ns": 5} | BAD[message])


@pytest.mark.parametrize(
    ("message", "workers", "compute", "delay", "body"),
    [
        ("worker 3: must be from 0 to 2", [1, 3], [0, 0], [0, 0], 1),
        ("worker -1: must be", [-1], [0], [0], 1),
        ("worker 1 has a task already", [1, 1], [0, 0], [0, 0], 1),
        ("worker 0 has a task already", [2, 0], [0, 0], [0, 0], 1),
        ("compute_ns of worker 1 is -1", [1], [-1], [0], 1),
        ("delay_ns of worker 1 is", [1], [0], [2**62], 1),
        ("2 workers, 1 times in compute_ns and 2 in delay_ns", [1, 2], [0], [0, 0], 1),
        ("a message of -5 bytes", [1], [0], [0], -5),
    ],
)
def test_refuses_tasks_and_sends_none(
    message: str, workers: list[int], compute: list[int], delay: list[int], body: int
) -> None:
    clock = events.Events(3, 8, 1e9, 5)
    send(clock, [0], 0, 0)
    with pytest.raises(ValueError, match=message):
        clock.send(np.array(workers, np.int32), np.array(compute), np.array(delay), body, 0)
    assert clock.outstanding == 1
    send(clock, [1, 2], 0, -1)  # they are idle still
    with pytest.raises(ValueError, match="worker 0 is not dead"):
        clock.recall(0)
    with pytest.raises(ValueError, match="now_ns is -1"):
        clock.now_ns = -1
