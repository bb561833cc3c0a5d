from libc.stdint cimport int64_t


cdef class Operation:
    cdef int run(self) except -1


cdef struct rows:
    const char *source
    char *target
    Py_ssize_t bytes, stride
