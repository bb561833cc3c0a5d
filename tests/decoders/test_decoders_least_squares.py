"""The least-squares decoder: numpy's minimum-norm solution after every prefix."""

import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode import codes, decoders
from pdcode.util.errors import InputError


@st.composite
def arrivals(draw):
    """Codewords with dependent, duplicate and zero rows; payloads consistent or not."""
    k, q, e = draw(st.integers(1, 9)), draw(st.integers(1, 20)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["dense", "signs", "sparse"]))
    words = {
        "dense": lambda: rng.normal(size=(q, k)),
        "signs": lambda: rng.choice([-1.0, 0.0, 1.0], (q, k)),
        "sparse": lambda: rng.normal(size=(q, k)) * (rng.random((q, k)) < 0.4),
    }[kind]()
    for row in range(1, q):
        choice = draw(st.sampled_from(["new", "new", "duplicate", "combination", "zero"]))
        if choice == "duplicate":
            words[row] = words[rng.integers(row)]
        elif choice == "combination":
            words[row] = rng.integers(-2, 3, row) @ words[:row]
        elif choice == "zero":
            words[row] = 0
    norms = np.linalg.norm(words, axis=1, keepdims=True)
    words = np.divide(words, norms, out=np.zeros_like(words), where=norms > 1e-9)
    payloads = words @ rng.normal(size=(k, e)) if draw(st.booleans()) else rng.normal(size=(q, e))
    return words, payloads


@given(arrivals())
def test_equals_numpy_after_every_prefix(case):
    words, payloads = case
    k, e = words.shape[1], payloads.shape[1]
    singular = np.linalg.svd(words, compute_uv=False)
    decoder = decoders.create("least_squares", k, (e,), "float64", capacity=3)  # has to grow
    for q in range(1, len(words) + 1):
        decoder.add(words[q - 1], payloads[q - 1])
        expected = np.linalg.pinv(words[:q], rcond=1e-11) @ payloads[:q]
        rank = np.linalg.matrix_rank(words[:q], tol=1e-11)
        positive = np.linalg.svd(words[:q], compute_uv=False)[:rank]
        condition = positive[0] / positive[-1] if rank else 1.0
        tolerance = 1e-10 * max(1.0, np.abs(expected).max(), condition / 1e3)
        np.testing.assert_allclose(decoder.gradient(), expected, rtol=0, atol=tolerance)
        assert decoder.captured == rank / k
        assert decoder.decodable == (rank == k)
        residuals = np.linalg.norm(payloads[:q] - words[:q] @ expected, axis=1)
        np.testing.assert_allclose(decoder.residuals(), residuals, rtol=0, atol=10 * tolerance)
        assert decoder.residual == pytest.approx(np.linalg.norm(residuals), abs=10 * tolerance)
    assert len(singular) <= k


@pytest.mark.parametrize("family", ["net", "random", "repetition", "pairs", "uncoded"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_codes_in_random_order_with_several_rows_a_task(family, dtype):
    rng = np.random.default_rng(7)
    code = codes.design(family, 48, 24, seed=1)
    truth = rng.normal(size=(24, 1000)).astype(dtype)
    decoder = decoders.create("least_squares", 24, (1000,), dtype)
    order = rng.permutation(24)
    seen = []
    for task in order:
        indices, values = code.rows(2 * task, 2)
        seen += [2 * task, 2 * task + 1]
        words = code.matrix[[2 * task, 2 * task + 1]]
        decoder.add_sparse(indices, values.astype(dtype), (words @ truth).astype(dtype))
        tolerance = 1e-10 if dtype == "float64" else 1e-3
        expected = np.linalg.pinv(code.matrix[seen]) @ (code.matrix[seen] @ truth)
        np.testing.assert_allclose(decoder.gradient(), expected, atol=tolerance)
    assert decoder.decodable == (np.linalg.matrix_rank(code.matrix) == 24)
    assert decoder.residual < 1e-9 * 1e7 ** (dtype == "float32")


def test_many_panels():
    rng = np.random.default_rng(3)
    e = 70_001  # several panels and a ragged one
    truth = rng.normal(size=(4, e))
    decoder = decoders.create("least_squares", 4, (e,), "float64")
    words = rng.normal(size=(7, 4))
    for word in words:
        decoder.add(word, word @ truth)
    np.testing.assert_allclose(decoder.gradient(), truth, atol=1e-10)
    assert decoder.residual < 1e-9


def test_residual_finds_the_faulty_worker():
    rng = np.random.default_rng(5)
    code = codes.design("net", 32, 16, 4, seed=8)
    truth = rng.normal(size=(16, 50))
    decoder = decoders.create("least_squares", 16, (50,), "float64")
    for i, word in enumerate(code.matrix):
        decoder.add(word, word @ truth + (5.0 if i == 11 else 0.0))
    assert decoder.residual > 1
    assert np.argmax(decoder.residuals()) == 11


def test_payloads_are_referenced_or_copied():
    word, payload = np.ones((1, 1)), np.full((1, 4), 2.0)
    indices = np.zeros((1, 1), np.int32)
    referring = decoders.create("least_squares", 1, (4,), "float64")
    copying = decoders.create("least_squares", 1, (4,), "float64", copy=True)
    for decoder in (referring, copying):
        decoder.add_sparse(indices, word, payload)
    payload[:] = 3
    np.testing.assert_array_equal(referring.gradient(), [[3] * 4])
    np.testing.assert_array_equal(copying.gradient(), [[2] * 4])
    referring.reset()
    referring.add(word, payload)
    payload[:] = 4
    np.testing.assert_array_equal(referring.gradient(), [[3] * 4])  # add copies


def test_payload_memory_is_kept_alive():
    decoder = decoders.create("least_squares", 3, (1000,), "float64")
    for j in range(3):
        decoder.add_sparse(np.array([[j]], np.int32), np.ones((1, 1)), np.full((1, 1000), float(j)))
    gc.collect()
    rubbish = [np.full((1, 1000), np.nan) for _ in range(8)]
    np.testing.assert_array_equal(decoder.gradient(), np.repeat(np.arange(3.0), 1000).reshape(3, 1000))
    assert len(rubbish) == 8


def test_wrong_arrays_are_refused_before_they_are_read_by_address():
    decoder = decoders.create("least_squares", 3, (8,), "float32")
    indices, values = np.zeros((1, 1), np.int32), np.ones((1, 1), np.float32)
    with pytest.raises(InputError, match=r"payload: float64 \(1, 8\) is not float32 \(1, 8\)"):
        decoder.add_sparse(indices, values, np.ones((1, 8)))
    with pytest.raises(InputError, match=r"payload: float32 \(1, 7\) is not float32 \(1, 8\)"):
        decoder.add_sparse(indices, values, np.ones((1, 7), np.float32))
    with pytest.raises(ValueError, match="weight for block 3: blocks are 0 to 2"):
        decoder.add_sparse(np.array([[0], [3]], np.int32), np.ones((2, 1), "f4"), np.ones((2, 8), "f4"))
    assert decoder.count == 0
    assert decoder.captured == 0
    assert not decoder.gradient().any()
    decoder.add(np.eye(3), np.ones((3, 8)))
    np.testing.assert_array_equal(decoder.gradient(), np.ones((3, 8)))


def test_reset_begins_again():
    decoder = decoders.create("least_squares", 2, (2,), "float64")
    for value in (1.0, 5.0):
        decoder.add([1, 0], [value, value])
        np.testing.assert_array_equal(decoder.gradient(), [[value] * 2, [0, 0]])
        decoder.reset()
        assert decoder.captured == 0
    np.testing.assert_array_equal(decoder.gradient(), np.zeros((2, 2)))


def test_bits_do_not_depend_on_where_payloads_lie_nor_on_threads(monkeypatch):
    """Replicas of a model must agree, whatever their buffers and cores."""
    rng = np.random.default_rng(11)
    code = codes.design("random", 24, 20, 4, seed=2)
    payloads = rng.normal(size=(24, 1, 50_003)).astype(np.float32)
    results = []
    for threads, scattered in ((1, False), (1, True), (2, True), (3, False)):
        monkeypatch.setattr("pdcode.decoders.payloads.threads", lambda threads=threads: threads)
        monkeypatch.setattr("pdcode.decoders.payloads.WORK_PER_THREAD", 1 << 20)
        decoder = decoders.create("least_squares", 20, (50_003,))
        kept = [payload.copy() if scattered else payload for payload in payloads]
        for row, payload in enumerate(kept):
            indices, values = code.rows(row)
            decoder.add_sparse(indices, values.astype(np.float32), payload)
        results.append(decoder.gradient())
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])
    expected = np.linalg.pinv(code.matrix) @ payloads[:, 0]
    np.testing.assert_allclose(results[0], expected, atol=1e-3)
