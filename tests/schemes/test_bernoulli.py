"""Bernoulli gradient codes: the ensemble, and how far optimal decoding is from the sum over shards."""

import numpy as np
import pytest
from patterns import Rank0, make, subsets

SEEDS = 200


@pytest.mark.parametrize(("n", "shards"), [(8, 3.0), (12, 1.5), (5, 5.0)])
def test_entries_are_independent_and_rows_not_empty(n: int, shards: float) -> None:
    """Entries are 1 with probability s/n, given that the row is not empty; so the mean payload is known."""
    draws = [make("bernoulli", n, f"scheme.options.shards={shards}", f"seed={seed}") for seed in range(SEEDS)]
    matrices = np.array([made.matrix for made in draws])
    assert set(np.unique(matrices)) <= {0.0, 1.0}
    assert matrices.any(axis=2).all()
    chance = shards / n
    mean = chance / (1 - (1 - chance) ** n)
    deviation = np.sqrt(mean * (1 - mean) / SEEDS)
    assert np.abs(matrices.mean(axis=0) - mean).max() <= 4.5 * deviation
    same = make("bernoulli", n, f"scheme.options.shards={shards}", "seed=7").matrix
    np.testing.assert_array_equal(same, matrices[7])


@pytest.mark.parametrize("seed", range(3))
def test_optimal_decoding_is_no_worse_than_one_step_decoding(seed: int) -> None:
    """For every set of workers; one-step decoding weighs each of r payloads by n/(rs)."""
    n, s = 8, 3
    matrix = make("bernoulli", n, f"scheme.options.shards={s}", f"seed={seed}").matrix
    rank0, gained = Rank0(matrix), 0
    for arrived in subsets(n, range(1, n + 1)):
        optimal = ((rank0.decode(arrived) - 1) ** 2).sum()
        one_step = ((matrix[list(arrived)].sum(axis=0) * n / (len(arrived) * s) - 1) ** 2).sum()
        assert optimal <= one_step + 1e-9
        gained += optimal < 0.9 * one_step
    assert gained > 200


@pytest.mark.parametrize(("n", "s", "r"), [(12, 3, 9), (24, 4, 12), (24, 2, 24)])
def test_the_mean_error_is_within_that_of_one_step_decoding(n: int, s: int, r: int) -> None:
    """Its expectation is n(n - s)/(rs): the variance of a sum of independent entries."""
    errors = []
    for seed in range(60):
        rank0 = Rank0(make("bernoulli", n, f"scheme.options.shards={s}", f"seed={seed}").matrix)
        arrived = np.random.default_rng(seed).permutation(n)[:r]
        errors.append(((rank0.decode(arrived) - 1) ** 2).sum())
    assert 0 < np.mean(errors) < n * (n - s) / (r * s)


def test_a_shard_that_nobody_has_is_never_decoded() -> None:
    draws = (make("bernoulli", 6, "scheme.options.shards=1.5", f"seed={seed}").matrix for seed in range(99))
    matrix = next(matrix for matrix in draws if not matrix.any(axis=0).all())
    rank0, missed = Rank0(matrix), ~matrix.any(axis=0)
    assert (rank0.decode(range(6))[missed] == 0).all()
    assert rank0.target.captured <= 1 - missed.mean() + 1e-9
