"""`pdcode.sklearn`: scikit-learn's own checks, and what users of its networks expect."""

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import check_estimator

import pdcode
from pdcode.sklearn import PDCClassifier, PDCRegressor

pytestmark = pytest.mark.slow
DIGITS = load_digits(return_X_y=True)
NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])


@pytest.mark.parametrize("estimator", [PDCClassifier((16,), max_iter=10), PDCRegressor((16,), max_iter=30)])
def test_the_checks_of_scikit_learn_pass(estimator):
    check_estimator(estimator, on_skip=None)


def test_labels_sparse_rows_and_the_curve_of_the_loss(tmp_path: Path) -> None:
    X, y = sparse.csr_array(DIGITS[0]), NAMES[DIGITS[1]]
    model = PDCClassifier(max_iter=6, random_state=1, output=tmp_path / "a.h5").fit(X[:1200], y[:1200])
    assert model.score(X[1200:], y[1200:]) > 0.9
    assert (model.n_iter_, len(model.loss_curve_), model.loss_) == (6, 6, model.loss_curve_[-1])
    assert model.loss_curve_[-1] < model.loss_curve_[0] < 1
    trace = pdcode.Trace(tmp_path / "a.h5")
    rows = trace.updates.rows * trace.config["problem"]["batch"]
    assert abs(rows - 6 * 1200) < 6 * 32
    assert np.array_equal(trace.theta, model.model_.theta)


def test_a_warm_start_goes_on_from_the_last_parameters() -> None:
    X, y = DIGITS
    whole = PDCClassifier(max_iter=2, warm_start=True, random_state=1).fit(X, y)
    before, curve = whole.model_.theta, whole.loss_curve_
    whole.set_params(max_iter=1, config={"optimizer": {"rate": 1e-9}}).fit(X, y)
    np.testing.assert_allclose(whole.model_.theta, before, rtol=0, atol=1e-6)
    assert whole.loss_curve_ == [*curve, pytest.approx(curve[-1])]
    assert whole.n_iter_ == 3
    whole.set_params(config={"optimizer": {"rate": 1e-9}, "problem": {"axis": "input"}}).fit(X, y)
    assert whole.loss_curve_[-1] == pytest.approx(curve[-1])
    with pytest.raises(ValueError, match="other classes"):
        whole.fit(X, y + 1)


def test_targets_are_scaled_and_a_config_has_precedence() -> None:
    X, y = load_diabetes(return_X_y=True)
    assert cross_val_score(PDCRegressor(alpha=0.1, random_state=0), X, y, cv=3).mean() > 0.3
    both = np.column_stack([y, 100 * X[:, 0]])
    linear = {"problem": {"kind": "least-squares"}, "stop": {"loss": 1.0}}
    model = PDCRegressor(hidden_layer_sizes=(), config=linear, random_state=0).fit(X, both)
    assert model.predict(X).shape == both.shape
    assert model.loss_ <= 1.0
    assert model.n_iter_ < 50


def test_a_rate_alone_leaves_the_optimizer_and_a_run_may_stop_at_once(tmp_path: Path) -> None:
    X, y = load_diabetes(return_X_y=True)
    config = {"optimizer": {"rate": 0.02}, "stop": {"loss": 1e3}}
    model = PDCRegressor((), config=config, output=tmp_path / "a.h5").fit(X, y)
    kept = pdcode.Trace(tmp_path / "a.h5").config["optimizer"]
    assert (kept["kind"], kept["rate"]) == ("adam", 0.02)
    assert (model.n_iter_, model.loss_curve_) == (0, [])
    assert 0 < model.loss_ <= 1e3
    other = {"optimizer": {"kind": "sgd", "rate": 0.02}, "stop": {"loss": 1e3}}
    PDCRegressor((), config=other, output=tmp_path / "a.h5").fit(X, y)
    assert pdcode.Trace(tmp_path / "a.h5").config["optimizer"]["kind"] == "sgd"


def test_training_over_mpi() -> None:
    model = PDCClassifier(max_iter=2, workers=2, mpi=True).fit(*DIGITS)
    assert model.score(*DIGITS) > 0.9
