"""Messages: sizes, and views that do not overlap."""

from __future__ import annotations

import numpy as np
import pytest

from pdcode.messages import HEADER, Layout, buffer
from pdcode.problems.partition import ALIGNMENT, Blocks

LAYERS = [
    Blocks(0, "output", 8, 61, 33, 0),
    Blocks(1, "input", 4, 62, 10, 2013),
    Blocks(2, "output", 1, 3, 11, 2633),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 3])
def test_sections_are_aligned_and_do_not_overlap(dtype: str, rows: int) -> None:
    layout = Layout(LAYERS, {8: 4, 4: 2}, rows, np.dtype(dtype))
    task, reply = buffer(layout.task_bytes)[0], buffer(layout.reply_bytes)[0]
    codewords = layout.codewords(task)
    parts = [layout.theta(task), *(array for pair in codewords.values() for array in pair)]
    for number, part in enumerate(parts):
        part.fill(number + 1)
    for number, part in enumerate(parts):
        assert (part == number + 1).all()
        assert part.ctypes.data % ALIGNMENT == 0
    assert not task[: HEADER.size].any()
    views = layout.payload_views(reply)
    assert [view.shape for view in views] == [(rows, 8 * 33), (rows, 16 * 10), (1, 33)]
    for number, view in enumerate(views):
        view.fill(number + 1)
        assert view.ctypes.data % ALIGNMENT == 0
    assert all((view == number + 1).all() for number, view in enumerate(views))
    assert not reply[: HEADER.size].any()
    assert layout.payload(reply).nbytes == layout.payload_bytes


def test_a_payload_is_a_kth_of_the_gradient_and_padding() -> None:
    layout = Layout([Blocks(0, "output", 16, 1000, 100, 0)], {16: 4}, 1, np.dtype("float32"))
    assert layout.gradient_bytes == 400_000
    assert layout.payload_bytes == 63 * 100 * 4 + 16  # 62.5 rows, rounded up to rows and to 64 bytes
    assert layout.reply_bytes == layout.payload_bytes + HEADER.size == layout.payload_bytes + 64


def test_buffers_start_at_cache_lines() -> None:
    rows = buffer(100, 5)
    assert rows.shape == (5, 128)
    assert rows.ctypes.data % ALIGNMENT == 0
    assert not rows.any()
