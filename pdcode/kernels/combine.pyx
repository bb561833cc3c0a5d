"""Linear combinations of payloads, read in place from their receive buffers."""

from libc.stdint cimport uint64_t

from pdcode.kernels.real cimport real, row_stride


def locate(const real[:, ::1] payload, uint64_t[::1] addresses, Py_ssize_t position):
    """Write the addresses of a payload's rows: ``addresses[position + i] = address of payload[i]``.

    Parameters
    ----------
    payload : array (r, N), float32 or float64
    addresses : array (q,), uint64
    position : int

    Raises
    ------
    ValueError
        If strides or types do not fit, or `addresses` is too short.
    """
    cdef Py_ssize_t i
    if position < 0 or position + payload.shape[0] > addresses.shape[0]:
        raise ValueError(f"no room for {payload.shape[0]} addresses at {position} of {addresses.shape[0]}")
    for i in range(payload.shape[0]):
        addresses[position + i] = <uint64_t> &payload[i, 0]


def combine(const uint64_t[::1] addresses, Py_ssize_t start, const real[:, ::1] matrix, real[:, :] out):
    """Compute ``out[j] = sum_i matrix[i, j] * payload_i[start:start + T]``, the payloads given by address.

    The result is bit-identical for any processor, column split and addresses.

    Parameters
    ----------
    addresses : array (q,), uint64
        Address of each payload, from `locate`. Unchecked: the caller keeps the payloads alive and long
        enough.
    start : int
        First element.
    matrix : array (q, k), float32 or float64
        Coefficients, a row for each payload.
    out : array (k, T), rows contiguous
        Overwritten; must not overlap the payloads.

    Raises
    ------
    ValueError
        If shapes, strides or types do not fit, or `start` is negative.
    """
    cdef Py_ssize_t stride = row_stride(out), count = out.shape[1]
    if matrix.shape[0] != addresses.shape[0] or matrix.shape[1] != out.shape[0] or start < 0:
        raise ValueError("matrix must have a row for each address and a column for each row of out, "
                         "start must not be negative")
    with nogil:
        if real is float:
            combine_f32(&addresses[0], matrix.shape[0], start, count, &matrix[0, 0], matrix.shape[1],
                        &out[0, 0], stride)
        else:
            combine_f64(&addresses[0], matrix.shape[0], start, count, &matrix[0, 0], matrix.shape[1],
                        &out[0, 0], stride)
