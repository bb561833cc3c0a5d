"""Verdicts on slow workers, from synthetic task times."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from grids import with_system
from scipy.special import ndtr

from pdcode.analysis import changes
from pdcode.analysis.slowness import SlowPart, Tasks, find_fast, find_slow, in_turn_ns

RUNS, WORKERS = 50, 8


def tasks(compute: Sequence[np.ndarray], link: Sequence[np.ndarray] | float = 1e5) -> list[Tasks]:
    """Return tasks of workers that begin the next one at once, until the first worker has ended."""
    links = [np.full(len(each), link) for each in compute] if isinstance(link, float) else link
    ends = [np.cumsum(own + way) for own, way in zip(compute, links, strict=True)]
    stop, made = min(end[-1] for end in ends), []
    for own, way, end in zip(compute, links, ends, strict=True):
        count = int(np.searchsorted(end, stop, "right"))
        begin = (end - own - way).astype(np.int64)
        none = np.zeros(len(end))
        arrays = np.arange(len(end)), begin, end.astype(np.int64), own, none, none, way
        made.append(Tasks(*(array[:count] for array in arrays)))
    return made


def times(seed: int, count: int, spread: float = 0.2, correlation: float = 0.0) -> list[np.ndarray]:
    """Draw lognormal task times in ns, with correlated logarithms."""
    random = np.random.default_rng(seed)
    logs = random.standard_normal((WORKERS, count))
    for task in range(1, count):
        logs[:, task] *= np.sqrt(1 - correlation**2)
        logs[:, task] += correlation * logs[:, task - 1]
    return list(1e7 * np.exp(spread * logs))


def of_worker_3(slow: Sequence[SlowPart]) -> SlowPart | None:
    return next((part for part in slow if part.worker == 3), None)


@pytest.mark.every(2)
@pytest.mark.parametrize(
    ("correlation", "count"),
    with_system(
        (0.0, 60), (0.5, 300), (0.7, 60), (0.9, 300), (0.95, 60),
        system=[(0.0, 300), (0.5, 60), (0.7, 300), (0.9, 60), (0.95, 300)],
    ),
)  # fmt: skip
def test_identical_workers_get_no_verdict(correlation: float, count: int) -> None:
    """Also if the times of a worker depend on each other for longer than a part of the run."""
    alarms = sum(bool(find_slow(tasks(times(seed, count, 0.3, correlation)))[0]) for seed in range(RUNS))
    assert alarms <= 2 * (correlation > 0.9)


@pytest.mark.every(2)
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_identical_workers_with_heavy_tails_get_no_verdict(correlation: float) -> None:
    """Also if long tasks of a worker follow each other."""
    alarms = 0
    for seed in range(RUNS):
        tails = ndtr(-np.log(times(seed, 120, 1.0, correlation)) + np.log(1e7))
        alarms += bool(find_slow(tasks([*(1e7 + 5e6 * (tails ** (-1 / 1.8) - 1))]))[0])
    assert alarms <= 1


@pytest.mark.parametrize("slow", [False, True])
def test_a_host_whose_workers_are_each_slow_by_less_than_noise(slow: bool) -> None:
    found, alone, hosts = [], [], ["a", "a", "a", "b", "b", "b", "c", "c"]
    for seed in range(RUNS // 2):
        drawn = times(seed, 200, 0.8)
        for worker in range(3):
            drawn[worker] *= 1.35 if slow else 1.0
        made = tasks(drawn)
        found.append({part.worker for part in find_slow(made, hosts)[0]})
        alone.append({part.worker for part in find_slow(made)[0]})
    assert set.union(*found) <= {0, 1, 2}
    assert found.count({0, 1, 2}) >= 0.7 * len(found) * slow
    assert alone.count({0, 1, 2}) == 0


def test_a_slow_worker_is_not_a_slow_host() -> None:
    for seed in range(10):
        drawn = times(seed, 200, 0.3)
        drawn[0] *= 3
        assert {part.worker for part in find_slow(tasks(drawn), [*"aabbccdd"])[0]} == {0}


@pytest.mark.every(2)
@pytest.mark.parametrize(("share", "by", "least"), [(0.05, 10, 0.3), (0.1, 10, 0.9), (0.3, 4, 0.9)])
def test_a_worker_that_is_slow_sometimes(share: float, by: float, least: float) -> None:
    found = 0
    for seed in range(RUNS):
        drawn, random = times(seed, 150, 0.5), np.random.default_rng([seed, 3])
        late = random.random(150) < share
        drawn[3] += (by - 1) * 1e7 * late
        slow, _ = find_slow(tasks(drawn))
        assert [part.worker for part in slow] in ([], [3])
        for part in slow:
            found += 1
            if part.pattern == "sometimes":  # else half of some part of the run is late
                assert part.share == pytest.approx(late.mean(), abs=0.2)
                assert part.cause == "computing"
                assert not part.period
    assert found >= least * RUNS


def test_bursts_of_a_worker_are_found_though_they_are_few() -> None:
    found = 0
    for seed in range(RUNS):
        drawn, random = times(seed, 120, 0.5), np.random.default_rng([seed, 5])
        for begin in 20 * random.permutation(6)[:4] + 5:
            drawn[3][begin : begin + 3] += 1e8
        slow, _ = find_slow(tasks(drawn))
        assert {part.worker for part in slow} <= {3}
        found += bool(slow)
    assert found >= 0.8 * RUNS


def test_late_tasks_that_come_regularly_and_in_bursts() -> None:
    regular, bursts = times(3, 200), times(4, 400)
    regular[2][5::8] *= 6
    for begin in (20, 90, 130, 210, 290, 330):
        bursts[2][begin : begin + 4] *= 6
    for drawn, period, share in ((regular, 8, 1 / 8), (bursts, 0, 24 / 400)):
        (part,), _ = find_slow(tasks(drawn))
        assert (part.worker, part.pattern, part.period) == (2, "sometimes", period)
        assert part.share == pytest.approx(share, rel=0.2)
        assert 4 < part.ratio < 8
    assert "regularly one task of 8 takes" in str(find_slow(tasks(regular))[0][0])


def test_a_worker_that_is_ever_slower() -> None:
    patterns = []
    for seed in range(RUNS):
        drawn = times(seed, 400)
        drawn[3] *= 1 + 2 * np.linspace(0, 1, 400)
        (part,), _ = find_slow(tasks(drawn))
        patterns.append(part.pattern)
        if part.pattern == "drift":
            assert str(part).endswith(", and ever slower")
    assert patterns.count("drift") >= 0.75 * RUNS  # else one level is found


def test_of_equal_workers_none_is_a_faster_class() -> None:
    alarms = 0
    for seed in range(RUNS):
        drawn = 1e6 * (0.55 + 0.5 * np.random.default_rng(seed).exponential(size=(3, 20)))
        made = tasks([*drawn])
        alarms += bool(find_fast(made, find_slow(made)[1]))
    assert alarms <= 0.02 * RUNS


def test_where_most_are_slow_the_others_are_a_class_of_their_own() -> None:
    alarms = 0
    for seed in range(RUNS):
        drawn = times(seed, 100)
        made = tasks(drawn)
        assert find_fast(made, find_slow(made)[1]) == []
        for worker in range(6):
            drawn[worker] *= 1.8
        made = tasks(drawn)
        slow, ratios = find_slow(made)
        alarms += bool(slow)  # the fast ones are among those with whom one is compared
        assert find_fast(made, ratios) == [6, 7]
    assert alarms <= 0.1 * RUNS


def test_replies_that_are_held_back_are_no_computing() -> None:
    made = tasks(times(3, 100))
    made[3] = replace(made[3], send=np.full(len(made[3].end), 2e7))
    (part,), _ = find_slow(made)
    assert (part.worker, part.cause) == (3, "sending")


@pytest.mark.parametrize(("by", "least"), [(1.2, 0.9), (1.5, 0.99)])
def test_a_slow_worker_is_found_within_100_tasks(by: float, least: float) -> None:
    found = 0
    for seed in range(RUNS):
        drawn = times(seed, 100)
        drawn[3] *= by
        slow, _ = find_slow(tasks(drawn))
        assert [part.worker for part in slow] in ([], [3])
        if part := of_worker_3(slow):
            found += 1
            assert part.pattern == "chronic"
            assert part.cause == "computing"
            assert part.low < by < part.high or abs(part.ratio - by) < 0.15
            assert part.needed <= 100
    assert found >= least * RUNS


def test_the_task_from_which_a_worker_is_slow() -> None:
    begins, patterns = [], []
    for seed in range(RUNS):
        drawn = times(seed, 400)
        drawn[3][200:] *= 1.5
        part = of_worker_3(find_slow(tasks(drawn))[0])
        assert part is not None
        assert part.ratio > 1.2
        begins.append(part.first)
        patterns.append(part.pattern)
    assert patterns.count("onset") >= 0.9 * RUNS
    assert abs(np.median(begins) - 200) <= 2
    assert np.mean(np.abs(np.array(begins) - 200) <= 10) >= 0.9


def test_a_spell_and_a_single_long_task() -> None:
    drawn = times(1, 300, 0.1)
    drawn[3][150:170] *= 1.6
    (part,), _ = find_slow(tasks(drawn))
    assert (part.worker, part.pattern) == (3, "spell")
    assert abs(part.first - 150) <= 3
    assert abs(part.last - 169) <= 3
    drawn = times(1, 300, 0.1)
    drawn[3][150] *= 20
    assert find_slow(tasks(drawn))[0] == []


def test_a_slow_link_and_two_causes() -> None:
    usual = [np.full(100, 2e6) for _ in range(WORKERS)]
    drawn = times(2, 100)
    usual[3] = usual[3] + 1e7
    (part,), _ = find_slow(tasks(drawn, usual))
    assert (part.worker, part.cause) == (3, "link")
    drawn[3] *= 2
    (part,), _ = find_slow(tasks(drawn, usual))
    assert part.cause == ""
    assert sum(part.causes.values()) == pytest.approx(1)


def test_tasks_wait_for_those_sent_before_but_not_for_a_slow_link() -> None:
    update, worker = np.divmod(np.arange(20 * WORKERS), WORKERS)
    sent = 1_000_000 * update
    begun = sent + 500 + 100 * worker + 5_000 * (worker == 3)
    np.testing.assert_array_equal(in_turn_ns({"t_dispatch_ns": sent, "t_start_ns": begun}), 100 * worker)


def test_few_tasks_are_no_evidence_and_the_dead_no_reference() -> None:
    drawn = times(3, 200)
    few = [each[:7] for each in drawn]
    slow, ratios = find_slow(tasks(few))
    assert slow == []
    assert np.isnan(ratios).all()
    made = tasks(drawn)
    for worker in range(4, WORKERS):  # they die early
        made[worker] = Tasks(*(array[:30] for array in vars(made[worker]).values()))
    slow, ratios = find_slow(made)
    assert slow == []
    assert np.isfinite(ratios).all()


def test_changes_of_a_series() -> None:
    random = np.random.default_rng(4)
    values = 0.1 * random.standard_normal(200)
    values[50:80] += 0.5
    values[150:] -= 0.3
    parts = changes.segments(values, 1e-4)
    assert [part.first for part in parts] == pytest.approx([0, 50, 80, 150], abs=2)
    assert [part.level for part in parts] == pytest.approx([0, 0.5, 0, -0.3], abs=0.06)
    assert parts[0].chance == 1
    assert all(part.chance <= 1e-4 for part in parts[1:])
    assert len(changes.segments(np.zeros(3), 1e-4)) == 1
    assert changes.segments(np.empty(0), 1e-4) == []
    assert changes.noise(0.1 * random.standard_normal(2000)) == pytest.approx(0.1, rel=0.35)


def test_the_cause_where_single_tasks_of_the_others_are_long() -> None:
    drawn = times(5, 100)
    drawn[3] *= 2
    for worker, each in enumerate(drawn):
        each[10 + worker] *= 1 if worker == 3 else 1000  # the slow worker's mean time is the least
    begin, none = 10**13 * np.arange(100), np.zeros(100)  # of each task, as all wait for all
    made = [
        Tasks(np.arange(100), begin, begin + each.astype(np.int64), each, none, none, none) for each in drawn
    ]
    (part,), _ = find_slow(made)
    assert (part.worker, part.cause) == (3, "computing")
    assert part.excess_ns == pytest.approx(drawn[3].sum() / 2, rel=0.1)
    drawn = times(5, 200)
    usual = [np.full(200, 1e5) for _ in range(WORKERS)]
    usual[3][::4] += 1e8  # every fourth
    (part,), _ = find_slow(tasks(drawn, usual))
    assert (part.worker, part.cause) == (3, "link")
