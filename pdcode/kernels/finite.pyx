"""Detection of NaN and infinity."""

cimport numpy as cnp

from pdcode.kernels.arrays cimport data_ptr, dim, is_c_contiguous

cnp.import_array()


def all_finite(values):
    """Return whether all elements are finite.

    Parameters
    ----------
    values : array (N,), float32 or float64

    Returns
    -------
    bool

    Raises
    ------
    ValueError
        If it is another array.
    """
    cdef bint wide = is_c_contiguous(values, cnp.NPY_FLOAT64, 1), result
    cdef const void *first
    cdef Py_ssize_t count
    if not wide and not is_c_contiguous(values, cnp.NPY_FLOAT32, 1):
        raise ValueError("values must be a contiguous vector of float32 or float64")
    first, count = data_ptr(values), dim(values, 0)
    with nogil:
        if wide:
            result = all_finite_f64(<const double *> first, count)
        else:
            result = all_finite_f32(<const float *> first, count)
    return result
