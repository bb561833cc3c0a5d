"""Each kind of delay against the formulas of its law: distribution, mean, variance, slow spells."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import normal
from tables import delayed

from pdcode.config import StragglersTable
from pdcode.kernels import philox
from pdcode.stragglers.markov import MarkovDelays
from pdcode.util import rng

WORKERS, TASKS = 200, 500
ERRORS = 4  # standard errors that a measured mean may be off

Law = Callable[[np.ndarray], np.ndarray]

LAWS: dict[str, tuple[StragglersTable, Law, float, float]] = {  # table, distribution function, mean, variance
    "shifted-exponential": (
        delayed(kind="shifted-exponential", shift_s=0.002, mean_s=0.003),
        lambda t: -np.expm1(-np.maximum(t - 0.002, 0) / 0.003),
        0.005,
        0.003**2,
    ),
    "pareto": (
        delayed(kind="pareto", shift_s=0.002, shape=4.5),
        lambda t: 1 - (0.002 / np.maximum(t, 0.002)) ** 4.5,
        0.002 * 4.5 / 3.5,
        0.002**2 * 4.5 / (3.5**2 * 2.5),
    ),
    "lognormal": (
        delayed(kind="lognormal", shift_s=0.001, median_s=0.004, sigma=0.6),
        lambda t: normal(np.log(np.maximum(t - 0.001, 1e-300) / 0.004) / 0.6),
        0.001 + 0.004 * math.exp(0.18),
        0.004**2 * math.exp(0.36) * math.expm1(0.36),
    ),
}


def sample(table: StragglersTable, seed: int = 7) -> np.ndarray:
    """Delays (WORKERS, TASKS)."""
    table.make(0, WORKERS)
    model = table.make(seed, WORKERS)
    return model.delays_s(np.arange(WORKERS), np.zeros(WORKERS, int), TASKS)


@pytest.mark.parametrize("kind", LAWS)
def test_continuous_laws(kind: str) -> None:
    """Mean and variance, and the largest distance of the distribution functions, which exceeds 2.2/√N once in
    ten thousand times (Kolmogorov)."""
    table, law, mean, variance = LAWS[kind]
    drawn = np.sort(sample(table).ravel())
    count = len(drawn)
    expected = law(drawn)
    steps = np.arange(count + 1) / count
    assert max((steps[1:] - expected).max(), (expected - steps[:-1]).max()) < 2.2 / math.sqrt(count)
    assert drawn.mean() == pytest.approx(mean, abs=ERRORS * math.sqrt(variance / count))
    assert drawn.var() == pytest.approx(variance, rel=0.1)


@pytest.mark.parametrize("kind", LAWS)
def test_tasks_and_workers_are_independent(kind: str) -> None:
    """Correlations of neighbours are about N^(-1/2)."""
    table, law, _, _ = LAWS[kind]
    uniform = law(sample(table)) - 0.5
    for shifted in (uniform[:, 1:], uniform[1:, :]):
        other = uniform[: len(shifted), : shifted.shape[1]]
        assert abs((shifted * other).mean()) * 12 < ERRORS / math.sqrt(shifted.size)


def test_a_pareto_tail_without_a_mean_has_its_quantiles() -> None:
    drawn = sample(delayed(kind="pareto", shift_s=0.01, shape=0.8))
    for share in (0.5, 0.1, 0.01, 0.001):
        beyond = np.count_nonzero(drawn > 0.01 * share ** (-1 / 0.8)) / drawn.size
        assert beyond == pytest.approx(share, abs=ERRORS * math.sqrt(share * (1 - share) / drawn.size))


def test_bimodal_tasks_are_slow_with_their_probability() -> None:
    drawn = sample(delayed(kind="bimodal", shift_s=0.001, extra_s=0.05, probability=0.1))
    slow = drawn > 0.01
    np.testing.assert_array_equal(np.unique(drawn), [0.001, 0.001 + 0.05])
    assert slow.mean() == pytest.approx(0.1, abs=ERRORS * math.sqrt(0.09 / slow.size))
    assert slow.mean(axis=1).std() == pytest.approx(math.sqrt(0.09 / TASKS), rel=0.2)  # no spells


@pytest.mark.parametrize(("enter", "leave"), [(0.02, 0.08), (0.3, 0.7), (0.9, 0.8), (0.5, 1.0)])
def test_markov_spells_have_their_share_and_their_lengths(enter: float, leave: float) -> None:
    table = delayed(kind="markov", shift_s=0.001, extra_s=0.05, enter=enter, leave=leave)
    slow = sample(table) > 0.01
    share, memory = enter / (enter + leave), 1 - enter - leave
    # variance of the mean of a chain whose correlations are memory^lag
    variance = share * (1 - share) * (1 + memory) / (1 - memory)
    assert slow.mean() == pytest.approx(share, abs=ERRORS * math.sqrt(variance / slow.size))
    for state, chance in (False, enter), (True, leave):
        after = slow[:, 1:][slow[:, :-1] == state]
        error = math.sqrt(chance * (1 - chance) / len(after))
        assert (after != state).mean() == pytest.approx(chance, abs=ERRORS * error + 1e-12)


def test_the_first_task_of_a_markov_worker_is_as_any_other() -> None:
    table = delayed(kind="markov", extra_s=0.05, enter=0.001, leave=0.003)
    workers = np.arange(20_000)
    model = table.make(1, len(workers))
    slow = model.delays_s(workers, np.zeros_like(workers), 1) > 0
    assert slow.mean() == pytest.approx(0.25, abs=ERRORS * math.sqrt(0.25 * 0.75 / len(workers)))


@given(st.floats(0.001, 1), st.floats(0.001, 1), st.integers(0, 2**64 - 1), st.integers(0, 600))
def test_markov_states_at_random_are_those_of_the_chain_in_order(enter, leave, seed, first):
    draws = np.empty((1, first + 20, 1))
    philox.uniforms_of(seed, rng.DELAY, np.array([3]), np.array([0]), first + 20, 1, draws)
    slow, chain = bool(draws[0, 0, 0] < enter / (enter + leave)), []
    for task, uniform in enumerate(draws[0, :, 0]):
        if task:
            slow = bool(uniform < (1 - leave if slow else enter))
        chain.append(slow)
    model = MarkovDelays(delayed(kind="markov", extra_s=0.05, enter=enter, leave=leave), seed, 4)
    for start, count in (first, 20), (max(first - 3, 0), 1), (max(first - 2, 0), 5):
        found = model.slow(np.array([3]), np.array([start]), count)
        assert found[0].tolist() == chain[start : start + count]
