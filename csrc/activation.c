/* activation.c: relu, tanh and exact gelu.
 *
 * Design note. z, out, a, delta are (samples, units) with rows a stride apart, so that a layer's output goes
 * straight into a matrix that has a column of ones. Bound by bandwidth (relu) or by some 30 (tanh) to 60
 * (gelu) flops an element. gelu is z * Phi(z), Phi the normal distribution; backward needs no second Phi, as
 * it is a / z.
 */
#ifndef REAL
#include "activation.h"
#define KERNEL "activation.c"
#include "real.h"
#else
#include "exponential.h"

VECTORISED
void NAME(activation_forward)(int kind, const REAL *z, ptrdiff_t z_stride, REAL *out, ptrdiff_t out_stride,
                              ptrdiff_t samples, ptrdiff_t units)
{
    for (ptrdiff_t s = 0; s < samples; s++, z += z_stride, out += out_stride) {
        if (kind == PDCODE_RELU) {
#pragma omp simd
            for (ptrdiff_t c = 0; c < units; c++)
                out[c] = z[c] < 0 ? 0 : z[c];
        } else if (kind == PDCODE_TANH) {
#pragma omp simd
            for (ptrdiff_t c = 0; c < units; c++)
                out[c] = NAME(tangent)(z[c]);
        } else {
#pragma omp simd
            for (ptrdiff_t c = 0; c < units; c++)
                out[c] = z[c] * NAME(normal)(z[c]);
        }
    }
}

VECTORISED
void NAME(activation_backward)(int kind, const REAL *z, ptrdiff_t z_stride, const REAL *a, ptrdiff_t a_stride,
                               REAL *delta, ptrdiff_t delta_stride, ptrdiff_t samples, ptrdiff_t units)
{
    for (ptrdiff_t s = 0; s < samples; s++, z += z_stride, a += a_stride, delta += delta_stride) {
        if (kind == PDCODE_RELU) {
#pragma omp simd
            for (ptrdiff_t c = 0; c < units; c++)
                delta[c] = z[c] > 0 ? delta[c] : 0;
        } else if (kind == PDCODE_TANH) {
#pragma omp simd
            for (ptrdiff_t c = 0; c < units; c++)
                delta[c] *= 1 - a[c] * a[c];
        } else {
#pragma omp simd
            for (ptrdiff_t c = 0; c < units; c++) {
                const REAL density = (REAL)0.39894228040143268 * NAME(exp_negative)((REAL)-0.5 * z[c] * z[c]);
                const REAL chance = z[c] == 0 ? (REAL)0.5 : a[c] / (z[c] == 0 ? 1 : z[c]);
                delta[c] *= chance + z[c] * density;
            }
        }
    }
}
#endif
