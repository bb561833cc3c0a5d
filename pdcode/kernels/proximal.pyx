"""Proximal operators of penalties on single weights, and the change that a step has made."""

from pdcode.kernels.real cimport real


def shrink(real[:, :] weights, double threshold, double factor, double low, double high):
    """Compute ``weights = clip(factor * sign(weights) * max(abs(weights) - threshold, 0), low, high)``.

    With factor 1 and no bounds this is the proximal operator of ``threshold`` times the l1 norm, with factor
    1 / (1 + c) that of an elastic net, and with threshold 0 the projection to a box.

    Parameters
    ----------
    weights : array (R, C), float32 or float64
        Updated in place; its elements are side by side along either axis.
    threshold : float
        At least 0.
    factor : float
    low, high : float
        May be infinite.

    Raises
    ------
    ValueError
        If strides or types do not fit, or the threshold is negative.
    """
    cdef Py_ssize_t rows = weights.shape[0], columns = weights.shape[1], stride = weights.strides[0]
    if weights.strides[1] != sizeof(real):
        rows, columns, stride = columns, rows, weights.strides[1]
        if weights.strides[0] != sizeof(real):
            raise ValueError("weights must be side by side along an axis")
    if stride % sizeof(real):
        raise ValueError("weights must be whole elements apart")
    if not threshold >= 0:
        raise ValueError(f"threshold is {threshold}: must be at least 0")
    if rows < 1 or columns < 1:
        return
    stride //= <Py_ssize_t> sizeof(real)
    with nogil:
        if real is float:
            shrink_f32(&weights[0, 0], rows, columns, stride, <float> threshold, <float> factor, <float> low,
                       <float> high)
        else:
            shrink_f64(&weights[0, 0], rows, columns, stride, threshold, factor, low, high)


def displace(real[::1] before, const real[::1] theta):
    """Compute ``before = theta - before``.

    Parameters
    ----------
    before : array (N,), float32 or float64
        Updated in place.
    theta : array (N,)

    Returns
    -------
    float
        Squared norm of the difference.

    Raises
    ------
    ValueError
        If shapes, strides or types do not fit.
    """
    cdef Py_ssize_t length = theta.shape[0]
    cdef double total
    if before.shape[0] != length:
        raise ValueError("before and theta must have the same length")
    with nogil:
        if real is float:
            total = displace_f32(&before[0], &theta[0], length)
        else:
            total = displace_f64(&before[0], &theta[0], length)
    return total
