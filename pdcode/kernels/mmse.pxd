cdef extern from "mmse.h" nogil:
    struct root:
        Py_ssize_t length
        int diagonal
        const double *values
    void mmse_whiten(const root *root, const double *codeword, double *out)
    double mmse_energy(const root *root, const double *v)
    double mmse_gain(const root *root, double variance, const double *solver, const double *a, double *work)
