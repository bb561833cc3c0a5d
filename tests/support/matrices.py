"""Random code matrices for properties that all have."""

import numpy
from hypothesis import strategies as st


@st.composite
def sparse_matrices(draw):
    """Codewords of low weight, some zero, in any order."""
    k, q = draw(st.integers(1, 12)), draw(st.integers(1, 30))
    random = numpy.random.default_rng(draw(st.integers(0, 2**32)))
    words = numpy.zeros((q, k))
    for row in words:
        weight = min(k, int(random.choice([0, 1, 1, 2, 2, 3, 5])))
        row[random.permutation(k)[:weight]] = random.choice([-2.0, -1, 0.5, 1, 3], weight)
    return words
