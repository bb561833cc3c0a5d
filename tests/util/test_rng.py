"""Mini-batches: with replacement, and in epochs."""

import numpy as np
import pytest

from pdcode.util.rng import BatchSampler


@pytest.mark.parametrize(("rows", "batch"), [(12, 4), (10, 4), (3, 8), (5, 5)])
def test_an_epoch_has_each_row_once_in_an_order_of_its_own(rows: int, batch: int) -> None:
    sampler = BatchSampler(7, 2, rows, batch, epochs=True)
    tasks = -(-3 * rows // batch)
    drawn = np.concatenate([sampler.draw(task).copy() for task in range(tasks)])
    epochs = [drawn[start : start + rows] for start in range(0, 3 * rows, rows)]
    assert all(sorted(epoch) == list(range(rows)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    for task in reversed(range(tasks)):  # a batch depends on nothing but its task
        np.testing.assert_array_equal(sampler.draw(task), drawn[task * batch :][:batch])
    other = BatchSampler(7, 3, rows, rows, epochs=True).draw(0)
    assert tuple(other) != tuple(epochs[0])
