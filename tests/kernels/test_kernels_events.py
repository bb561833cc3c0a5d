"""The virtual clock: against its plain twin on random sequences."""

from typing import Any

import numpy as np
import pytest
from clocks import COLUMNS, LAST, OPTIONS, SPANS, both, send
from grids import LONG
from hypothesis import given
from hypothesis import strategies as st

from pdcode.kernels import events

pytestmark = pytest.mark.slow

TIMES = ("now_ns", "t_recv_ns", "ingress_ns", "egress_ns", "outstanding", "dispatched", "arrived")


@given(options=OPTIONS, data=st.data())
def test_is_its_plain_twin(options: dict[str, Any], data: st.DataObject) -> None:
    fast, plain = both(options)
    idle = list(range(options["workers"]))
    for _ in range(data.draw(st.integers(1, 30))):
        steps = ["send", "send", "pop", "pop", "pop", "cancel", "step", "jump", "mute", "postpone"]
        what = data.draw(st.sampled_from(steps))
        if what == "send" and idle:
            group = data.draw(st.lists(st.sampled_from(idle), unique=True, min_size=1))
            compute = data.draw(st.lists(SPANS, min_size=len(group), max_size=len(group)))
            delay = data.draw(st.lists(SPANS | st.just(-1), min_size=len(group), max_size=len(group)))
            body, own = data.draw(st.integers(0, 99)), data.draw(st.integers(0, 9))
            for clock in (fast, plain):
                send(clock, group, compute, delay, body, own)
            idle = [worker for worker in idle if worker not in group]
        elif what == "pop":
            span = data.draw(SPANS | st.just(LAST))
            got = fast.pop(fast.now_ns + span)
            assert got == plain.pop(plain.now_ns + span)
            if got >= 0 and data.draw(st.booleans()):
                compute_ns, delay_ns = data.draw(SPANS), data.draw(SPANS)
                for clock in (fast, plain):
                    clock.follow(got, compute_ns, delay_ns)
            elif got >= 0:
                idle.append(got)
        elif what == "cancel":
            cut = data.draw(st.booleans())
            for clock in (fast, plain):
                clock.cancel(cut)
        elif what == "step":
            for clock in (fast, plain):
                clock.step()
        elif what == "postpone" and len(idle) < options["workers"]:
            busy = [worker for worker in range(options["workers"]) if worker not in idle]
            worker = data.draw(st.sampled_from(busy))
            start_ns = fast.now_ns + data.draw(SPANS)
            compute_ns = start_ns + data.draw(SPANS)
            send_ns = data.draw(st.just(-1) | SPANS.map(lambda span, at=compute_ns: at + span))
            for clock in (fast, plain):
                clock.postpone(worker, start_ns, compute_ns, send_ns)
            if fast.t_send_ns[worker] < 0:
                idle.append(worker)
        elif what == "mute" and options["exchanged"] is not None:
            worker = data.draw(st.integers(0, options["workers"] - 1))
            for clock in (fast, plain):
                clock.deaf[worker] ^= 1
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


@pytest.mark.every(3)
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("mean_group", [1, 30, 10_000])
def test_many_workers_of_whom_most_are_in_the_calendar_too(law: str, mean_group: int) -> None:
    """Its slots are made anew at times, overflow, are too many, or too short for the future."""
    random, workers = np.random.default_rng(len(law) + mean_group), events.MANY + 57
    made = {"workers": workers, "bytes_up": 5, "bandwidth": 1e9, "latency_ns": 50}
    if mean_group == 30:  # replies pass the link while rank 0 is busy
        made |= {"half_duplex": True, "arrival_ns": 20}
    fast, plain = both(made)
    idle = list(range(workers))
    while fast.arrived < (40 if LONG else 24) * workers:
        delays = LAWS[law](random, len(idle), fast.arrived // workers)
        delays = np.minimum(delays, 1e17).astype(np.int64)
        delays[random.random(len(idle)) < 0.002] = -1
        for clock in (fast, plain):
            clock.send(np.array(idle, np.int32), np.zeros(len(idle), np.int64), delays, 3, 1)
        idle.clear()
        if random.random() < 0.3:
            cut = bool(random.random() < 0.2)
            for clock in (fast, plain):
                clock.cancel(cut)
        for _ in range(random.geometric(1 / mean_group)):
            got = fast.pop()
            assert got == plain.pop()
            if got < 0:
                break
            if random.random() < 0.2:
                delay_ns = int(random.exponential(1e4))
                for clock in (fast, plain):
                    clock.follow(got, 10, delay_ns)
            else:
                idle.append(got)
        assert fast.now_ns == plain.now_ns


@given(st.lists(st.integers(0, 50), min_size=1, max_size=300), st.integers(1, 7))
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


BAD = {
    "workers is 0": {"workers": 0},
    "workers is 16777217": {"workers": 2**24 + 1},
    "bandwidth is 0": {"bandwidth": 0.0},
    "bandwidth is nan": {"bandwidth": float("nan")},
    "decode_bandwidth is 0": {"decode_bandwidth": 0.0},
    "decode_bandwidth is nan": {"decode_bandwidth": float("nan")},
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
def test_refuses_tasks_and_sends_none(message, workers, compute, delay, body):
    clock = events.Events(3, 8, 1e9, 5)
    send(clock, [0], 0, 0)
    with pytest.raises(ValueError, match=message):
        clock.send(np.array(workers, np.int32), np.array(compute), np.array(delay), body, 0)
    assert clock.outstanding == 1
    send(clock, [1, 2], 0, -1)  # they are idle still
    with pytest.raises(ValueError, match="now_ns is -1"):
        clock.now_ns = -1
