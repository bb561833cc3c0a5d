"""The virtual clock by the laws of its links, of rank 0's processor, of trees and of queues."""

from typing import Any

import numpy as np
import pytest
import reference
from clocks import COLUMNS, OPTIONS, SPANS, send
from hypothesis import given
from hypothesis import strategies as st

from pdcode.kernels import events

MEAN_NS = 10_000_000


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


@pytest.mark.parametrize(
    ("up", "down", "arrival", "dispatch"),
    [(70, 70, 100, 5), (70, 70, 20, 5), (70, 70, 200, 5), (100, 3, 90, 0), (3, 100, 40, 40), (9, 9, 9, 9)],
)
def test_a_half_duplex_link_and_the_processor_work_side_by_side(up, down, arrival, dispatch):
    """Many workers that answer at once: the slower of link and processor is never idle."""
    workers, count = 200, 5000
    clock = events.Events(workers, up, 1e9, 0, arrival, dispatch, half_duplex=True)
    send(clock, list(range(workers)), 0, 0, down)
    for _ in range(count):
        send(clock, [clock.pop()], 0, 0, down)
    begin = clock.now_ns
    for _ in range(count):
        send(clock, [clock.pop()], 0, 0, down)
    each = (clock.now_ns - begin) / count
    assert each == pytest.approx(max(up + down, arrival + dispatch), rel=0.01)


@given(OPTIONS, st.data())
def test_a_task_starts_is_computed_sent_and_received_in_this_order(options, data):
    """Of dead workers, too, whenever they are cancelled: before they have their task, or long after."""
    workers, clock = options["workers"], events.Events(**options)
    for _ in range(3):
        delays = data.draw(st.lists(SPANS | st.just(-1), min_size=workers, max_size=workers))
        send(clock, list(range(workers)), data.draw(SPANS), delays, 70, 7)
        if data.draw(st.booleans()):
            clock.cancel(cut=data.draw(st.booleans()))
        left = workers
        while left:
            worker = clock.pop()
            if worker < 0:
                clock.cancel()
                continue
            left -= 1
            times = [int(getattr(clock, name)[worker]) for name in COLUMNS]
            assert times == sorted(times)
            assert clock.t_recv_ns >= times[-1] + options["latency_ns"]
        last_byte_ns = max(clock.t_recv_ns, int(clock.t_start_ns.max()) - options["latency_ns"])
        busy = clock.ingress_ns, clock.egress_ns
        assert (sum(busy) if options["half_duplex"] else max(busy)) <= last_byte_ns


def starts(workers: int, body: int, own: int, **options: Any) -> list[int]:
    """When tasks that leave together at 0 are at their workers."""
    clock = events.Events(workers, 0, 1e12, 0, **options)
    send(clock, list(range(workers)), 0, 0, body, own)
    return [int(time) for time in clock.t_start_ns]


@given(st.integers(1, 5), st.integers(2, 60), st.integers(0, 10**7), st.integers(0, 5000), st.booleans())
def test_a_tree_is_never_later_than_a_star(fanout, times, body, dispatch, half_duplex):
    """Whatever is slow, processor or link: if pieces take no time, and there are twice `fanout` workers."""
    options = {"dispatch_ns": dispatch, "half_duplex": half_duplex, "fanout": fanout, "segment": 1}
    tree = starts(fanout * times, body, 0, tree=True, **options)
    assert max(tree) <= max(starts(fanout * times, body, 0, **options))


@given(st.integers(1, 5), st.integers(0, 60), st.integers(0, 10**7), st.integers(0, 9999))
def test_the_first_workers_of_a_tree_wait_for_none_of_the_others(fanout, others, body, own):
    options = {"dispatch_ns": 5000, "tree": True, "fanout": fanout}
    first = starts(fanout + 1, body, own, **options)[:fanout]
    assert starts(fanout + 1 + others, body, own, **options)[:fanout] == first


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
