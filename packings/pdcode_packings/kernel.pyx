"""Smooth maximum of squared inner products of unit vectors, its gradient and its minimisation.

Points are columns, for contiguous access to the products of one point with many others; each has any positive
norm and is zero outside its support, w distinct coordinates.
"""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t

cdef extern from "packing.h" nogil:
    enum: PACKING_MOST
    ptrdiff_t packing_work(ptrdiff_t k, ptrdiff_t n)
    double packing_smooth_maximum(const double *points, ptrdiff_t k, ptrdiff_t n, const int32_t *supports,
                                  ptrdiff_t weight, double sharpness, double *gradient, double *work)
    double packing_minimise(double *points, ptrdiff_t k, ptrdiff_t n, const int32_t *supports,
                            ptrdiff_t weight, double sharpness, double tolerance, int64_t *iterations,
                            double *work)


def workspace(Py_ssize_t k, Py_ssize_t n):
    """Return the numbers of `work` that n points of R^k need."""
    return packing_work(k, n)


cdef int check(const double[:, ::1] points, const int32_t[:, ::1] supports, double sharpness,
               const double[::1] work) except -1:
    """Check the points' number and dimension, their supports, and the room for work."""
    cdef Py_ssize_t k = points.shape[0], n = points.shape[1], w = supports.shape[1], i, j
    if supports.shape[0] != n:
        raise ValueError("the arrays do not fit together")
    if not 1 <= k <= PACKING_MOST or n < 1:
        raise ValueError(f"points has shape ({k}, {n}): it needs from 1 to {PACKING_MOST} rows and a column")
    if not 1 <= w <= k:
        raise ValueError("supports must have shape (n, w) with w from 1 to k")
    if work.shape[0] < packing_work(k, n):
        raise ValueError(f"work has {work.shape[0]} numbers: {packing_work(k, n)} are needed")
    if not sharpness > 0:
        raise ValueError(f"sharpness is {sharpness}: it must be positive")
    for i in range(n):
        for j in range(w):
            if not 0 <= supports[i, j] < k:
                raise ValueError(f"supports has {supports[i, j]}: not a coordinate from 0 to {k - 1}")
    return 0


def smooth_maximum(const double[:, ::1] points, const int32_t[:, ::1] supports, double sharpness,
                   double[:, ::1] gradient, double[::1] work):
    """Compute ``log(sum_{i<j} exp(p s_ij)) / p`` with s_ij the squared cosine of the points i and j.

    It exceeds the largest s_ij by at most ``log(n (n - 1) / 2) / p``, p being the sharpness, and is 0 for a
    single point. The gradient is orthogonal to each point, and 0 outside the supports.
    """
    cdef Py_ssize_t k = points.shape[0], n = points.shape[1]
    check(points, supports, sharpness, work)
    if gradient.shape[0] != k or gradient.shape[1] != n:
        raise ValueError("the arrays do not fit together")
    return packing_smooth_maximum(&points[0, 0], k, n, &supports[0, 0], supports.shape[1], sharpness,
                                  &gradient[0, 0], &work[0])


def minimise(double[:, ::1] points, const int32_t[:, ::1] supports, double sharpness, double tolerance,
             int64_t[::1] iterations, double[::1] work):
    """Minimise the smooth maximum by L-BFGS, in place; return what is reached. Points become unit vectors.

    It stops at the first step that gains less than the tolerance, and after `iterations[0]` iterations; this
    becomes the number of steps taken.
    """
    check(points, supports, sharpness, work)
    if iterations.shape[0] != 1:
        raise ValueError("iterations holds one number")
    return packing_minimise(&points[0, 0], points.shape[0], points.shape[1], &supports[0, 0],
                            supports.shape[1], sharpness, tolerance, &iterations[0], &work[0])
