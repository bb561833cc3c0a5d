"""Which rows a task gets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode import codes, configfile
from pdcode.assignments import Assignment, create
from pdcode.errors import InputError
from pdcode.problems.partition import Blocks

F4 = np.dtype("float32")


def dense(pair: tuple[np.ndarray, np.ndarray], k: int) -> np.ndarray:
    matrix = np.zeros((len(pair[0]), k))
    np.add.at(matrix, (np.arange(len(pair[0]))[:, None], pair[0]), pair[1])
    return matrix


def test_static_rows_belong_to_workers() -> None:
    code = codes.design("net", workers=16, blocks=8, weight=2)
    made = Assignment({8: code}, 2, False, 1, F4)
    assert [made.row(worker) for worker in (0, 3, 3, 1)] == [0, 6, 6, 2]
    np.testing.assert_allclose(dense(made.codewords(6)[8], 8), code.matrix[6:8], rtol=1e-6)
    np.testing.assert_allclose(dense(made.codewords(16)[8], 8), code.matrix[:2], rtol=1e-6)


@given(st.sampled_from([(8, 4), (16, 4), (16, 2), (64, 4)]), st.sampled_from([1, 2, 4]), st.integers(0, 5))
def test_rotating_rows_are_an_orthonormal_basis_each_time_round(
    size: tuple[int, int], rows: int, epoch: int
) -> None:
    k, w = size
    made = Assignment({k: codes.design("net", workers=k, blocks=k, weight=w)}, rows, True, 3, F4)
    words = [dense(made.codewords(epoch * k + row)[k], k) for row in range(0, k, rows)]
    np.testing.assert_allclose(np.vstack(words) @ np.vstack(words).T, np.eye(k), atol=1e-6)


def test_codewords_depend_on_the_row_number_alone() -> None:
    code = codes.design("net", workers=16, blocks=16, weight=4)
    first, second = (Assignment({16: code}, 1, True, 5, F4) for _ in range(2))
    forwards = [dense(first.codewords(row)[16], 16) for row in range(64)]
    backwards = [dense(second.codewords(row)[16], 16) for row in reversed(range(64))]
    np.testing.assert_array_equal(forwards, backwards[::-1])
    assert (forwards[0] != forwards[16]).any()


def test_more_codewords_a_task_than_rows_are_refused() -> None:
    with pytest.raises(InputError, match=r"code\.rows_per_task: 9 .* 8 rows"):
        Assignment({8: codes.design("net", workers=8, blocks=8, weight=4)}, 9, True, 1, F4)


def test_there_is_one_code_for_each_block_count() -> None:
    layers = [
        Blocks(0, "output", 16, 64, 65, 0),
        Blocks(1, "input", 8, 65, 64, 0),
        Blocks(2, "input", 16, 65, 64, 0),
        Blocks(3, "output", 1, 10, 65, 0),
    ]
    made = create(configfile.resolve({}), layers, 8)
    assert sorted(made.designs) == [8, 16]
    assert made.designs[16].family == "net"
