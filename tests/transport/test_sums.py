"""The parts of a sum that workers send to rank 0, and the element by which they end."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode.transport.layout import Layout
from pdcode.transport.sums import Sum, exchanged_bytes
from pdcode.transport.units import Unit

lengths = st.lists(st.integers(1, 40), min_size=1, max_size=3)


@given(lengths, st.integers(1, 9), st.sampled_from(["float32", "float64"]), st.booleans())
def test_the_segments_of_all_workers_are_the_sum(lengths, workers, dtype, ending):
    units = [Unit(0, length, 1) for length in lengths]
    layout = Layout(units, [1] * len(units), [1] * len(units), np.dtype(dtype))
    sent, received = (Sum(layout, 0, workers) for _ in range(2))
    for number, payload in enumerate(sent.reply.payloads):
        payload[:] = number + np.arange(payload.size)
    assert sent.requested == (False, False)
    sent.request(ending, not ending)
    assert len(sent.segments) == workers
    for worker, part in enumerate(sent.segments):
        received.segments[worker] = part
    assert received.requested == (ending, not ending)
    for ours, theirs in zip(received.arrival.payloads, sent.reply.payloads, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert received.is_finite
    received.reply.payloads[-1][0, -1] = np.nan
    assert not received.is_finite


@pytest.mark.parametrize(("workers", "expected"), [(1, 0), (2, 6400), (4, 9600), (64, 12600)])
def test_a_worker_exchanges_twice_all_but_its_own_segment(workers: int, expected: int) -> None:
    layout = Layout([Unit(0, 1600, 1)], [1], [1], np.dtype("float32"))
    assert layout.payload_bytes == 6400
    assert exchanged_bytes(layout, workers) == expected
