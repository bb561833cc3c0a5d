/* fold.c: codewords and rounding in one pass, at workers and for what is relayed to them.
 *
 * Design note. target and memory are (length), cut into blocks of `block`; a payload is (rows, block) in a format
 * of codes (group.h); indices and values are (rows, weight), a zero value pads. A tile is a group of a row: its
 * numbers are decoded into the level 1 cache and go from there to their blocks. Rows that follow each other and
 * have the same blocks, as rows of a Hadamard matrix, are folded in together: each of the blocks is then read and
 * written once for all of them, and four rows of weight four are added up once for all of their columns. Bound by
 * the blocks of target: by the second-level cache for models of its size.
 *
 * The arithmetic is as in decode.c, then optimize.c, where no two sets of rows share a block: the same bits.
 */
#ifndef REAL
#include <string.h>

#include "fold.h"

#define TOGETHER 4 /* rows */

/* How many of the first rows have the same blocks as the first one. */
static inline ptrdiff_t together(const int32_t *index, ptrdiff_t rows, ptrdiff_t weight)
{
    ptrdiff_t size = 1;
    while (size < TOGETHER && size < rows && memcmp(index, index + size * weight, (size_t)weight * sizeof *index) == 0)
        size++;
    return size;
}

/* Whether each block is in one set of rows at most, and once; seen: (blocks), zeros before and after. */
int fold_apart(const int32_t *indices, ptrdiff_t rows, ptrdiff_t weight, ptrdiff_t blocks, uint8_t *seen)
{
    int apart = 1;
    for (ptrdiff_t row = 0; apart && row < rows; row += together(indices + row * weight, rows - row, weight))
        for (const int32_t *index = indices + row * weight; index < indices + (row + 1) * weight; index++) {
            apart = apart && *index >= 0 && *index < blocks && !seen[*index];
            if (apart)
                seen[*index] = 1;
        }
    for (ptrdiff_t i = 0; i < rows * weight; i++)
        if (indices[i] >= 0 && indices[i] < blocks)
            seen[indices[i]] = 0;
    return apart;
}

#define KERNEL "fold.c"
#include "real.h"
#else
#include "blocks.h"
#include "combination.h"
#include "group.h"

#ifndef PDCODE_FOLD_COMMON
#define PDCODE_FOLD_COMMON
/* Where a payload's scales and codes are. */
struct places {
    ptrdiff_t groups, row; /* of a row: number of groups, and bytes of codes */
    int bits, scales;      /* of a code; of a group */
};

INLINE struct places places_of(int kind, ptrdiff_t block)
{
    const struct places places = {(block + GROUP - 1) / GROUP, packed_bytes(block, CODES[kind].bits),
                                  CODES[kind].bits, CODES[kind].scales};
    return places;
}
#endif

/* Whether all numbers of a payload are usable. */
VECTORISED
int NAME(fold_usable)(ptrdiff_t rows, ptrdiff_t block, int kind, const uint8_t *wire)
{
    const struct places p = places_of(kind, block);
    const float *scales = (const float *)(const void *)wire;
    int usable = 1;
    for (ptrdiff_t i = 0; i < rows * p.groups * p.scales; i++)
        usable &= NAME(usable_scale)(kind, scales[i]);
    return usable;
}

/* z -= factor * sum over i of g_i y_i, y_i in rows of GROUP; returns the squared norm of what is subtracted. */
INLINE double NAME(descend)(REAL *restrict z, const REAL *restrict g, ptrdiff_t stride, const REAL *restrict y,
                            const int size, REAL factor, ptrdiff_t count)
{
    const REAL a = g[0], b = size > 1 ? g[stride] : 0, c = size > 2 ? g[2 * stride] : 0;
    const REAL d = size > 3 ? g[3 * stride] : 0;
    REAL sum = 0;
#pragma omp simd reduction(+ : sum)
    for (ptrdiff_t i = 0; i < count; i++) {
        REAL whole = a * y[i];
        if (size > 1)
            whole += b * y[GROUP + i];
        if (size > 2)
            whole += c * y[2 * GROUP + i];
        if (size > 3)
            whole += d * y[3 * GROUP + i];
        const REAL step = factor * whole;
        z[i] -= step;
        sum += step * step;
    }
    return (double)sum;
}

/* Whether four rows of weight four are ±½ times a Hadamard matrix, up to signs of rows and columns; rank[t] is which
 * of the four sums of `add_up` column t needs, and sign is the sign of the last row's numbers. */
INLINE int NAME(is_hadamard)(const REAL *g, int rank[TOGETHER], REAL *sign)
{
    int found = 0;
    for (int t = 0; t < 4; t++) {
        const REAL a = g[t], b = a * g[4 + t], c = a * g[8 + t], d = a * g[12 + t], product = b * c * d;
        if (a * a != (REAL)0.25 || b * b != (REAL)0.0625 || c * c != (REAL)0.0625 || d * d != (REAL)0.0625)
            return 0;
        rank[t] = (b < 0) + 2 * (c < 0);
        found |= 1 << rank[t] | (product < 0 ? 16 : 32);
        *sign = product < 0 ? -1 : 1;
    }
    return found == 31 || found == 47;
}

/* y_0 ± y_1 ± y_2 ± y_3 for the four columns, in ten additions, in the order of `descend`. */
INLINE void NAME(add_up)(REAL *restrict y, REAL sign, ptrdiff_t count)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < count; i++) {
        const REAL plus = y[i] + y[GROUP + i], minus = y[i] - y[GROUP + i];
        const REAL c = y[2 * GROUP + i], d = sign * y[3 * GROUP + i];
        y[i] = (plus + c) + d;
        y[GROUP + i] = (minus + c) - d;
        y[2 * GROUP + i] = (plus - c) - d;
        y[3 * GROUP + i] = (minus - c) + d;
    }
}

/* target_j -= factor * sum over i of g_ij y_i; returns the squared norm of the steps. If the payload is not usable,
 * the target stays as it is, and the result is negative. */
VECTORISED
double NAME(fold_decode)(REAL *target, ptrdiff_t length, const int32_t *indices, const REAL *values,
                         ptrdiff_t rows, ptrdiff_t weight, ptrdiff_t block, int kind, const uint8_t *wire,
                         REAL factor)
{
    const struct places p = places_of(kind, block);
    const float *scales = (const float *)(const void *)wire;
    const uint8_t *codes = wire + rows * p.groups * p.scales * (ptrdiff_t)sizeof(float);
    REAL y[TOGETHER * GROUP + SLACK];
    double total = 0;
    if (!NAME(fold_usable)(rows, block, kind, wire))
        return -1;
    for (ptrdiff_t row = 0, size; row < rows; row += size) {
        const int32_t *index = indices + row * weight;
        const REAL *value = values + row * weight;
        size = together(index, rows - row, weight);
        int rank[TOGETHER];
        REAL sign = 1;
        const int hadamard = size == 4 && weight == 4 && NAME(is_hadamard)(value, rank, &sign);
        for (ptrdiff_t g = 0; g < p.groups; g++) {
            const ptrdiff_t start = g * GROUP, count = block - start < GROUP ? block - start : GROUP;
            for (ptrdiff_t i = 0; i < size; i++)
                NAME(decode_group)(kind, scales + ((row + i) * p.groups + g) * p.scales,
                                   codes + (row + i) * p.row + start / 8 * p.bits, y + i * GROUP, count, 1);
            if (hadamard)
                NAME(add_up)(y, sign, count);
            for (ptrdiff_t t = 0; t < weight; t++) {
                const ptrdiff_t valid = NAME(span)(length, block, index[t], start, count);
                REAL *z = target + (valid > 0 ? (ptrdiff_t)index[t] * block + start : 0);
                if (hadamard)
                    total += NAME(descend)(z, value + t, weight, y + rank[t] * GROUP, 1, factor, valid);
                else if (size == 1)
                    total += NAME(descend)(z, value + t, weight, y, 1, factor, value[t] == 0 ? 0 : valid);
                else if (size == 2)
                    total += NAME(descend)(z, value + t, weight, y, 2, factor, valid);
                else if (size == 3)
                    total += NAME(descend)(z, value + t, weight, y, 3, factor, valid);
                else
                    total += NAME(descend)(z, value + t, weight, y, 4, factor, valid);
            }
        }
    }
    return total;
}

/* Error feedback: memory += gradient, if any; then, codeword by codeword, y = sum of g_j memory_j is rounded into
 * the message, and memory_j -= g_j times the rounded y, which `sent` receives. Returns whether all rounded numbers
 * are usable; other numbers stay in the memory. place = (part, worker, task). */
VECTORISED
int NAME(fold_encode)(REAL *memory, const REAL *gradient, ptrdiff_t length, const int32_t *indices,
                      const REAL *values, ptrdiff_t rows, ptrdiff_t weight, ptrdiff_t block, int kind,
                      const uint64_t key[2], const uint64_t place[3], uint8_t *wire, ptrdiff_t size, REAL *sent)
{
    memset(wire + size - 8, 0, 8); /* padding */
    const struct places p = places_of(kind, block);
    const int keyed = kind == PDCODE_INT8 || kind == PDCODE_QSGD;
    float *scales = (float *)(void *)wire, buffer[GROUP];
    uint8_t *codes = wire + rows * p.groups * p.scales * (ptrdiff_t)sizeof(float);
    uint32_t words[RANDOM_ROOM];
    struct random random;
    int usable = 1;
    if (keyed)
        random = random_at(key, place);
    if (gradient != NULL)
        NAME(add)(memory, 1, gradient, length);
    for (ptrdiff_t row = 0; row < rows; row++) {
        const int32_t *index = indices + row * weight;
        const REAL *value = values + row * weight;
        for (ptrdiff_t g = 0; g < p.groups; g++) {
            const ptrdiff_t start = g * GROUP, count = block - start < GROUP ? block - start : GROUP;
            const ptrdiff_t at = row * p.groups + g;
            uint8_t *packed = codes + row * p.row + start / 8 * p.bits;
            REAL *y = sent + row * block + start;
            NAME(combine)(y, memory, length, index, value, weight, block, start, count, 1, 0, 0);
            const float *x = NAME(single)(y, buffer, count);
            if (keyed)
                random_words(&random, (uint32_t)(at * (GROUP / 8)), words, (count + 1) / 2);
            const int good = encode_group(kind, x, largest(x, count), words, scales + at * p.scales, packed, count);
            usable &= NAME(decode_group)(kind, scales + at * p.scales, packed, y, count, 0);
            for (ptrdiff_t t = 0; good && t < weight; t++) {
                const ptrdiff_t valid = value[t] == 0 ? 0 : NAME(span)(length, block, index[t], start, count);
                NAME(add)(memory + (valid > 0 ? (ptrdiff_t)index[t] * block + start : 0), -value[t], y, valid);
            }
        }
    }
    return usable;
}

#endif
