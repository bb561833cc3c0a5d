"""Fractional repetition: the paper's matrix, and what is left when more than s workers are missing."""

from math import comb

import numpy as np
import pytest
from patterns import Rank0, make, subsets


def test_the_matrix_is_that_of_the_paper() -> None:
    """Tandon et al., algorithm 1, for six workers and two stragglers: blocks one under another."""
    block = [[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]
    np.testing.assert_array_equal(make("frc", 6, "scheme.options.stragglers=2").matrix, 3 * block)


@pytest.mark.parametrize(("n", "s"), [(4, 1), (6, 1), (6, 2), (8, 1), (8, 3), (9, 2)])
def test_the_mean_error_is_that_of_the_paper(n: int, s: int) -> None:
    """Charles, Papailiopoulos and Ellenberg 2017: n·C(n - s - 1, r)/C(n, r) over all sets of r workers."""
    rank0 = Rank0(make("frc", n, f"scheme.options.stragglers={s}").matrix)
    for r in range(1, n + 1):
        errors = [((rank0.decode(arrived) - 1) ** 2).sum() for arrived in subsets(n, [r])]
        assert np.mean(errors) == pytest.approx(n * comb(n - s - 1, r) / comb(n, r), abs=1e-9)


def test_replicas_are_averaged() -> None:
    """So that independent errors of theirs, as rounding makes, become smaller."""
    rank0 = Rank0(make("frc", 6, "scheme.options.stragglers=2").matrix)
    rank0.decode([0, 1, 2, 4, 5])  # three even workers, two odd ones
    np.testing.assert_allclose(rank0.target.coefficients()[:, 0], [1 / 3, 1 / 2, 1 / 3, 1 / 3, 1 / 2])
    rank0.decode([0, 3, 5])
    np.testing.assert_allclose(rank0.target.coefficients()[:, 0], [1, 1 / 2, 1 / 2])
