"""Bundled data are what scikit-learn's own loaders give, although it is not imported."""

import numpy as np
import pytest

from pdcode.problems import bundled


@pytest.mark.parametrize(("name", "scale"), [("digits", 16), ("breast_cancer", 1), ("diabetes", 1)])
def test_they_are_those_of_scikit_learn(name: str, scale: float) -> None:
    from sklearn import datasets  # takes over a second

    samples, bunch = getattr(bundled, name)(None, True), getattr(datasets, f"load_{name}")()
    np.testing.assert_array_equal(samples.x, bunch.data / scale)
    np.testing.assert_array_equal(samples.y, bunch.target)
    assert (samples.x.dtype, samples.y.dtype) == (bunch.data.dtype, bunch.target.dtype)
    labels = [] if samples.labels is None else samples.labels.tolist()
    assert labels == [*range(len(bunch.get("target_names", [])))]
