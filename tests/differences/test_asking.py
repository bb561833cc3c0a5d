"""`pdcode.Calibration`: a search that is asked for points, and told their values."""

import numpy as np
import pytest
from outcomes import refused

import pdcode

T = np.linspace(0, 4, 50)


def misfit(x: np.ndarray) -> np.ndarray:
    return x[0] * np.exp(-x[1] * T) + x[2] - 3 * np.exp(-0.7 * T) - 0.5


def drive(search: pdcode.Calibration, function, workers: int, fails=lambda number: False) -> int:
    """Answer the points of a search in any order; return their number."""
    rng, under_way, told = np.random.default_rng(0), [], 0
    while not search.ended:
        under_way += search.ask(workers - len(under_way))
        point = under_way.pop(int(rng.integers(len(under_way))))
        search.tell(point, None if fails(point.number) else function(point.x))
        told += 1
    return told


@pytest.mark.parametrize("workers", [1, 3, 20])
def test_a_search_ends_at_the_minimum(workers: int) -> None:
    search = pdcode.Calibration([1.0, 0.2, 0.1], residuals=50, names=["height", "rate", "floor"])
    assert np.isnan(search.cost)
    assert search.fit() is None
    drive(search, misfit, workers)
    np.testing.assert_allclose(search.x, [3, 0.7, 0.5], atol=1e-6)
    assert search.success
    assert search.cost < 1e-10
    assert search.fit().names == ["height", "rate", "floor"]


def test_points_may_fail_and_numbers_be_minimised() -> None:
    search = pdcode.Calibration([1.0, 0.2, 0.1], residuals=50)
    drive(search, misfit, 4, lambda number: number % 6 == 5)
    np.testing.assert_allclose(search.x, [3, 0.7, 0.5], atol=1e-6)
    held = pdcode.Calibration([0.5, 0.5], bounds=[(None, 1), (0, None)])
    drive(held, lambda x: (x[0] - 2) ** 2 + 10 * (x[1] - x[0] ** 2) ** 2, 3)
    np.testing.assert_allclose(held.x, [1, 1], atol=1e-4)
    nan = pdcode.Calibration([1.0], residuals=2)
    drive(nan, lambda x: np.array([np.nan, 1.0]), 1)
    assert (nan.success, nan.ended) == (False, "the evaluation at the start has failed")


def test_there_is_a_prior_and_a_table_of_options() -> None:
    options = {"scheme": {"options": {"design": "copies"}}}
    search = pdcode.Calibration([1.0, 0.2, 0.1], residuals=50, prior_sd=[1e-6] * 3, config=options)
    drive(search, misfit, 2)
    np.testing.assert_allclose(search.x, [1.0, 0.2, 0.1], atol=1e-5)
    assert len(search.fit().priors) == 3


def test_bad_input_is_refused() -> None:
    search = pdcode.Calibration([1.0, 0.2, 0.1], residuals=50)
    (point,) = search.ask()
    with refused("returns an array of shape (3,)"):
        search.tell(point, np.ones(3))
    with refused("bounds: shape (1, 2): expected (2, 2)"):
        pdcode.Calibration([1.0, 2.0], bounds=[(0, 1)])
    with refused("scheme.options.design: 'lottery'"):
        pdcode.Calibration([1.0, 2.0], config={"scheme": {"options": {"design": "lottery"}}})
