from libc.stdint cimport int32_t, int64_t


cdef extern from "sparse.h" nogil:
    void csr_forward_f32(const int64_t *indptr, const int32_t *columns, const float *data,
                         const int64_t *rows, Py_ssize_t samples, const float *weights,
                         Py_ssize_t column_stride, Py_ssize_t unit_stride, float *out, Py_ssize_t units)
    void csr_forward_f64(const int64_t *indptr, const int32_t *columns, const double *data,
                         const int64_t *rows, Py_ssize_t samples, const double *weights,
                         Py_ssize_t column_stride, Py_ssize_t unit_stride, double *out, Py_ssize_t units)
    void csr_outer_f32(const int64_t *indptr, const int32_t *columns, const float *data, const int64_t *rows,
                       Py_ssize_t samples, const float *encoded, Py_ssize_t coded, float *out,
                       Py_ssize_t width)
    void csr_outer_f64(const int64_t *indptr, const int32_t *columns, const double *data, const int64_t *rows,
                       Py_ssize_t samples, const double *encoded, Py_ssize_t coded, double *out,
                       Py_ssize_t width)
    void csr_coded_f32(const int64_t *indptr, const int32_t *columns, const float *data, const int64_t *rows,
                       Py_ssize_t samples, const float *delta, Py_ssize_t units, const float *codewords,
                       Py_ssize_t count, Py_ssize_t blocks, Py_ssize_t block, float *out)
    void csr_coded_f64(const int64_t *indptr, const int32_t *columns, const double *data, const int64_t *rows,
                       Py_ssize_t samples, const double *delta, Py_ssize_t units, const double *codewords,
                       Py_ssize_t count, Py_ssize_t blocks, Py_ssize_t block, double *out)
