/* sparse.h: products of a batch of CSR rows. */
#ifndef PDCODE_SPARSE_H
#define PDCODE_SPARSE_H

#include <stddef.h>
#include <stdint.h>

#define PDCODE_DECLARE(REAL, SUFFIX)                                                                       \
    void csr_forward_##SUFFIX(const int64_t *indptr, const int32_t *columns, const REAL *data,             \
                              const int64_t *rows, ptrdiff_t samples, const REAL *weights,                 \
                              ptrdiff_t column_stride, ptrdiff_t unit_stride, REAL *out, ptrdiff_t units); \
    void csr_outer_##SUFFIX(const int64_t *indptr, const int32_t *columns, const REAL *data,               \
                            const int64_t *rows, ptrdiff_t samples, const REAL *encoded, ptrdiff_t coded,  \
                            REAL *out, ptrdiff_t width);                                                   \
    void csr_coded_##SUFFIX(const int64_t *indptr, const int32_t *columns, const REAL *data,               \
                            const int64_t *rows, ptrdiff_t samples, const REAL *delta, ptrdiff_t units,    \
                            const REAL *codewords, ptrdiff_t count, ptrdiff_t blocks, ptrdiff_t block,     \
                            REAL *out);

PDCODE_DECLARE(float, f32)
PDCODE_DECLARE(double, f64)
#undef PDCODE_DECLARE

#endif
