cdef extern from "proximal.h" nogil:
    void shrink_f32(float *weights, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t stride, float threshold,
                    float factor, float low, float high)
    void shrink_f64(double *weights, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t stride, double threshold,
                    double factor, double low, double high)
    double displace_f32(float *before, const float *theta, Py_ssize_t length)
    double displace_f64(double *before, const double *theta, Py_ssize_t length)
