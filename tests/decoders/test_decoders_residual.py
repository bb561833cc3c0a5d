"""The robust decoder: who lies, and what is left."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode import codes, decoders
from pdcode.config import load as configfile
from pdcode.decoders.syndrome import FaultSearch, null_space
from pdcode.schemes.common import builders
from pdcode.transport.units import Blocks
from pdcode.util.errors import InputError

# numpy has no bfloat16: float16 is finer, and what counts is the tolerance
ROUNDED = {"float32": np.float32, "float16": np.float16, "bfloat16": np.float16}


def lying(rng, k, arrivals, r, liars, dtype="float64", size=1.0, same=False):
    """Codewords (arrivals, r, k), the truth, and payloads of which some are wrong."""
    words = rng.normal(size=(arrivals, r, k))
    words /= np.linalg.norm(words, axis=2, keepdims=True)
    truth = rng.normal(size=(k, 40))
    payloads = words @ truth
    error = rng.normal(size=(r, 40))
    for liar in liars:
        payloads[liar] += size * (error if same else rng.normal(size=(r, 40)))
    return words, truth, payloads.astype(dtype)


def fold(words, payloads, dtype="float64", **options):
    decoder = decoders.create("residual", words.shape[-1], (payloads.shape[-1],), dtype, **options)
    for word, payload in zip(words, payloads, strict=True):
        decoder.add(word, payload)
    return decoder


@given(
    st.integers(1, 12),
    st.integers(2, 6),
    st.sampled_from(["float32", "float64"]),
    st.sampled_from([0.03, 1, 1e3]),
    st.integers(0, 2**32),
)
def test_one_byzantine_worker_is_identified_from_two_checks_on(k, more, dtype, size, seed):
    rng = np.random.default_rng(seed)
    liar = int(rng.integers(k + more))
    words, truth, payloads = lying(rng, k, k + more, 1, [liar], dtype, size)
    decoder = fold(words, payloads, dtype)
    assert decoder.redundancy == more
    # A direction that nearly vanishes, or nearly equals another's, hides the liar: not general position.
    rows = np.linalg.svd(words[:, 0].T)[2][k:].T
    cosines = np.abs(rows @ rows[liar]) / np.linalg.norm(rows, axis=1) / np.linalg.norm(rows[liar])
    cosines[liar] = 0
    if np.linalg.norm(rows[liar]) < 0.15 or cosines.max() > 0.98:
        assert decoder.flagged in ([], [liar])
        return
    assert decoder.flagged == [liar]
    assert decoder.consistent
    assert decoder.captured == 1
    condition = np.linalg.cond(np.delete(words[:, 0], liar, axis=0))
    np.testing.assert_allclose(
        decoder.gradient(), truth, atol=condition * (1e-5 if dtype == "float32" else 1e-12)
    )
    assert np.argmax(decoder.residuals()) == liar
    assert decoder.residual < 1e-3


@pytest.mark.parametrize("r", [1, 3])
@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("liars", [[], [4], [2, 9], [0, 5, 7]])
def test_several_byzantine_workers_and_codewords_an_arrival(r, same, liars):
    rng = np.random.default_rng(len(liars) + r)
    arrivals = 8 // r + 2 * len(liars) + 6
    words, truth, payloads = lying(rng, 8, arrivals, r, liars, same=same)
    decoder = fold(words, payloads, faults=3)
    assert decoder.flagged == liars
    assert decoder.consistent
    np.testing.assert_allclose(decoder.gradient(), truth, atol=1e-10)
    decoder.add(words[0], words[0] @ truth)  # the verdict is renewed
    assert decoder.flagged == liars
    decoder.reset()
    assert (decoder.flagged, decoder.consistent, decoder.redundancy) == ([], True, 0)
    assert not decoder.gradient().any()


def test_one_check_detects_an_error_but_does_not_locate_it():
    rng = np.random.default_rng(0)
    words, _, payloads = lying(rng, 6, 7, 1, [3])
    decoder = fold(words, payloads)
    assert decoder.flagged == []
    assert not decoder.consistent
    expected = np.linalg.pinv(words[:, 0]) @ payloads[:, 0]
    np.testing.assert_allclose(decoder.gradient(), expected, atol=1e-10)  # least squares of all


def test_more_byzantine_workers_than_faults():
    words, _, payloads = lying(np.random.default_rng(1), 6, 14, 1, [3, 5])
    decoder = fold(words, payloads, faults=1)
    assert decoder.flagged == []
    assert not decoder.consistent


def test_without_redundancy_no_error_is_detected():
    words, _, payloads = lying(np.random.default_rng(2), 6, 6, 1, [3])
    decoder = fold(words, payloads)
    assert (decoder.flagged, decoder.consistent, decoder.redundancy) == ([], True, 0)


def test_duplicates_that_disagree():
    """Of two it cannot be told who lies, of three it can."""
    decoder = decoders.create("residual", 2, (3,))
    decoder.add([1, 0], np.ones(3))
    decoder.add([0, 1], np.ones(3))
    decoder.add([1, 0], np.zeros(3))
    assert (decoder.flagged, decoder.consistent) == ([], False)
    decoder.add([1, 0], np.ones(3))
    assert (decoder.flagged, decoder.consistent) == ([2], True)
    np.testing.assert_allclose(decoder.gradient(), np.ones((2, 3)), atol=1e-6)


@pytest.mark.parametrize("size", [1e2, 1e8, 1e18, 1e30])
def test_enormous_lies_in_float32(size):
    words, truth, payloads = lying(np.random.default_rng(3), 10, 16, 1, [6], "float32", size)
    decoder = fold(words, payloads, "float32")
    assert decoder.flagged == [6]
    np.testing.assert_allclose(decoder.gradient(), truth, atol=1e-3)


def test_a_lie_in_a_single_element_of_a_large_payload():
    rng = np.random.default_rng(4)
    code = codes.design("net", 32, 16, 4, seed=8)
    truth = rng.normal(size=(16, 40_000)).astype(np.float32)
    decoder = decoders.create("residual", 16, (40_000,), checks=8)
    for i, word in enumerate(code.matrix):
        payload = word.astype(np.float32) @ truth
        payload[31_234] += 10.0 * (i == 11)
        decoder.add(word, payload)
    assert decoder.flagged == [11]
    np.testing.assert_allclose(decoder.gradient(), truth, atol=1e-4)


def test_noise_below_the_tolerance_is_not_held_against_anybody():
    rng = np.random.default_rng(5)
    words, truth, payloads = lying(rng, 12, 24, 1, [])
    noisy = payloads * (1 + 0.02 * rng.uniform(-1, 1, payloads.shape))
    patient = fold(words, noisy, tolerance=0.02)
    assert (patient.flagged, patient.consistent) == ([], True)
    noisy[7] += 0.5 * rng.normal(size=noisy[7].shape)
    liar = fold(words, noisy, tolerance=0.02)
    assert (liar.flagged, liar.consistent) == ([7], True)
    strict = fold(words, noisy, tolerance=1e-6)
    assert (strict.flagged, strict.consistent) == ([], False)
    np.testing.assert_allclose(liar.gradient(), truth, atol=0.3)


@pytest.mark.parametrize("wire", ["float64", "float32", "bfloat16", "float16"])
def test_the_tolerance_is_the_rounding_error_of_the_wire(wire):
    sets = ["problem.dtype=float64", f"wire.dtype={wire}", "memory.kind=none", "decoder.kind=residual"]
    config = configfile.resolve({}, sets)
    (decoder,) = builders.make_decoders(config, [Blocks(0, "output", 8, 8, 40, 0)], [wire])
    words, truth, payloads = lying(np.random.default_rng(9), 8, 16, 1, [5])
    for word, payload in zip(words, payloads.reshape(16, 1, *decoder.block_shape), strict=True):
        decoder.add(word, payload if wire == "float64" else payload.astype(ROUNDED[wire]))
    assert (decoder.flagged, decoder.consistent) == ([5], True)
    np.testing.assert_allclose(decoder.gradient().reshape(truth.shape), truth, atol=0.1)


@pytest.mark.parametrize("wire", ["int4", "int2", "sign", "qsgd"])
def test_a_wire_that_rounds_by_more_than_a_fault_is_refused(wire):
    sets = [f"wire.dtype={wire}", "memory.kind=none", "decoder.kind=residual"]
    with pytest.raises(InputError, match=rf"wire\.dtype: '{wire}' .*rounding errors for faults"):
        configfile.resolve({}, sets)
    configfile.resolve({}, [*sets, "decoder.tolerance=0.5"])


@pytest.mark.parametrize("zeros", [1, 3, 12])
def test_honest_arrivals_are_consistent_however_many_codewords_are_zero(zeros):
    words = np.zeros((2 + zeros, 2))
    words[0], words[-1] = [1, 0], [1, 1e-3]
    decoder = fold(words, words @ np.ones((2, 3)))
    assert (decoder.flagged, decoder.consistent) == ([], True)


def test_excluding_a_byzantine_worker_can_cost_rank():
    words = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])[:, None]
    payloads = np.ones((5, 1, 2))
    payloads[1] = 5
    decoder = fold(words, payloads)
    assert decoder.decodable
    assert decoder.flagged == [1]
    assert decoder.decodable
    np.testing.assert_allclose(decoder.gradient(), 1, atol=1e-12)
    decoder = fold(np.concatenate([words[:3], [[[1, 1, 0.0]], [[1, 1, 0.0]]]]), payloads, faults=2)
    assert decoder.flagged == [1]
    assert decoder.captured == pytest.approx(2 / 3)


def test_greedy_and_exhaustive_search_agree(monkeypatch):
    rng = np.random.default_rng(6)
    words, _, payloads = lying(rng, 10, 30, 1, [3, 17, 21])
    basis = np.linalg.qr(words[:, 0])[0].T
    checks = null_space(basis, 12)
    np.testing.assert_allclose(checks.T @ checks, np.eye(12), atol=1e-12)
    np.testing.assert_allclose(checks.T @ words[:, 0], 0, atol=1e-12)
    syndrome = checks.T @ payloads[:, 0]
    search = FaultSearch(checks[:, None], syndrome @ syndrome.T, np.full(30, 1e-16), np.zeros(30))
    assert not search.consistent
    assert search.smallest_sets(2) == []
    assert search.smallest_sets(3) == [(3, 17, 21)]
    monkeypatch.setattr("pdcode.decoders.syndrome.EXHAUSTIVE", 10)
    assert search.smallest_sets(3) == [(3, 17, 21)]
