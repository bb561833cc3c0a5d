from libc.stdint cimport int32_t


cdef extern from "selection.h" nogil:
    void selection_largest_f32(const float *vector, Py_ssize_t length, Py_ssize_t chunk, Py_ssize_t most,
                               int32_t *out, float *values, int32_t *places, Py_ssize_t room)
    void selection_largest_f64(const double *vector, Py_ssize_t length, Py_ssize_t chunk, Py_ssize_t most,
                               int32_t *out, double *values, int32_t *places, Py_ssize_t room)
