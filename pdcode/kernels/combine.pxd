from libc.stdint cimport uint64_t


cdef extern from "combine.h" nogil:
    void combine_f32(const uint64_t *addresses, Py_ssize_t payloads, Py_ssize_t start, Py_ssize_t count,
                     const float *matrix, Py_ssize_t rows, float *out, Py_ssize_t stride)
    void combine_f64(const uint64_t *addresses, Py_ssize_t payloads, Py_ssize_t start, Py_ssize_t count,
                     const double *matrix, Py_ssize_t rows, double *out, Py_ssize_t stride)
