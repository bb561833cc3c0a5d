"""Bundled data are what scikit-learn's own loaders give, although it is not imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

from pdcode.problems import bundled
from pdcode.problems.samples import Samples


@pytest.mark.parametrize(
    ("ours", "theirs", "scale"),
    [
        (bundled.digits, load_digits, 16),
        (bundled.breast_cancer, load_breast_cancer, 1),
        (bundled.diabetes, load_diabetes, 1),
    ],
)
def test_they_are_those_of_scikit_learn(
    ours: Callable[[], Samples], theirs: Callable[[], Any], scale: float
) -> None:
    samples, bunch = ours(), theirs()
    np.testing.assert_array_equal(samples.x, bunch.data / scale)
    np.testing.assert_array_equal(samples.y, bunch.target)
    assert (samples.x.dtype, samples.y.dtype) == (bunch.data.dtype, bunch.target.dtype)
    assert (samples.names or []) == [str(name) for name in bunch.get("target_names", [])]
