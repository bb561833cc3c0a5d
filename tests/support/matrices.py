"""Code matrices: random ones for properties that all have, and what the rows of designs have in common."""

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


def check_rows(code):
    """Check types, shapes, norms and weights of a code's rows."""
    assert code.indices.dtype == numpy.int32
    assert code.values.dtype == numpy.float64
    assert code.indices.shape == code.values.shape == (len(code), code.weight)
    assert code.matrix.shape == (len(code), code.blocks)
    numpy.testing.assert_allclose(numpy.linalg.norm(code.matrix, axis=1), 1, atol=1e-14)
    numpy.testing.assert_array_equal(numpy.count_nonzero(code.matrix, axis=1), code.weight)  # distinct blocks
