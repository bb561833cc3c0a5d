/* order.c: mean of the middle ones of several vectors, element by element: coordinate-wise median, trimmed mean.
 *
 * Design note. A tile of every vector is copied to `room`, as integers that have the order of the numbers: a minimum and
 * a maximum of whole tiles, without a branch, and with one order of zeros on any processor. Which tiles are compared
 * does not depend on the values: Batcher's merge exchange, about n log² n / 4 comparisons (Knuth, TAOCP volume 3, 5.2.2,
 * algorithm M). Bound by arithmetic from about 10 vectors on, by bandwidth below. Numbers must be finite.
 */
#ifndef REAL
#include "order.h"
#define KERNEL "order.c"
#include "real.h"
#else

#define TOP ((BITS)1 << (8 * sizeof(BITS) - 1))

/* Write numbers as integers of the same order. */
INLINE void NAME(rank)(const REAL *from, BITS *to, ptrdiff_t count)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < count; i++) {
        BITS bits;
        memcpy(&bits, from + i, sizeof bits);
        to[i] = bits ^ ((0 - (bits >> (8 * sizeof bits - 1))) | TOP);
    }
}

/* Add the numbers that `rank` has written. */
INLINE void NAME(add_ranked)(const BITS *from, REAL *to, ptrdiff_t count)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < count; i++) {
        const BITS bits = from[i] ^ (((from[i] >> (8 * sizeof(BITS) - 1)) - 1) | TOP);
        REAL number;
        memcpy(&number, &bits, sizeof number);
        to[i] += number;
    }
}

/* Put the smaller of each two first. */
INLINE void NAME(exchange)(BITS *first, BITS *second)
{
#pragma omp simd
    for (int i = 0; i < ORDER_TILE; i++) {
        const BITS a = first[i], b = second[i];
        first[i] = a < b ? a : b;
        second[i] = a < b ? b : a;
    }
}

VECTORISED
void NAME(middle_mean)(const uint64_t *addresses, ptrdiff_t vectors, ptrdiff_t length, ptrdiff_t low, ptrdiff_t high,
                       void *room, REAL *out)
{
    BITS *tiles = room;
    const REAL part = (REAL)1 / (REAL)(high - low);
    ptrdiff_t most = 1; /* the largest power of two below the number of vectors, at least 1 */
    while (2 * most < vectors)
        most *= 2;
    for (ptrdiff_t start = 0; start < length; start += ORDER_TILE) {
        const ptrdiff_t width = length - start < ORDER_TILE ? length - start : ORDER_TILE;
        for (ptrdiff_t v = 0; v < vectors; v++)
            NAME(rank)((const REAL *)(uintptr_t)addresses[v] + start, tiles + v * ORDER_TILE, width);
        for (ptrdiff_t p = most; p > 0; p /= 2)
            for (ptrdiff_t q = most, r = 0, d = p;; d = q - p, q /= 2, r = p) {
                for (ptrdiff_t v = 0; v + d < vectors; v++)
                    if ((v & p) == r)
                        NAME(exchange)(tiles + v * ORDER_TILE, tiles + (v + d) * ORDER_TILE);
                if (q == p)
                    break;
            }
        REAL *to = out + start;
        memset(to, 0, (size_t)width * sizeof *to);
        for (ptrdiff_t v = low; v < high; v++)
            NAME(add_ranked)(tiles + v * ORDER_TILE, to, width);
        for (ptrdiff_t i = 0; i < width; i++)
            to[i] *= part;
    }
}

#undef TOP
#endif
