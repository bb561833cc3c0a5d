cdef class Descent:
    cdef object arrays
    cdef void *theta
    cdef void *gradient
    cdef Py_ssize_t length, block
    cdef bint wide
    cdef double take(self, indices, double factor, double total) except? -1
