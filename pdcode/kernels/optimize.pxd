from libc.stdint cimport int32_t


cdef extern from "optimize.h" nogil:
    double sgd_step_f32(float *theta, float *velocity, float *gradient, Py_ssize_t length, float scale,
                        float rate, float decay, float gain, float own, float keep, bint clear)
    double sgd_step_f64(double *theta, double *velocity, double *gradient, Py_ssize_t length, double scale,
                        double rate, double decay, double gain, double own, double keep, bint clear)
    double adam_step_f32(float *theta, float *first, float *second, float *gradient, Py_ssize_t length,
                         float scale, float rate, float beta1, float beta2, float epsilon, float root,
                         bint clear)
    double adam_step_f64(double *theta, double *first, double *second, double *gradient, Py_ssize_t length,
                         double scale, double rate, double beta1, double beta2, double epsilon, double root,
                         bint clear)
    double sgd_blocks_f32(float *theta, float *accumulator, Py_ssize_t length, const int32_t *blocks,
                          Py_ssize_t count, Py_ssize_t block, float factor)
    double sgd_blocks_f64(double *theta, double *accumulator, Py_ssize_t length, const int32_t *blocks,
                          Py_ssize_t count, Py_ssize_t block, double factor)


cdef class Descent:
    cdef object arrays
    cdef void *theta
    cdef void *gradient
    cdef Py_ssize_t length, block
    cdef bint double
    cdef double take(self, indices, double factor, double total) except? -1
