"""Sparse worker-selected codewords, truncated from dense directions."""

from libc.stdint cimport int32_t

from pdcode.kernels.real cimport real


def select(real[:, ::1] directions, int32_t[:, ::1] indices, real[:, ::1] values):
    """Truncate directions to codewords of weight w, one after another.

    Codeword i has the w entries of direction i of largest magnitude (ties: smaller index), at unit norm; it
    is then projected out of all directions. A direction that is zero or not finite gives block 0 alone.

    Parameters
    ----------
    directions : array (m, k), float32 or float64
        Replaced by their residuals.
    indices : array (r, w), int32
        Overwritten: ascending; where k < w, padded with 0. r ≤ m.
    values : array (r, w)
        Overwritten: unit norm; padded with 0.

    Raises
    ------
    ValueError
        If shapes, strides or types do not fit.
    """
    cdef Py_ssize_t count = directions.shape[0], blocks = directions.shape[1]
    cdef Py_ssize_t rows = indices.shape[0], weight = indices.shape[1]
    if values.shape[0] != rows or values.shape[1] != weight:
        raise ValueError("values and indices must have the same shape (r, w)")
    if rows > count or weight < 1 or blocks < 1:
        raise ValueError("there must be a direction a codeword, a block and a weight of at least 1")
    with nogil:
        if real is float:
            matched_select_f32(&directions[0, 0], count, blocks, &indices[0, 0], &values[0, 0], rows, weight)
        else:
            matched_select_f64(&directions[0, 0], count, blocks, &indices[0, 0], &values[0, 0], rows, weight)


def orthonormalise(real[:, ::1] directions, const real[:, ::1] spare):
    """Orthonormalise directions in place, by Gram-Schmidt from the first one.

    Parameters
    ----------
    directions : array (m, k), float32 or float64
        m ≤ k.
    spare : array (m, k)
        Replacements of directions that are zero, not finite, or in the span of earlier ones (residual below
        a thousandth). They must be linearly independent of each other and of the directions.

    Raises
    ------
    ValueError
        If shapes, strides or types do not fit.
    """
    cdef Py_ssize_t count = directions.shape[0], blocks = directions.shape[1]
    if spare.shape[0] != count or spare.shape[1] != blocks or count > blocks:
        raise ValueError("directions and spare must have the same shape (m, k), m at most k")
    with nogil:
        if real is float:
            matched_orthonormalise_f32(&directions[0, 0], &spare[0, 0], count, blocks)
        else:
            matched_orthonormalise_f64(&directions[0, 0], &spare[0, 0], count, blocks)
