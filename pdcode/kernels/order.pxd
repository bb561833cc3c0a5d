from libc.stdint cimport uint64_t


cdef extern from "order.h" nogil:
    enum:
        ORDER_TILE
    void middle_mean_f32(const uint64_t *addresses, Py_ssize_t vectors, Py_ssize_t length, Py_ssize_t low,
                         Py_ssize_t high, void *room, float *out)
    void middle_mean_f64(const uint64_t *addresses, Py_ssize_t vectors, Py_ssize_t length, Py_ssize_t low,
                         Py_ssize_t high, void *room, double *out)
