from libc.stdint cimport int32_t


cdef extern from "factor.h" nogil:
    struct factorisation:
        Py_ssize_t length, capacity, count, rank
        double largest
        double *left
        double *middle
        double *right
        double *solver
        double *errors
        double *work
    void factorisation_begin(factorisation *f, double prior)
    int factorisation_add(factorisation *f, const double *codeword)
    void factorisation_inverse(const factorisation *f, double *inverse)


cdef class Factorisation:
    cdef factorisation state
    cdef double[::1] fixed  # buffers of state whose size does not depend on capacity
    cdef double[::1] scratch  # work of state
    cdef double[:, ::1] words  # codewords added, dense; the rows after them are scratch
    cdef object left, right, solver, inverse, codes
    cdef double given  # the prior
    cdef bint current  # whether inverse is up to date
    cdef int scatter(self, Py_ssize_t q, const int32_t *indices, const void *values, Py_ssize_t weight,
                     bint wide) except -1
    cdef int fold(self, const double *row) noexcept nogil
    cdef int push(self) noexcept nogil
    cdef int room(self, Py_ssize_t rows) except -1
