from libc.stdint cimport int32_t, uint8_t, uint64_t


cdef extern from "selection.h" nogil:
    Py_ssize_t selection_bytes(Py_ssize_t count, int bits)
    void selection_pack(const int32_t *numbers, Py_ssize_t count, int bits, uint8_t *out)
    void selection_unpack(const uint8_t *payload, Py_ssize_t count, int bits, int32_t *numbers)
    void selection_sample(int32_t bound, int32_t *out, Py_ssize_t count, const uint64_t *key,
                          const uint64_t *place, uint64_t *marks)
    void selection_largest_f32(const float *vector, Py_ssize_t length, Py_ssize_t chunk, Py_ssize_t most,
                               int32_t *out, float *values, int32_t *places, Py_ssize_t room)
    void selection_largest_f64(const double *vector, Py_ssize_t length, Py_ssize_t chunk, Py_ssize_t most,
                               int32_t *out, double *values, int32_t *places, Py_ssize_t room)
