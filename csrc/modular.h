/* modular.h: vectors of integers modulo 2^bits, with checksums, that may be added up in any order. */
#ifndef PDCODE_MODULAR_H
#define PDCODE_MODULAR_H

#include <stddef.h>
#include <stdint.h>

#define PDCODE_MODULAR_GROUP 1024 /* at most this many elements share a scale and a checksum */
#define PDCODE_MODULAR_EXTRA 2    /* words of a block besides the words of its elements: checksum, counts */
#define PDCODE_MODULAR_COUNT 48   /* shift of the number of payloads in the counts of the first block */
#define PDCODE_MODULAR_BROKEN 32  /* shift of the number of payloads that are not finite */

void modular_add(uint64_t *total, const uint64_t *words, ptrdiff_t blocks, ptrdiff_t block, int bits);

#define PDCODE_DECLARE(REAL, SUFFIX)                                                                        \
    int modular_encode_##SUFFIX(REAL *payload, ptrdiff_t length, const float *scales, ptrdiff_t blocks,      \
                                ptrdiff_t group, uint64_t *words, ptrdiff_t block, int bits);                \
    void modular_decode_##SUFFIX(const uint64_t *words, ptrdiff_t blocks, ptrdiff_t block, int bits,         \
                                 double margin, float *scales, ptrdiff_t group, REAL *sums,                  \
                                 ptrdiff_t length, int64_t *found);

PDCODE_DECLARE(float, f32)
PDCODE_DECLARE(double, f64)
#undef PDCODE_DECLARE

#endif
