"""Folding of payloads into the gradient, on rank 0 at each arrival."""

from libc.stdint cimport int32_t

from pdcode.kernels.real cimport real


def adjoint_decode(real[::1] accumulator, const int32_t[:, ::1] indices, const real[:, ::1] values,
                   const real[:, ::1] payload, double scale):
    """Add ``scale * sum_i g_ij payload[i]`` to each accumulator_j, touching only the codewords' blocks.

    Parameters
    ----------
    accumulator : array (N,), float32 or float64
        Consecutive blocks, the last one ragged. Updated in place.
    indices : array (r, w), int32
        Blocks of each codeword; those beyond the end of `accumulator` are dropped.
    values : array (r, w)
        Their weights; 0 pads.
    payload : array (r, block)
    scale : float

    Raises
    ------
    ValueError
        If shapes, strides or types do not fit.
    """
    cdef Py_ssize_t rows = indices.shape[0], weight = indices.shape[1]
    if values.shape[0] != rows or values.shape[1] != weight or payload.shape[0] != rows:
        raise ValueError("indices and values must have shape (r, w), payload shape (r, block)")
    with nogil:
        if real is float:
            adjoint_decode_f32(&accumulator[0], accumulator.shape[0], &indices[0, 0], &values[0, 0], rows,
                               weight, &payload[0, 0], payload.shape[1], <float> scale)
        else:
            adjoint_decode_f64(&accumulator[0], accumulator.shape[0], &indices[0, 0], &values[0, 0], rows,
                               weight, &payload[0, 0], payload.shape[1], scale)


def tracking_decode(real[::1] estimate, const int32_t[:, ::1] indices, const real[:, ::1] values,
                    const real[:, ::1] payload, double step):
    """Take Kaczmarz steps ``estimate_j += step * g_j * (y - sum_j g_j estimate_j) / |g|**2``, by codeword.

    Parameters
    ----------
    estimate : array (N,), float32 or float64
        Consecutive blocks, the last one ragged. Updated in place.
    indices : array (r, w), int32
        Blocks of each codeword, each at most once in it.
    values : array (r, w)
        Their weights; 0 pads.
    payload : array (r, block)
    step : float
        1 projects onto the payload; less damps its noise.

    Returns
    -------
    float
        Squared norm of the residuals, each taken before its own update.

    Raises
    ------
    ValueError
        If shapes, strides or types do not fit.
    """
    cdef Py_ssize_t rows = indices.shape[0], weight = indices.shape[1]
    cdef double total
    if values.shape[0] != rows or values.shape[1] != weight or payload.shape[0] != rows:
        raise ValueError("indices and values must have shape (r, w), payload shape (r, block)")
    with nogil:
        if real is float:
            total = tracking_decode_f32(&estimate[0], estimate.shape[0], &indices[0, 0], &values[0, 0], rows,
                                        weight, &payload[0, 0], payload.shape[1], <float> step)
        else:
            total = tracking_decode_f64(&estimate[0], estimate.shape[0], &indices[0, 0], &values[0, 0], rows,
                                        weight, &payload[0, 0], payload.shape[1], step)
    return total
