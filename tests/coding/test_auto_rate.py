"""Rates that no one has to give: on data of scikit-learn, nothing diverges."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import datasets

import pdcode
from pdcode.config import load as configfile
from pdcode.problems.curvature import Curvature
from pdcode.schemes.rate_laws import stable_rate


def trained(folder: Path, rows: Any, problem: dict[str, Any], workers: int, updates: int) -> Any:
    tables = {"problem": {"test_fraction": 0.0} | problem, "stop": {"updates": updates}}
    output = folder / f"{workers}.h5"
    return pdcode.simulate(tables, data=rows, workers=workers, output=output, progress=False)


def scaled() -> tuple[np.ndarray, np.ndarray]:
    x, y = datasets.make_regression(300, 7, noise=5, random_state=0)
    return x * np.logspace(-3, 3, 7) + 5, y


@pytest.mark.every(6)
@pytest.mark.parametrize("workers", [2, 8])
@pytest.mark.parametrize(
    "make",
    [
        lambda: datasets.load_diabetes(return_X_y=True),
        lambda: datasets.load_linnerud(return_X_y=True),
        lambda: datasets.make_friedman2(300, noise=50.0, random_state=0),
        lambda: datasets.make_regression(200, 300, noise=5, random_state=0),
        scaled,
    ],
)
def test_regression_comes_near_least_squares(tmp_path: Path, make: Any, workers: int) -> None:
    x, y = make()
    trace = trained(tmp_path, (x, y), {"kind": "least-squares"}, workers, 700)
    centred = np.column_stack([(x - x.mean(axis=0)) / x.std(axis=0), np.ones(len(x))])
    left = y - centred @ np.linalg.lstsq(centred, y, rcond=None)[0]
    exact = 1 - np.square(left).sum() / np.square(y - y.mean(axis=0)).sum()
    assert trace.progress["accuracy"][-1] > 0.9 * exact
    assert np.array_equal(trace.replay(progress=False), trace.theta)


@pytest.mark.every(6)
@pytest.mark.parametrize("workers", [2, 8])
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: datasets.load_wine(return_X_y=True), "softmax"),
        (lambda: datasets.load_breast_cancer(return_X_y=True), "logistic"),
        (lambda: datasets.make_moons(100, noise=0.3, random_state=0), "logistic"),
        (lambda: datasets.load_diabetes(return_X_y=True), "mlp"),
        (lambda: datasets.make_regression(100, 10, noise=5, random_state=0), "mlp"),
    ],
)
def test_no_descent_ends_above_its_first_loss(tmp_path: Path, make: Any, kind: str, workers: int) -> None:
    task = {"task": "regression"} if kind == "mlp" else {}
    losses = trained(tmp_path, make(), {"kind": kind} | task, workers, 300).progress["loss"]
    assert losses[-1] < 0.75 * losses[0]


CURVATURE = Curvature(4.0, 100.0)


def rate_of(*settings: str) -> float:
    return stable_rate(configfile.resolve({}, settings), CURVATURE)


def test_a_stable_rate_is_shorter_where_gradients_are_older_and_batches_smaller() -> None:
    plain = "scheme.name=uncoded", "update.mode=all", "workers.count=4"
    assert rate_of(*plain, "problem.batch=0") == 1 / 4
    assert rate_of(*plain, "problem.batch=25") == 1 / 5
    assert rate_of(*plain, "problem.batch=0", "optimizer.momentum=0.5") == 1 / 16
    nesterov = "optimizer.momentum=0.5", "optimizer.nesterov=true"
    assert rate_of(*plain, "problem.batch=0", *nesterov) == 1 / 16
    assert rate_of(*plain, "problem.kind=least-squares", "problem.batch=0", *nesterov) == 1 / 8
    assert rate_of(*plain[::2], "update.mode=async", "problem.batch=100") == 1 / 21
    assert rate_of("scheme.preset=regression", "problem.batch=0") < rate_of("scheme.preset=small-regression")


def test_a_given_rate_is_obeyed(tmp_path: Path) -> None:
    rows = datasets.load_diabetes(return_X_y=True)
    tables = {"scheme": {"preset": "regression"}, "optimizer": {"rate": 0.001}, "stop": {"updates": 3}}
    table = {"problem": {"kind": "least-squares", "standardise": False}}
    config = pdcode.simulate(tables | table, data=rows, output=tmp_path / "given.h5", progress=False).config
    assert (config["optimizer"]["rate"], config["optimizer"]["schedule"]) == (0.001, "constant")
    assert not config["problem"]["standardise"]
