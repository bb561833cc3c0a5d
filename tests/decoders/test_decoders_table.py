"""The table decoder: the mean of the last payload of each row that has been received."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode.decoders.table import TableDecoder
from pdcode.util.errors import InputError

ONE = {dtype: np.ones((1, 1), dtype) for dtype in ("float32", "float64")}


def add(table: TableDecoder, row: int, payload: np.ndarray) -> None:
    table.add_sparse(np.array([[row]], np.int32), ONE[table.dtype.name], payload[None])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(
    rows=st.integers(1, 6),
    arrivals=st.lists(st.one_of(st.integers(0, 5), st.none()), max_size=30),
    seed=st.integers(0, 2**32),
)
def test_it_is_the_mean_of_the_last_of_each(dtype, rows, arrivals, seed):
    """None stands for a new update."""
    random, table = np.random.default_rng(seed), TableDecoder(1, (3,), dtype, rows=rows)
    last: dict[int, np.ndarray] = {}
    assert table.captured == 0
    for number in arrivals:
        if number is None:
            table.reset()
            assert table.count == 0
        else:
            row = number % rows
            payload = random.normal(size=3).astype(dtype)
            last[row] = payload.copy()
            add(table, row, payload)
            payload.fill(np.nan)  # its buffer is used again
        assert table.captured == len(last) / rows
        wanted = np.mean([*last.values()], axis=0) if last else np.zeros(3)
        np.testing.assert_allclose(table.gradient()[0], wanted, atol=1e-5 if dtype == "float32" else 1e-12)


def test_rounding_errors_do_not_add_up() -> None:
    """Large gradients at first leave no trace in small ones, however many follow."""
    random, table = np.random.default_rng(0), TableDecoder(1, (50,), "float32", rows=4)
    for size in (1e6, 1e-6):
        for arrival in range(400):
            add(table, arrival % 4, last := (size * random.normal(size=50)).astype(np.float32))
            kept = last if arrival % 4 == 0 else kept + last  # noqa: F821  set in the first turn
    np.testing.assert_allclose(table.gradient()[0], kept / 4, rtol=1e-5, atol=1e-12)


def test_a_table_has_rows() -> None:
    with pytest.raises(InputError, match=r"decoder\.rows = 0"):
        TableDecoder(1, (3,), rows=0)
