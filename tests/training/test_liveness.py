"""Workers that are presumed lost: when, what rank 0 does without them, and with their late answers."""

from typing import Any

import numpy as np
import pytest
from descents import MS, Descent
from hypothesis import given
from hypothesis import strategies as st

from pdcode.trace.schema import ALONE, ENOUGH, TIME, USED
from pdcode.training.task_times import FLOOR_NS, RECENT, TaskTimes

S = 1_000_000_000
TIMES = st.lists(st.integers(1, 10**12), min_size=1, max_size=3 * RECENT)


def learned(*times: list[int]) -> TaskTimes:
    made = TaskTimes(len(times))
    for worker, each in enumerate(times):
        for time_ns in each:
            made.add(worker, time_ns)
    return made


@given(st.lists(TIMES, min_size=1, max_size=5))
def test_no_task_time_that_is_kept_is_overdue_again(times: list[list[int]]) -> None:
    limits = learned(*times).limits_ns()
    assert (limits >= FLOOR_NS).all()
    for limit, each in zip(limits, times, strict=True):
        assert limit >= 2 * max(each[-RECENT:]) or len(each) < 3
        assert limit >= 3 * np.median(each[-RECENT:]) * (1 - 1e-9) - 2 or len(each) < 3


@given(TIMES, st.integers(2, 9), st.integers(0, RECENT))
def test_limits_depend_on_nothing_but_the_last_times(times: list[int], factor: int, old: int) -> None:
    longer = [each * 10**9 for each in times[-RECENT:]]
    plain, scaled = learned(longer).limits_ns(), learned([factor * each for each in longer]).limits_ns()
    np.testing.assert_allclose(scaled, factor * plain, rtol=1e-9)
    if len(times) >= RECENT:
        np.testing.assert_array_equal(learned([7] * old + times).limits_ns(), learned(times).limits_ns())


def test_a_worker_is_judged_by_its_own_tasks_and_a_new_one_by_the_others() -> None:
    usual, slow = [10 * MS] * 20, [5 * S] * 20
    assert np.isinf(TaskTimes(3).limits_ns()).all()
    limits = learned(usual, usual, slow, []).limits_ns()
    np.testing.assert_array_equal(limits, [S, S, 15 * S, S])
    exponential = np.random.default_rng(1).exponential(S, (8, 10_000)).astype(int).tolist()
    late = sum(
        sum(each[at] > limits[worker] for each in [exponential[worker]])
        for at in range(RECENT, 3000)
        for limits in [learned(*[each[at - RECENT : at] for each in exponential]).limits_ns()]
        for worker in range(8)
    )
    assert late <= 4  # of 24,000: what is named is unusual


@given(TIMES, st.integers(0, 10**12), st.integers(0, 10**12))
def test_replies_are_expected_as_often_as_they_came(times: list[int], elapsed: int, within: int) -> None:
    made, kept = learned(times, times), times[-RECENT:]
    possible = [each for each in kept if each >= elapsed]
    share = sum(each <= elapsed + within for each in possible) / max(1, len(possible))
    assert made.expected_soon([0], [elapsed], within) == pytest.approx(share)
    assert made.expected_soon([0, 1], [elapsed, elapsed], within) == pytest.approx(2 * share)
    assert made.expected_soon([], [], within) == 0 == TaskTimes(2).expected_soon([1], [elapsed], within)


def hang(worker: int, task: int, for_ms: float, usual_ms: float = 20) -> Any:
    """Task times of workers, one of whose tasks takes long."""
    return lambda who, number: round(MS * (for_ms if (who, number) == (worker, task) else usual_ms + who))


def told(made: Descent) -> list[tuple[str, int, int]]:
    return [(row["kind"], row["worker"], row["task"]) for row in made.trace.faults]


@pytest.mark.parametrize("mode", ["async", "all", "first", "quorum", "captured"])
def test_a_worker_that_hangs_is_named_once_and_its_late_answer_is_used(mode: str) -> None:
    made = Descent([f"update.mode={mode}", "stop.updates=600", "workers.count=4"], hang(2, 5, 4000))
    assert made.run() == "enough"
    assert told(made) == [("overdue", 2, 5), ("returned", 2, 5)]
    overdue, returned = made.trace.faults
    sent = next(row for row in made.trace.arrivals if (row["worker"], row["task"]) == (2, 5))
    assert sent["t_dispatch_ns"] + S <= overdue["t_ns"] <= sent["t_dispatch_ns"] + 2 * S
    assert returned["t_ns"] == sent["t_recv_ns"] == sent["t_dispatch_ns"] + 4000 * MS
    assert sent["status"] == USED
    later = [row for row in made.trace.arrivals if row["worker"] == 2 and row["task"] > 5]
    assert later, "it gets tasks again"
    meanwhile = [row for row in made.trace.updates if overdue["t_ns"] < row["t_ns"] < returned["t_ns"]]
    assert bool(meanwhile) == (mode != "all"), "only the policy `all` waits for it"
    assert not made.coordinator.roster.overdue


def test_policies_that_ask_for_no_number_do_not_wait_for_the_lost() -> None:
    slow = lambda worker, task: round(MS * (20 if worker == 0 or task < 5 else 10**6))  # noqa: E731
    for mode, patient in (("quorum", False), ("captured", False), ("first", True)):
        made = Descent(
            [f"update.mode={mode}", "stop.updates=30", "workers.count=4", "update.late=waste"], slow
        )
        waited = made.coordinator.state.policy.waits_for_overdue
        assert waited == patient
        made.run()
        steps = [row for row in made.trace.updates if row["t_ns"] < 100 * S]
        assert (len(steps) == 30) == (not patient)
        if not patient:
            assert steps[-1]["why"] == ALONE
            assert steps[-1]["n_used"] == 1
            assert steps[-1]["waited_for"] in (1, 2, 3)


def test_times_of_looks_are_few_and_those_of_the_clock_are_kept() -> None:
    """The virtual clock is woken to look, not to measure: a run of slow tasks is as without."""
    days = [86_400_000.0 * (1 + worker) for worker in range(4)]
    made = Descent(["update.mode=all", "stop.updates=3", "workers.count=4"], days)
    asked: list[int] = []
    observe = made.observe
    made.observe = lambda now_ns, c: asked.append(now_ns) or observe(now_ns, c)  # type: ignore[method-assign]
    made.run()
    assert len(asked) < 40
    assert not made.trace.faults


def test_a_quorum_waits_for_who_is_near_and_not_for_who_is_far() -> None:
    near = Descent(["update.mode=quorum", "update.count=2", "workers.count=4"], [100, 101, 102, 900])
    near.run()
    used = [row["n_used"] for row in near.trace.updates]
    assert used[0] == 2, "nothing is known yet"
    assert np.mean([each == 3 for each in used[2:]]) > 0.8
    assert {row["why"] for row in near.trace.updates[2:]} == {ENOUGH}
    rest = ["update.count=3", "update.late=waste", "workers.count=4"]
    far, first = (
        Descent([f"update.mode={mode}", *rest], [100, 101, 102, 900]) for mode in ("quorum", "first")
    )
    assert far.run() == first.run()
    assert far.trace.updates == first.trace.updates


@given(
    st.lists(st.floats(1, 60), min_size=3, max_size=8),
    st.integers(1, 8),
    st.sampled_from(["use", "waste"]),
    st.integers(0, 2**32),
)
def test_a_quorum_waits_no_longer_than_a_payload_has_taken(means, count, late, seed):
    random, n = np.random.default_rng(seed), len(means)
    count = min(count, n)
    made = Descent(
        ["update.mode=quorum", f"update.count={count}", f"update.late={late}", f"workers.count={n}"],
        lambda worker, task: round(MS * means[worker] * (0.1 + random.exponential())),
    )
    made.run()
    began = 0
    for row in made.trace.updates:
        mine = [each for each in made.trace.arrivals if each["applied_version"] == row["version"] - 1]
        came = [each["t_recv_ns"] for each in mine]
        assert row["n_used"] == len(came) >= count or row["why"] == ALONE
        for number in range(count, len(came)):
            assert came[number] - came[number - 1] <= (came[number - 1] - began) / number + 1
        if row["why"] == TIME:
            assert row["t_ns"] - came[-1] == pytest.approx((came[-1] - began) / len(came), abs=1)
            assert row["waited_ns"] == row["t_ns"] - came[-1]
        began = row["t_ns"]
