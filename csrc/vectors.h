/* vectors.h: sums and multiples of vectors of double, with the same bits on every processor. */
#ifndef PDCODE_VECTORS_H
#define PDCODE_VECTORS_H

#include <stddef.h>

#include "simd.h"

/* The sum uses eight lanes for any width of the processor's vectors. */
INLINE double dot(const double *restrict a, const double *restrict b, ptrdiff_t count)
{
    double lanes[8] = {0};
    ptrdiff_t i = 0;
    for (; i + 8 <= count; i += 8)
#pragma omp simd
        for (int lane = 0; lane < 8; lane++)
            lanes[lane] += a[i + lane] * b[i + lane];
    for (int lane = 0; i < count; i++, lane++)
        lanes[lane] += a[i] * b[i];
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

INLINE void add(double *restrict out, double factor, const double *restrict source, ptrdiff_t count)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < count; i++)
        out[i] += factor * source[i];
}

#endif
