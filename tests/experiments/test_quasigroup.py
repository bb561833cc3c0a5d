"""Quasi group codes: sizes against brute force, rates against closed forms, and bits of sums of integers."""

import itertools
import math

import numpy as np
import pytest

from experiments import quasigroup
from experiments.quasigroup import QuasiGroupCode, computation_rate, typical


@pytest.mark.parametrize(
    ("modulus", "layers", "length"),
    [
        (4, [(3, 3, 0, 0)], 10),
        (4, [(2, 0, 2, 0), (1, 1, 0, 1)], 8),
        (4, [(6, 2, 0, 0)], 12),
        (8, [(3, 2, 0, 0, 0, 0, 0, 0)], 8),
        (9, [(2, 2, *[0] * 7), (2, 1, *[0] * 7)], 9),
        (4, [(3, 0, 3, 0)], 2),
    ],
)
def test_sizes_are_those_of_all_pairs_of_codewords(modulus, layers, length):
    indices = typical(*layers)
    multinomial = [math.factorial(sum(each)) // math.prod(map(math.factorial, each)) for each in layers]
    assert len({*map(tuple, indices.tolist())}) == len(indices) == math.prod(multinomial)
    code = QuasiGroupCode.random(modulus, indices, length, seed=3)
    words = {*map(tuple, ((indices @ code.generator + code.offset) % modulus).tolist())}
    assert {*map(tuple, code.words().tolist())} == words
    sums = {
        tuple((a + b) % modulus for a, b in zip(*pair, strict=True))
        for pair in itertools.product(words, words)
    }
    assert (code.size, code.sum_size) == (len(words), len(sums))
    assert len(words) <= len(sums) <= len(words) ** 2
    assert code.exponent == pytest.approx(math.log(len(sums)) / math.log(len(words)))


@pytest.mark.parametrize("modulus", [4, 8, 9])
def test_uniform_indices_make_a_group(modulus: int) -> None:
    indices = np.array([*itertools.product(range(modulus), repeat=3)])
    code = QuasiGroupCode.random(modulus, indices, 6, seed=1)
    assert code.sum_size == code.size


def noise(delta: float) -> np.ndarray:
    return np.array([0.1 * delta, 0.9 * delta, 0.1 * (1 - delta), 0.9 * (1 - delta)])


@pytest.mark.parametrize(
    ("delta", "best", "group", "unstructured"),
    [
        (0.05, 1.245, 1.245, 0.622),
        (0.2, 0.698, 0.556, 0.405),
        (0.25, 0.570, 0.377, 0.360),
        (0.4, 0.340, 0.058, 0.280),
        (0.5, 0.266, 0.0, 0.266),
    ],
)
def test_sums_over_a_channel_modulo_4(delta, best, group, unstructured):
    law = noise(delta)
    flips = quasigroup.entropy(np.array([delta, 1 - delta]))
    assert min(2 - quasigroup.entropy(law), 2 * (1 - flips)) == pytest.approx(group, abs=5e-4)
    assert (2 - quasigroup.entropy(law)) / 2 == pytest.approx(unstructured, abs=5e-4)
    pairs = quasigroup.quasi_group_pairs, quasigroup.group_pairs, quasigroup.unstructured_pairs
    found = [computation_rate(law, 2, each(4)).bits for each in pairs]
    assert found == pytest.approx([best, group, unstructured], abs=5e-4)


def test_the_layers_reach_the_rate() -> None:
    law, rate = noise(0.2), computation_rate(noise(0.2), 2, quasigroup.quasi_group_pairs(4))
    entropy, conditional = quasigroup.entropy, quasigroup.conditional_entropy
    assert sum(k * (entropy(a) + entropy(b)) / 2 for k, a, b in rate.layers) == pytest.approx(rate.bits)
    for divisor in (1, 2):
        needed = sum(k * conditional(quasigroup.sum_law(a, b), divisor) for k, a, b in rate.layers)
        assert needed <= math.log2(4 / divisor) - conditional(law, divisor) + 1e-9


@pytest.mark.parametrize("prime", [2, 3])
def test_linear_codes_describe_a_sum_modulo_a_prime_at_its_entropy(prime: int) -> None:
    """Körner and Marton 1979."""
    total = np.array([0.7, 0.3, 0.0][:prime])
    rate = quasigroup.source_rate(total, prime, quasigroup.group_pairs(prime))
    assert rate == pytest.approx(quasigroup.entropy(total))


def dirty_bits(inputs: np.ndarray, noise: np.ndarray, prime: int) -> list[float]:
    """Sum rates of quasi group codes, group codes and unstructured codes."""
    pairs = quasigroup.quasi_group_pairs, quasigroup.group_pairs, quasigroup.unstructured_pairs
    return [quasigroup.dirty_rate(inputs, noise, prime, each(len(noise))).bits for each in pairs]


@pytest.mark.parametrize(("sent", "flipped"), [(0.1, 0.0), (0.3, 0.05), (0.5, 0.2)])
def test_known_states_are_paid_for_once_by_linear_codes(sent: float, flipped: float) -> None:
    """Philosof and Zamir 2009, modulo 2."""
    inputs, noise = np.array([1 - sent, sent]), np.array([1 - flipped, flipped])
    h, flips = quasigroup.entropy(inputs), quasigroup.entropy(noise)
    expected = max(0, h - flips), max(0, 2 * h - 1 - flips)
    assert dirty_bits(inputs, noise, 2)[1:] == pytest.approx(expected)


@pytest.mark.parametrize("odd", [0.02, 0.1, 0.3])
def test_known_states_modulo_4_where_odd_inputs_cost(odd: float) -> None:
    """Without noise. Fair indices 0 and 1 cover the parity of a state, and their sum has 1.5 bits, not 2."""
    inputs, h = np.array([1 - odd, odd, 1 - odd, odd]) / 2, quasigroup.entropy(np.array([odd, 1 - odd]))
    best, group, unstructured = dirty_bits(inputs, np.eye(4)[0], 2)
    assert (group, unstructured) == pytest.approx((2 * h, 2 * h))
    assert best == pytest.approx(2 - 1.5 * (1 - h))


@pytest.mark.parametrize(("modulus", "prime"), [(4, 2), (9, 3)])
def test_two_codewords_share_what_their_indices_share(modulus: int, prime: int) -> None:
    """All generators and offsets, by enumeration: what the covering of states rests on."""
    numbers = range(modulus)
    codes = np.array([*itertools.product(numbers, repeat=3)])  # a generator of one column, and an offset
    first = np.array([1, 0])
    for second in itertools.product(numbers, repeat=2):
        shared = math.gcd(modulus, *(int(each) for each in first - second))
        words = [(codes[:, :2] @ each + codes[:, 2]) % modulus for each in (first, np.array(second))]
        counts = np.bincount(modulus * words[0] + words[1], minlength=modulus**2).reshape(modulus, modulus)
        alike = np.subtract.outer(numbers, numbers) % shared == 0
        np.testing.assert_array_equal(counts, alike * len(codes) // alike.sum())


@pytest.mark.parametrize(("payloads", "bits"), [(1, 4), (4, 5), (64, 7), (1024, 9)])
def test_a_sum_has_half_a_bit_more_for_twice_the_payloads(payloads: int, bits: int) -> None:
    law = quasigroup.discrete_gaussian(1.0)
    assert quasigroup.sum_bits(law, payloads, wrap=1e-9) == bits
    more = quasigroup.entropy(quasigroup.sum_of(law, payloads)) - quasigroup.entropy(law)
    assert more == pytest.approx(0.5 * math.log2(payloads), abs=1e-3)


@pytest.mark.parametrize("size", [2, 3, 5, 7])
def test_a_code_of_any_number_of_sums(size: int) -> None:
    for sums in range(2 * size - 1, size * (size + 1) // 2 + 1):
        indices = quasigroup.sized(size, sums)
        code = QuasiGroupCode(32, indices, np.eye(indices.shape[1], dtype=np.int64), np.zeros(1, np.int64))
        assert (code.size, code.sum_size) == (size, sums)
    with pytest.raises(ValueError, match="sums"):
        quasigroup.sized(size, size * (size + 1) // 2 + 1)


def test_codewords_and_sums_of_unequal_codes_are_decoded_as_by_all_products_of_probabilities() -> None:
    random, law = np.random.default_rng(4), noise(0.2)
    first, second = (
        QuasiGroupCode(4, indices, random.integers(0, 4, (4, 7)), random.integers(0, 4, 7))
        for indices in (typical((2, 2, 0, 0)), typical((3, 0, 1, 0)))
    )
    second = QuasiGroupCode(4, second.indices, first.generator, second.offset)
    total, weights = first.sums(second)
    words = total.encode(np.arange(len(total.indices)))
    both = {tuple(a) for a in (first.words()[:, None] + second.words()).reshape(-1, 7) % 4}
    assert {*map(tuple, words)} == both
    received = random.integers(0, 4, (30, 7))
    expected = weights * law[(received[:, None] - words) % 4].prod(axis=2)
    found = total.decode(received, law, weights, count=3)
    best = np.sort(expected, axis=1)[:, ::-1][:, :3]
    np.testing.assert_allclose(np.take_along_axis(expected, found, axis=1), best)
    words = first.words()
    gaps = [sum(x != y for x, y in zip(a, b, strict=True)) for a, b in itertools.combinations(words, 2)]
    assert first.distance == min(gaps)
