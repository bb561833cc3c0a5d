cdef extern from "whiten.h" nogil:
    void whiten_scale_f32(const float *source, float factor, float *out, Py_ssize_t count)
    void whiten_scale_f64(const double *source, double factor, double *out, Py_ssize_t count)
    void whiten_polynomial_f32(const float *power, const float *square, float a, float b, float c, float *out,
                               Py_ssize_t size)
    void whiten_polynomial_f64(const double *power, const double *square, double a, double b, double c,
                               double *out, Py_ssize_t size)
