"""The oracle's time: exact where it is known, and a bound on every schedule."""

import heapq
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import delayed

from pdcode.config import Config, StragglersTable, WorkersTable
from pdcode.stragglers import DelayModel, Law, delays_ns
from pdcode.virtual import oracle
from pdcode.virtual.oracle import oracle_s

MS = 1_000_000


def least_s(table: StragglersTable, work: float, compute_ns: list[int], seed: int = 1) -> float:
    workers = len(compute_ns)
    model = table.make(seed, workers)
    return oracle_s(Config(workers=WorkersTable(count=workers)), work, np.array(compute_ns), model)


class Listed(DelayModel):
    """Delays of whole ns from a list a worker, again and again; none is dead."""

    def __init__(self, lists: list[list[int]]) -> None:
        super().__init__(Law(), 0, len(lists))
        self.lists = lists

    def _draw_s(self, workers: np.ndarray, first: np.ndarray, count: int) -> np.ndarray:
        rows = [
            [self.lists[i][t % len(self.lists[i])] for t in range(start, start + count)]
            for i, start in zip(workers.tolist(), first.tolist(), strict=True)
        ]
        return 1e-9 * np.array(rows, np.float64)


@given(st.integers(1, 20), st.integers(1, 10**9), st.floats(0, 1000))
def test_equal_workers_share_the_work(workers: int, task_ns: int, work: float) -> None:
    time_s = least_s(delayed(), work, [task_ns] * workers)
    assert time_s == pytest.approx(1e-9 * work * task_ns / workers, rel=1e-9, abs=1e-15)


def test_unequal_workers_work_at_the_sum_of_their_rates() -> None:
    compute_ns = [1 * MS, 3 * MS, 10 * MS, 70 * MS]
    rate = sum(1e9 / each for each in compute_ns)
    assert least_s(delayed(), 1000, compute_ns) == pytest.approx(1000 / rate, rel=1e-9)


def test_a_half_done_task_counts_as_half() -> None:
    config, compute_ns = Config(workers=WorkersTable(count=2)), np.array([0, 0])
    model = Listed([[10, 10], [4, 100]])  # done by 7 ns: 0.7 and 1 + 3/100 tasks
    assert oracle_s(config, 0.7 + 1.03, compute_ns, model) == pytest.approx(7e-9)


def test_dead_workers_do_nothing() -> None:
    dead, all_dead = (delayed(kind="slow-set", slow=[1], dead=gone) for gone in ([0, 2], [0, 1, 2, 3]))
    assert least_s(dead, 12, [5 * MS] * 4) == least_s(delayed(), 12, [5 * MS] * 2)
    assert least_s(all_dead, 1, [5 * MS] * 4) == math.inf
    assert least_s(dead, 0, [5 * MS] * 4) == 0.0


def test_delays_that_grow_with_the_compute_time_are_reckoned_with() -> None:
    table = delayed(kind="slow-set", slow=[1], slowdown=3.0)
    assert least_s(table, 40, [6 * MS, 6 * MS]) == pytest.approx(40 / (1 / 6e-3 + 1 / 18e-3))


def test_much_faster_workers_are_given_all_the_tasks_that_they_can_do() -> None:
    """One worker does nearly all of them, many more than are drawn of each at first."""
    assert least_s(delayed(), 50_000, [1000] + [10 * MS] * 9) == pytest.approx(
        50_000 / (1e6 + 9 * 100), rel=1e-9
    )


durations = st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=6), min_size=1, max_size=5)


def scheduled_ns(lists: list[list[int]], compute_ns: int, work: int, waits: list[int]) -> int:
    """When a list scheduler has done so many tasks: who is free first begins its next one after a wait."""
    free = [(0, i) for i in range(len(lists))]
    done = [0] * len(lists)
    ends: list[int] = []
    while len(ends) < work or min(free)[0] < sorted(ends)[work - 1]:
        now, i = heapq.heappop(free)
        task = max(1, compute_ns + lists[i][done[i] % len(lists[i])])
        end = now + waits[len(ends) % len(waits)] + task
        done[i] += 1
        ends.append(end)
        heapq.heappush(free, (end, i))
    return sorted(ends)[work - 1]


@given(durations, st.integers(0, 30), st.integers(1, 40), st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_no_schedule_of_the_same_tasks_is_quicker(lists, compute_ns, work, waits):
    config, compute = Config(workers=WorkersTable(count=len(lists))), np.full(len(lists), compute_ns)
    least_ns = 1e9 * oracle_s(config, work, compute, Listed(lists))
    assert least_ns <= scheduled_ns(lists, compute_ns, work, waits) * (1 + 1e-12)
    if len(lists) == 1:
        assert least_ns == pytest.approx(scheduled_ns(lists, compute_ns, work, [0]), rel=1e-12)


@given(durations, st.integers(0, 30), st.lists(st.floats(0, 200), min_size=2, max_size=5))
def test_more_work_takes_longer_and_the_work_is_just_done_then(lists, compute_ns, works):
    config, compute = Config(workers=WorkersTable(count=len(lists))), np.full(len(lists), compute_ns)
    model = Listed(lists)
    times_ns = [1e9 * oracle_s(config, work, compute, model) for work in sorted(works)]
    assert times_ns == sorted(times_ns)
    tasks = delays_ns(model, range(len(lists)), [0] * len(lists), 2000, compute) + compute_ns
    for time_ns, work in zip(times_ns, sorted(works), strict=True):
        done = 0.0
        for row in np.maximum(tasks, 1):
            ends = np.cumsum(row)
            whole = int(np.searchsorted(ends, time_ns, side="right"))
            done += whole + (time_ns - (ends[whole] - row[whole])) / row[whole]
        assert done == pytest.approx(work, rel=1e-6, abs=1e-6)


def test_random_delays_make_the_same_whatever_was_drawn_at_a_time() -> None:
    table = delayed(kind="shifted-exponential", shift_s=0.002, mean_s=0.01)
    compute_ns = [MS] * 50
    time_s = least_s(table, 5000, compute_ns)
    model = table.make(1, 50)
    ends = np.cumsum(delays_ns(model, range(50), [0] * 50, 400, compute_ns) + MS, axis=1)
    begins = np.concatenate((np.zeros((50, 1)), ends[:, :-1]), axis=1)
    done = np.clip((1e9 * time_s - begins) / (ends - begins), 0, 1).sum()
    assert done == pytest.approx(5000, rel=1e-9)
    assert time_s == pytest.approx(5000 / 50 * 0.013, rel=0.03)  # the law of large numbers


@given(durations, st.integers(0, 30), st.floats(0, 200), st.integers(1, 40))
def test_what_is_kept_at_a_time_makes_no_difference(lists, compute_ns, work, most):
    config, compute = Config(workers=WorkersTable(count=len(lists))), np.full(len(lists), compute_ns)
    at_once = oracle_s(config, work, compute, Listed(lists))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oracle, "MAX_TASKS", most)
        patch.setattr(oracle, "MIN_DRAWN", 1)
        assert oracle_s(config, work, compute, Listed(lists)) == pytest.approx(at_once, rel=1e-12)


def test_memory_does_not_grow_with_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    held = []
    monkeypatch.setattr(oracle, "MAX_TASKS", 2000)
    amount = oracle._tasks_done
    monkeypatch.setattr(oracle, "_tasks_done", lambda *tasks: held.append(len(tasks[0])) or amount(*tasks))
    table = delayed(kind="pareto", shift_s=0.001, shape=1.2, slow=[1], slowdown=30.0, dead=[0])
    for work in (10_000, 300_000):
        least_s(table, work, [MS] * 20)
        assert max(held) < 8000


def test_long_times_are_drawn_in_few_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times and tasks of which the product is more than 64 bits hold."""
    drawn = []
    edges = oracle._edges
    monkeypatch.setattr(oracle, "_edges", lambda *known: drawn.append(known[3]) or edges(*known))
    table = delayed(kind="shifted-exponential", shift_s=1000.0, mean_s=1000.0)
    assert least_s(table, 1_200_000, [MS] * 8) == pytest.approx(1.2e6 / 8 * 2000, rel=0.01)
    assert len(drawn) < 40
