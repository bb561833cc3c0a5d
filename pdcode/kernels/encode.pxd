from libc.stdint cimport int32_t


cdef extern from "encode.h" nogil:
    void encode_f32(const float *factor, Py_ssize_t samples, Py_ssize_t columns, Py_ssize_t stride,
                    const int32_t *indices, const float *values, Py_ssize_t rows, Py_ssize_t weight,
                    Py_ssize_t block, float *out, Py_ssize_t out_stride, float scale, bint accumulate)
    void encode_f64(const double *factor, Py_ssize_t samples, Py_ssize_t columns, Py_ssize_t stride,
                    const int32_t *indices, const double *values, Py_ssize_t rows, Py_ssize_t weight,
                    Py_ssize_t block, double *out, Py_ssize_t out_stride, double scale, bint accumulate)
    void feedback_encode_f32(float *memory, const float *gradient, Py_ssize_t length, const int32_t *indices,
                             const float *values, Py_ssize_t rows, Py_ssize_t weight, Py_ssize_t block,
                             float *out)
    void feedback_encode_f64(double *memory, const double *gradient, Py_ssize_t length,
                             const int32_t *indices, const double *values, Py_ssize_t rows, Py_ssize_t weight,
                             Py_ssize_t block, double *out)
