from libc.stdint cimport int32_t


cdef extern from "matched.h" nogil:
    void matched_select_f32(float *directions, Py_ssize_t count, Py_ssize_t blocks, int32_t *indices,
                            float *values, Py_ssize_t rows, Py_ssize_t weight)
    void matched_select_f64(double *directions, Py_ssize_t count, Py_ssize_t blocks, int32_t *indices,
                            double *values, Py_ssize_t rows, Py_ssize_t weight)
    void matched_orthonormalise_f32(float *directions, const float *spare, Py_ssize_t count,
                                    Py_ssize_t blocks)
    void matched_orthonormalise_f64(double *directions, const double *spare, Py_ssize_t count,
                                    Py_ssize_t blocks)
