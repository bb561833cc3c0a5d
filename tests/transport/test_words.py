"""Codewords in a message: exact from rank 0, rounded from a worker, nothing misread."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode.transport.codewords import CodewordFormat

DTYPES = ["float32", "float64"]
sizes = st.tuples(st.sampled_from([2, 7, 256, 257, 65536, 65537]), st.integers(1, 5), st.integers(1, 40))


def codewords(words: CodewordFormat, weight: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit codewords of this weight, as large indices as there are among them."""
    random = np.random.default_rng(seed)
    indices = random.integers(0, words.blocks, (words.rows, weight)).astype(np.int32)
    indices[0, 0] = words.blocks - 1
    values = random.normal(size=(words.rows, weight)) * np.exp(random.normal(size=(words.rows, weight)))
    return indices, (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(words.dtype)


def section(words: CodewordFormat) -> np.ndarray:
    """Room for them, with something in it, at a multiple of 8 bytes."""
    return np.full(words.bytes // 8, -1, np.int64).view(np.uint8)


@pytest.mark.parametrize("dtype", DTYPES)
@given(size=sizes, less=st.integers(0, 39), seed=st.integers(0, 2**32))
def test_what_rank_0_writes_is_read_exactly(
    dtype: str, size: tuple[int, int, int], less: int, seed: int
) -> None:
    words = CodewordFormat(*size, np.dtype(dtype), rounded=False)
    weight = max(1, words.weight - less)
    indices, values = codewords(words, weight, seed)
    views, pair = words.views(section(words)), words.empty()
    words.write(views, indices, values)
    assert words.read(views, pair)
    np.testing.assert_array_equal(pair[0][:, :weight], indices)
    np.testing.assert_array_equal(pair[1][:, :weight], values)
    assert not pair[0][:, weight:].any()
    assert not pair[1][:, weight:].any()
    assert (pair[0].dtype, pair[1].dtype) == (np.int32, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@given(size=sizes, less=st.integers(0, 39), seed=st.integers(0, 2**32))
def test_rounded_codewords_are_unit_vectors_that_rounding_leaves_alone(
    dtype: str, size: tuple[int, int, int], less: int, seed: int
) -> None:
    words = CodewordFormat(*size, np.dtype(dtype), rounded=True)
    weight = max(1, words.weight - less)
    indices, values = codewords(words, weight, seed)
    message, pair = section(words), words.empty()
    views = words.views(message)
    words.write(views, indices, values)
    assert words.read(views, pair)
    np.testing.assert_array_equal(pair[0][:, :weight], indices)
    norms = np.linalg.norm(pair[1].astype(np.float64), axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-6)
    largest = np.abs(values).max(axis=1, keepdims=True)
    scaled = pair[1][:, :weight] / np.abs(pair[1]).max(axis=1, keepdims=True)  # rounding moves the norm too
    np.testing.assert_allclose(scaled, values / largest, atol=0.5001 / 127)
    before = message.copy()
    words.write(views, *pair)
    np.testing.assert_array_equal(message, before)


@pytest.mark.parametrize(
    ("blocks", "kind"), [(2, "u1"), (256, "u1"), (257, "u2"), (65536, "u2"), (65537, "u4")]
)
@pytest.mark.parametrize("rounded", [False, True])
def test_indices_take_the_smallest_type_that_holds_them(blocks: int, kind: str, rounded: bool) -> None:
    words = CodewordFormat(blocks, 3, 5, np.dtype("float32"), rounded)
    scales, values, indices = words.views(section(words))
    assert indices.dtype == np.dtype(kind)
    assert values.dtype == ("i1" if rounded else "f4")
    assert len(scales) == (3 if rounded else 0)
    used = scales.nbytes + values.nbytes + indices.nbytes
    assert words.bytes % 8 == 0
    assert used <= words.bytes < used + 16


@given(size=sizes, rounded=st.booleans(), dtype=st.sampled_from(DTYPES))
def test_parts_do_not_overlap(size: tuple[int, int, int], rounded: bool, dtype: str) -> None:
    words = CodewordFormat(*size, np.dtype(dtype), rounded)
    parts = words.views(section(words))
    for number, part in enumerate(parts):
        part.fill(number + 1)
    for number, part in enumerate(parts):
        assert (part == number + 1).all()
        assert part.ctypes.data % part.itemsize == 0


def test_a_codeword_of_zeros_stays_one() -> None:
    words = CodewordFormat(9, 2, 3, np.dtype("float32"), rounded=True)
    views, pair = words.views(section(words)), words.empty()
    words.write(views, np.zeros((2, 3), "i4"), np.array([[0, 0, 0], [0.6, 0, 0.8]], "f4"))
    assert words.read(views, pair)
    np.testing.assert_array_equal(pair[1][0], 0)
    np.testing.assert_allclose(np.linalg.norm(pair[1][1]), 1, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_a_broken_worker_sends_is_noticed(bad: float) -> None:
    words = CodewordFormat(9, 2, 3, np.dtype("float32"), rounded=True)
    views, pair = words.views(section(words)), words.empty()
    words.write(views, *codewords(words, 3, 1))
    assert words.read(views, pair)
    views[2][1, 2] = 9  # there are blocks 0 to 8
    assert not words.read(views, pair)
    views[2][1, 2] = 8
    views[0][1] = bad
    assert not words.read(views, pair)
