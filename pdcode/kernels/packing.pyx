"""Smooth maximum of squared inner products of unit vectors, its gradient and its minimisation.

Points are columns, for contiguous access to the products of one point with many others.
"""

from libc.stdint cimport int32_t


def workspace(Py_ssize_t k, Py_ssize_t n):
    """Return the length of `work`, float64, for n points of R^k."""
    return packing_work(k, n)


cdef int check(const double[:, ::1] points, const int32_t[:, ::1] supports, double sharpness,
               const double[::1] work) except -1:
    cdef Py_ssize_t k = points.shape[0], n = points.shape[1], i, t
    if not 1 <= k <= PACKING_MOST or n < 1:
        raise ValueError(f"points has shape ({k}, {n}): it needs from 1 to {PACKING_MOST} rows and a column")
    if supports.shape[0] != n or not 1 <= supports.shape[1] <= k:
        raise ValueError("supports must have shape (n, w) with w from 1 to k")
    if work.shape[0] < packing_work(k, n):
        raise ValueError(f"work has {work.shape[0]} numbers: {packing_work(k, n)} are needed")
    if not sharpness > 0:
        raise ValueError(f"sharpness is {sharpness}: it must be positive")
    for i in range(n):
        for t in range(supports.shape[1]):
            if not 0 <= supports[i, t] < k:
                raise ValueError(f"supports has {supports[i, t]}: not a coordinate from 0 to {k - 1}")
    return 0


def smooth_maximum(const double[:, ::1] points, const int32_t[:, ::1] supports, double sharpness,
                   double[:, ::1] gradient, double[::1] work):
    """Compute ``log(sum_{i<j} exp(p s_ij)) / p`` with s_ij the squared cosine of the points i and j.

    It exceeds the largest s_ij by at most ``log(n (n - 1) / 2) / p``.

    Parameters
    ----------
    points : array (k, n), float64
        One point per column, of any positive norm; zero outside its support. k <= 64.
    supports : array (n, w), int32
        Distinct coordinates of each point's support.
    sharpness : float
        p > 0.
    gradient : array (k, n), float64
        Overwritten: the derivative with respect to the points, orthogonal to each, 0 outside the supports.
    work : array, float64
        At least `workspace` long; overwritten.

    Returns
    -------
    float
        0 for a single point.

    Raises
    ------
    ValueError
        If shapes, strides or types do not fit.
    """
    cdef Py_ssize_t k = points.shape[0], n = points.shape[1]
    cdef double value
    check(points, supports, sharpness, work)
    if gradient.shape[0] != k or gradient.shape[1] != n:
        raise ValueError("gradient must have the shape of points")
    with nogil:
        value = packing_smooth_maximum(&points[0, 0], k, n, &supports[0, 0], supports.shape[1], sharpness,
                                       &gradient[0, 0], &work[0])
    return value


def minimise(double[:, ::1] points, const int32_t[:, ::1] supports, double sharpness, double tolerance,
             Py_ssize_t iterations, double[::1] work):
    """Minimise the smooth maximum by L-BFGS, in place; the points become unit vectors.

    Parameters
    ----------
    points, supports, sharpness, work
        See `smooth_maximum`.
    tolerance : float
        Stop at the first step that gains less.
    iterations : int
        Maximum number of steps.

    Returns
    -------
    value : float
        The smooth maximum reached.
    iterations : int
        Steps taken.

    Raises
    ------
    ValueError
        If shapes, strides or types do not fit.
    """
    cdef Py_ssize_t k = points.shape[0], n = points.shape[1]
    cdef double value
    check(points, supports, sharpness, work)
    with nogil:
        value = packing_minimise(&points[0, 0], k, n, &supports[0, 0], supports.shape[1], sharpness,
                                 tolerance, &iterations, &work[0])
    return value, iterations
