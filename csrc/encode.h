/* encode.h: combinations of blocks, plain and with error feedback. */
#ifndef PDCODE_ENCODE_H
#define PDCODE_ENCODE_H

#include <stddef.h>
#include <stdint.h>

#define PDCODE_DECLARE(REAL, SUFFIX)                                                                    \
    void encode_##SUFFIX(const REAL *factor, ptrdiff_t samples, ptrdiff_t columns, ptrdiff_t stride,    \
                         const int32_t *indices, const REAL *values, ptrdiff_t rows, ptrdiff_t weight,  \
                         ptrdiff_t block, REAL *out, ptrdiff_t out_stride, REAL scale, int accumulate); \
    void feedback_encode_##SUFFIX(REAL *memory, const REAL *gradient, ptrdiff_t length,                 \
                                  const int32_t *indices, const REAL *values, ptrdiff_t rows,           \
                                  ptrdiff_t weight, ptrdiff_t block, REAL *out);

PDCODE_DECLARE(float, f32)
PDCODE_DECLARE(double, f64)
#undef PDCODE_DECLARE

#endif
