"""Products of a batch of rows of a CSR matrix A (scipy's layout: indptr, columns, data).
The batch is checked, the matrix is not: its columns must be in range and indptr must not decrease, which is
to be checked when it is loaded.
"""

from libc.stdint cimport int32_t, int64_t

from pdcode.kernels.real cimport real


cdef int check(const int64_t[::1] indptr, const int32_t[::1] columns, Py_ssize_t values,
               const int64_t[::1] rows) except -1:
    """Check that the rows exist in A, and that columns and data have equal length."""
    cdef Py_ssize_t s
    if indptr.shape[0] < 1 or columns.shape[0] != values or indptr[indptr.shape[0] - 1] > values:
        raise ValueError("indptr, columns and data do not form a CSR matrix")
    for s in range(rows.shape[0]):
        if not 0 <= rows[s] < indptr.shape[0] - 1:
            raise ValueError(f"row {rows[s]} is not in [0, {indptr.shape[0] - 1})")
    return 0


def csr_forward(const int64_t[::1] indptr, const int32_t[::1] columns, const real[::1] data,
                const int64_t[::1] rows, const real[:, :] weights, real[:, ::1] out):
    """Compute ``out = A[rows] @ weights``.

    Parameters
    ----------
    indptr : array (rows of A + 1,), int64
    columns : array (nonzeros,), int32
        In [0, D).
    data : array (nonzeros,), float32 or float64
    rows : array (B,), int64
        Rows of A in the batch.
    weights : array (D, h)
        Any strides; fastest with contiguous rows or contiguous columns.
    out : array (B, h)
        Overwritten.

    Raises
    ------
    ValueError
        If a row is out of range, or shapes, strides or types do not fit.
    """
    cdef Py_ssize_t samples = rows.shape[0], units = weights.shape[1], size = sizeof(real)
    check(indptr, columns, data.shape[0], rows)
    if out.shape[0] != samples or out.shape[1] != units:
        raise ValueError(f"out must have shape {(samples, units)}: (B, h)")
    if weights.strides[0] % size or weights.strides[1] % size:
        raise ValueError("the strides of weights are not whole numbers of elements")
    with nogil:
        if real is float:
            csr_forward_f32(&indptr[0], &columns[0], &data[0], &rows[0], samples, &weights[0, 0],
                            weights.strides[0] // size, weights.strides[1] // size, &out[0, 0], units)
        else:
            csr_forward_f64(&indptr[0], &columns[0], &data[0], &rows[0], samples, &weights[0, 0],
                            weights.strides[0] // size, weights.strides[1] // size, &out[0, 0], units)


def csr_outer(const int64_t[::1] indptr, const int32_t[::1] columns, const real[::1] data,
              const int64_t[::1] rows, const real[:, ::1] encoded, real[:, ::1] out):
    """Compute ``out = encoded' @ A[rows]``: the coded derivative of a layer partitioned by output.

    Parameters
    ----------
    indptr, columns, data, rows
        See `csr_forward`.
    encoded : array (B, c)
        Encoded deltas.
    out : array (c, D)
        Overwritten.

    Raises
    ------
    ValueError
        If a row is out of range, or shapes, strides or types do not fit.
    """
    cdef Py_ssize_t samples = rows.shape[0], coded = encoded.shape[1], width = out.shape[1]
    check(indptr, columns, data.shape[0], rows)
    if encoded.shape[0] != samples or out.shape[0] != coded:
        raise ValueError("encoded must have shape (B, c), out shape (c, D)")
    with nogil:
        if real is float:
            csr_outer_f32(&indptr[0], &columns[0], &data[0], &rows[0], samples, &encoded[0, 0], coded,
                          &out[0, 0], width)
        else:
            csr_outer_f64(&indptr[0], &columns[0], &data[0], &rows[0], samples, &encoded[0, 0], coded,
                          &out[0, 0], width)


def csr_coded(const int64_t[::1] indptr, const int32_t[::1] columns, const real[::1] data,
              const int64_t[::1] rows, const real[:, ::1] delta, const real[:, ::1] codewords,
              Py_ssize_t block, real[:, ::1] out):
    """Compute the coded derivative of a layer partitioned by input.

    A nonzero x of sample s in column ``j*block + c`` adds ``codewords[i, j] * x * delta[s]`` to row
    ``i*block + c`` of out.

    Parameters
    ----------
    indptr, columns, data, rows
        See `csr_forward`; columns in [0, k * block).
    delta : array (B, h)
    codewords : array (r, k)
        Codewords, dense.
    block : int
        Columns of a block.
    out : array (r*block, h)
        Overwritten.

    Raises
    ------
    ValueError
        If a row is out of range, or shapes, strides or types do not fit.
    """
    cdef Py_ssize_t samples = rows.shape[0], units = delta.shape[1]
    cdef Py_ssize_t count = codewords.shape[0], blocks = codewords.shape[1]
    check(indptr, columns, data.shape[0], rows)
    if delta.shape[0] != samples or block < 1 or out.shape[0] != count * block or out.shape[1] != units:
        raise ValueError("delta must have shape (B, h), out shape (r * block, h), block at least 1")
    with nogil:
        if real is float:
            csr_coded_f32(&indptr[0], &columns[0], &data[0], &rows[0], samples, &delta[0, 0], units,
                          &codewords[0, 0], count, blocks, block, &out[0, 0])
        else:
            csr_coded_f64(&indptr[0], &columns[0], &data[0], &rows[0], samples, &delta[0, 0], units,
                          &codewords[0, 0], count, blocks, block, &out[0, 0])
