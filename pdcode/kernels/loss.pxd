from libc.stdint cimport int32_t


cdef extern from "loss.h" nogil:
    double softmax_loss_f32(const float *scores, const int32_t *labels, float *delta, Py_ssize_t samples,
                            Py_ssize_t classes, double scale)
    double softmax_loss_f64(const double *scores, const int32_t *labels, double *delta, Py_ssize_t samples,
                            Py_ssize_t classes, double scale)
    double logistic_loss_f32(const float *scores, const int32_t *labels, float *delta, Py_ssize_t samples,
                             double scale)
    double logistic_loss_f64(const double *scores, const int32_t *labels, double *delta, Py_ssize_t samples,
                             double scale)
    double squared_loss_f32(const float *scores, const float *targets, float *delta, Py_ssize_t samples,
                            Py_ssize_t outputs, double scale)
    double squared_loss_f64(const double *scores, const double *targets, double *delta, Py_ssize_t samples,
                            Py_ssize_t outputs, double scale)
    double poisson_loss_f32(const float *scores, const float *targets, float *delta, Py_ssize_t samples,
                            Py_ssize_t outputs, double scale)
    double poisson_loss_f64(const double *scores, const double *targets, double *delta, Py_ssize_t samples,
                            Py_ssize_t outputs, double scale)
