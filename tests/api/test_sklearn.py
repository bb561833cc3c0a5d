"""`pdcode.sklearn`: scikit-learn's own checks, and what users of its networks expect."""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from grids import LONG, with_system
from scipy import sparse
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_linnerud,
    make_moons,
    make_regression,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import pdcode
from pdcode import problems
from pdcode.sklearn import PDCClassifier, PDCRegressor

pytestmark = pytest.mark.slow
DIGITS = load_digits(return_X_y=True)
NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
OF_EXACT_SOLVERS = {
    f"check_sample_weight_equivalence_on_{data}_data": "repeated rows have other mini-batches"
    for data in ("dense", "sparse")
}  # as of MLPClassifier; the weighted loss is exact, see `test_weights_of_samples_are_exact`


# One of the checks asks for 1000 iterations.
STOPS = [None, None] if LONG else [{"stop": {"updates": updates}} for updates in (80, 120)]


@pytest.mark.system
@pytest.mark.filterwarnings("ignore:the training loss:sklearn.exceptions.ConvergenceWarning")  # of so few
@pytest.mark.parametrize(
    "estimator",
    with_system(
        PDCClassifier((16,), max_iter=10, config=STOPS[0]),
        system=[PDCRegressor((16,), max_iter=30, config=STOPS[1])],
    ),
)
def test_the_checks_of_scikit_learn_pass(estimator):
    check_estimator(estimator, on_skip=None, expected_failed_checks=OF_EXACT_SOLVERS)


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


@pytest.mark.usefixtures("on_pool")
def test_training_over_mpi() -> None:
    model = PDCClassifier(max_iter=2, workers=2, mpi=True).fit(*DIGITS)
    assert model.score(*DIGITS) > 0.9


def forward(model: PDCClassifier | PDCRegressor, rows: np.ndarray) -> np.ndarray:
    *hidden, last = zip(model.coefs_, model.intercepts_, strict=True)
    for weights, biases in hidden:
        rows = np.maximum(rows @ weights + biases, 0)
    return rows @ last[0] + last[1]


def test_weights_of_the_layers_are_for_raw_inputs_and_targets() -> None:
    X, y = load_iris(return_X_y=True)
    model = PDCClassifier((5,), max_iter=2, random_state=0).fit(X, y)
    np.testing.assert_allclose(forward(model, X), model.decision_function(X), atol=1e-9)
    np.testing.assert_allclose(np.exp(forward(model, X)[:, 1] - forward(model, X)[:, 0]),
                               np.divide(*model.predict_proba(X).T[1::-1]))  # fmt: skip
    two = PDCClassifier((5,), max_iter=2, random_state=0).fit(X, y > 0)
    assert np.array_equal(two.decision_function(X) > 0, two.predict(X))
    X, y = load_diabetes(return_X_y=True)
    model = PDCRegressor((5,), max_iter=2, random_state=0).fit(X, y, np.linspace(1, 2, len(y)))
    np.testing.assert_allclose(forward(model, X)[:, 0], model.predict(X))


def test_weights_of_samples_are_exact() -> None:
    """The gradient is that of rows that are repeated; equal weights change nothing."""
    random = np.random.default_rng(0)
    x, y = random.standard_normal((20, 3)), random.integers(0, 3, 20)
    weights = random.integers(0, 4, 20)
    rows, theta = np.repeat(np.arange(20), weights), random.standard_normal(12)
    soft = (y[:, None] == np.arange(3)).astype(float)
    for kind, targets, plain in (
        ("weighted-softmax", soft, ("softmax", y)),
        ("weighted-least-squares", soft, ("least-squares", soft)),
        ("multilabel", soft[:, :1], ("logistic", (y == 0).astype(int))),
    ):
        table = {
            "kind": kind,
            "hidden": [],
            "dtype": "float64",
            "test_fraction": 0.0,
            "l2": 0.1,
            "standardise": False,
        }
        mine = problem_of(table, x, np.column_stack([targets, weights / weights.mean()]))
        other = {**table, "kind": plain[0]}
        del other["hidden"]
        same = problem_of(other, x[rows], plain[1][rows])
        start = theta[: same.size]
        np.testing.assert_allclose(mine.gradient(start), same.gradient(start), atol=1e-12)
        assert mine.loss(start) == pytest.approx(same.loss(start))
        assert mine.accuracy(start) == pytest.approx(same.accuracy(start))


def problem_of(table: dict[str, object], x: np.ndarray, y: np.ndarray) -> problems.Problem:
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/data.npz", x=x, y=y)
        return problems.create(table | {"data": f"{folder}/data.npz"})


def test_weights_of_samples_and_classes() -> None:
    X, y = load_iris(return_X_y=True)
    common = {"hidden_layer_sizes": (8,), "random_state": 0, "max_iter": 20}
    plain = PDCClassifier(**common).fit(X, y)
    equal = PDCClassifier(**common).fit(X, y, np.full(150, 3.0))
    np.testing.assert_allclose(equal.predict_proba(X), plain.predict_proba(X), atol=1e-9)
    without = PDCClassifier(**common).fit(X, y, (y != 2).astype(float))
    assert set(without.predict(X)) == {0, 1}
    assert without.score(X, y, (y != 2).astype(float)) == 1
    few = np.r_[0:50, 50:55, 100:150]
    counts = [
        (PDCClassifier(**common, class_weight=given).fit(X[few], y[few]).predict(X[50:100]) == 1).sum()
        for given in ({1: 0.01}, {1: 100.0})
    ]
    assert counts[0] < counts[1]
    with pytest.raises(ValueError, match="non-zero"):
        plain.fit(X, y, np.zeros(150))
    with pytest.raises(ValueError, match="kind of config"):
        PDCClassifier((), config={"problem": {"kind": "softmax"}}).fit(X, y, np.linspace(1, 2, 150))
    with pytest.raises(ValueError, match="all rows have weight 0"):
        PDCClassifier((), class_weight=dict.fromkeys(range(3), 0.0)).fit(X, y)


@pytest.mark.system
def test_rows_of_weight_0_are_as_if_left_out() -> None:
    X, y = load_iris(return_X_y=True)
    kept, labels = np.arange(150) % 5 < 2, np.array(["a", "b", "c"])[y]
    equal, unequal = np.ones(150), np.linspace(1, 2, 150)
    for estimator, targets, weights in (
        (PDCClassifier((4,), max_iter=5, random_state=0), labels, equal),
        (PDCClassifier((4,), max_iter=5, random_state=0, class_weight="balanced"), labels, unequal),
        (PDCClassifier((), max_iter=3, random_state=0, early_stopping=True), labels, equal),
        (PDCRegressor((4,), max_iter=5, random_state=0), X[:, 0], unequal),
    ):
        part = estimator.fit(X[kept], targets[kept], weights[kept])
        loss, outputs = part.loss_, part.model_.outputs(X)
        whole = estimator.fit(X, targets, weights * kept)
        np.testing.assert_array_equal(whole.model_.outputs(X), outputs)
        assert whole.loss_ == loss
    regressor = PDCRegressor((), random_state=0)
    theta = regressor.partial_fit(X[kept], X[kept, 0]).model_.theta
    other = PDCRegressor((), random_state=0).partial_fit(X, X[:, 0], kept.astype(float))
    np.testing.assert_array_equal(other.model_.theta, theta)


def test_equal_weights_are_none() -> None:
    X, y = DIGITS
    plain = PDCClassifier((), max_iter=1, random_state=0).fit(X, y)
    equal = PDCClassifier((), max_iter=1, random_state=0).fit(X, y, np.full(len(y), 0.1))
    np.testing.assert_array_equal(equal.model_.theta, plain.model_.theta)


def test_weighted_losses_are_learnt_nearly_as_fast() -> None:
    X, y = DIGITS
    weights = np.random.default_rng(0).uniform(0.5, 1.5, len(y))
    plain = PDCClassifier((), max_iter=5, random_state=0).fit(X, y)
    weighted = PDCClassifier((), max_iter=5, random_state=0).fit(X, y, weights)
    assert weighted.score(X, y, weights) > plain.score(X, y) - 0.02


@pytest.mark.system
def test_partial_fits_go_on_whatever_the_scales_of_their_rows() -> None:
    X, y = load_iris(return_X_y=True)
    model, names = PDCClassifier((16,), random_state=0), np.array(["a", "b", "c"])[y]
    with pytest.raises(ValueError, match="classes"):
        model.partial_fit(X, names)
    for part in [np.arange(start, 150, 3) for start in (0, 1, 2)] * 4:
        model.partial_fit(X[part], names[part], classes=["c", "a", "b"])
    assert (model.n_iter_, model.score(X, names)) == (12, pytest.approx(0.95, abs=0.05))
    before = model.predict_proba(X)
    model.set_params(learning_rate_init=1e-12).partial_fit(10 + 3 * X[:40], names[:40])
    np.testing.assert_allclose(model.predict_proba(X), before, atol=1e-5)
    with pytest.raises(ValueError, match="not among the classes"):
        model.partial_fit(X, np.full(150, "d"))
    X, y = load_diabetes(return_X_y=True)
    regressor = PDCRegressor((8,), random_state=0)
    for _ in range(6):
        regressor.partial_fit(X, y)
    assert regressor.score(X, y) > 0.3


def test_early_stopping_keeps_the_best_parameters() -> None:
    X, y = load_iris(return_X_y=True)
    given = {"early_stopping": True, "n_iter_no_change": 3, "max_iter": 30, "random_state": 0}
    model = PDCClassifier((8,), validation_fraction=0.3, **given).fit(X, y)
    scores = model.validation_scores_
    assert model.n_iter_ == len(scores) < 30
    assert max(scores[-3:]) <= max(scores[:-3]) + model.tol
    held = train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)[1::2]
    assert model.score(*held) == model.best_validation_score_ == max(scores)


def test_rows_may_have_several_labels() -> None:
    X, y = load_iris(return_X_y=True)
    several = np.column_stack([y > 0, y > 1, X[:, 0] > 6]).astype(int)
    model = PDCClassifier((16,), random_state=0, max_iter=30).fit(X, several)
    assert model.score(X, several) > 0.85
    assert model.predict(X).shape == model.decision_function(X).shape == several.shape
    assert np.array_equal(model.predict(X) == 1, model.predict_proba(X) > 0.5)


def test_a_fit_that_diverges_or_is_worse_than_the_constant_model_warns() -> None:
    X, y = load_iris(return_X_y=True)
    with pytest.warns(ConvergenceWarning, match="diverged: .* above the loss of the constant model, 1.09"):
        PDCClassifier((8,), learning_rate_init=100.0, max_iter=10, random_state=0).fit(X, y)
    with pytest.warns(ConvergenceWarning, match=r"above the loss of the constant model, 0\.5"):
        PDCRegressor((8,), learning_rate_init=1e-9, max_iter=1, random_state=1).fit(X, X[:, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PDCClassifier((8,), max_iter=10, random_state=0).fit(X, y)
    X, y = load_breast_cancer(return_X_y=True)
    X[[10, 200, 500]] *= 1e5  # other rows are alike once scaled
    with pytest.warns(ConvergenceWarning, match="hardly below .* extreme inputs"):
        PDCClassifier((), random_state=0).fit(X, y)


@pytest.mark.parametrize("alpha", [0.1, 10.0])
def test_few_rows_and_strong_penalties_are_learnt_as_by_scikit_learn(alpha: float) -> None:
    X, y = make_moons(100, noise=0.3, random_state=0)
    X = StandardScaler().fit_transform(X)
    mine = PDCClassifier((20, 20), alpha=alpha, random_state=1).fit(X, y)
    lbfgs = MLPClassifier((20, 20), alpha=alpha, random_state=1, solver="lbfgs", max_iter=2000).fit(X, y)
    assert mine.score(X, y) > lbfgs.score(X, y) - 0.07
    assert mine.loss_ < lbfgs.loss_ + 0.1


def test_a_partial_fit_that_leads_away_warns_and_a_failed_fit_keeps_the_model() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(200, 5)), random.normal(size=200)
    regressor = PDCRegressor((), learning_rate_init=10.0, workers=2, random_state=0)
    with pytest.warns(ConvergenceWarning, match="above the loss of the constant model"):
        regressor.partial_fit(x, y).partial_fit(x, y).partial_fit(x, y)
    classifier = PDCClassifier((4,), workers=2, max_iter=2, random_state=0)
    labels = (x[:, 0] > 0).astype(int)
    before = classifier.fit(x, labels).predict_proba(x)
    for bad in {"config": {"stop": {"updates": "x"}}}, {"workers": 0}:
        with pytest.raises(ValueError, match=r"stop\.updates|workers"):
            classifier.set_params(**bad).fit(x, labels)
        classifier.set_params(config=None, workers=2)
        np.testing.assert_array_equal(classifier.predict_proba(x), before)
    with pytest.raises(ValueError, match="not the classes of the first call"):
        classifier.partial_fit(x, labels, classes=[7, 8])


@pytest.mark.parametrize("workers", [2, 8, 16])
def test_linear_regressions_of_few_rows_are_near_least_squares(workers: int) -> None:
    """Also where the shards of workers have one row or two, or some workers have none."""
    for X, y in load_linnerud(return_X_y=True), make_regression(20, 5, noise=5, random_state=1):
        least = LinearRegression().fit(X, y).score(X, y)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = PDCRegressor((), workers=workers, random_state=0).fit(X, y)
        assert model.score(X, y) > 0.9 * least


def test_linear_regressions_far_from_least_squares_warn() -> None:
    X, y = make_regression(20, 5, noise=5, random_state=1)
    for rows in X, sparse.csr_array(X):
        with pytest.warns(ConvergenceWarning, match="above the loss of least squares"):
            PDCRegressor((), max_iter=10, random_state=1).fit(rows, y)
    X, y = load_linnerud(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the least loss is that with weights and penalty
        PDCRegressor((), alpha=3.0, random_state=0).fit(X, y, np.linspace(1, 2, 20))
