"""Hadamard, conference and weighing matrices; the dense codes made of them."""

import itertools

import numpy as np
import pytest

from pdcode import codes
from pdcode.codes.constructions import hadamard, weighing
from pdcode.families import kerdock
from pdcode.util.errors import InputError

LIMIT = 1000


def reachable(limit):
    """Orders by number theory alone: products of 2, q + 1 (q ≡ 3 modulo 4) and 2(q + 1) (q ≡ 1 modulo 4)."""
    primes = [p for p in range(2, limit) if all(p % d for d in range(2, int(p**0.5) + 1))]
    powers = [p**e for p in primes for e in range(1, 11) if p**e < limit]
    made = {2, *(q + 1 for q in powers if q % 4 == 3), *(2 * (q + 1) for q in powers if q % 4 == 1)}
    orders = {1}
    while new := {a * b for a, b in itertools.product(orders, made) if a * b <= limit} - orders:
        orders |= new
    return orders


def test_orders_that_are_reached():
    orders = reachable(LIMIT)
    assert {order for order in range(-1, LIMIT + 1) if hadamard.exists(order)} == orders
    missing = [order for order in range(4, 300, 4) if order not in orders]
    assert missing == [92, 116, 156, 172, 184, 188, 232, 236, 260, 268, 292]


@pytest.mark.timeout(60)
def test_every_order_is_orthogonal():
    for order in sorted(reachable(LIMIT)):
        matrix = hadamard.hadamard(order)
        assert matrix.dtype == np.int8
        assert matrix.shape == (order, order)
        assert (np.abs(matrix) == 1).all()
        assert (matrix[0] == 1).all()
        assert (matrix[:, 0] == 1).all()
        gram = matrix.astype(np.float32) @ matrix.T.astype(np.float32)  # exact: integers below 2^24
        gram[np.diag_indices(order)] -= order
        assert not gram.any()


def test_sylvester_for_powers_of_two():
    x = np.arange(16)
    expected = 1 - 2 * (np.bitwise_count(x[:, None] & x) % 2).astype(int)
    np.testing.assert_array_equal(hadamard.hadamard(16), expected)
    with pytest.raises(ValueError, match="read-only"):
        hadamard.hadamard(16)[0, 0] = 0


def test_other_orders_are_refused():
    with pytest.raises(InputError, match="order = 92: no Hadamard matrix"):
        hadamard.hadamard(92)


@pytest.mark.parametrize("weight", range(1, 70))
def test_weighing_matrix_of_every_weight(weight):
    matrix = weighing.weighing(weight).astype(int)
    size = weighing.order(weight)
    assert matrix.shape == (size, size)
    assert set(np.unique(matrix)) <= {-1, 0, 1}
    np.testing.assert_array_equal(matrix @ matrix.T, weight * np.eye(size))
    np.testing.assert_array_equal(np.count_nonzero(matrix, axis=0), weight)


def test_orders_of_weighing_matrices():
    assert [weighing.order(w) for w in (3, 5, 6, 7, 9, 10, 12, 15)] == [4, 6, 8, 8, 10, 12, 12, 24]


@pytest.mark.parametrize("k", [1, 2, 12, 20, 28, 36])
def test_dense_hadamard_code(k):
    code = codes.design("hadamard", 3 * k, k, seed=3)
    assert code.weight == k
    for start in range(0, 3 * k, k):
        basis = code.matrix[start : start + k]
        np.testing.assert_allclose(basis @ basis.T, np.eye(k), atol=1e-13)
    assert code.tightness == pytest.approx(1, abs=1e-12)
    single = codes.design("hadamard", max(1, k - 1), k)
    assert single.coherence <= 1e-15
    if k > 2:
        assert 0 < code.coherence < 1
        assert (code.matrix != codes.design("hadamard", 3 * k, k, seed=4).matrix).any()


@pytest.mark.parametrize("m", [1, 2, 3])
def test_kerdock_bases_are_mutually_unbiased(m):
    k = 4**m
    code = codes.design("kerdock", k * (k // 2 + 1), k)
    bases = code.matrix.reshape(-1, k, k)
    np.testing.assert_array_equal(bases[-1], np.eye(k))
    for basis in bases:
        np.testing.assert_allclose(basis @ basis.T, np.eye(k), atol=1e-14)
    gram = np.abs(code.matrix @ code.matrix.T).reshape(len(bases), k, len(bases), k)
    for a, b in itertools.combinations(range(len(bases)), 2):
        np.testing.assert_array_equal(gram[a, :, b], 2.0**-m)  # exactly
    assert code.coherence == code.bounds["orthoplex"] == 2.0**-m
    assert code.tightness == 1


@pytest.mark.parametrize(("k", "count"), [(256, 128), (1024, 24)])
def test_kerdock_forms_differ_by_bent_functions(k, count):
    """The products of rows of two bases are the Walsh transform of the product of their column signs."""
    signs = 1 - 2 * kerdock.quadratic_forms(k, count)
    np.testing.assert_array_equal(signs[0], 1)
    a, b = np.triu_indices(count, 1)
    transform = (signs[a] * signs[b]).astype(np.float32) @ hadamard.hadamard(k).astype(np.float32)
    np.testing.assert_array_equal(np.abs(transform), np.sqrt(k))


def test_part_of_a_large_kerdock_code():
    code = codes.design("kerdock", 2048, 1024)
    assert code.coherence == 1 / 32
    assert code.tightness == 1
