/* optimize.h: optimizer steps fused with the decode result. */
#ifndef PDCODE_OPTIMIZE_H
#define PDCODE_OPTIMIZE_H

#include <stddef.h>
#include <stdint.h>

#define PDCODE_DECLARE(REAL, SUFFIX)                                                                    \
    double sgd_step_##SUFFIX(REAL *theta, REAL *velocity, ptrdiff_t moving, REAL *gradient,             \
                             ptrdiff_t length, REAL scale, REAL rate, REAL decay, REAL gain, REAL own,  \
                             REAL keep, int clear);                                                     \
    double adam_step_##SUFFIX(REAL *theta, REAL *first, REAL *second, REAL *gradient, ptrdiff_t length, \
                              REAL scale, double rate, double beta1, double beta2, REAL epsilon,        \
                              long t, int clear);                                                       \
    double sgd_blocks_##SUFFIX(REAL *theta, REAL *accumulator, ptrdiff_t length, const int32_t *blocks, \
                               ptrdiff_t count, ptrdiff_t block, REAL factor);                      \
    double schedule_free_step_##SUFFIX(REAL *theta, REAL *mean, const REAL *gradient, ptrdiff_t length, \
                                       REAL rate, REAL share, REAL inner);                          \
    void average_##SUFFIX(REAL *restrict mean, const REAL *restrict theta, ptrdiff_t length, REAL share); \
    void look_ahead_##SUFFIX(REAL *restrict point, const REAL *restrict theta,                          \
                             const REAL *restrict residual, ptrdiff_t length, REAL share);

PDCODE_DECLARE(float, f32)
PDCODE_DECLARE(double, f64)
#undef PDCODE_DECLARE

#endif
