"""Injected delays: their law, their keys, their slow workers."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from pdcode import stragglers
from pdcode.config import Stragglers
from pdcode.errors import InputError
from pdcode.stragglers import Delays

EXPONENTIAL = Stragglers(kind="shifted-exponential", shift_s=0.002, mean_s=0.003, slow=[2], slowdown=10.0)


def delays(table: Stragglers, worker: int, tasks: int = 4000, seed: int = 1) -> np.ndarray:
    made = Delays(table, seed, worker)
    return np.array([made.delay_ns(task, 1_000_000) for task in range(tasks)]) * 1e-9


def test_none_never_delays() -> None:
    assert not delays(Stragglers(slow=[0], slowdown=9.0), 0, 10).any()


def test_the_shifted_exponential_has_its_shift_mean_and_variance() -> None:
    sample = delays(EXPONENTIAL, 0)
    assert sample.min() >= 0.002
    assert sample.mean() == pytest.approx(0.005, abs=4 * 0.003 / np.sqrt(len(sample)))
    assert sample.std() == pytest.approx(0.003, rel=0.1)


def test_a_slow_worker_meets_ten_times_the_delay() -> None:
    plain = Stragglers(kind="shifted-exponential", shift_s=0.002, mean_s=0.003)
    np.testing.assert_allclose(delays(EXPONENTIAL, 2, 50), 10 * delays(plain, 2, 50), rtol=1e-6)


def test_delays_are_keyed_by_seed_worker_and_task_alone() -> None:
    again = Delays(EXPONENTIAL, 1, 3)
    backwards = [again.delay_ns(task, 5) for task in reversed(range(20))]
    np.testing.assert_array_equal(delays(EXPONENTIAL, 3, 20), np.array(backwards[::-1]) * 1e-9)
    assert (delays(EXPONENTIAL, 3, 20) != delays(EXPONENTIAL, 4, 20)).all()
    assert (delays(EXPONENTIAL, 3, 20) != delays(EXPONENTIAL, 3, 20, seed=2)).all()


def test_a_slow_set_delays_by_its_shift_or_stretches_the_compute_time() -> None:
    fixed = Stragglers(kind="slow-set", shift_s=0.004, slow=[1], slowdown=3.0)
    assert delays(fixed, 0, 1)[0] == pytest.approx(0.004)
    assert delays(fixed, 1, 1)[0] == pytest.approx(0.012)
    stretched = Stragglers(kind="slow-set", slow=[1], slowdown=3.0)
    assert delays(stretched, 0, 1)[0] == 0
    assert delays(stretched, 1, 1)[0] == pytest.approx(0.002)  # of a task of 1 ms


@pytest.mark.parametrize("wait", [stragglers.nap, stragglers.spin])
def test_waiting_takes_at_least_the_delay(wait: Callable[[int], None]) -> None:
    start_ns = time.perf_counter_ns()
    wait(10_000_000)
    assert time.perf_counter_ns() - start_ns >= 10_000_000


def test_impossible_tables_are_refused() -> None:
    with pytest.raises(InputError, match=r"stragglers\.slow: worker 2"):
        stragglers.check(EXPONENTIAL, 2)
    with pytest.raises(InputError, match=r"stragglers\.mean_s"):
        stragglers.check(Stragglers(kind="shifted-exponential", shift_s=1.0), 2)
