"""Smooth maximum of squared inner products of unit vectors, its gradient and its minimisation.

Points are columns, for contiguous access to the products of one point with many others; each has any positive
norm and is zero outside its support, w distinct coordinates.
"""


cdef extern from "packing.h":
    enum: PACKING_MOST


@kernel
def workspace(k: Py_ssize_t, n: Py_ssize_t) -> Py_ssize_t:
    """Return the numbers of `work` that n points of R^k need."""
    return packing_work(k, n)


cdef int check(Py_ssize_t k, Py_ssize_t n, Py_ssize_t w, const int32_t *supports, Py_ssize_t work,
               double sharpness) except -1:
    """Check the points' number and dimension, their supports, and the room for work."""
    cdef Py_ssize_t i
    if not 1 <= k <= PACKING_MOST or n < 1:
        raise ValueError(f"points has shape ({k}, {n}): it needs from 1 to {PACKING_MOST} rows and a column")
    if not 1 <= w <= k:
        raise ValueError("supports must have shape (n, w) with w from 1 to k")
    if work < c_packing_work(k, n):
        raise ValueError(f"work has {work} numbers: {c_packing_work(k, n)} are needed")
    if not sharpness > 0:
        raise ValueError(f"sharpness is {sharpness}: it must be positive")
    for i in range(n * w):
        if not 0 <= supports[i] < k:
            raise ValueError(f"supports has {supports[i]}: not a coordinate from 0 to {k - 1}")
    return 0


@kernel
def smooth_maximum(points: double[k, n], supports: int32_t[n, w], sharpness: double,
                   gradient: writeable(double[k, n]), work: writeable(double[size])) -> double:
    """Compute ``log(sum_{i<j} exp(p s_ij)) / p`` with s_ij the squared cosine of the points i and j.

    It exceeds the largest s_ij by at most ``log(n (n - 1) / 2) / p``, p being the sharpness, and is 0 for a
    single point. The gradient is orthogonal to each point, and 0 outside the supports.
    """
    check(k, n, w, supports, size, sharpness)
    return packing_smooth_maximum(points, k, n, supports, w, sharpness, gradient, work)


@kernel
def minimise(points: writeable(double[k, n]), supports: int32_t[n, w], sharpness: double, tolerance: double,
             iterations: writeable(int64_t[1]), work: writeable(double[size])) -> double:
    """Minimise the smooth maximum by L-BFGS, in place; return what is reached. Points become unit vectors.

    It stops at the first step that gains less than the tolerance, and after so many iterations; these become
    the number of steps taken.
    """
    check(k, n, w, supports, size, sharpness)
    return packing_minimise(points, k, n, supports, w, sharpness, tolerance, iterations, work)
