/* decode.h: folding of payloads into the gradient. */
#ifndef PDCODE_DECODE_H
#define PDCODE_DECODE_H

#include <stddef.h>
#include <stdint.h>

/* A unit's accumulator (length) and the codewords, (rows, weight), of its payload, (rows, block). */
struct decode_unit {
    void *accumulator;
    ptrdiff_t length, rows, weight, block;
    const int32_t *indices;
    const void *values, *payload;
};

#define PDCODE_DECLARE(REAL, SUFFIX)                                                                        \
    void adjoint_decode_##SUFFIX(REAL *accumulator, ptrdiff_t length, const int32_t *indices,               \
                                 const REAL *values, ptrdiff_t rows, ptrdiff_t weight, const REAL *payload, \
                                 ptrdiff_t block, REAL scale);                                              \
    void decode_units_##SUFFIX(const struct decode_unit *units, ptrdiff_t count);                           \
    double tracking_decode_##SUFFIX(REAL *estimate, ptrdiff_t length, const int32_t *indices,               \
                                    const REAL *values, ptrdiff_t rows, ptrdiff_t weight,                   \
                                    const REAL *payload, ptrdiff_t block, REAL step);

PDCODE_DECLARE(float, f32)
PDCODE_DECLARE(double, f64)
#undef PDCODE_DECLARE

#endif
