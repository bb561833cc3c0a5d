"""Estimators of scikit-learn: networks trained by coded distributed gradient descent."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import entr, expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .api import configs
from .api.runs import run, simulate
from .api.traces import Trace
from .problems.files import as_csr
from .problems.scaling import column_maxima, moments, scales
from .problems.trained import TrainedModel
from .util.errors import Failure, InputError

Array = np.ndarray


SMALL_ITERATION, BATCH = 8, 32  # updates of an iteration over few rows, and rows of a mini-batch of many
# Rows of a mini-batch of weighted losses, whose steps follow the mean gradient of all workers. They are not
# whitened: steps of one length, whatever the weights of a mini-batch, end at another loss.
WEIGHTED_BATCH = 8
# The optimizer of few rows, of penalties so strong that the loss stays far from 0, and of a given rate.
FEW_ROWS, STRONG = 1000, 3e-4
ADAM: dict[str, Any] = {
    "scheme": {"name": "uncoded"},
    "update": {"mode": "all"},
    "optimizer": {"kind": "adam", "rate": 0.01, "momentum": 0.0},
}
FALLING_RATE = 0.02  # at the start of a whole fit
PENALISED = 200  # rows of a mini-batch of ``MLPClassifier``, at most, by which it divides the penalty
# Multiples of the loss of the constant model from which on a fit warns that its own is above, or hardly
# below, and a loss that is none.
WORSE, HARDLY, NOTHING = 1.01, 0.99, 1e-3
# Largest number of inputs of few rows whose least squares are computed to judge a fit, and the part of what
# they explain that a fit may leave.
FEW_INPUTS, LEFT = 100, 0.1


class _PDCEstimator(BaseEstimator):
    """Fitting of both estimators."""

    _task: ClassVar[str]
    _method: ClassVar[dict[str, Any]]  # tables of a configuration that names no scheme
    model_: TrainedModel
    loss_curve_: list[float]
    loss_: float
    _first_loss: float  # before the last training, on its rows

    def __init__(
        self,
        hidden_layer_sizes: tuple[int, ...] = (64,),
        activation: str = "relu",
        *,
        alpha: float = 1e-4,
        batch_size: int | str = "auto",
        learning_rate_init: float | None = None,
        max_iter: int = 50,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        standardise: bool = True,
        random_state: Any = None,
        warm_start: bool = False,
        workers: int = 4,
        config: dict[str, Any] | None = None,
        mpi: bool = False,
        output: configs.PathLike | None = None,
        verbose: bool = False,
    ) -> None:
        self.hidden_layer_sizes, self.activation, self.alpha = hidden_layer_sizes, activation, alpha
        self.batch_size, self.learning_rate_init, self.max_iter = batch_size, learning_rate_init, max_iter
        self.early_stopping, self.validation_fraction = early_stopping, validation_fraction
        self.n_iter_no_change, self.tol = n_iter_no_change, tol
        self.standardise, self.random_state, self.warm_start = standardise, random_state, warm_start
        self.workers, self.config, self.mpi, self.output, self.verbose = workers, config, mpi, output, verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @property
    def coefs_(self) -> list[Array]:
        """Weights of the layers for raw inputs, each of shape (inputs, outputs), as of ``MLPClassifier``."""
        return [each.T for each in self._layers()[::2]]

    @property
    def intercepts_(self) -> list[Array]:
        """Biases of the layers."""
        return self._layers()[1::2]

    def _layers(self) -> list[Array]:
        check_is_fitted(self, "model_")
        return list(self.model_.unscaled().values())

    def _fit(
        self, X: Any, y: Array, kind: dict[str, Any], constant: float, held: tuple[Any, ...] | None = None
    ) -> None:
        """Train on validated rows; warn if that fails.

        `constant` is the loss of the best constant model; `held` are X, y and weights for `early_stopping`.
        """
        if not (self.warm_start and hasattr(self, "model_")):
            self._forget()
        if held is None:
            why = self._train(X, y, kind, self.max_iter)
            self._warn(why, constant, self._least(X, y, kind))
        else:
            self._warn(self._train_until(X, y, kind, held), constant)

    def _least(self, X: Any, y: Array, kind: dict[str, Any]) -> float | None:
        """Return the least loss on these rows; None: it is not known."""
        return None

    def _warn(self, why: str, constant: float, least: float | None = None) -> None:
        """Warn if a descent diverged, or has led to a loss far from the least one."""
        worse, advice = "", "try another learning_rate_init, a larger max_iter or a smaller alpha"
        if self.loss_ > WORSE * constant + NOTHING:
            worse = f"above the loss of the constant model, {constant:.4g}"
        elif least is not None:
            if self.loss_ > least + LEFT * (constant - least) + NOTHING:
                worse = f"above the loss of least squares, {least:.4g}"
        elif self.loss_ > HARDLY * constant + NOTHING:
            worse = f"hardly below the loss of the constant model, {constant:.4g}"
            advice += "; a few rows of extreme inputs may hide the others"
        if worse:
            why = "; ".join(filter(None, (why, f"the training loss {self.loss_:.4g} is {worse}")))
        if why:
            warnings.warn(f"{why}: {advice}", ConvergenceWarning, stacklevel=4)

    def _train_until(self, X: Any, y: Array, kind: dict[str, Any], held: tuple[Any, ...]) -> str:
        """Train one iteration after another until the score on rows held out stays; keep the best."""
        best, scores, waited = None, list[float](), 0
        for _ in range(self.max_iter):
            why = self._train(X, y, kind, 1)
            score = float(self.score(*held))
            waited = 0 if not scores or score > max(scores) + self.tol else waited + 1
            if not scores or score > max(scores):
                best = self.model_, self.loss_, why
            scores.append(score)
            if waited >= self.n_iter_no_change:
                break
        assert best is not None
        self.model_, self.loss_, why = best
        self.validation_scores_, self.best_validation_score_ = scores, max(scores)
        return why

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Keep what was fitted before if the block fails."""
        before = dict(self.__dict__)
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _go_on(self, X: Any, y: Array, kind: dict[str, Any], constant: float) -> None:
        """Train one iteration; warn if it diverged, or raised a loss above the constant model's loss."""
        why = self._train(X, y, kind, 1, fewest=1)
        if why or self.loss_ > WORSE * self._first_loss:
            self._warn(why, constant)

    def _forget(self) -> None:
        self.__dict__.pop("model_", None)
        self.loss_curve_ = []

    def _train(
        self, X: Any, y: Array, kind: dict[str, Any], iterations: int, fewest: int = SMALL_ITERATION
    ) -> str:
        """Train from `model_`, if there is one; set the results, and return why the descent diverged.

        `fewest` is the least number of updates of an iteration if mini-batches are chosen here.
        """
        with TemporaryDirectory(prefix="pdcode-") as folder:
            trace = self._run(X, y, kind, iterations, fewest, Path(folder))
            try:
                self.model_ = trace.model()
            except InputError as error:  # θ is not finite
                raise Failure(str(error)) from None
            losses = trace.progress["loss"].tolist()  # the first one is at the start
            descent = trace.descent
        self.loss_curve_ = [*self.loss_curve_, *losses[1:]]
        self.n_iter_, self.loss_, self._first_loss = len(self.loss_curve_), losses[-1], losses[0]
        return str(descent.what) if descent.diverged else ""

    def _run(
        self, X: Any, y: Array, kind: dict[str, Any], iterations: int, fewest: int, folder: Path
    ) -> Trace:
        """Run a training from `model_`, if there is one; a run that diverged is no failure here."""
        problem: dict[str, Any] = {
            "dtype": "float64",
            "l2": self._l2(X.shape[0]),
            "sampling": "epochs",
            "standardise": bool(self.standardise),
            "test_fraction": 0.0,
        }
        given, rows = self.config or {}, X.shape[0]
        if self.workers < 1:
            raise InputError(f"workers: {self.workers}: expected 1 or more")
        most = BATCH if "task" in kind else WEIGHTED_BATCH
        few = max(1, min(most, rows // (SMALL_ITERATION * self.workers)))
        problem["batch"] = few if self.batch_size == "auto" else int(self.batch_size)
        if hasattr(self, "model_"):
            problem["init"] = str(folder / "init.npz")
            scaled = problem["standardise"] and "standardise" not in given.get("problem", {})
            np.savez(problem["init"], **self._weights(X, scaled))
        if "kind" not in given.get("problem", {}):
            hidden = np.atleast_1d(self.hidden_layer_sizes).tolist()
            problem |= {"hidden": hidden, "activation": self.activation} | kind
        seed = int(check_random_state(self.random_state).randint(2**31)) + len(self.loss_curve_)
        tables = {"seed": seed, **given}
        for name, table in ({} if "scheme" in given else self._tables(rows, kind, iterations)).items():
            mine = given.get(name, {})
            if isinstance(mine, dict) and mine.get("kind", table.get("kind")) == table.get("kind"):
                tables[name] = table | mine
        tables["problem"] = problem | given.get("problem", {})
        tables["stop"] = {"updates": 1} | given.get("stop", {})
        updates = self._updates(tables, rows)
        if self.batch_size == "auto" and "batch" not in given.get("problem", {}):
            updates = max(updates, fewest)  # where workers have fewer rows than these
        tables["stop"] = {"updates": iterations * updates} | given.get("stop", {})
        each = {"progress_updates": updates, "progress_s": 1e9}
        tables["trace"] = each | given.get("trace", {})
        try:
            return (run if self.mpi else simulate)(
                tables,
                data=(X, y),
                workers=self.workers,
                output=folder / "fit.h5" if self.output is None else self.output,
                progress=bool(self.verbose),
            )
        except Failure as failure:
            found = getattr(failure, "trace", None)
            if found is None or not found.descent.diverged:
                raise
            return found

    def _weights(self, X: Any, scaled: bool) -> dict[str, Any]:
        """Return the weights of `model_`, whose order in θ may change, for inputs that may be scaled."""
        weights: dict[str, Any] = self.model_.unscaled()
        if scaled:
            first, bias = list(weights)[:2]
            mean, deviation = _scales(X)
            weights[bias] = weights[bias] + weights[first] @ mean
            weights[first] = weights[first] * deviation
        return weights

    def _updates(self, tables: dict[str, Any], rows: int) -> int:
        """Return the number of updates of an iteration, in which each row counts about once."""
        job = configs.read(tables, configs.overrides((), self.workers)).config
        payloads = job.update.min_payloads(self.workers) or self.workers
        return max(1, round(rows / payloads / (job.problem.batch or max(1, rows // self.workers))))

    def _l2(self, rows: int) -> float:
        """Return the penalty of the mean loss, `alpha` over the rows of a mini-batch of ``MLPClassifier``."""
        return float(self.alpha) / min(PENALISED, rows)

    def _tables(self, rows: int, kind: dict[str, Any], iterations: int) -> dict[str, Any]:
        """Return tables for so many rows and iterations; the rate of Adam falls to 0 in a whole fit."""
        plain = rows < FEW_ROWS or self._l2(rows) > STRONG or "task" not in kind
        if not plain and self.learning_rate_init is None:
            return self._method
        rate: dict[str, Any] = {"schedule": "linear", "rate": FALLING_RATE} if iterations > 1 else {}
        if self.learning_rate_init is not None:
            rate["rate"] = float(self.learning_rate_init)
        return ADAM | {"optimizer": ADAM["optimizer"] | rate}

    def _checked(self, X: Any) -> Any:
        check_is_fitted(self, "model_")
        return validate_data(self, X, accept_sparse="csr", reset=False)

    def _split(self, X: Any, y: Array, weights: Array, stratify: Array | None) -> tuple[Any, Any]:
        """Split rows for `early_stopping`: training and held-out X, y and weights, the former of mean 1."""
        parts = train_test_split(
            *(X, y, weights),
            test_size=self.validation_fraction,
            random_state=self.random_state,
            stratify=stratify,
        )
        return _used(*parts[::2]), parts[1::2]

    def _refuse_kind(self, what: str) -> None:
        if "kind" in (self.config or {}).get("problem", {}):
            raise InputError(f"{what}: goes with networks, not with the problem.kind of config")


def _scales(X: Any) -> tuple[Array, Array]:
    """Return mean and deviation by which inputs are scaled."""
    return column_maxima(as_csr(X)) if hasattr(X, "tocsr") else scales(True, moments([X], X.shape[1]))


def _weighted(X: Any, y: Array, sample_weight: Any) -> tuple[Any, Array, Array]:
    """Return the rows of weight above 0, and their weights, of mean 1; refuse negative ones."""
    weights = np.asarray(_check_sample_weight(sample_weight, X, ensure_non_negative=True), float)
    return _used(X, y, weights)


def _used(X: Any, y: Array, weights: Array) -> tuple[Any, Array, Array]:
    """Return the rows of weight above 0, and their weights, of mean 1.

    The mean is over these rows, as the loss and the steps are means over them.
    """
    used = weights > 0
    if not used.any():
        raise InputError("sample_weight, class_weight: all rows have weight 0")
    X, y, weights = (X, y, weights) if used.all() else (X[used], y[used], weights[used])
    return X, y, weights / weights.mean()


class PDCClassifier(ClassifierMixin, _PDCEstimator):
    """Classifier: a network trained by coded distributed gradient descent, on the virtual clock or over MPI.

    Parameters of the same name mean what they mean in scikit-learn's ``MLPClassifier``.

    Parameters
    ----------
    hidden_layer_sizes : array_like of int
        Units of each hidden layer; none: a linear model.
    activation : {"relu", "tanh", "gelu"}
        Activation function of the hidden layers.
    alpha : float
        Strength of the L2 penalty ½·alpha·‖W‖²/min(200, rows) of the mean loss.
    batch_size : int or "auto"
        Rows of a worker's mini-batch; 0: its whole shard; auto: 32, or 8 of weighted losses, and for few rows
        so many that an iteration of `fit` has 8 updates, which draw rows repeatedly if there are too few.
    learning_rate_init : float, optional
        Learning rate of Adam, which falls to 0 in a whole fit; by default .02 where Adam is taken, see
        `config`, and .01 with `early_stopping` and in `partial_fit`, where it is constant.
    max_iter : int
        Number of iterations; in each one the workers' mini-batches have about as many rows as `X`, or
        more of few rows, see `batch_size`; at most so many with `early_stopping`.
    early_stopping : bool
        Whether to hold out rows, and to stop when the score on them has not improved by `tol` for
        `n_iter_no_change` iterations. The parameters with the best score are kept. Moments of the optimizer
        begin anew in each iteration.
    validation_fraction : float
        Fraction of the rows that `early_stopping` holds out.
    n_iter_no_change, tol : int, float
        See `early_stopping`; without it all iterations are made.
    class_weight : dict, "balanced" or None
        Weights of the classes, as for other classifiers of scikit-learn.
    standardise : bool
        Whether to scale inputs to mean 0 and standard deviation 1, sparse ones to largest magnitude 1. A
        regressor scales its targets, too.
    random_state : int, RandomState or None
        Seed of the first parameters, of the order of the samples, which is drawn anew for each pass over a
        worker's rows, and of delays.
    warm_start : bool
        Whether `fit` continues from the parameters of the last call.
    workers : int
        Number of workers.
    config : dict, optional
        Tables of a configuration whose keys have precedence, such as ``{"stop": {"loss": 0.1}}``; if it has a
        ``problem.kind``, the layers are as in its table. Without a scheme in it, a classifier takes preset
        ``default`` of ``lwpd``, and a regressor preset ``regression`` with Adam. Both take mean gradients and
        Adam if there are less than 1,000 rows, the penalty is strong, with alpha/min(200, rows) above
        3e-4, `learning_rate_init` is given, samples have weights, or rows have several labels.
    mpi : bool
        Whether to train over MPI, as `pdcode.run`, and not on the virtual clock in this process.
    output : path, optional
        Trace to keep.
    verbose : bool
        Whether to print the lines of the run.

    Attributes
    ----------
    classes_ : ndarray, shape (classes,)
        Labels; numbers of the columns of `y` if each row has several.
    coefs_, intercepts_ : list of ndarray
        Weights, (inputs, outputs), and biases of the layers, for raw inputs.
    validation_scores_, best_validation_score_ : list of float, float
        Scores of the rows held out after each iteration, and the best, of `early_stopping`.
    n_iter_ : int
        Number of iterations.
    loss_, loss_curve_ : float, list of float
        Training loss with the penalty at the end, and after each iteration, on at most 10,000 rows.
    model_ : pdcode.problems.trained.TrainedModel
        The model; `theta` has its parameters.

    Warns
    -----
    ConvergenceWarning
        If a fit diverges, or ends at a training loss above or hardly below the best constant model's loss;
        for linear regressions of fewer than 1,000 rows and at most 100 inputs also if it explains less than
        nine tenths of what least squares explain.
    """

    _task = "classification"
    classes_: Array
    _method: ClassVar = {"scheme": {"preset": "default"}}

    def __init__(
        self,
        hidden_layer_sizes: tuple[int, ...] = (64,),
        activation: str = "relu",
        *,
        alpha: float = 1e-4,
        batch_size: int | str = "auto",
        learning_rate_init: float | None = None,
        max_iter: int = 50,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        class_weight: Any = None,
        standardise: bool = True,
        random_state: Any = None,
        warm_start: bool = False,
        workers: int = 4,
        config: dict[str, Any] | None = None,
        mpi: bool = False,
        output: configs.PathLike | None = None,
        verbose: bool = False,
    ) -> None:
        given = dict(locals())
        super().__init__(
            **{name: given[name] for name in given if name not in ("self", "class_weight", "__class__")}
        )
        self.class_weight = class_weight

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train.

        Parameters
        ----------
        X : array_like or sparse matrix, shape (rows, features)
            Inputs.
        y : array_like, shape (rows,) or (rows, labels)
            Classes; or a 1 for each of the labels that a row has, else 0.
        sample_weight : array_like, shape (rows,), optional
            Weights of the rows' losses, whose weighted mean is minimised.
        """
        X, y = validate_data(self, X, y, accept_sparse="csr", multi_output=True)
        y = self._labels(y)
        several = y.ndim == 2
        classes = np.arange(y.shape[1]) if several else np.unique(y)
        if len(classes) < 2 and not several:
            raise InputError(f"y: needs two classes at least, and has one class only, {classes[0]!r}")
        if self.warm_start and hasattr(self, "model_") and not np.array_equal(classes, self.classes_):
            raise InputError("warm_start: y has other classes than in the last call of fit")
        X, y, weights = self._all_weighted(X, y, sample_weight)
        weighted = several or len(np.unique(y)) < len(classes) or (weights != weights[0]).any()
        with self._kept():
            self.classes_, self._several, held = classes, several, None
            if self.early_stopping:
                (X, y, weights), held = self._split(X, y, weights, None if several else y)
            targets, kind = self._targets(y, weights)
            constant = self._constant(targets, weights)
            if not (weighted or self.early_stopping):
                targets, kind = np.searchsorted(classes, y), {"task": self._task}
            else:
                self._refuse_kind("sample_weight, class_weight, early_stopping, or several labels")
            self._fit(X, targets, kind, constant, held)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Go on from the last parameters for one iteration over these rows.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : array_like, shape (classes,), optional
            All classes, which the first call needs.
        """
        first = not hasattr(self, "model_")
        X, y = validate_data(self, X, y, accept_sparse="csr", multi_output=True, reset=first)
        y = self._labels(y)
        self._refuse_kind("partial_fit")
        with self._kept():
            if first:
                if classes is None and y.ndim == 1:
                    raise InputError("classes: must be given in the first call of partial_fit")
                self.classes_ = np.arange(y.shape[1]) if y.ndim == 2 else unique_labels(classes)
                self._several = y.ndim == 2
                self._forget()
            elif classes is not None and not np.array_equal(unique_labels(classes), self.classes_):
                raise InputError("classes: are not the classes of the first call of partial_fit")
            unknown: Any = [] if self._several else np.setdiff1d(y, self.classes_)
            if len(unknown) or self._several != (y.ndim == 2):
                raise InputError(f"y: {unknown!r} are not among the classes of the first call of partial_fit")
            X, y, weights = self._all_weighted(X, y, sample_weight)
            targets, kind = self._targets(y, weights)
            self._go_on(X, targets, kind, self._constant(targets, weights))
        return self

    def _constant(self, targets: Array, weights: Array) -> float:
        """Return the loss of the best model whose outputs do not depend on inputs."""
        mean = (weights @ targets[:, :-1]) / weights.sum()
        return float((entr(mean) + (entr(1 - mean) if self._several else 0)).sum())

    def _labels(self, y: Any) -> Array:
        """Return classes (rows,), or labels (rows, labels) of 0 and 1."""
        check_classification_targets(y)
        if type_of_target(y) == "multilabel-indicator":
            return np.asarray(y.toarray() if hasattr(y, "toarray") else y)
        return np.asarray(column_or_1d(y, warn=True))

    def _all_weighted(self, X: Any, y: Array, sample_weight: Any) -> tuple[Any, Array, Array]:
        """Return what `_weighted` does, with the weights of classes."""
        X, y, weights = _weighted(X, y, sample_weight)
        if self.class_weight is not None:
            return _used(X, y, weights * compute_sample_weight(self.class_weight, y))
        return X, y, weights

    def _targets(self, y: Array, weights: Array) -> tuple[Array, dict[str, Any]]:
        """Return targets with a last column of weights, and the kind of problem."""
        if self._several:
            return np.column_stack([y, weights]).astype(float), {"kind": "multilabel"}
        return np.column_stack([y[:, None] == self.classes_, weights]), {"kind": "weighted-softmax"}

    def predict(self, X: Any) -> Array:
        """Predict classes, shape (rows,), or labels, shape (rows, labels)."""
        probable = self.predict_proba(X)
        if self._several:
            return (probable > 0.5).astype(int)
        return self.classes_[probable.argmax(axis=1)]

    def predict_proba(self, X: Any) -> Array:
        """Predict the probabilities of `classes_`, shape (rows, classes)."""
        rows = self._checked(X)
        if self.model_.classes is not None:
            return self.model_.predict_proba(rows)
        outputs = self.model_.outputs(rows)
        return np.asarray(expit(outputs) if self._several else softmax(outputs, axis=1))

    def decision_function(self, X: Any) -> Array:
        """Compute the outputs of the network, shape (rows, classes).

        Of two classes it is the logarithm of the ratio of their probabilities, shape (rows,).
        """
        rows = self._checked(X)
        outputs = self.model_.outputs(rows)
        if len(self.classes_) > 2 or self._several:
            return outputs
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs[:, 1] - outputs[:, 0]


class PDCRegressor(RegressorMixin, _PDCEstimator):
    """Regressor: a network trained by coded distributed gradient descent, on the virtual clock or over MPI.

    Parameters and attributes are as in `PDCClassifier`, without classes. The loss is the loss of scaled
    targets if `standardise` is set.
    """

    _task = "regression"
    _method: ClassVar = {
        "scheme": {"preset": "regression"},
        "optimizer": {"kind": "adam", "rate": 0.01, "momentum": 0.0},
    }

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train.

        Parameters
        ----------
        X : array_like or sparse matrix, shape (rows, features)
            Inputs.
        y : array_like, shape (rows,) or (rows, T)
            Targets.
        sample_weight : array_like, shape (rows,), optional
            Weights of the rows' losses, whose weighted mean is minimised.
        """
        X, y = validate_data(self, X, y, accept_sparse="csr", multi_output=True, y_numeric=True)
        (X, y, weights), held = _weighted(X, y.astype(float), sample_weight), None
        if self.early_stopping:
            (X, y, weights), held = self._split(X, y, weights, None)
        with self._kept():
            self._scale(y, weights)
            # Scaled here, by the statistics of the first fit where another goes on.
            targets, kind = self._targets(y), {"task": self._task, "standardise_targets": False}
            constant = self._constant(targets, weights)
            if (weights != weights[0]).any() or self.early_stopping:
                self._refuse_kind("sample_weight or early_stopping")
                targets, kind = np.column_stack([targets, weights]), {"kind": "weighted-least-squares"}
            self._fit(X, targets, kind, constant, held)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Go on from the last parameters for one iteration over these rows; arguments as for `fit`.

        Targets are scaled by the targets of the first call.
        """
        first = not hasattr(self, "model_")
        X, y = validate_data(self, X, y, accept_sparse="csr", multi_output=True, y_numeric=True, reset=first)
        self._refuse_kind("partial_fit")
        X, y, weights = _weighted(X, y.astype(float), sample_weight)
        with self._kept():
            if first:
                self._scale(y, weights)
                self._forget()
            targets = self._targets(y)
            constant, targets = self._constant(targets, weights), np.column_stack([targets, weights])
            self._go_on(X, targets, {"kind": "weighted-least-squares"}, constant)
        return self

    def _constant(self, targets: Array, weights: Array) -> float:
        """Return the loss of the best model whose outputs do not depend on inputs."""
        columns = targets.reshape(len(targets), -1)
        mean = weights @ columns / weights.sum()
        return float(0.5 * (weights @ np.square(columns - mean)).sum() / weights.sum())

    def _least(self, X: Any, y: Array, kind: dict[str, Any]) -> float | None:
        rows, width = X.shape
        given = {"problem", "stop"} & {*(self.config or {})}  # which may change the loss, or wish for another
        if np.size(self.hidden_layer_sizes) or given or rows >= FEW_ROWS or width > FEW_INPUTS:
            return None
        mean, deviation = _scales(X) if self.standardise else (np.zeros(width), np.ones(width))
        dense = X.toarray() if hasattr(X, "tocsr") else X
        x = np.column_stack([(dense - mean) / deviation, np.ones(rows)])
        targets = y.reshape(rows, -1)
        if "task" not in kind:  # the last column has the weights
            root = np.sqrt(targets[:, -1:])
            x, targets = root * x, root * targets[:, :-1]
        penalty = np.sqrt(rows * self._l2(rows)) * np.eye(width, width + 1)  # as further rows of targets 0
        x = np.vstack([x, penalty])
        targets = np.vstack([targets, np.zeros((width, targets.shape[1]))])
        left = targets - x @ np.linalg.lstsq(x, targets)[0]
        return float(0.5 * np.square(left).sum() / rows)

    def _scale(self, y: Array, weights: Array) -> None:
        """Determine mean and deviation of the targets."""
        self._mean, self._deviation = np.zeros(y.shape[1:]), np.ones(y.shape[1:])
        if self.standardise:
            self._mean = np.average(y, axis=0, weights=weights)
            found = np.sqrt(np.average(np.square(y - self._mean), axis=0, weights=weights))
            self._deviation = np.where(found > 0, found, 1.0)

    def _targets(self, y: Array) -> Array:
        return np.asarray((y - self._mean) / self._deviation)

    def _layers(self) -> list[Array]:
        *layers, weights, biases = super()._layers()
        return [*layers, (weights.T * self._deviation).T, biases * self._deviation + self._mean]

    def predict(self, X: Any) -> Array:
        """Predict targets, shape (rows,) or (rows, T)."""
        rows = self._checked(X)
        return self.model_.predict(rows) * self._deviation + self._mean
