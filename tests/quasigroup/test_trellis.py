"""Convolutional codes over Z_m: the decoder against brute force, sums, and the bound on errors."""

import itertools

import numpy as np
import pytest

from pdcode.quasigroup.laws import entropy, log_likelihoods, rounded_normal
from pdcode.quasigroup.trellis import TrellisCode


@pytest.mark.parametrize(
    ("modulus", "taps", "length"),
    [
        (4, [[1, 3], [2, 1]], 4),
        (4, [[3]], 4),
        (3, [[1, 0, 0], [1, 2, 1]], 5),
        (2, [[1, 0, 1, 1], [1, 1, 0, 1]], 8),
    ],
)
def test_the_decoder_finds_the_most_probable_of_all_inputs(modulus, taps, length):
    random, code = np.random.default_rng(1), TrellisCode(modulus, np.array(taps))
    noise = random.dirichlet(np.ones(modulus) / 2) + 1e-3
    law = random.dirichlet(np.ones(modulus)) + 1e-3
    noise, law = noise / noise.sum(), law / law.sum()
    every = np.array([*itertools.product(range(modulus), repeat=length)])
    words = code.encode(every)
    np.testing.assert_array_equal(words.reshape(len(every), -1), every @ code.generator(length) % modulus)
    received = random.integers(0, modulus, (20, *words.shape[1:]))
    scores = np.log(law)[every].sum(axis=1) + np.array(
        [np.log(noise)[(each - words) % modulus].sum(axis=(1, 2)) for each in received]
    )
    found = code.decode(received, noise, law)
    places = found @ modulus ** np.arange(length)[::-1]
    chosen = scores[np.arange(len(received)), places]
    np.testing.assert_allclose(chosen, scores.max(axis=1), atol=1e-4)


def test_the_sum_of_codewords_is_decoded_without_noise() -> None:
    random, code = np.random.default_rng(2), TrellisCode(16, np.array([[13, 7]]))
    inputs = random.integers(-1, 2, (6, 3, 40))
    total = sum(code.encode(each % 16) for each in inputs) % 16
    found = code.decode(total, rounded_normal(0.05, 16), np.full(16, 1 / 16))
    np.testing.assert_array_equal(found, inputs.sum(axis=0) % 16)


@pytest.mark.parametrize("span", [0, 1])
def test_the_bound_is_above_the_measured_rate_of_errors_and_a_law_helps(span: int) -> None:
    """The first symbol of an error is an event's beginning, so events are at most errors."""
    m, random = 16, np.random.default_rng(3)
    law, noise, uniform = rounded_normal(0.8, m), rounded_normal(0.46, m), np.full(m, 1 / m)
    code = TrellisCode.designed(m, 1, span, law, noise, seed=1)
    inputs = random.choice(m, (400, 64), p=law)
    words = code.encode(inputs)
    received = (words + random.choice(m, words.shape, p=noise)) % m
    wrong = code.decode(received, noise, law) != inputs
    begun = wrong[:, 1:] & ~wrong[:, :-1]
    assert begun.mean() <= code.bound(law, noise) < 0.1
    assert (code.decode(received, noise, uniform) != inputs).mean() > 5 * wrong.mean()


def test_laws() -> None:
    law = rounded_normal(1.0, 64)
    assert law.sum() == pytest.approx(1)
    assert law[1] == law[-1]
    assert entropy(law) == pytest.approx(2.0471 + 0.0575, abs=2e-3)  # ½ log₂ 2πe (1 + 1/12)
    table = log_likelihoods(np.array([3]), law)
    assert table[0, 2] == pytest.approx(np.log(law[1]), rel=1e-5)
