/* decode.h: folding of payloads into the gradient. */
#ifndef PDCODE_DECODE_H
#define PDCODE_DECODE_H

#include <stddef.h>
#include <stdint.h>

#define PDCODE_DECLARE(REAL, SUFFIX)                                                                        \
    void adjoint_decode_##SUFFIX(REAL *accumulator, ptrdiff_t length, const int32_t *indices,               \
                                 const REAL *values, ptrdiff_t rows, ptrdiff_t weight, const REAL *payload, \
                                 ptrdiff_t block, REAL scale);                                              \
    double tracking_decode_##SUFFIX(REAL *estimate, ptrdiff_t length, const int32_t *indices,               \
                                    const REAL *values, ptrdiff_t rows, ptrdiff_t weight,                   \
                                    const REAL *payload, ptrdiff_t block, REAL step);

PDCODE_DECLARE(float, f32)
PDCODE_DECLARE(double, f64)
#undef PDCODE_DECLARE

#endif
