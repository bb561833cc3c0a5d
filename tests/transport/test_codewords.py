"""Codewords in a message: exact from rank 0, rounded from a worker, nothing misread."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode.kernels import selection
from pdcode.transport.codewords import Chunks, CodewordFormat, GivenFormat, RoundedFormat, SelectionFormat

DTYPES = ["float32", "float64"]
FORMATS = [GivenFormat, RoundedFormat]
sizes = st.tuples(st.sampled_from([2, 7, 256, 257, 65536, 65537]), st.integers(1, 5), st.integers(1, 40))


def codewords(form: CodewordFormat, weight: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit codewords of this weight, as large indices as there are among them."""
    random = np.random.default_rng(seed)
    indices = random.integers(0, form.blocks, (form.rows, weight)).astype(np.int32)
    indices[0, 0] = form.blocks - 1
    values = random.normal(size=(form.rows, weight)) * np.exp(random.normal(size=(form.rows, weight)))
    return indices, (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(form.dtype)


def section(form: CodewordFormat) -> np.ndarray:
    """Room for them, with something in it, at a multiple of 8 bytes."""
    return np.full(form.bytes // 8, -1, np.int64).view(np.uint8)


@pytest.mark.parametrize("dtype", DTYPES)
@given(size=sizes, less=st.integers(0, 39), seed=st.integers(0, 2**32))
def test_what_rank_0_writes_is_read_exactly(dtype, size, less, seed):
    form = GivenFormat(*size, np.dtype(dtype))
    weight = max(1, form.weight - less)
    indices, values = codewords(form, weight, seed)
    views, pair = form.views(section(form)), form.empty()
    form.write(views, indices, values)
    assert form.read(views, pair)
    np.testing.assert_array_equal(pair[0][:, :weight], indices)
    np.testing.assert_array_equal(pair[1][:, :weight], values)
    assert not pair[0][:, weight:].any()
    assert not pair[1][:, weight:].any()
    assert (pair[0].dtype, pair[1].dtype) == (np.int32, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@given(size=sizes, less=st.integers(0, 39), seed=st.integers(0, 2**32))
def test_rounded_codewords_are_unit_vectors_that_rounding_leaves_alone(dtype, size, less, seed):
    form = RoundedFormat(*size, np.dtype(dtype))
    weight = max(1, form.weight - less)
    indices, values = codewords(form, weight, seed)
    message, pair = section(form), form.empty()
    views = form.views(message)
    form.write(views, indices, values)
    assert form.read(views, pair)
    np.testing.assert_array_equal(pair[0][:, :weight], indices)
    norms = np.linalg.norm(pair[1].astype(np.float64), axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-6)
    largest = np.abs(values).max(axis=1, keepdims=True)
    scaled = pair[1][:, :weight] / np.abs(pair[1]).max(axis=1, keepdims=True)  # rounding moves the norm too
    np.testing.assert_allclose(scaled, values / largest, atol=0.5001 / 127)
    before = message.copy()
    form.write(views, *pair)
    np.testing.assert_array_equal(message, before)


@given(
    blocks=st.sampled_from([1, 2, 7, 4096, 9000, 65537]), size=st.integers(1, 9000), most=st.integers(1, 50),
    seed=st.integers(0, 2**32),
)  # fmt: skip
def test_selected_blocks_are_read_as_they_were_written(blocks: int, size: int, most: int, seed: int) -> None:
    chunks, random = Chunks(size, most), np.random.default_rng(seed)
    starts = range(0, blocks, size)
    chosen = [
        start + np.sort(random.permutation(min(size, blocks - start))[:most]) for start in starts
    ]  # fmt: skip
    indices = np.concatenate(chosen).astype(np.int32)[:, None]
    assert len(indices) == chunks.rows(blocks)
    form = SelectionFormat(blocks, len(indices), np.dtype("float64"), chunks)
    views, pair = form.views(section(form)), form.empty()
    form.write(views, indices, -np.ones(indices.shape))  # the sign of a codeword does not matter
    assert form.read(views, pair)
    np.testing.assert_array_equal(pair[0], indices)
    np.testing.assert_array_equal(pair[1], 1)


def test_bytes_of_codewords_by_hand() -> None:
    """SparseLoCo's: 12 bits for each of 64 in every 4,096; a layer's last chunk has fewer."""
    chunks = Chunks(4096, 64)
    assert chunks.rows(10 * 4096) == 640
    assert SelectionFormat(10 * 4096, 640, np.dtype("f4"), chunks).bytes == 960
    assert chunks.rows(10 * 4096 + 5) == 645
    assert SelectionFormat(10 * 4096 + 5, 645, np.dtype("f4"), chunks).bytes == 968
    assert SelectionFormat(60_000, 600, np.dtype("f4"), Chunks(60_000, 600)).bytes == 1200
    assert SelectionFormat(5, 5, np.dtype("f4"), Chunks(1, 1)).bytes == 0
    assert RoundedFormat(257, 2, 32, np.dtype("f4")).bytes == 144  # 2 scales, 64 bytes, 64 · 9 bits
    assert GivenFormat(257, 2, 32, np.dtype("f4")).bytes == 64 * (4 + 2)
    with pytest.raises(ValueError, match="641 rows are not the 640"):
        SelectionFormat(10 * 4096, 641, np.dtype("f4"), chunks)


@pytest.mark.parametrize(
    ("blocks", "kind", "bits"),
    [(2, "u1", 1), (256, "u1", 8), (257, "u2", 9), (65536, "u2", 16), (65537, "u4", 17)],
)
def test_indices_have_the_smallest_sufficient_type(blocks: int, kind: str, bits: int) -> None:
    given = GivenFormat(blocks, 3, 5, np.dtype("float32"))
    values, indices = given.views(section(given))
    assert (values.dtype, indices.dtype) == ("f4", np.dtype(kind))
    assert values.nbytes + indices.nbytes <= given.bytes < values.nbytes + indices.nbytes + 16
    rounded = RoundedFormat(blocks, 3, 5, np.dtype("float32"))
    scales, values, packed = rounded.views(section(rounded))
    assert (len(scales), values.dtype, len(packed)) == (3, "i1", selection.size(15, bits))
    used = scales.nbytes + values.nbytes + packed.nbytes
    assert used <= rounded.bytes < used + 8


@pytest.mark.parametrize("kind", FORMATS)
@given(size=sizes, dtype=st.sampled_from(DTYPES))
def test_sections_of_codewords_do_not_overlap(kind: type, size: tuple[int, int, int], dtype: str) -> None:
    form = kind(*size, np.dtype(dtype))
    assert form.bytes % 8 == 0
    parts = form.views(section(form))
    for number, part in enumerate(parts):
        part.fill(number + 1)
    for number, part in enumerate(parts):
        assert (part == number + 1).all()
        assert part.ctypes.data % part.itemsize == 0


def test_a_codeword_of_zeros_is_read_as_zeros() -> None:
    form = RoundedFormat(9, 2, 3, np.dtype("float32"))
    views, pair = form.views(section(form)), form.empty()
    form.write(views, np.zeros((2, 3), "i4"), np.array([[0, 0, 0], [0.6, 0, 0.8]], "f4"))
    assert form.read(views, pair)
    np.testing.assert_array_equal(pair[1][0], 0)
    np.testing.assert_allclose(np.linalg.norm(pair[1][1]), 1, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_invalid_codewords_are_detected(bad: float) -> None:
    form = RoundedFormat(9, 2, 3, np.dtype("float32"))
    views, pair = form.views(section(form)), form.empty()
    form.write(views, *codewords(form, 3, 1))
    assert form.read(views, pair)
    indices = pair[0].copy()
    form.write(views, np.where(np.arange(6).reshape(2, 3) == 5, 9, indices), pair[1])  # blocks 0 to 8
    assert not form.read(views, pair)
    form.write(views, indices, pair[1])
    views[0][1] = bad
    assert not form.read(views, pair)


def test_blocks_beyond_their_chunk_are_detected() -> None:
    form = SelectionFormat(25, 6, np.dtype("float32"), Chunks(10, 2))
    views, pair = form.views(section(form)), form.empty()
    good = np.array([0, 9, 10, 19, 20, 24], np.int32)
    for row, bad in ((1, 10), (3, 20), (5, 25)):
        form.write(views, good, np.ones(6))
        assert form.read(views, pair)
        form.write(views, np.where(np.arange(6) == row, bad, good).astype(np.int32), np.ones(6))
        assert not form.read(views, pair)
