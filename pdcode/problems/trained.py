"""`TrainedModel`: the predictions of a trained network."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..config import NetworkTable
from ..util import html
from ..util.errors import InputError, short_repr
from ..util.formats import counted
from .coding import Coding, Samples, rows_of
from .compiled import build_network
from .files import as_csr
from .forward import Forward
from .matrix import Array, Csr, Matrix, as_dense, with_ones
from .network import Network
from .samples import ARRAYS, CHUNK, Statistics
from .tables import coded_inputs, frame_inputs, labels_or_numbers, numbers

SHOWN = 12  # names of inputs or classes in a notebook


class TrainedModel:
    """A trained model, which predicts from raw inputs; made by `Trace.model`.

    Inputs are coded, filled and scaled as in training, and labels are the training data's labels. `X` is an
    array (rows, …), a sparse matrix of scipy, or a data frame, whose columns are chosen by the names of the
    training data.

    Attributes
    ----------
    classes : ndarray, shape (classes,), or None
        Labels of the classes; None for real targets.
    columns : tuple of str
        Names of the columns of the training data that are inputs; empty if they have none.
    features : int
        Number of inputs of the network, of a column of text one for each category.
    measure : str
        Name of the score: "accuracy", "R²" or "D²".
    theta : ndarray, shape (parameters,)
        Parameters.
    weights : dict of str to ndarray
        Weights and biases of the layers, by name, for inputs and targets that are scaled as in training.
    """

    def __init__(self, network: Network, theta: Array, common: Statistics, outputs: int) -> None:
        self._network, self.theta, self._common, self._targets = network, theta, common, outputs
        self.measure, self.weights = network.loss.score, network.views(theta)
        self.classes, self.columns = common.values, common.coding.columns
        self.features = network.layers[0].inputs

    def __repr__(self) -> str:
        targets = counted(self._targets, "target") if self.classes is None else f"{len(self.classes)} classes"
        return f"<TrainedModel: {self.features} inputs, {targets}>"

    def _repr_html_(self) -> str:
        """Return a table of inputs, targets and weights, for notebooks."""
        columns = f": {', '.join(self.columns[:SHOWN])}" if self.columns else ""
        more = ", …" * (len(self.columns) > SHOWN)
        targets = counted(self._targets, "real target")
        if self.classes is not None:
            labels = ", ".join(map(str, self.classes[:SHOWN].tolist())) + ", …" * (len(self.classes) > SHOWN)
            targets = f"{len(self.classes)} classes: {labels}"
        shapes = (f"{name} {' × '.join(map(str, each.shape))}" for name, each in self.weights.items())
        rows = {
            "inputs": f"{self.features:,}{columns}{more}",
            "targets": targets,
            "weights": ", ".join(shapes),
            "parameters": f"{len(self.theta):,}",
            "score": self.measure,
        }
        return html.named("Trained model", rows)

    def predict(self, X: Any) -> Array:
        """Predict the targets of rows.

        Parameters
        ----------
        X : array_like, sparse matrix or data frame
            Raw inputs.

        Returns
        -------
        ndarray, shape (rows,) or (rows, T)
            Labels, or T > 1 real targets. Kind ``poisson`` predicts the expected count.

        Raises
        ------
        InputError
            If the inputs do not fit, or one is infinite, a category that was in no training row, or missing
            unless the run had ``problem.missing = "mean"`` or ``"median"``.
        """
        predicted = self._network.loss.predict(self.outputs(X))
        if self.classes is not None:
            return self.classes[predicted]
        return predicted[:, 0] if predicted.shape[1] == 1 else predicted

    def predict_proba(self, X: Any) -> Array:
        """Predict the probabilities of the classes.

        Parameters
        ----------
        X : array_like, sparse matrix or data frame
            Raw inputs.

        Returns
        -------
        ndarray, shape (rows, classes)
            Columns are in the order of `classes`.

        Raises
        ------
        InputError
            As for `predict`, and if the model has no classes or its kind of problem no probabilities.
        """
        if self.classes is None:
            raise InputError("predict_proba: the model has real targets, not classes")
        return self._network.loss.probabilities(self.outputs(X))

    def score(self, X: Any, y: npt.ArrayLike) -> float:
        """Compute the accuracy of predictions: the fraction of correct labels, R², or D² of kind ``poisson``.

        As in scikit-learn, R² of several targets is their mean.

        Parameters
        ----------
        X : array_like, sparse matrix or data frame
            Raw inputs.
        y : array_like, shape (rows,) or (rows, T)
            Labels or real targets.

        Raises
        ------
        InputError
            As for `predict`, and if the targets do not fit.
        """
        outputs, targets = self.outputs(X), np.asarray(y)
        shapes = [(len(outputs),)] * (self._targets == 1) + [(len(outputs), self._targets)]
        if targets.shape not in shapes or not len(outputs):
            raise InputError(
                f"y: shape {targets.shape}, and the predictions have {' or '.join(map(str, shapes))}"
            )
        loss, columns = self._network.loss, targets.reshape(len(outputs), -1).T
        if self.classes is not None:
            labels, absent = labels_or_numbers(columns[0], "y", "y")
            _refuse_absent(np.zeros(len(labels), bool) if absent is None else absent)
            if (labels.dtype.kind == "U") != (self.classes.dtype.kind == "U"):
                mine, given = (short_repr(each[0].item()) for each in (self.classes, labels))
                raise InputError(f"y: {given} is no label such as {mine}")
            return float(np.mean(self.classes[loss.predict(outputs)] == labels))
        real = [numbers(each, "y", str(place)) for place, each in enumerate(columns)]
        _refuse_absent(np.isnan(np.column_stack(real)).any(axis=1))
        if outputs.shape[1] != len(real):
            return loss.accuracy(outputs, np.column_stack(real))
        pairs = zip(outputs.T, real, strict=True)
        return float(np.mean([loss.accuracy(one[:, None].copy(), each[:, None]) for one, each in pairs]))

    def outputs(self, X: Any) -> Array:
        """Compute the outputs of the network, before any softmax.

        Parameters
        ----------
        X : array_like, sparse matrix or data frame
            Raw inputs.

        Returns
        -------
        ndarray, shape (rows, outputs)

        Raises
        ------
        InputError
            As for `predict`.
        """
        x = self._inputs(X)
        network, mean = self._network, self._common.mean
        outputs = np.empty((len(x), network.layers[-1].outputs), network.dtype)
        for start in range(0, len(x), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(x)))
            raw = x[rows]
            if isinstance(raw, Csr) and mean is not None and mean.any():  # trained on dense rows
                raw = as_dense(raw)
            scaled = with_ones(self._common.scale(raw, network.dtype, "X", rows_of(rows)))
            targets = np.zeros((len(rows), self._targets), network.dtype)
            if self.classes is not None:
                targets = np.zeros(len(rows), np.int32)
            forward = Forward(network, scaled, targets, 0)
            forward.bind(self.theta)
            forward.run()
            outputs[rows] = forward.scores[-1]
        common = self._common
        return outputs if common.target_mean is None else outputs * common.target_scale + common.target_mean

    def unscaled(self) -> dict[str, Array]:
        """Return the weights and biases of a network of the same outputs for raw inputs, by name."""
        weights = {name: each.copy() for name, each in self.weights.items()}
        mean, deviation = self._common.mean, self._common.deviation
        if mean is not None and deviation is not None:
            first, bias = list(weights)[:2]
            if self._common.decorrelation is not None:
                weights[first] = weights[first] @ self._common.decorrelation
            weights[first] = (weights[first] / deviation).astype(self._network.dtype)
            weights[bias] = (weights[bias] - weights[first] @ mean).astype(self._network.dtype)
        if self._common.target_mean is not None:
            last, bias = list(weights)[-2:]
            scale, mean = self._common.target_scale, self._common.target_mean
            weights[last] = (weights[last] * scale).astype(self._network.dtype)
            weights[bias] = (weights[bias] * scale + mean).astype(self._network.dtype)
        return weights

    def _inputs(self, X: Any) -> Matrix:
        """Convert inputs to a matrix of shape (rows, features)."""
        coding, where = self._common.coding, "inputs" if isinstance(X, Samples) else "X"
        samples = X if isinstance(X, Samples) else self._raw(X)
        width = len(coding.columns) or self.features
        if isinstance(samples.x, Csr):
            width = self.features
        if samples.x.shape[1] != width:
            raise InputError(f"X: {samples.x.shape[1]} inputs, and the model has {width}")
        return coding.encode(samples, where)

    def _raw(self, X: Any) -> Samples:
        """Convert raw inputs to samples, with the columns of the training data."""
        names = self.columns
        if isinstance(X, Csr) or hasattr(X, "tocsr"):
            return Samples(X if isinstance(X, Csr) else as_csr(X), None)
        if hasattr(X, "columns"):
            x, categories, names = frame_inputs(X, "X", names)
            return Samples(x, None, None, names, categories)
        x = np.asarray(X)
        if names and x.dtype.kind in "OU" and x.shape[1:] == (len(names),):
            x, categories = coded_inputs(dict(zip(names, x.T, strict=True)), "X")
            return Samples(x, None, None, names, categories)
        if x.dtype.kind not in "buif" or x.ndim < 2:
            raise InputError(f"X: {x.dtype} of shape {x.shape}, not real numbers (rows, {self.features})")
        return Samples(x.reshape(len(x), -1), None, None, names)


def _refuse_absent(absent: Array) -> None:
    if absent.any():
        raise InputError(f"y, row {np.argmax(absent)}: is missing, and cannot be compared")


def model_of(
    table: NetworkTable, blocks: int | str | list[int], data: Mapping[str, Any], theta: Array
) -> TrainedModel:
    """Build a model from the configuration and the facts of the data in a trace."""
    labels = data.get("labels")
    mean, deviation, decorrelation, target_mean, target_scale = scaling = [
        data.get(name) for name in ARRAYS[1:]
    ]
    features, outputs = data.get("features", 0), data.get("outputs", 0)
    try:
        coding = Coding.from_arrays(data)
    except ValueError as error:
        raise InputError(f"damaged: {error}") from None
    width = len(coding.inputs) or features  # columns of arrays have no names
    if (
        not features * outputs
        or any(each is not None and each.shape != (features,) for each in (mean, deviation))
        or (decorrelation is not None and (mean is None or decorrelation.shape != (features, features)))
        or [None if each is None else each.shape for each in scaling[3:]]
        not in ([None, None], [(outputs,), (1,)])
        or width != features
        or (coding.fill is not None and coding.fill.shape != (len(coding.columns) or features,))
    ):
        raise InputError("damaged: arrays of data do not fit together")
    network = build_network(table, features, outputs, None if labels is None else len(labels), blocks)
    if theta.shape != (network.size,) or theta.dtype.kind != "f":
        raise InputError(
            f"theta: {theta.dtype} of shape {theta.shape}, and the model has {network.size} parameters"
        )
    if not np.isfinite(theta).all():
        raise InputError("theta: has a NaN or infinite element, as the run diverged")
    common = Statistics(labels, mean, deviation, decorrelation, target_mean, target_scale, coding)
    return TrainedModel(network, np.ascontiguousarray(theta, network.dtype), common, outputs)
