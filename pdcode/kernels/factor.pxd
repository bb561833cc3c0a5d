cdef extern from "factor.h" nogil:
    struct factorisation:
        Py_ssize_t length, capacity, count, rank
        double largest
        double *left
        double *middle
        double *right
        double *solver
        double *work
    int factorisation_add(factorisation *f, const double *codeword)


cdef class Factorisation:
    cdef factorisation state
    cdef double[::1] memory  # all buffers of state
    cdef object left, solver, inverse  # numpy arrays
    cdef bint current  # whether inverse holds that of all codewords
