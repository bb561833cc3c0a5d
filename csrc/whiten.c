/* whiten.c: out = factor * source, and out = a I + b M + c M^2 of M and its square, matrices of `size` rows.
 *
 * Design note. The matrices are small, of 32 samples or some ten outputs: one pass instead of four, in
 * cache, so that calls are what is saved. `out` may be the source, or M.
 */
#ifndef REAL
#include "whiten.h"
#define KERNEL "whiten.c"
#include "real.h"
#else

VECTORISED
void NAME(whiten_scale)(const REAL *source, REAL factor, REAL *out, ptrdiff_t count)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < count; i++)
        out[i] = source[i] * factor;
}

VECTORISED
void NAME(whiten_polynomial)(const REAL *power, const REAL *square, REAL a, REAL b, REAL c, REAL *out,
                             ptrdiff_t size)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < size * size; i++)
        out[i] = power[i] * b + square[i] * c;
    for (ptrdiff_t i = 0; i < size; i++)
        out[i * (size + 1)] += a;
}
#endif
