from libc.stdint cimport int32_t


cdef extern from "packing.h" nogil:
    enum: PACKING_MOST
    Py_ssize_t packing_work(Py_ssize_t k, Py_ssize_t n)
    double packing_smooth_maximum(const double *points, Py_ssize_t k, Py_ssize_t n, const int32_t *supports,
                                  Py_ssize_t weight, double sharpness, double *gradient, double *work)
    double packing_minimise(double *points, Py_ssize_t k, Py_ssize_t n, const int32_t *supports,
                            Py_ssize_t weight, double sharpness, double tolerance, Py_ssize_t *iterations,
                            double *work)
