"""Detection of NaN and infinity."""

from pdcode.kernels.real cimport real


def all_finite(const real[::1] values):
    """Return whether all elements are finite.

    Parameters
    ----------
    values : array (N,), float32 or float64

    Returns
    -------
    bool
    """
    cdef bint result
    with nogil:
        if real is float:
            result = all_finite_f32(&values[0], values.shape[0])
        else:
            result = all_finite_f64(&values[0], values.shape[0])
    return result
