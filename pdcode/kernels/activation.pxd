cdef extern from "activation.h" nogil:
    int PDCODE_RELU, PDCODE_TANH, PDCODE_GELU
    void activation_forward_f32(int kind, const float *z, Py_ssize_t z_stride, float *out,
                                Py_ssize_t out_stride, Py_ssize_t samples, Py_ssize_t units)
    void activation_forward_f64(int kind, const double *z, Py_ssize_t z_stride, double *out,
                                Py_ssize_t out_stride, Py_ssize_t samples, Py_ssize_t units)
    void activation_backward_f32(int kind, const float *z, Py_ssize_t z_stride, const float *a,
                                 Py_ssize_t a_stride, float *delta, Py_ssize_t delta_stride,
                                 Py_ssize_t samples, Py_ssize_t units)
    void activation_backward_f64(int kind, const double *z, Py_ssize_t z_stride, const double *a,
                                 Py_ssize_t a_stride, double *delta, Py_ssize_t delta_stride,
                                 Py_ssize_t samples, Py_ssize_t units)
