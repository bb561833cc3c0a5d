from libc.stdint cimport int32_t, uint8_t, uint64_t

cdef extern from "fold.h" nogil:
    double fold_decode_f32(float *target, Py_ssize_t length, const int32_t *indices, const float *values,
                           Py_ssize_t rows, Py_ssize_t weight, Py_ssize_t block, int kind,
                           const uint8_t *wire, float factor)
    double fold_decode_f64(double *target, Py_ssize_t length, const int32_t *indices, const double *values,
                           Py_ssize_t rows, Py_ssize_t weight, Py_ssize_t block, int kind,
                           const uint8_t *wire, double factor)
    bint fold_encode_f32(float *memory, const float *gradient, Py_ssize_t length, const int32_t *indices,
                         const float *values, Py_ssize_t rows, Py_ssize_t weight, Py_ssize_t block, int kind,
                         const uint64_t *key, const uint64_t *place, uint8_t *wire, float *sent)
    bint fold_encode_f64(double *memory, const double *gradient, Py_ssize_t length, const int32_t *indices,
                         const double *values, Py_ssize_t rows, Py_ssize_t weight, Py_ssize_t block, int kind,
                         const uint64_t *key, const uint64_t *place, uint8_t *wire, double *sent)
