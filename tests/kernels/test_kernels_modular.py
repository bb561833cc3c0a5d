"""Sums modulo 2^bits against those of Python's integers, with wraps found and mended."""

from math import comb

import numpy as np
import pytest

from pdcode.kernels import modular
from pdcode.transport.modular import Blocks

VECTORS, SIZE = 100_000, 8  # each a group of its own


def total_of(
    payloads: np.ndarray, bits: int, scales: np.ndarray, group: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of the words of payloads (workers, n), and the sum of their integers."""
    block = -(-group // (64 // bits)) + modular.EXTRA
    total, integers = np.zeros(len(scales) * block, np.uint64), np.zeros(payloads.shape[1], np.int64)
    by_element = np.repeat(scales, group)[: payloads.shape[1]]
    for payload in payloads:
        words, rounded = np.empty_like(total), payload.copy()
        assert modular.encode(rounded, scales, group, words, bits)
        own = np.rint(payload / by_element).astype(np.int64)
        np.testing.assert_array_equal(rounded, (own * by_element).astype(payload.dtype))
        integers += own
        modular.add(total, words, block, bits)
    return total, integers


@pytest.mark.every(4)
@pytest.mark.parametrize(
    ("bits", "dtype"), [(2, "float32"), (5, "float32"), (8, "float32"), (8, "float64"), (16, "float32")]
)
def test_sums_are_exact_wherever_no_wrap_is_reported(bits: int, dtype: str) -> None:
    """One wrap in a group is mended, and nothing else."""
    rng = np.random.default_rng(bits)
    payloads = rng.normal(scale=2**bits / 20, size=(12, VECTORS * SIZE)).astype(dtype)
    scales = np.full(VECTORS, 0.25 if bits > 2 else 1.0, np.float32)
    payloads *= scales[0]
    total, integers = total_of(payloads, bits, scales, SIZE)
    sums, found, after = np.empty(VECTORS * SIZE, dtype), np.zeros(2, np.int64), scales.copy()
    modular.decode(total, bits, 3.0, after, SIZE, sums, found)
    half = 2 ** (bits - 1)
    turns = ((integers + half) // 2**bits).reshape(VECTORS, SIZE)
    wraps, exact = np.count_nonzero(turns, axis=1), (integers * 0.25 if bits > 2 else integers).astype(dtype)
    right = (sums == exact).reshape(VECTORS, SIZE).all(axis=1)
    single = (wraps == 1) & (np.abs(turns).max(axis=1) == 1)
    assert right[wraps == 0].all()
    assert right[single].all()
    assert found[0] == single.sum() > 100
    assert found.sum() == np.count_nonzero(wraps)
    lost = (after == 0) & (wraps > 0)
    assert (sums.reshape(VECTORS, SIZE)[lost] == 0).all()
    assert right[~lost].all()
    largest = np.abs(exact.reshape(VECTORS, SIZE)).max(axis=1)
    needed = np.maximum(largest.astype(float) * 6 / 2**bits, scales[0] / 2)
    kept = (wraps == 0) & (largest > 0)
    np.testing.assert_allclose(after[kept], needed[kept], rtol=1e-6)
    assert (after[largest == 0] <= 0).all()


def test_groups_without_a_scale_send_a_bound_and_zeros_halve_it() -> None:
    payloads = np.array([[3.0, -5.0, 0.5, 0.25], [1.0, 2.0, -0.5, 0.0]], np.float32)
    blocks = Blocks.of(8, 4)
    assert blocks == (8, 1, 4, 3)
    scales, sums, found = np.zeros(2, np.float32), np.empty(4, np.float32), np.zeros(2, np.int64)
    total, words = np.zeros((2, 6), np.uint64)
    for payload in payloads:
        assert modular.encode(payload.copy(), scales, 2, words, 8)
        modular.add(total, words, 3, 8)
    assert total[2] >> np.uint64(modular.COUNT) == 2
    modular.decode(total, 8, 3.0, scales, 2, sums, found)
    assert not sums.any()
    np.testing.assert_allclose(scales, [7 * 6 / 256, 1 * 6 / 256], rtol=1e-5)
    scales[:] = -8, -0.001  # both sums were zeros: the first scale is too large, the other by far too small
    modular.decode(total, 8, 3.0, scales, 2, sums, found)
    np.testing.assert_allclose(scales, [4, 6 / 256], rtol=1e-5)
    assert not found.any()


def weights() -> np.ndarray:
    """Return the weights of the checksum, uint64, shape (GROUP,)."""
    units = np.eye(modular.GROUP, dtype=np.float32)
    block = Blocks.of(16, modular.GROUP).words
    words = np.empty(modular.GROUP * block, np.uint64)
    scales = np.ones(modular.GROUP, np.float32)
    assert modular.encode(units.ravel(), scales, modular.GROUP, words, 16)
    return words.reshape(modular.GROUP, block)[:, -modular.EXTRA]


def test_two_or_three_wraps_in_a_group_never_look_like_one_and_four_never_like_none() -> None:
    """For all places at once: sums of one or two weights, of either sign, are distinct modulo 2**48.

    What three wraps miss is their sum; that of two of them then differs from the third and from another's
    sum with it. A multiple of a wrap is a weight that occurs again.
    """
    ones = np.concatenate([weights(), -weights()])  # place i, and i + GROUP for the other direction
    first, second = np.triu_indices(len(ones))
    pairs = (ones[first] + ones[second])[second != first + modular.GROUP]
    sums = np.sort(np.concatenate([[np.uint64(0)], ones, pairs]) << np.uint64(16))
    assert (sums[1:] != sums[:-1]).all()


@pytest.mark.parametrize("wraps", [2, 3, 4, 7])
@pytest.mark.parametrize("bits", [2, 4, 16])
def test_several_wraps_in_a_group_are_found_and_not_mended(bits: int, wraps: int) -> None:
    """At equal distances, too, where a checksum that is linear in the place misses second differences."""
    rng, size, groups = np.random.default_rng(wraps), modular.GROUP, 200
    payload = np.zeros((groups, size), np.float32)
    for row in payload[: groups // 2]:
        np.add.at(row, rng.choice(size, wraps, replace=wraps > 4), rng.choice([-1, 1], wraps))
    for start, row in enumerate(payload[groups // 2 :]):
        row[start : start + wraps] = [(-1) ** k * comb(wraps - 1, k) for k in range(wraps)]
    wrapped = np.abs(payload).sum(axis=1) > 1
    assert wrapped.sum() > groups * 0.9
    payload = payload[wrapped].ravel() * np.float32(2**bits)
    scales, found = np.ones(int(wrapped.sum()), np.float32), np.zeros(2, np.int64)
    total, _ = total_of(payload[None], bits, scales, size)
    sums = np.empty(payload.size, np.float32)
    modular.decode(total, bits, 3.0, scales, size, sums, found)
    assert found.tolist() == [0, wrapped.sum()]
    assert not sums.any()


@pytest.mark.parametrize(("bits", "workers"), [(4, 2), (8, 64), (16, 64)])
@pytest.mark.parametrize("magnitude", [2.0**-60, 2.0**-30, 1.0, 2.0**30, 2.0**50])
def test_scales_are_found_whatever_the_magnitude(magnitude: float, bits: int, workers: int) -> None:
    """Also where fixed point has only zero or its largest number for it."""
    payload = np.array([magnitude, -magnitude / 2], np.float32)
    block = Blocks.of(bits, 2).words
    scales, found = np.zeros(1, np.float32), np.zeros(2, np.int64)
    sums, words = np.empty(2, np.float32), np.empty(block, np.uint64)
    for _ in range(100):
        total = np.zeros(block, np.uint64)
        for _ in range(workers):
            modular.encode(payload.copy(), scales, 2, words, bits)
            modular.add(total, words, block, bits)
        modular.decode(total, bits, 3.0, scales, 2, sums, found)
        if abs(sums[0] / (workers * magnitude) - 1) <= 0.5:
            break
    else:
        pytest.fail(f"scale {scales[0]}, sums {sums}")


def test_a_payload_that_is_not_finite_is_counted() -> None:
    words = np.empty(3, np.uint64)
    assert not modular.encode(np.array([1, np.inf], np.float32), np.ones(1, np.float32), 2, words, 8)
    assert words.tolist() == [0, 0, (1 << modular.COUNT) + (1 << modular.BROKEN)]
