"""Codes of polynomial values modulo a prime: any k symbols, any liars, what residues stand for."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode.encoded.field_code import PRIMES, FieldCode, product, residues, to_signed, uniform
from pdcode.util.errors import InputError

M61 = PRIMES[61]
PRIME = st.sampled_from([251, PRIMES[31], M61])
LENGTH = 6


def words(code: FieldCode, random: np.random.Generator, length: int = LENGTH) -> np.ndarray:
    """Payloads of all workers: values of random polynomials of degree < k."""
    numbers = random.integers(0, code.prime, (code.dimension, length), np.uint64)
    return product(code.combination(range(code.dimension), code.points), numbers, code.prime)


@given(prime=PRIME, numbers=st.lists(st.integers(-(2**60) + 1, 2**60 - 1)))
def test_residues_stand_for_the_numbers_of_least_magnitude(prime: int, numbers: list[int]) -> None:
    there = residues(np.array(numbers, np.int64), prime)
    assert there.tolist() == [number % prime for number in numbers]
    back = to_signed(there, prime)
    assert all(2 * abs(number) < prime for number in back.tolist())
    assert residues(back, prime).tolist() == there.tolist()


@given(prime=st.sampled_from([3, 7, 251, M61]), count=st.integers(0, 300), seed=st.integers(0, 99))
def test_uniform_residues_are_those_of_bytes_that_are_in_range(prime: int, count: int, seed: int) -> None:
    drawn = uniform(count, prime, np.random.default_rng(seed).bytes)
    assert drawn.shape == (count,)
    assert (drawn < prime).all()
    bits = (1 << prime.bit_length()) - 1
    stream = np.frombuffer(np.random.default_rng(seed).bytes(8 * count), np.uint64) & np.uint64(bits)
    allowed = stream[stream < prime]
    np.testing.assert_array_equal(drawn[: len(allowed)], allowed)


@given(
    prime=PRIME, count=st.integers(1, 9), dimension=st.integers(1, 9), seed=st.integers(0, 2**32),
    data=st.data(),
)  # fmt: skip
def test_any_k_symbols_give_the_polynomial_and_k_minus_1_do_not(prime, count, dimension, seed, data):
    dimension, random = min(dimension, count), np.random.default_rng(seed)
    code = FieldCode(random.choice(250, count, replace=False), dimension, prime)
    payloads = words(code, random)
    rows = data.draw(st.permutations(range(count)))[:dimension]
    again = product(code.combination(rows, code.points), payloads[rows], prime)
    np.testing.assert_array_equal(again, payloads)
    assert code.locate(rows, payloads[rows], 0) == []
    assert code.locate(rows[1:], payloads[rows[1:]], 0) is None


def lies(how: str, payloads: np.ndarray, liars: tuple[int, ...], code: FieldCode) -> np.ndarray:
    """The payloads with those of the liars in place of theirs."""
    sent, random = payloads.copy(), np.random.default_rng(5)
    if how == "random":
        sent[[*liars]] = random.integers(0, code.prime, (len(liars), LENGTH), np.uint64)
    elif how == "constant":
        sent[[*liars]] = 1
    elif how == "colluding":  # values of another polynomial
        sent[[*liars]] = words(code, random)[[*liars]]
    elif how == "one element each":
        for element, liar in enumerate(liars):
            sent[liar, element] = (sent[liar, element] + np.uint64(1)) % np.uint64(code.prime)
    else:
        sent[[*liars], 0] = np.float64(1e300).view(np.uint64)  # no residue
    return sent


@pytest.mark.parametrize("how", ["random", "constant", "colluding", "one element each", "no residue"])
def test_all_sets_of_errors_are_located_with_all_sets_of_arrivals(how: str) -> None:
    code = FieldCode(range(5, 12), 3, PRIMES[31])
    payloads = words(code, np.random.default_rng(2))
    for most in (1, 2):
        for liars in combinations(range(code.count), most):
            sent = lies(how, payloads, liars, code)
            for rows in combinations(range(code.count), 3 + 2 * most):
                wrong = [place for place, row in enumerate(rows) if row in liars]
                assert code.locate(rows, sent[[*rows]], most) == wrong


def test_one_error_too_many_is_refused() -> None:
    code = FieldCode(range(9), 3, M61)
    sent = lies("random", words(code, np.random.default_rng(1)), (1, 4, 6), code)
    assert code.locate(range(9), sent, 3) == [1, 4, 6]
    assert code.locate(range(9), sent, 2) is None
    assert code.locate(range(7), sent[:7], 3) is None  # too few to tell


@pytest.mark.parametrize("points", [[1, 2, 2], [], [1, 7, 2]])
def test_refuses_points_that_are_not_distinct_residues(points: list[int]) -> None:
    with pytest.raises(InputError, match=r"code: \d points modulo 7, for degree 1"):
        FieldCode(points, 2, 7)
