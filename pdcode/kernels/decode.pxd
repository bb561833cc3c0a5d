from libc.stdint cimport int32_t


cdef extern from "decode.h" nogil:
    void adjoint_decode_f32(float *accumulator, Py_ssize_t length, const int32_t *indices,
                            const float *values, Py_ssize_t rows, Py_ssize_t weight, const float *payload,
                            Py_ssize_t block, float scale)
    void adjoint_decode_f64(double *accumulator, Py_ssize_t length, const int32_t *indices,
                            const double *values, Py_ssize_t rows, Py_ssize_t weight, const double *payload,
                            Py_ssize_t block, double scale)
    double tracking_decode_f32(float *estimate, Py_ssize_t length, const int32_t *indices,
                               const float *values, Py_ssize_t rows, Py_ssize_t weight, const float *payload,
                               Py_ssize_t block, float step)
    double tracking_decode_f64(double *estimate, Py_ssize_t length, const int32_t *indices,
                               const double *values, Py_ssize_t rows, Py_ssize_t weight,
                               const double *payload, Py_ssize_t block, double step)
    struct decode_unit:
        void *accumulator
        Py_ssize_t length, rows, weight, block
        const int32_t *indices
        const void *values
        const void *payload
    void decode_units_f32(const decode_unit *units, Py_ssize_t count)
    void decode_units_f64(const decode_unit *units, Py_ssize_t count)


cdef class Accumulators:
    cdef decode_unit *units
    cdef Py_ssize_t count
    cdef int kind
    cdef object arrays
    cdef bint put(self, codewords, payloads)
