"""Finite fields, their products, the lines of their geometries, and Steiner systems."""

import numpy as np
import pytest

from pdcode.codes.constructions.finite_field import (
    FieldProduct,
    FiniteField,
    irreducible,
    is_prime_power,
    prime_powers,
)
from pdcode.families import geometry, steiner


@pytest.mark.parametrize("q", [q for q in range(2, 50) if is_prime_power(q)] + [64, 81, 121, 125])
def test_field(q):
    field, elements = FiniteField(q), np.arange(q)
    sums = field.add(elements[:, None], elements)
    table = field.multiply(elements[:, None], elements)
    np.testing.assert_array_equal(sums, sums.T)
    np.testing.assert_array_equal(table, table.T)
    np.testing.assert_array_equal(sums[0], elements)
    np.testing.assert_array_equal(table[1], elements)
    np.testing.assert_array_equal(np.sort(sums, axis=1), np.broadcast_to(elements, (q, q)))
    np.testing.assert_array_equal(np.sort(table[1:], axis=1), np.broadcast_to(elements, (q - 1, q)))
    np.testing.assert_array_equal(field.subtract(sums, elements), np.broadcast_to(elements[:, None], (q, q)))
    a, b, c = np.meshgrid(elements, elements, elements[-3:])
    np.testing.assert_array_equal(table[a, sums[b, c]], sums[table[a, b], table[a, c]])
    np.testing.assert_array_equal(table[a, table[b, c]], table[table[a, b], c])
    if q % 2:
        character = field.quadratic_character().astype(int)
        assert character.sum() == 0
        np.testing.assert_array_equal(character[table], np.outer(character, character))


def test_irreducible_polynomials_and_prime_powers():
    assert irreducible(2, 3) == (1, 1, 0, 1)
    assert irreducible(3, 2) == (1, 0, 1)
    assert prime_powers(1) == ()
    assert prime_powers(720) == ((2, 4), (3, 2), (5, 1))
    assert [q for q in range(1, 33) if is_prime_power(q)] == [
        *(2, 3, 4, 5, 7, 8, 9, 11, 13, 16, 17, 19, 23, 25, 27, 29, 31, 32)
    ]


@pytest.mark.parametrize("m", [1, 6, 12, 20, 36, 45])
def test_product_of_fields(m):
    ring, elements = FieldProduct(m), np.arange(m)
    sums = ring.add(elements[:, None], elements)
    table = ring.multiply(elements[:, None], elements)
    np.testing.assert_array_equal(np.sort(sums, axis=1), np.broadcast_to(elements, (m, m)))
    a, b, c = np.meshgrid(elements, elements, elements[-4:])
    np.testing.assert_array_equal(table[a, sums[b, c]], sums[table[a, b], table[a, c]])
    diagonal = ring.diagonal(np.arange(ring.least))
    for left in range(ring.least):
        for right in range(left):
            difference = np.flatnonzero(sums[diagonal[right]] == diagonal[left])[0]
            assert sorted(table[difference]) == list(elements)  # a unit


def check_system(lines, points):
    """Any two points are on exactly one line."""
    size = lines.shape[1]
    assert len(lines) == points * (points - 1) // (size * (size - 1))
    together = np.zeros((points, points), int)
    for a in range(size):
        for b in range(size):
            np.add.at(together, (lines[:, a], lines[:, b]), 1)
    np.testing.assert_array_equal(together, np.where(np.eye(points), (points - 1) // (size - 1), 1))


@pytest.mark.parametrize(("d", "q"), [(2, 2), (3, 2), (2, 3), (3, 3), (2, 4), (3, 4), (2, 5), (3, 5), (2, 9)])
def test_affine_lines(d, q):
    lines = geometry.affine(d, q)
    check_system(lines.reshape(-1, q), q**d)
    for parallel in lines:
        assert sorted(parallel.ravel()) == list(range(q**d))


@pytest.mark.parametrize(("d", "q"), [(1, 5), (2, 2), (3, 2), (4, 2), (2, 3), (3, 3), (2, 4), (3, 5), (2, 8)])
def test_projective_lines(d, q):
    check_system(geometry.projective(d, q), (q ** (d + 1) - 1) // (q - 1))


@pytest.mark.parametrize("points", [v for v in range(3, 100) if v % 6 in (1, 3)])
def test_triple_systems(points):
    triples = steiner.triples(points)
    check_system(triples, points)
    of_points = steiner.incidence(triples, points)
    assert of_points.shape == (points, (points - 1) // 2)
    assert all((triples[sets] == point).any(axis=1).all() for point, sets in enumerate(of_points))


def test_systems_by_the_number_of_lines():
    found = [system for lines in range(1, 1000) for system in steiner.with_lines(lines)]
    assert {system.source for system in found} == {"pairs", "triples", "affine", "projective"}
    for system in found:
        check_system(steiner.build(system), system.points)
        assert len(steiner.build(system)) == system.lines
    assert {(s.points, s.size) for s in steiner.with_lines(775)} == {(125, 5)}
    assert {(s.points, s.size) for s in steiner.with_lines(806)} == {(156, 6)}
