"""Products of a batch of rows of a CSR matrix A (scipy's layout: indptr, columns, data).

The batch, row numbers of A, is checked, the matrix is not: its columns must be in range and indptr must not
decrease, which is to be checked when it is loaded.
"""


cdef int check(const int64_t *indptr, Py_ssize_t bound, Py_ssize_t nonzeros, const int64_t *rows,
               Py_ssize_t samples) except -1:
    """Check that A has so many nonzeros, and rows in [0, bound)."""
    cdef Py_ssize_t s
    if bound < 0 or indptr[bound] > nonzeros:
        raise ValueError("indptr, columns and data do not form a CSR matrix")
    for s in range(samples):
        if not 0 <= rows[s] < bound:
            raise ValueError(f"row {rows[s]} is not in [0, {bound})")
    return 0


@kernel
def csr_forward(indptr: int64_t[n], columns: int32_t[nonzeros], data: real[nonzeros], rows: int64_t[B],
                weights: strided(real[D, h]), out: writeable(real[B, h])):
    """Compute ``out = A[rows] @ weights``; fastest with contiguous rows or contiguous columns of weights."""
    check(indptr, n - 1, nonzeros, rows, B)
    csr_forward(indptr, columns, data, rows, B, weights, stride(weights, 0), stride(weights, 1), out, h)


@kernel
def csr_outer(indptr: int64_t[n], columns: int32_t[nonzeros], data: real[nonzeros], rows: int64_t[B],
              encoded: real[B, c], out: writeable(real[c, D])):
    """Compute ``out = encoded' @ A[rows]``: the coded derivative of a layer partitioned by output."""
    check(indptr, n - 1, nonzeros, rows, B)
    csr_outer(indptr, columns, data, rows, B, encoded, c, out, D)


@kernel
def csr_coded(indptr: int64_t[n], columns: int32_t[nonzeros], data: real[nonzeros], rows: int64_t[B],
              delta: real[B, h], codewords: real[r, k], block: Py_ssize_t,
              out: writeable(real[r * block, h])):
    """Compute the coded derivative of a layer partitioned by input.

    A nonzero x of sample s in column ``j*block + c`` of A, which has at most k * block, adds
    ``codewords[i, j] * x * delta[s]`` to row ``i*block + c`` of out.
    """
    require(block >= 1)
    check(indptr, n - 1, nonzeros, rows, B)
    csr_coded(indptr, columns, data, rows, B, delta, h, codewords, r, k, block, out)
