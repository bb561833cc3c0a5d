"""Fits: covariance and intervals as scipy's, what the data determine, priors, table and picture."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from outcomes import assert_replays, refused
from scipy.optimize import curve_fit, least_squares
from scipy.stats import t as student

import pdcode
from pdcode.__main__ import main
from pdcode.differences.fit import fit

T = np.linspace(0, 4, 50)
Y = 3 * np.exp(-0.7 * T) + 0.5 + 0.05 * np.random.default_rng(0).normal(size=50)
START = [1.0, 0.2, 0.1]


def model(t: np.ndarray, height: float, rate: float, floor: float) -> np.ndarray:
    return height * np.exp(-rate * t) + floor


def misfit(x: np.ndarray) -> np.ndarray:
    return model(T, *x[:3]) - Y


def fitted(tmp_path: Path, function=misfit, start=START, **keywords):
    return pdcode.calibrate(function, start, workers=3, output=tmp_path / "a.h5", progress=False, **keywords)


def test_covariance_and_intervals_are_those_of_curve_fit(tmp_path: Path) -> None:
    found = fitted(tmp_path, names=["height", "rate", "floor"])
    x, covariance = curve_fit(model, T, Y, START)
    np.testing.assert_allclose(found.x, x, rtol=1e-6)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-3)
    np.testing.assert_allclose(found.residuals, misfit(found.x))
    half = student.ppf(0.975, 47) * np.sqrt(covariance.diagonal())
    np.testing.assert_allclose(found.fit.intervals, np.stack([x - half, x + half], axis=1), rtol=1e-3)
    same = pdcode.Trace(found.trace.path).fit()  # from the trace alone
    np.testing.assert_array_equal(same.covariance, found.covariance)
    assert (same.names, same.freedom, same.undetermined) == (["height", "rate", "floor"], 47, [])
    np.testing.assert_allclose(same.shares.sum(axis=0), 1)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng, truth, covered = np.random.default_rng(1), np.array([1.0, -2.0, 0.5]), 0
    jacobian = rng.normal(size=(12, 3))
    for _ in range(1000):
        noise = rng.normal(size=12)
        found = fit(list("abc"), truth, noise, jacobian)  # the residuals at the truth
        x = truth - np.linalg.lstsq(jacobian, noise, rcond=None)[0]
        found = fit(list("abc"), x, noise + jacobian @ (x - truth), jacobian)
        low, high = found.intervals.T
        covered += int(((low <= truth) & (truth <= high)).sum())
    assert 0.935 <= covered / 3000 <= 0.965


def test_parameters_that_the_data_do_not_determine_are_named(tmp_path: Path) -> None:
    lost = fitted(tmp_path, lambda x: np.append(misfit(x), 0 * x[3]), [*START, 1.0]).fit
    assert lost.undetermined == ["x3"]
    assert np.isfinite(lost.deviations[:3]).all()
    pair = fit(list("abc"), np.ones(3), np.ones(9), np.vander(np.arange(9.0), 3)[:, [0, 1, 1]])
    assert pair.undetermined == ["b", "c"]
    near = np.vander(np.arange(9.0) + 100, 2)
    close = fit(list("ab"), np.ones(2), np.ones(9), near)
    ((index, names),) = close.together
    assert names == ["a", "b"]
    assert index == pytest.approx(np.linalg.cond(near / np.linalg.norm(near, axis=0)))
    assert fit(list("ab"), np.ones(2), np.ones(2), np.eye(2)).undetermined == [
        "a",
        "b",
    ]  # as many as residuals


def test_a_prior_is_further_residuals(tmp_path: Path, capsys) -> None:
    prior, deviations = [0.0, 0.5, 0.0], [np.inf, 0.1, np.inf]
    found = fitted(tmp_path, lambda x: misfit(x) / 0.05, prior=prior, prior_sd=deviations)

    def augmented(x: np.ndarray) -> np.ndarray:
        return np.append(misfit(x) / 0.05, (x[1] - 0.5) / 0.1)

    expected = least_squares(augmented, START, xtol=1e-12)
    np.testing.assert_allclose(found.x, expected.x, rtol=1e-5)
    assert found.cost == pytest.approx(expected.cost)
    np.testing.assert_allclose(found.fit.priors, [(found.x[1] - 0.5) / 0.1])
    assert (found.residuals.shape, found.jac.shape, found.fit.freedom) == ((50,), (50, 3), 48)
    found.trace.replay(progress=False)
    held = fitted(tmp_path, prior_sd=[1e-6] * 3)  # around the start
    np.testing.assert_allclose(held.x, START, atol=1e-5)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"prior": [1, 2, 3]}, "problem.prior: has no effect without problem.prior_sd"),
        ({"prior_sd": [1, 2]}, "problem.prior_sd: 2 standard deviations for 3 parameters"),
        ({"prior": [1], "prior_sd": [1, 2, 3]}, "problem.prior: 1 values for 3 parameters"),
        ({"prior_sd": [1, 0, 3]}, "problem.prior_sd: 0: expected numbers above 0"),
        ({"prior_sd": [1, 2, 3], "residuals": 0}, "problem.prior_sd: a number that is minimised"),
        ({"names": ["a", "b", "a"]}, "problem.names: 'a' twice"),
        ({"names": ["a"]}, "problem.names: 1 names for 3 parameters"),
    ],
)  # fmt: skip
def test_bad_priors_and_names_are_one_line(keys: dict, words: str, tmp_path: Path) -> None:
    with refused(words):
        fitted(tmp_path, **keys)


def test_show_prints_and_draws_the_fit(tmp_path: Path, capsys) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nt = np.linspace(0, 4, 9)\n\n"
        "def misfit(x):\n    return x[0] * np.exp(-x[1] * t) - 3 * np.exp(-0.7 * t) + 0.01 * np.cos(9 * t)\n"
    )
    job = {
        "problem": {
            "kind": "simulation", "function": str(tmp_path / "mine.py:misfit"), "start": [1.0, 0.2],
            "residuals": 9, "bounds": [[0, 2.5], [0, 9]], "names": ["height", "rate"],
        },
        "scheme": {"name": "differences"}, "workers": {"count": 2}, "stop": {"updates": 50},
    }  # fmt: skip
    trace = pdcode.simulate(job, output=tmp_path / "a.h5", progress=False)
    assert_replays(trace.path, capsys)
    picture = tmp_path / "a.png"
    assert main(["show", str(trace.path), "--quick", "--figure", str(picture)]) == 0
    printed = capsys.readouterr().out
    assert "height       2.5" in printed
    assert "at its bound" in printed
    assert "9 residuals, 7 degrees of freedom" in printed
    assert picture.stat().st_size > 10_000
    titles = [axes.get_title(loc="left") for axes in trace.plot("fit").axes]
    assert titles[1:] == ["Cost of evaluations, and the least so far", "Parameters"]
    with h5py.File(trace.path, "r+") as file:
        del file["checkpoint/values"]
    with refused("damaged: checkpoint/jacobian has shape (9, 2)"):
        pdcode.Trace(trace.path).fit()


def test_other_runs_have_no_fit(tmp_path: Path) -> None:
    number = fitted(tmp_path, lambda x: float(misfit(x) @ misfit(x)))
    assert (number.trace.fit(), number.jac.shape) == (None, (3,))
    with refused("kind: 'fit': the run is no search with residuals"):
        number.trace.plot("fit")
