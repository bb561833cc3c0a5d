from libc.stdint cimport int8_t, int32_t, uint64_t


cdef extern from "peeling.h" nogil:
    struct peeling:
        Py_ssize_t blocks, words, edges, released
        int32_t *latest
        int8_t *known
        int32_t *order
        int32_t *first
        int32_t *count
        int32_t *mix
        int32_t *stack
        int32_t *block
        int32_t *word
        int32_t *older
        double *weight
    void peeling_begin(peeling *p)
    void peeling_add(peeling *p, const int32_t *indices, const float *single, const double *full,
                     Py_ssize_t weight)
    void peeling_release_f32(const peeling *p, Py_ssize_t start, Py_ssize_t end, const uint64_t *addresses,
                             float *blocks, Py_ssize_t elements)
    void peeling_release_f64(const peeling *p, Py_ssize_t start, Py_ssize_t end, const uint64_t *addresses,
                             double *blocks, Py_ssize_t elements)
