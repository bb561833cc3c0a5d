from libc.stdint cimport int64_t

from pdcode.kernels.passes cimport Operation

ctypedef float (*dot_f32)(int64_t n, const void *x, int64_t apart_x, const void *y,
                          int64_t apart_y) noexcept nogil
ctypedef double (*dot_f64)(int64_t n, const void *x, int64_t apart_x, const void *y,
                           int64_t apart_y) noexcept nogil
ctypedef void (*gemm_f32)(int64_t order, int64_t trans_a, int64_t trans_b, int64_t m, int64_t n, int64_t k,
                          float alpha, const void *a, int64_t lda, const void *b, int64_t ldb, float beta,
                          void *c, int64_t ldc) noexcept nogil
ctypedef void (*gemm_f64)(int64_t order, int64_t trans_a, int64_t trans_b, int64_t m, int64_t n, int64_t k,
                          double alpha, const void *a, int64_t lda, const void *b, int64_t ldb, double beta,
                          void *c, int64_t ldc) noexcept nogil
ctypedef void (*syrk_f32)(int64_t order, int64_t uplo, int64_t trans, int64_t n, int64_t k, float alpha,
                          const void *a, int64_t lda, float beta, void *c, int64_t ldc) noexcept nogil
ctypedef void (*syrk_f64)(int64_t order, int64_t uplo, int64_t trans, int64_t n, int64_t k, double alpha,
                          const void *a, int64_t lda, double beta, void *c, int64_t ldc) noexcept nogil


cdef class Product(Operation):
    cdef object arrays
    cdef const void *a
    cdef const void *b
    cdef void *c
    cdef int64_t rows, inner, columns, lda, ldb, ldc
    cdef int trans_a, trans_b, kind
    cdef bint own, gram


cdef class Dot:
    cdef object arrays
    cdef const void *x
    cdef const void *y
    cdef int64_t count, apart_x, apart_y
    cdef int kind
    cdef bint own
    cdef double value(self) except? -1
