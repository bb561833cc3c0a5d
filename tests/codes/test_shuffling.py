"""Shuffles of batches and rows: every worker decodes its rows to the bit, in as few XORs as can be."""

from collections.abc import Sequence
from itertools import islice, permutations
from math import comb

import numpy as np
import pytest

from experiments.shuffling_loads import least_feedback
from pdcode.shuffling.plans import (
    CachePlan,
    Caches,
    CyclePlan,
    ShufflePlan,
    pack_cycles,
    wanted,
)

RANDOM = np.random.default_rng(5)


def assert_decoded(plan: ShufflePlan, data: np.ndarray, held: Sequence[np.ndarray]) -> None:
    """All workers decode what they want, from what is sent and what they have."""
    sent = plan.encode(lambda units: data[units])
    assert sent.shape == (plan.load, data.shape[1])
    for worker, own in enumerate(held):

        def fetch(units: np.ndarray, own: np.ndarray = own) -> np.ndarray:
            assert np.isin(units, own).all()
            return data[units]

        got = plan.decode(worker, fetch, sent[plan.needed(worker)])
        np.testing.assert_array_equal(got, data[plan.received(worker)])


def of_rows(old: np.ndarray, new: np.ndarray, workers: int) -> CyclePlan:
    """A plan for rows, decoded."""
    plan = CyclePlan(old, new, workers)
    data = RANDOM.integers(0, 256, (len(old), 3), np.uint8)
    assert_decoded(plan, data, [np.flatnonzero(old == worker) for worker in range(workers)])
    for worker in range(workers):
        moved = np.flatnonzero((new == worker) & (old != worker))
        np.testing.assert_array_equal(np.sort(plan.received(worker)), moved)
    return plan


@pytest.mark.parametrize("workers", range(2, 7))
def test_a_permutation_of_batches_takes_workers_less_cycles(workers: int) -> None:
    old, loads = np.arange(workers), []
    for new in permutations(range(workers)):
        seen, cycles = set[int](), 0
        for start in range(workers):
            cycles += start not in seen
            while start not in seen:
                seen.add(start)
                start = new[start]
        plan = of_rows(old, np.array(new), workers)
        assert plan.load == workers - cycles <= workers - 1
        assert plan.load == plan.uncoded - least_feedback(wanted(old, np.array(new), workers))
        loads.append(plan.load)
    assert np.mean(loads) == pytest.approx(workers - sum(1 / k for k in range(1, workers + 1)))


@pytest.mark.parametrize(
    ("workers", "rows", "most"), [(8, 32, 0.56), (8, 128, 0.53), (8, 512, 0.515), (16, 64, 0.56), (5, 1, 1.0)]
)
def test_random_shuffles_of_rows_take_about_half(workers: int, rows: int, most: float) -> None:
    coded = uncoded = bound = 0
    for _ in range(10 if workers == 8 else 3):
        old = RANDOM.permutation(np.repeat(np.arange(workers), rows))
        new = RANDOM.permutation(old)
        plan = of_rows(old, new, workers)
        coded, uncoded = coded + plan.load, uncoded + plan.uncoded
        bound += plan.uncoded - least_feedback(wanted(old, new, workers))
    assert coded <= most * uncoded
    assert bound <= coded <= (1.01 * bound if rows >= 64 else 1.1 * bound + 1)


def test_workers_that_get_more_rows_than_they_give_are_no_shuffle() -> None:
    with pytest.raises(ValueError, match="wants more rows than others want of it"):
        pack_cycles(wanted(np.array([0, 0, 1]), np.array([1, 0, 2]), 3))


@pytest.mark.every(2)
@pytest.mark.parametrize("workers", range(2, 7))
def test_caches_of_s_batches_take_a_fraction_of_s_for_any_permutation(workers: int) -> None:
    for size in range(1, workers):
        caches = Caches(workers, size)
        assert caches.parts == comb(workers - 1, size - 1)
        assert caches.load * size == (workers - size) * caches.parts
        data = RANDOM.integers(0, 256, (workers * caches.parts, 2), np.uint8)
        held = [np.array(caches.held(worker)) for worker in range(workers)]
        assert {len(each) for each in held} == {caches.parts + (workers - 1) * comb(workers - 2, size - 2)
                                                if size > 1 else 1}  # fmt: skip
        for sources in islice(permutations(range(workers)), 0, None, 7 if workers == 6 else 1):
            plan = CachePlan(caches, sources)
            assert plan.load == caches.load
            assert_decoded(plan, data, held)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_caches_are_renamed_without_traffic_a_hundred_times(size: int) -> None:
    workers, parts = 6, comb(5, size - 1)
    caches, has = Caches(workers, size), []
    data = RANDOM.integers(0, 256, (workers * parts, 2), np.uint8)
    for number in range(100):
        sources = RANDOM.permutation(workers).tolist()
        plan, after = CachePlan(caches, sources), caches.shuffled(sources)
        has = [np.array(caches.held(worker)) for worker in range(workers)]
        if number % 10 == 0:
            assert_decoded(plan, data, has)
        for worker in range(workers):
            held = after.held(worker)
            assert after.batches[worker] == caches.batches[sources[worker]]
            batch = range(after.batches[worker] * parts, (after.batches[worker] + 1) * parts)
            assert set(batch) <= set(held) <= {*has[worker].tolist(), *plan.received(worker).tolist()}
            assert len(held) == len(has[worker])
        caches = after
