"""Synthetic data of a given size, conditioning, noise and density."""

import numpy as np

from ..config import NetworkTable
from ..util.errors import InputError
from ..util.memory import ensure_fits
from . import split
from .coding import Samples
from .matrix import Array, Csr, Matrix

STREAM = 0xDA7A
REFLECTIONS = 3
HIGHEST = 20.0  # logarithm of the largest rate of counts


def generate(table: NetworkTable, required: bool = True) -> Samples:
    """Generate random inputs and the targets of a random teacher, keyed by `split_seed`.

    Dense training inputs, with their column of ones, have singular values √rows·(1 … condition^-½), evenly
    spaced in logarithm: `condition` is the condition number of the Hessian XᵀX of least squares before l2,
    exactly if there are more training rows than features and inputs are not standardised. Sparse inputs
    (density < 1) are normal numbers at random places, with columns scaled over the same range.

    Targets by kind, with x·V a random linear map of variance about 1:
    least-squares: x·V + c + noise·N(0, 1), with `outputs` columns;
    poisson: counts of rate exp(x·V + c + noise·N(0, 1)), at most e^20;
    logistic and softmax: the index of the largest of x·V + noise·N(0, 1), two or `outputs` classes;
    mlp: V applied to tanh of 16 random linear maps; classes as in softmax if outputs > 1, else a real target.
    """
    rows, features = table.samples, table.features
    entries = rows * (features + table.outputs) * (table.density if table.density < 1 else 1)
    ensure_fits("problem.samples", f"{rows} rows of {features} features", round(3 * 8 * entries))
    key = np.array([table.split_seed, STREAM], np.uint64)
    random = np.random.Generator(np.random.Philox(key=key))
    train, test = split.split(table, rows)
    spectrum = table.condition ** np.linspace(0, -0.5, features)
    x: Matrix
    if table.density < 1:
        x = _sparse(random, rows, features, table.density, spectrum)
        signal = _product(
            x, random.standard_normal((features, _width(table))) / np.sqrt(table.density * features)
        )
    else:
        x = _dense(random, train, test, spectrum)
        signal = x @ (random.standard_normal((features, _width(table))) / np.sqrt(np.square(spectrum).sum()))
    if table.deep:
        outputs = table.outputs
        signal = np.tanh(signal) @ (random.standard_normal((signal.shape[1], outputs)) / 2)
    offset = random.standard_normal(signal.shape[1]) if not number_of_classes(table) else 0
    y = signal + offset + table.noise * random.standard_normal(signal.shape)
    classes = number_of_classes(table)
    if table.counts:
        return Samples(x, random.poisson(np.exp(np.minimum(y, HIGHEST))))
    if classes:
        return Samples(x, y.argmax(axis=1), np.arange(classes))
    return Samples(x, y)


def number_of_classes(table: NetworkTable) -> int:
    """Return the number of classes; 0 for real targets."""
    if table.max_classes is not None:
        if table.outputs > table.max_classes:
            raise InputError(f"problem.outputs: {table.outputs}, but kind '{table.kind}' has two classes")
        return table.max_classes
    if table.classification and table.outputs < 2:
        raise InputError(
            f"problem.outputs: {table.outputs}, but kind '{table.kind}' needs two classes or more"
        )
    return table.outputs if table.outputs > 1 and table.classification is not False else 0


def _width(table: NetworkTable) -> int:
    """Return the number of columns of the linear map: a teacher's hidden units, or outputs or classes."""
    return 16 if table.deep else number_of_classes(table) or table.outputs


def _dense(random: np.random.Generator, train: Array, test: Array, spectrum: Array) -> Array:
    """Generate inputs whose training rows are centred and have singular values √rows·spectrum."""
    x = random.standard_normal((len(train) + len(test), len(spectrum)))
    if len(train) > len(spectrum):
        centred = x[train] - x[train].mean(axis=0)
        x[train] = np.linalg.qr(centred)[0] * np.sqrt(len(train))
    x *= spectrum
    for _ in range(REFLECTIONS):  # turns the singular vectors away from the axes
        direction = random.standard_normal(len(spectrum))
        direction /= np.linalg.norm(direction)
        x -= np.outer(x @ direction, 2 * direction)
    return x


def _sparse(random: np.random.Generator, rows: int, features: int, density: float, spectrum: Array) -> Csr:
    """Generate sparse inputs: entries are nonzero with probability `density`, so gaps are geometric."""
    total = rows * features
    expected = density * total
    gaps = random.geometric(density, int(expected + 6 * np.sqrt(expected) + 10))
    positions = np.cumsum(np.minimum(gaps, total + 1)) - 1  # bounded to avoid overflow
    positions = positions[positions < total]
    row, column = np.divmod(positions, features)
    indptr = np.searchsorted(row, np.arange(rows + 1)).astype(np.int64)
    data = random.standard_normal(len(positions)) * spectrum[column]
    return Csr(indptr, column.astype(np.int32), data, features)


def _product(x: Csr, matrix: Array) -> Array:
    """Compute x @ matrix, without scipy."""
    product = np.zeros((len(x), matrix.shape[1]))
    np.add.at(product, x.row_numbers(), x.data[:, None] * matrix[x.columns])
    return product
