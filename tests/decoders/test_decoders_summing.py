"""The summing decoder: the mean over workers of all that they have ever sent."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode import decoders
from pdcode.util.errors import InputError


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(
    blocks=st.integers(1, 9),
    short=st.integers(0, 4),
    workers=st.integers(1, 7),
    updates=st.lists(st.lists(st.integers(1, 3), max_size=4), min_size=1, max_size=4),
    seed=st.integers(0, 2**32),
)
def test_it_is_the_sum_over_all_updates(dtype, blocks, short, workers, updates, seed):
    random = np.random.default_rng(seed)
    length = blocks * 5 - min(short, 4)
    made = decoders.create("summing", blocks, (5,), dtype, length=length, mean_of=workers)
    total = np.zeros((blocks, 5))
    for arrivals in updates:
        for r in arrivals:
            words, payload = random.normal(size=(r, blocks)), random.normal(size=(r, 5))
            made.add(words, payload)
            total += words.T @ payload
        assert made.captured == min(1.0, sum(arrivals) / blocks)
        expected = total / workers
        expected.reshape(-1)[length:] = 0
        np.testing.assert_allclose(made.gradient(), expected, atol=2e-5 if dtype == "float32" else 1e-12)
        made.reset()
        assert made.count == 0
        np.testing.assert_allclose(made.gradient(), expected, atol=2e-5 if dtype == "float32" else 1e-12)


def test_differences_add_up_to_the_mean_of_the_workers_last_gradients() -> None:
    """EF21 with whole gradients: h is the gradient."""
    random = np.random.default_rng(3)
    made = decoders.create("summing", 2, (4,), "float64", mean_of=3)
    last = np.zeros((3, 2, 4))
    for _ in range(20):
        worker, gradient = int(random.integers(3)), random.normal(size=(2, 4))
        made.add(np.eye(2), gradient - last[worker])
        last[worker] = gradient
        made.reset()
        np.testing.assert_allclose(made.gradient(), last.mean(axis=0), atol=1e-12)


@pytest.mark.parametrize("bad", [0, -2])
def test_a_mean_of_nobody_is_refused(bad: int) -> None:
    with pytest.raises(InputError, match=rf"decoder\.mean_of = {bad}: not a positive"):
        decoders.create("summing", 2, (4,), mean_of=bad)


def test_a_payload_that_is_not_finite_never_gets_in() -> None:
    made = decoders.create("summing", 2, (4,), "float64")
    with pytest.raises(InputError, match="payload"):
        made.add(np.eye(2), np.full((2, 4), np.nan))
    assert not made.gradient().any()
