cdef extern from "finite.h" nogil:
    int all_finite_f32(const float *values, Py_ssize_t count)
    int all_finite_f64(const double *values, Py_ssize_t count)
