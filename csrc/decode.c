/* decode.c: fold payloads into an accumulator or an estimate of the gradient, block by block.
 *
 * Design note. accumulator and estimate are (length), cut into blocks of `block`; payload is (rows, block);
 * indices and values are (rows, weight); a zero value pads. Bound by bandwidth: one payload row is read once,
 * its weight blocks are read and written once. A tile of the payload stays in the level 1 cache while its
 * blocks pass by. Tracking reads each block twice, for the residual and for its update: for the usual weights
 * both are done in one loop, which halves the work where all is in cache.
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

/* residual = y - sum of value_t z_t, z_t += step_t * residual; returns its squared norm. */
INLINE double NAME(track)(REAL *const *z, const REAL *value, const REAL *step, const REAL *restrict y,
                          ptrdiff_t count, const int weight)
{
    REAL sum = 0;
#pragma omp simd reduction(+ : sum)
    for (ptrdiff_t c = 0; c < count; c++) {
        REAL residual = y[c];
        for (int t = 0; t < weight; t++)
            residual -= value[t] * z[t][c];
        sum += residual * residual;
        for (int t = 0; t < weight; t++)
            z[t][c] += step[t] * residual;
    }
    return (double)sum;
}

/* The same for a codeword of any weight, and for short or missing blocks. */
INLINE double NAME(track_any)(REAL *estimate, ptrdiff_t length, const int32_t *index, const REAL *value,
                              REAL scale, ptrdiff_t weight, const REAL *y, ptrdiff_t block, ptrdiff_t start,
                              ptrdiff_t count)
{
    REAL residual[TILE], sum = 0;
    memcpy(residual, y, (size_t)count * sizeof(REAL));
    for (ptrdiff_t t = 0; t < weight; t++) {
        const ptrdiff_t valid = value[t] == 0 ? 0 : NAME(span)(length, block, index[t], start, count);
        NAME(add)(residual, -value[t], estimate + (ptrdiff_t)index[t] * block + start, valid);
    }
    for (ptrdiff_t t = 0; t < weight; t++) {
        const ptrdiff_t valid = value[t] == 0 ? 0 : NAME(span)(length, block, index[t], start, count);
        NAME(add)(estimate + (ptrdiff_t)index[t] * block + start, scale * value[t], residual, valid);
    }
#pragma omp simd reduction(+ : sum)
    for (ptrdiff_t c = 0; c < count; c++)
        sum += residual[c] * residual[c];
    return (double)sum;
}

/* For each codeword: residual = y - sum of g_j z_j, z_j += step * g_j * residual / |g|^2; sums their squares. */
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
            const REAL *value = values + row * weight, *y = payload + row * block + start;
            REAL *z[8], steps[8], norm = 0;
            int whole = weight <= 8;
            for (ptrdiff_t t = 0; t < weight; t++)
                norm += value[t] * value[t];
            const REAL scale = norm > 0 ? step / norm : 0;
            for (ptrdiff_t t = 0; whole && t < weight; t++) {
                whole = value[t] != 0 && NAME(span)(length, block, index[t], start, count) == count;
                z[t] = whole ? estimate + (ptrdiff_t)index[t] * block + start : estimate;
                steps[t] = scale * value[t];
            }
            if (whole && weight == 4)
                total += NAME(track)(z, value, steps, y, count, 4);
            else if (whole && weight == 3)
                total += NAME(track)(z, value, steps, y, count, 3);
            else if (whole && weight == 8)
                total += NAME(track)(z, value, steps, y, count, 8);
            else if (whole && weight == 2)
                total += NAME(track)(z, value, steps, y, count, 2);
            else if (whole && weight == 1)
                total += NAME(track)(z, value, steps, y, count, 1);
            else
                total += NAME(track_any)(estimate, length, index, value, scale, weight, y, block, start, count);
        }
    }
    return total;
}

/* accumulator_j += g_j * y for each codeword of each unit. */
void NAME(decode_units)(const struct decode_unit *units, ptrdiff_t count)
{
    for (const struct decode_unit *u = units; u < units + count; u++)
        NAME(adjoint_decode)(u->accumulator, u->length, u->indices, u->values, u->rows, u->weight, u->payload,
                             u->block, 1);
}

#undef TILE
#endif
