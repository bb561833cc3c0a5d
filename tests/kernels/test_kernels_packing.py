"""The smooth maximum of squared cosines against its twin and finite differences; its minimisation."""

import math

import numpy
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from pdcode_packings import kernel
from test_kernels_encode import read_only


def problem(random, k, n, w):
    """Points (k, n) of any length on random supports (n, w), both read-only."""
    supports = numpy.array([numpy.sort(random.permutation(k)[:w]) for _ in range(n)], numpy.int32)
    points = numpy.zeros((k, n))
    points[supports.T, numpy.arange(n)] = random.normal(size=(w, n))
    return read_only(points), read_only(supports)


def smooth_maximum(points, supports, sharpness):
    gradient = numpy.full(points.shape, numpy.nan)
    work = numpy.full(kernel.workspace(*points.shape), numpy.nan)
    return kernel.smooth_maximum(points, supports, sharpness, gradient, work), gradient


@given(
    k=st.integers(1, 20),
    n=st.integers(2, 70),
    w=st.integers(1, 20),
    sharpness=st.sampled_from([0.1, 3.0, 50.0, 1e3, 1e5]),
    seed=st.integers(0, 2**32),
)
def test_it_equals_its_twin(k, n, w, sharpness, seed):
    points, supports = problem(numpy.random.default_rng(seed), k, n, min(w, k))
    value, gradient = smooth_maximum(points, supports, sharpness)
    expected = numpy.empty_like(gradient)
    assert value == pytest.approx(
        reference.smooth_maximum(points, supports, sharpness, expected, None),
        rel=1e-11,
        abs=1e-11 / sharpness,
    )
    scale = 1 / numpy.linalg.norm(points, axis=0).min()
    numpy.testing.assert_allclose(gradient, expected, atol=1e-11 * scale * max(1, sharpness / 100))


@pytest.mark.parametrize(("k", "n", "w"), [(3, 9, 3), (8, 40, 8), (9, 30, 4), (64, 130, 64)])
@pytest.mark.parametrize("sharpness", [2.0, 200.0])
def test_the_gradient_equals_finite_differences(k, n, w, sharpness):
    random = numpy.random.default_rng(n)
    points, supports = problem(random, k, n, w)
    direction = numpy.where(points != 0, random.normal(size=points.shape), 0)
    _, gradient = smooth_maximum(points, supports, sharpness)
    ahead, behind = (smooth_maximum(points + h * direction, supports, sharpness)[0] for h in (1e-6, -1e-6))
    assert (gradient * direction).sum() == pytest.approx((ahead - behind) / 2e-6, rel=1e-5, abs=1e-7)


@given(k=st.integers(2, 12), n=st.integers(2, 40), seed=st.integers(0, 2**32))
def test_the_gradient_is_tangent_and_the_value_bounds_the_maximum(k, n, seed):
    points, supports = problem(numpy.random.default_rng(seed), k, n, max(1, k - 1))
    value, gradient = smooth_maximum(points, supports, 100.0)
    unit = points / numpy.linalg.norm(points, axis=0)
    largest = (numpy.tril(unit.T @ unit, -1) ** 2).max()
    assert largest - 1e-12 <= value <= largest + math.log(n * (n - 1) / 2) / 100 + 1e-12
    lengths = numpy.linalg.norm(gradient, axis=0) * numpy.linalg.norm(points, axis=0)
    assert (numpy.abs((gradient * points).sum(axis=0)) <= 1e-12 * (1 + lengths)).all()
    assert (gradient[points == 0] == 0).all()


def test_a_huge_sharpness_neither_overflows_nor_loses_the_closest_pair():
    points, supports = problem(numpy.random.default_rng(3), 5, 30, 5)
    value, gradient = smooth_maximum(points, supports, 1e12)
    squares = numpy.tril((unit := points / numpy.linalg.norm(points, axis=0)).T @ unit, -1) ** 2
    assert value == pytest.approx(squares.max(), rel=1e-10)
    pair = numpy.unravel_index(squares.argmax(), squares.shape)
    assert set(numpy.flatnonzero(numpy.abs(gradient).max(axis=0) > 0)) == {int(i) for i in pair}


def test_a_single_point_has_no_pairs():
    value, gradient = smooth_maximum(numpy.ones((4, 1)), numpy.arange(4, dtype=numpy.int32)[None], 10.0)
    assert value == 0
    assert (gradient == 0).all()


def minimise(points, supports, sharpness, iterations=5000):
    points, work = points.copy(), numpy.full(kernel.workspace(*points.shape), numpy.nan)
    taken = numpy.array([iterations])
    return points, kernel.minimise(points, supports, sharpness, 1e-13, taken, work), taken[0]


@pytest.mark.parametrize(("k", "n", "w"), [(3, 7, 3), (6, 16, 6), (8, 20, 4)])
def test_minimise_ends_at_unit_points_without_slope(k, n, w):
    start, supports = problem(numpy.random.default_rng(k), k, n, w)
    points, value, iterations = minimise(start, supports, 50.0)
    assert 0 < iterations < 5000
    numpy.testing.assert_allclose((points**2).sum(axis=0), 1, rtol=1e-14)
    assert (points[start == 0] == 0).all()
    reached, gradient = smooth_maximum(points, supports, 50.0)
    assert reached == pytest.approx(value, abs=1e-14)
    assert numpy.abs(gradient).max() < 1e-5
    assert value < smooth_maximum(start, supports, 50.0)[0]


def test_minimise_finds_what_scipy_finds():
    """Six lines at little sharpness: the icosahedron's, the only minimum."""
    from scipy.optimize import minimize

    start, supports = problem(numpy.random.default_rng(0), 3, 6, 3)

    def twin(flat):
        gradient = numpy.empty((3, 6))
        return reference.smooth_maximum(flat.reshape(3, 6), supports, 30.0, gradient, None), gradient.ravel()

    expected = minimize(
        twin, start.ravel(), jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9}
    )
    points, value, _ = minimise(start, supports, 30.0)
    assert value == pytest.approx(expected.fun, abs=1e-10)
    cosines = numpy.abs(numpy.tril(points.T @ points, -1))
    numpy.testing.assert_allclose(cosines[numpy.tril_indices(6, -1)], 5**-0.5, atol=1e-5)


def test_minimise_keeps_to_its_iterations():
    start, supports = problem(numpy.random.default_rng(1), 5, 20, 5)
    few, more = (minimise(start, supports, 100.0, count) for count in (3, 30))
    assert (few[2], more[2]) == (3, 30)
    assert more[1] < few[1] < smooth_maximum(start, supports, 100.0)[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"supports": numpy.zeros((4, 3), numpy.int32)}, "arrays do not fit"),
        ({"supports": numpy.full((5, 3), 3, numpy.int32)}, "not a coordinate from 0 to 2"),
        ({"supports": numpy.full((5, 3), -1, numpy.int32)}, "not a coordinate"),
        ({"gradient": numpy.empty((3, 4))}, "arrays do not fit"),
        ({"work": numpy.empty(10)}, "work has 10 numbers"),
        ({"sharpness": 0.0}, "sharpness is 0"),
        ({"sharpness": math.nan}, "sharpness is nan"),
        ({"points": numpy.ones((65, 5)), "gradient": numpy.ones((65, 5))}, "from 1 to 64 rows"),
        ({"supports": numpy.zeros((5, 4), numpy.int32)}, "w from 1 to k"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    good = {
        "points": numpy.ones((3, 5)),
        "supports": numpy.tile(numpy.arange(3, dtype=numpy.int32), (5, 1)),
        "sharpness": 1.0,
        "gradient": numpy.empty((3, 5)),
        "work": numpy.empty(kernel.workspace(3, 5)),
    }
    with pytest.raises(ValueError, match=message):
        kernel.smooth_maximum(**{**good, **change})
