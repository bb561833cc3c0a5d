"""Sparse worker-selected codewords, truncated from dense directions."""


@kernel
def select(directions: writeable(real[m, k]), indices: writeable(int32_t[r, w]),
           values: writeable(real[r, w])):
    """Truncate directions to codewords of weight w, one after another.

    Codeword i has the w entries of direction i of largest magnitude (ties: smaller index), at unit norm,
    ascending, and padded with zeros where k < w; it is then projected out of all directions, which become
    their residuals. A direction that is zero or not finite gives block 0 alone.
    """
    require(r <= m and w >= 1 and k >= 1)
    matched_select(directions, m, k, indices, values, r, w)


@kernel
def orthonormalise(directions: writeable(real[m, k]), spare: real[m, k]):
    """Orthonormalise directions in place, by Gram-Schmidt from the first one.

    Zero or not finite ones, and ones in the span of earlier ones (residual below a thousandth), are replaced
    by their spare ones, which must be linearly independent of each other and of the directions.
    """
    require(m <= k)
    matched_orthonormalise(directions, spare, m, k)
