"""Estimators of scikit-learn: networks trained by coded distributed gradient descent."""

import tempfile
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from .api import configs
from .api.runs import run, simulate
from .problems.trained import TrainedModel
from .util.errors import InputError

Array = np.ndarray


class _PDCEstimator(BaseEstimator):
    """Fitting of both estimators."""

    _task: ClassVar[str]
    _method: ClassVar[dict[str, Any]]  # tables of a configuration that names no scheme
    model_: TrainedModel
    loss_curve_: list[float]

    def __init__(
        self,
        hidden_layer_sizes: tuple[int, ...] = (64,),
        activation: str = "relu",
        *,
        alpha: float = 1e-4,
        batch_size: int = 32,
        max_iter: int = 50,
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
        self.batch_size, self.max_iter, self.standardise = batch_size, max_iter, standardise
        self.random_state, self.warm_start, self.workers = random_state, warm_start, workers
        self.config, self.mpi, self.output, self.verbose = config, mpi, output, verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _fit(self, X: Any, y: Array) -> None:
        """Train on validated rows; set `model_`, `loss_curve_` and `n_iter_`."""
        again = self.warm_start and hasattr(self, "model_")
        with tempfile.TemporaryDirectory(prefix="pdcode-") as folder:
            problem: dict[str, Any] = {
                "dtype": "float64",
                "l2": float(self.alpha),
                "batch": int(self.batch_size),
                "sampling": "epochs",
                "standardise": bool(self.standardise),
                "test_fraction": 0.0,
            }
            if again:
                problem["init"] = str(Path(folder) / "init.npz")
                weights: dict[str, Any] = self.model_.weights  # whose order in θ may change
                np.savez(problem["init"], **weights)
            given = self.config or {}
            if "kind" not in given.get("problem", {}):
                hidden = np.atleast_1d(self.hidden_layer_sizes).tolist()
                problem |= {"task": self._task, "hidden": hidden, "activation": self.activation}
            seed = int(check_random_state(self.random_state).randint(2**31))
            tables = {"seed": seed, **given}
            for name, table in ({} if "scheme" in given else self._method).items():
                mine = given.get(name, {})
                if isinstance(mine, dict) and mine.get("kind", table.get("kind")) == table.get("kind"):
                    tables[name] = table | mine
            tables["problem"] = problem | given.get("problem", {})
            job = configs.read(tables, configs.overrides((), self.workers)).config
            shard = max(1, X.shape[0] // self.workers)
            payloads = job.update.min_payloads(self.workers) or self.workers
            updates = max(1, round(X.shape[0] / payloads / (job.problem.batch or shard)))  # of an iteration
            tables["stop"] = {"updates": self.max_iter * updates} | given.get("stop", {})
            each = {"progress_updates": updates, "progress_s": 1e9}
            tables["trace"] = each | given.get("trace", {})
            trace = (run if self.mpi else simulate)(
                tables,
                data=(X, y),
                workers=self.workers,
                output=Path(folder) / "fit.h5" if self.output is None else self.output,
                progress=bool(self.verbose),
            )
            self.model_ = trace.model()
            losses = trace.progress["loss"].tolist()  # the first one is that of the start
        self.loss_curve_ = [*self.loss_curve_, *losses[1:]] if again else losses[1:]
        self.n_iter_, self.loss_ = len(self.loss_curve_), losses[-1]

    def _checked(self, X: Any) -> Any:
        check_is_fitted(self)
        return validate_data(self, X, accept_sparse="csr", reset=False)


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
        Strength of the L2 penalty ½·alpha·‖W‖² of the mean loss.
    batch_size : int
        Rows of a worker's mini-batch; 0: its whole shard.
    max_iter : int
        Number of iterations, in each of which the workers' mini-batches have about as many rows as `X`.
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
        ``problem.kind``, the layers are those of its table. Without a scheme in it, a classifier takes preset
        ``default`` of ``lwpd``, and a regressor preset ``regression`` with Adam.
    mpi : bool
        Whether to train over MPI, as `pdcode.run`, and not on the virtual clock in this process.
    output : path, optional
        Trace to keep.
    verbose : bool
        Whether to print the lines of the run.

    Attributes
    ----------
    classes_ : ndarray, shape (classes,)
        Labels.
    n_iter_ : int
        Number of iterations.
    loss_, loss_curve_ : float, list of float
        Training loss with the penalty at the end, and after each iteration, on at most 10,000 rows.
    model_ : pdcode.problems.trained.TrainedModel
        The model; `theta` has its parameters.
    """

    _task = "classification"
    classes_: Array
    _method: ClassVar = {"scheme": {"preset": "default"}}

    def fit(self, X: Any, y: Any) -> Self:
        """Train on rows `X`, array_like or sparse (rows, features), with labels `y` (rows,)."""
        X, y = validate_data(self, X, y, accept_sparse="csr")
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise InputError(f"y: needs two classes at least, and has one class only, {classes[0]!r}")
        if self.warm_start and hasattr(self, "model_") and not np.array_equal(classes, self.classes_):
            raise InputError("warm_start: y has other classes than in the last call of fit")
        self._fit(X, codes)
        self.classes_ = classes
        return self

    def predict(self, X: Any) -> Array:
        """Predict labels, shape (rows,)."""
        chosen = self.predict_proba(X).argmax(axis=1)
        return self.classes_[chosen]

    def predict_proba(self, X: Any) -> Array:
        """Predict the probabilities of `classes_`, shape (rows, classes)."""
        rows = self._checked(X)
        return self.model_.predict_proba(rows)


class PDCRegressor(RegressorMixin, _PDCEstimator):
    """Regressor: a network trained by coded distributed gradient descent, on the virtual clock or over MPI.

    Parameters and attributes are those of `PDCClassifier`, without classes. The loss is that of scaled
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

    def fit(self, X: Any, y: Any) -> Self:
        """Train on rows `X`, array_like or sparse (rows, features), with targets `y` (rows,) or (rows, T)."""
        X, y = validate_data(self, X, y, accept_sparse="csr", multi_output=True, y_numeric=True)
        y = y.astype(float)
        mean, deviation = np.zeros(y.shape[1:]), np.ones(y.shape[1:])
        if self.standardise:
            mean, deviation = y.mean(axis=0), y.std(axis=0)
        self._fit(X, (y - mean) / np.where(deviation, deviation, 1.0))
        self._mean, self._deviation = mean, deviation
        return self

    def predict(self, X: Any) -> Array:
        """Predict targets, shape (rows,) or (rows, T)."""
        rows = self._checked(X)
        return self.model_.predict(rows) * self._deviation + self._mean
