"""Cyclic gradient codes: who has which shards, and that s + 1 stragglers are too many."""

import re

import numpy as np
import pytest
from patterns import Rank0, make, subsets

from pdcode.config import load as configfile
from pdcode.util.errors import InputError


@pytest.mark.parametrize("n", range(1, 9))
def test_no_pattern_of_s_and_one_more_missing_workers_is_decodable(n: int) -> None:
    for s in range(n):
        made = make("cyclic", n, f"scheme.options.stragglers={s}", f"seed={7 * n + s}")
        assert [made.placement.shards_of(i) for i in range(n)] == [
            sorted((i + j) % n for j in range(s + 1)) for i in range(n)
        ]
        rank0 = Rank0(made.matrix)
        for arrived in subsets(n, [n - s - 1]):
            rank0.decode(arrived)
            assert not rank0.target.decodable
            assert rank0.target.captured < 1


@pytest.mark.parametrize("dead", [[], [0], [1, 5], [2, 3], [6]])
def test_fewer_missing_than_s_are_exact_too(dead: list[int]) -> None:
    matrix = make("cyclic", 7, "scheme.options.stragglers=2", "problem.dtype=float64").matrix
    rank0 = Rank0(matrix, np.ones((7, 1)))
    found = rank0.decode([worker for worker in range(7) if worker not in dead])
    assert rank0.target.decodable
    assert found == pytest.approx(7)


def test_of_a_table_without_effect_the_key_that_is_given_is_named() -> None:
    with pytest.raises(InputError, match=re.escape("code.weight: 4 has no effect with scheme 'cyclic'")):
        configfile.resolve({"scheme": {"name": "cyclic"}, "code": {"weight": 4}})
