/* fold.h: codewords and rounding in one pass. */
#ifndef PDCODE_FOLD_H
#define PDCODE_FOLD_H

#include <stddef.h>
#include <stdint.h>

int fold_apart(const int32_t *indices, ptrdiff_t rows, ptrdiff_t weight, ptrdiff_t blocks, uint8_t *seen);

#define PDCODE_DECLARE(REAL, SUFFIX)                                                                        \
    int fold_usable_##SUFFIX(ptrdiff_t rows, ptrdiff_t block, int kind, const uint8_t *wire);               \
    double fold_decode_##SUFFIX(REAL *target, ptrdiff_t length, const int32_t *indices, const REAL *values, \
                                ptrdiff_t rows, ptrdiff_t weight, ptrdiff_t block, int kind,                \
                                const uint8_t *wire, REAL factor);                                          \
    int fold_encode_##SUFFIX(REAL *memory, const REAL *gradient, ptrdiff_t length, const int32_t *indices,  \
                             const REAL *values, ptrdiff_t rows, ptrdiff_t weight, ptrdiff_t block,         \
                             int kind, const uint64_t key[2], const uint64_t place[3], uint8_t *wire,       \
                             ptrdiff_t size, REAL *sent);

PDCODE_DECLARE(float, f32)
PDCODE_DECLARE(double, f64)
#undef PDCODE_DECLARE

#endif
