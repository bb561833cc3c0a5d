"""Encoding of blocks by sparse codewords, at the workers."""

from libc.stdint cimport int32_t

from pdcode.kernels.real cimport real, row_stride


def encode(const real[:, :] factor, const int32_t[:, ::1] indices, const real[:, ::1] values,
           Py_ssize_t block, real[:, :] out, double scale=1.0, bint accumulate=False):
    """Write r combinations of the column blocks of a factor.

    ``out[s, i*block + c] = scale * sum_t values[i, t] * factor[s, indices[i, t]*block + c]``; columns beyond
    the factor's last one count as 0, which pads a ragged last block. A flat layer of N elements is a factor
    of shape (1, N).

    Parameters
    ----------
    factor : array (B, p), float32 or float64
        Each row contiguous; rows may lie any distance apart.
    indices : array (r, w), int32
        Blocks of each codeword. Short codewords are padded with value 0.
    values : array (r, w)
        Their weights; a zero skips its block, even one with NaN.
    block : int
        Columns of a block.
    out : array (B, r*block)
        Overwritten, or added to if `accumulate`. Must not overlap `factor`.
    scale : float
        Factor of every combination.
    accumulate : bool
        Add to `out`.

    Raises
    ------
    ValueError
        If shapes, strides or types do not fit.
    """
    cdef Py_ssize_t rows = indices.shape[0], weight = indices.shape[1]
    cdef Py_ssize_t stride = row_stride[real](factor), out_stride = row_stride[real](out)
    if values.shape[0] != rows or values.shape[1] != weight:
        raise ValueError("values and indices must have the same shape (r, w)")
    if block < 0 or out.shape[0] != factor.shape[0] or out.shape[1] != rows * block:
        raise ValueError(f"out must have shape {(factor.shape[0], rows * block)}: (B, r * block)")
    with nogil:
        if real is float:
            encode_f32(&factor[0, 0], factor.shape[0], factor.shape[1], stride, &indices[0, 0], &values[0, 0],
                       rows, weight, block, &out[0, 0], out_stride, <float> scale, accumulate)
        else:
            encode_f64(&factor[0, 0], factor.shape[0], factor.shape[1], stride, &indices[0, 0], &values[0, 0],
                       rows, weight, block, &out[0, 0], out_stride, scale, accumulate)


def deflate(real[::1] memory, const int32_t[:, ::1] indices, const real[:, ::1] values, Py_ssize_t block,
            real[:, ::1] out):
    """Project codewords out of a memory, one by one: `feedback_encode` without a gradient.

    ``out[i] = sum_j g_ij memory_j``, then ``memory_j -= g_ij out[i]``.

    Parameters
    ----------
    memory : array (N,), float32 or float64
        Consecutive blocks, the last one ragged. Updated in place.
    indices, values, block, out
        See `feedback_encode`.

    Raises
    ------
    ValueError
        If shapes, strides or types do not fit.
    """
    check_feedback(indices.shape[0], indices.shape[1], values.shape[0], values.shape[1], block,
                   out.shape[0], out.shape[1])
    with nogil:
        if real is float:
            feedback_encode_f32(&memory[0], NULL, memory.shape[0], &indices[0, 0], &values[0, 0],
                                indices.shape[0], indices.shape[1], block, &out[0, 0])
        else:
            feedback_encode_f64(&memory[0], NULL, memory.shape[0], &indices[0, 0], &values[0, 0],
                                indices.shape[0], indices.shape[1], block, &out[0, 0])


cdef int check_feedback(Py_ssize_t rows, Py_ssize_t weight, Py_ssize_t value_rows, Py_ssize_t value_weight,
                        Py_ssize_t block, Py_ssize_t out_rows, Py_ssize_t out_columns) except -1:
    if value_rows != rows or value_weight != weight:
        raise ValueError("values and indices must have the same shape (r, w)")
    if block < 1 or out_rows != rows or out_columns != block:
        raise ValueError(f"out must have shape {(rows, block)}: (r, block), block at least 1")
    return 0


def feedback_encode(real[::1] memory, const real[::1] gradient, const int32_t[:, ::1] indices,
                    const real[:, ::1] values, Py_ssize_t block, real[:, ::1] out):
    """Encode with error feedback: the residual stays in memory for the next task.

    ``memory += gradient``; then codeword by codeword ``out[i] = sum_j g_ij memory_j`` and
    ``memory_j -= g_ij out[i]``, in one pass over memory. For any codewords, ``memory_j + gradient_j``
    before equals ``memory_j + sum_i g_ij out[i]`` after.

    Parameters
    ----------
    memory : array (N,), float32 or float64
        Consecutive blocks, the last one ragged. Updated in place.
    gradient : array (N,)
    indices : array (r, w), int32
    values : array (r, w)
        See `encode`; the indices of a codeword are distinct.
    block : int
        Elements of a block.
    out : array (r, block)
        Overwritten.

    Raises
    ------
    ValueError
        If shapes, strides or types do not fit.
    """
    cdef Py_ssize_t rows = indices.shape[0], weight = indices.shape[1]
    if memory.shape[0] != gradient.shape[0]:
        raise ValueError("memory and gradient must have the same length")
    check_feedback(rows, weight, values.shape[0], values.shape[1], block, out.shape[0], out.shape[1])
    with nogil:
        if real is float:
            feedback_encode_f32(&memory[0], &gradient[0], memory.shape[0], &indices[0, 0], &values[0, 0],
                                rows, weight, block, &out[0, 0])
        else:
            feedback_encode_f64(&memory[0], &gradient[0], memory.shape[0], &indices[0, 0], &values[0, 0],
                                rows, weight, block, &out[0, 0])
