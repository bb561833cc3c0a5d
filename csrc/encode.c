/* encode.c: a codeword is a short list of (index j, value g); it combines blocks to y = sum of g_j block_j.
 *
 * Design note. factor is (samples, columns), rows `stride` apart; out is (samples, rows * block), rows
 * `out_stride` apart. memory and gradient are (length); their out is (rows, block). Indices and values are
 * (rows, weight); a zero value pads. Bound by bandwidth: weight blocks are read for one that is written. So
 * that no block comes from memory twice, whatever the number of rows, all codewords are finished on one tile
 * of columns before the next tile is begun.
 */
#ifndef REAL
#include "encode.h"
#define KERNEL "encode.c"
#include "real.h"
#else
#include "blocks.h"
#include "combination.h"

#define TILE 1024       /* elements of a block: an output tile stays in the level 1 cache between passes */
#define SHORT 8         /* blocks shorter than this are not worth a vector loop */
#define RESIDENT 196608 /* bytes of all the blocks' tiles together: they stay in the level 2 cache */
#define AHEAD 2 /* samples to prefetch: short runs are too irregular for the processor to foresee */

/* All codewords on one sample, for blocks of a few columns (one hidden unit a block): plain sums. */
INLINE void NAME(encode_short)(REAL *out, const REAL *vector, ptrdiff_t length, const int32_t *indices,
                               const REAL *values, ptrdiff_t rows, ptrdiff_t weight, ptrdiff_t block,
                               REAL scale, int keep)
{
    for (ptrdiff_t row = 0; row < rows; row++, indices += weight, values += weight)
        for (ptrdiff_t c = 0; c < block; c++, out++) {
            REAL sum = 0;
            for (ptrdiff_t t = 0; t < weight; t++) {
                const ptrdiff_t column = (ptrdiff_t)indices[t] * block + c;
                if (column >= 0 && column < length && values[t] != 0)
                    sum += values[t] * vector[column];
            }
            *out = keep ? *out + scale * sum : scale * sum;
        }
}

VECTORISED
void NAME(encode)(const REAL *factor, ptrdiff_t samples, ptrdiff_t columns, ptrdiff_t stride,
                  const int32_t *indices, const REAL *values, ptrdiff_t rows, ptrdiff_t weight,
                  ptrdiff_t block, REAL *out, ptrdiff_t out_stride, REAL scale, int accumulate)
{
    for (ptrdiff_t s = 0; s < samples; s++, factor += stride, out += out_stride) {
        if (block < SHORT) {
            NAME(encode_short)(out, factor, columns, indices, values, rows, weight, block, scale, accumulate);
            continue;
        }
        const ptrdiff_t ahead = s + AHEAD < samples ? AHEAD * stride : 0;
        for (ptrdiff_t start = 0; start < block; start += TILE) {
            const ptrdiff_t count = block - start < TILE ? block - start : TILE;
            for (ptrdiff_t row = 0; row < rows; row++)
                NAME(combine)(out + row * block + start, factor, columns, indices + row * weight,
                              values + row * weight, weight, block, start, count, scale, accumulate, ahead);
        }
    }
}

VECTORISED
void NAME(feedback_encode)(REAL *memory, const REAL *gradient, ptrdiff_t length, const int32_t *indices,
                           const REAL *values, ptrdiff_t rows, ptrdiff_t weight, ptrdiff_t block, REAL *out)
{
    const ptrdiff_t blocks = block > 0 ? (length + block - 1) / block : 0;
    ptrdiff_t tile = RESIDENT / (ptrdiff_t)sizeof(REAL) / (blocks + 1);
    tile = tile > TILE ? TILE : tile < 64 ? 64 : tile - tile % 16;
    for (ptrdiff_t start = 0; start < block; start += tile) {
        const ptrdiff_t count = block - start < tile ? block - start : tile;
        const int whole = count == block; /* a single tile: blocks follow each other */
        if (gradient != NULL && whole)
            NAME(add)(memory, 1, gradient, length);
        for (ptrdiff_t j = 0; gradient != NULL && !whole && j < blocks; j++) {
            const ptrdiff_t at = j * block + start;
            NAME(add)(memory + at, 1, gradient + at, NAME(span)(length, block, (int32_t)j, start, count));
        }
        for (ptrdiff_t row = 0; row < rows; row++) {
            const int32_t *index = indices + row * weight;
            const REAL *value = values + row * weight;
            REAL *y = out + row * block + start;
            NAME(combine)(y, memory, length, index, value, weight, block, start, count, 1, 0, 0);
            for (ptrdiff_t t = 0; t < weight; t++) {
                const ptrdiff_t valid = value[t] == 0 ? 0 : NAME(span)(length, block, index[t], start, count);
                NAME(add)(memory + (ptrdiff_t)index[t] * block + start, -value[t], y, valid);
            }
        }
    }
}

#undef TILE
#undef SHORT
#undef RESIDENT
#undef AHEAD
#endif
