/* decode.c: fold payloads into an accumulator or an estimate of the gradient, block by block.
 *
 * Design note. accumulator and estimate are (length), cut into blocks of `block`; payload is (rows, block);
 * indices and values are (rows, weight); a zero value pads. Bound by bandwidth: one payload row is read once,
 * its weight blocks are read and written once. A tile of the payload stays in the level 1 cache while its
 * blocks pass by.
 */
#ifndef REAL
#include "decode.h"
#define KERNEL "decode.c"
#include "real.h"
#else
#include "blocks.h"

#define TILE 1024

/* accumulator_j += scale * g_j * y for each codeword. */
VECTORISED
void NAME(adjoint_decode)(REAL *accumulator, ptrdiff_t length, const int32_t *indices, const REAL *values,
                          ptrdiff_t rows, ptrdiff_t weight, const REAL *payload, ptrdiff_t block, REAL scale)
{
    for (ptrdiff_t start = 0; start < block; start += TILE) {
        const ptrdiff_t count = block - start < TILE ? block - start : TILE;
        for (ptrdiff_t i = 0; i < rows * weight; i++) {
            const REAL *y = payload + i / weight * block + start;
            const ptrdiff_t valid = values[i] == 0 ? 0 : NAME(span)(length, block, indices[i], start, count);
            NAME(add)(accumulator + (ptrdiff_t)indices[i] * block + start, scale * values[i], y, valid);
        }
    }
}

/* For each codeword: residual = y - sum of g_j z_j, z_j += step * g_j * residual; sums their squares. */
VECTORISED
double NAME(tracking_decode)(REAL *estimate, ptrdiff_t length, const int32_t *indices, const REAL *values,
                             ptrdiff_t rows, ptrdiff_t weight, const REAL *payload, ptrdiff_t block,
                             REAL step)
{
    double total = 0;
    for (ptrdiff_t start = 0; start < block; start += TILE) {
        const ptrdiff_t count = block - start < TILE ? block - start : TILE;
        for (ptrdiff_t row = 0; row < rows; row++) {
            const int32_t *index = indices + row * weight;
            const REAL *value = values + row * weight;
            REAL residual[TILE], sum = 0;
            memcpy(residual, payload + row * block + start, (size_t)count * sizeof(REAL));
            for (ptrdiff_t t = 0; t < weight; t++) {
                const ptrdiff_t valid = value[t] == 0 ? 0 : NAME(span)(length, block, index[t], start, count);
                NAME(add)(residual, -value[t], estimate + (ptrdiff_t)index[t] * block + start, valid);
            }
            for (ptrdiff_t t = 0; t < weight; t++) {
                const ptrdiff_t valid = value[t] == 0 ? 0 : NAME(span)(length, block, index[t], start, count);
                NAME(add)(estimate + (ptrdiff_t)index[t] * block + start, step * value[t], residual, valid);
            }
#pragma omp simd reduction(+ : sum)
            for (ptrdiff_t c = 0; c < count; c++)
                sum += residual[c] * residual[c];
            total += (double)sum;
        }
    }
    return total;
}

/* Row i of out (payloads, count) = elements start ... of the payload that lies at addresses[i]. */
void NAME(gather)(const uint64_t *addresses, ptrdiff_t payloads, ptrdiff_t start, REAL *out, ptrdiff_t count)
{
    for (ptrdiff_t i = 0; i < payloads; i++)
        memcpy(out + i * count, (const REAL *)(uintptr_t)addresses[i] + start, (size_t)count * sizeof(REAL));
}

#undef TILE
#endif
