from libc.stdint cimport int64_t, uint64_t


cdef extern from "philox.h" nogil:
    void philox_integers(uint64_t seed, uint64_t stream, uint64_t worker, uint64_t task, uint64_t bound,
                         int64_t *out, Py_ssize_t count)
    void philox_uniforms(uint64_t seed, uint64_t stream, uint64_t worker, uint64_t task, double *out,
                         Py_ssize_t count)
    void philox_uniforms_of(uint64_t seed, uint64_t stream, uint64_t worker, uint64_t first, Py_ssize_t count,
                            Py_ssize_t words, double *out)
