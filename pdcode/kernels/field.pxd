from libc.stdint cimport int64_t, uint64_t


cdef extern from "field.h" nogil:
    void field_product(const uint64_t *a, const uint64_t *b, Py_ssize_t rows, Py_ssize_t inner,
                       Py_ssize_t columns, uint64_t p, uint64_t *out)
    void field_product_transposed(const uint64_t *a, const uint64_t *b, Py_ssize_t rows, Py_ssize_t inner,
                                  Py_ssize_t columns, uint64_t p, uint64_t *out)
    void field_multiply(const uint64_t *a, const uint64_t *b, Py_ssize_t length, uint64_t p, uint64_t *out)
    void field_basis(const uint64_t *points, Py_ssize_t count, const uint64_t *targets, Py_ssize_t rows,
                     uint64_t p, uint64_t *weights, uint64_t *out)
    Py_ssize_t field_errors(const uint64_t *points, const uint64_t *word, Py_ssize_t count,
                            Py_ssize_t dimension, uint64_t p, uint64_t *room, int64_t *wrong)
